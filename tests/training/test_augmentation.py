"""Augmentation changes pictures, not digits."""

import torch

from training.augmentation import Augmentation


def bar() -> torch.Tensor:
    images = torch.zeros(64, 28, 28)
    images[:, 6:22, 13:16] = 1.0
    return images


def test_values_shape_and_seed() -> None:
    torch.manual_seed(0)
    first = Augmentation(share=1.0)(bar())
    assert first.shape == (64, 28, 28)
    assert first.min() >= 0.0
    assert first.max() <= 1.0
    # another picture for each image of the batch
    assert len({image.numpy().tobytes() for image in first}) == 64
    torch.manual_seed(0)
    assert torch.equal(first, Augmentation(share=1.0)(bar()))


def test_share_is_the_share_that_changes() -> None:
    torch.manual_seed(0)
    images = bar().repeat(16, 1, 1)
    changed = (Augmentation(share=0.25)(images) != images).flatten(1).any(dim=1).float().mean()
    assert 0.2 < changed < 0.3
    assert torch.equal(Augmentation(share=0.0)(images), images)


def test_each_change_does_what_it_says() -> None:
    torch.manual_seed(0)
    still = {"shift": 0.0, "rotate": 0.0, "zoom": 0.0, "shear": 0.0, "stroke": 0.0, "share": 1.0}
    torch.testing.assert_close(Augmentation(**still)(bar()), bar(), atol=1e-5, rtol=0)
    columns = torch.arange(28.0)

    def centre(images: torch.Tensor) -> torch.Tensor:
        return (images.sum(dim=1) @ columns) / images.sum(dim=(1, 2))

    shifted = Augmentation(**(still | {"shift": 0.1}))(bar())
    moves = (centre(shifted) - 14.0).abs()
    assert 1.0 < moves.max() <= 2.85
    ink = Augmentation(**(still | {"stroke": 1.0}))(bar()).sum(dim=(1, 2)) / bar().sum(dim=(1, 2))
    assert ink.min() < 0.8
    assert ink.max() > 1.5
    turned = Augmentation(**(still | {"rotate": 20.0}))(bar())
    spread = (turned.sum(dim=1) > 0.5).sum(dim=1)
    assert spread.max() > 5
    assert abs(float((centre(turned) - 14.0).mean())) < 0.2
