"""Random changes that leave a digit what it is: so that real photos look like training data."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample, max_pool2d


class Augmentation(nn.Module):
    """Random affine maps and stroke widths, another for each image of a batch.

    Args:
        shift: largest shift, as a share of the image's side.
        rotate: largest rotation, degrees.
        zoom: largest relative change of size, separately for height and width.
        shear: largest horizontal shear (slant), as a tangent.
        stroke: largest weight of the thickened (or thinned) image in the mixture with the image itself, in
            [0, 1].
        share: probability that an image is changed at all.
    """

    def __init__(
        self,
        shift: float = 0.06,
        rotate: float = 10.0,
        zoom: float = 0.1,
        shear: float = 0.15,
        stroke: float = 0.5,
        share: float = 0.75,
    ) -> None:
        super().__init__()
        self.shift, self.rotate, self.zoom, self.shear = shift, rotate, zoom, shear
        self.stroke, self.share = stroke, share

    def forward(self, images: Tensor) -> Tensor:
        """images and return: [batch, rows, columns], light ink on a ground of zeros; values stay in [0,
        1].
        """
        batch = len(images)

        def draw(limit: float) -> Tensor:
            return limit * (2.0 * torch.rand(batch, device=images.device) - 1.0)

        angle = draw(math.radians(self.rotate))
        slant = draw(self.shear)
        high, wide = 1.0 + draw(self.zoom), 1.0 + draw(self.zoom)
        cos, sin = angle.cos(), angle.sin()
        rows = [
            torch.stack([wide * cos, wide * (cos * slant - sin), 2.0 * draw(self.shift)], dim=1),
            torch.stack([high * sin, high * (sin * slant + cos), 2.0 * draw(self.shift)], dim=1),
        ]
        x = images.unsqueeze(1)
        grid = affine_grid(torch.stack(rows, dim=1), list(x.shape), align_corners=False)
        moved = grid_sample(x, grid, align_corners=False)
        thick = max_pool2d(moved, 3, stride=1, padding=1)
        thin = -max_pool2d(-moved, 2, stride=1, padding=1)[..., :-1, :-1]
        amount = draw(self.stroke).view(-1, 1, 1, 1)
        changed = torch.where(
            amount > 0, torch.lerp(moved, thick, amount.abs()), torch.lerp(moved, thin, amount.abs())
        )
        keep = torch.rand(batch, device=images.device) >= self.share
        return torch.where(keep.view(-1, 1, 1), images, changed.squeeze(1))
