"""`DigitClassifier`: an image read pixel by pixel, one time step a pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.accelerated import AcceleratedRNN, State
from models.initialization import Initialization, initialize_

MNIST_PIXELS = 784


class DigitClassifier(nn.Module):
    """Raw pixels in, logits out; what the network believes can be read after any pixel.

    Args:
        hidden_size: units a layer.
        num_layers: layers.
        classes: number of classes.
        filter: name of a registered filter.
        filter_options: its keyword arguments, default its own defaults.
        recurrence: name of a registered recurrence.
        bias: whether the recurrent layers have biases; an orthogonal one's authors have none.
        dropout: between layers, in training.
        initialization: "chrono" (memory up to `longest` steps) or "authors" (the MomentumRNN authors'), both
            for LSTMs; "torch" (the recurrence's own); None is chrono for an LSTM, torch for the others.
        longest: how many steps chrono initialisation spans.
        permutation: the order in which the pixels are read, a permutation of their raster indices; None is
            raster order. A number is the seed of a permutation of MNIST's 784 pixels, drawn as the
            MomentumRNN authors draw it: `numpy.random.RandomState(seed).permutation(784)`.

    Attributes:
        config: the arguments above, plain values: `DigitClassifier(**config)` is a network of the same shape.
            A permutation is spelt out, and so is the initialisation.

    Raises:
        ValueError: `permutation` is not one, an argument is out of range, or the initialisation is for other
            networks.
    """

    permutation: Tensor | None

    def __init__(
        self,
        hidden_size: int = 128,
        num_layers: int = 1,
        classes: int = 10,
        filter: str = "momentum",  # noqa: A002  the concept's name throughout the project
        filter_options: dict[str, Any] | None = None,
        recurrence: str = "lstm",
        bias: bool = True,
        dropout: float = 0.0,
        initialization: Initialization | None = None,
        longest: int = MNIST_PIXELS,
        permutation: int | Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if isinstance(permutation, int):
            drawn: list[int] = np.random.RandomState(permutation).permutation(MNIST_PIXELS).tolist()
            permutation = drawn
        self.rnn = AcceleratedRNN(
            filter,
            recurrence,
            1,
            hidden_size,
            num_layers=num_layers,
            bias=bias,
            dropout=dropout,
            filter_options=filter_options,
        )
        self.head = nn.Linear(hidden_size, classes)
        initialization = initialize_(self.rnn, initialization, longest)
        self.config: dict[str, Any] = {
            "hidden_size": hidden_size,
            "num_layers": num_layers,
            "classes": classes,
            "filter": filter,
            "filter_options": filter_options,
            "recurrence": recurrence,
            "bias": bias,
            "dropout": dropout,
            "initialization": initialization,
            "longest": longest,
            "permutation": None if permutation is None else [int(index) for index in permutation],
        }
        if permutation is None:
            self.permutation = None
        else:
            order = torch.as_tensor(permutation, dtype=torch.long)
            if not torch.equal(order.sort().values, torch.arange(len(order))):
                raise ValueError(f"permutation must hold every index from 0 to {len(order) - 1} exactly once")
            self.register_buffer("permutation", order)

    def read(self, pixels: Tensor, state: State | None = None, every: int = 1) -> tuple[Tensor, State]:
        """Read images, or a piece of them, and say what the network believes along the way.

        Args:
            pixels: [batch, time] or [batch, rows, columns], values in [0, 1], in raster order.
            state: as returned, to go on reading where the last piece ended; None starts.
            every: logits after every so many pixels; a last, shorter stretch counts.

        Returns:
            Logits [batch, ceil(time / every), classes], and the state (see `AcceleratedRNN.forward`).

        Raises:
            ValueError: a permuted model is given another number of pixels than it permutes, or `every` is
                below 1.
        """
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        x = pixels.flatten(1)
        if self.permutation is not None:
            if x.shape[1] != len(self.permutation):
                raise ValueError(
                    f"expected {len(self.permutation)} pixels, which this model permutes, got {x.shape[1]}"
                )
            x = x[:, self.permutation]
        h, state = self.rnn(x.T.unsqueeze(-1), state)
        time = h.shape[0]
        steps = [*range(every - 1, time - 1, every), time - 1]
        return self.head(h[steps]).transpose(0, 1), state

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits [batch, classes] after the last pixel of `pixels` [batch, time] or [batch, rows,
        columns].
        """
        logits, _ = self.read(pixels, every=pixels.shape[1:].numel())
        return logits[:, -1]
