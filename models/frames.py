"""`FrameModel`: a waveform in, numbers for every frame out."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from models.accelerated import AcceleratedRNN, State
from models.frontends import FRONT_ENDS
from models.initialization import Initialization, initialize_


class FrameModel(nn.Module):
    """A front end, a recurrent network, and a linear head on every frame: logits of classes, or a prediction.

    Args:
        output_size: numbers that each frame gives.
        front_end: name of a registered front end.
        front_end_options: its keyword arguments, default its own defaults.
        hidden_size: units a layer.
        num_layers: layers.
        filter: name of a registered filter.
        filter_options: its keyword arguments, default its own defaults.
        recurrence: name of a registered recurrence.
        bias: whether the recurrent layers have biases; an orthogonal one's authors have none.
        dropout: between layers, in training.
        initialization: see `initialize_`.
        longest: how many frames chrono initialisation spans.

    Attributes:
        config: the arguments above, plain values: `FrameModel(**config)` is a network of the same shape.

    Raises:
        ValueError: an argument is out of range, or the initialisation is for other networks.
    """

    def __init__(
        self,
        output_size: int,
        front_end: str = "log_mel",
        front_end_options: dict[str, Any] | None = None,
        hidden_size: int = 128,
        num_layers: int = 1,
        filter: str = "momentum",  # noqa: A002  the concept's name throughout the project
        filter_options: dict[str, Any] | None = None,
        recurrence: str = "lstm",
        bias: bool = True,
        dropout: float = 0.0,
        initialization: Initialization | None = "torch",
        longest: int = 100,
    ) -> None:
        super().__init__()
        self.front_end = FRONT_ENDS[front_end](**(front_end_options or {}))
        self.rnn = AcceleratedRNN(
            filter,
            recurrence,
            self.front_end.features,
            hidden_size,
            num_layers=num_layers,
            bias=bias,
            dropout=dropout,
            filter_options=filter_options,
        )
        self.head = nn.Linear(hidden_size, output_size)
        initialization = initialize_(self.rnn, initialization, longest)
        self.config: dict[str, Any] = {
            "output_size": output_size,
            "front_end": front_end,
            "front_end_options": front_end_options,
            "hidden_size": hidden_size,
            "num_layers": num_layers,
            "filter": filter,
            "filter_options": filter_options,
            "recurrence": recurrence,
            "bias": bias,
            "dropout": dropout,
            "initialization": initialization,
            "longest": longest,
        }

    def read(self, features: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Run the network on features.

        Args:
            features: [batch, frames, features] of the front end, at least one frame.
            state: as returned, to go on where the last piece ended; None starts.

        Returns:
            [batch, frames, output_size], and the state (see `AcceleratedRNN.forward`).
        """
        h, state = self.rnn(features.transpose(0, 1), state)
        y: Tensor = self.head(h)
        return y.transpose(0, 1), state

    def forward(
        self, waveform: Tensor, state: tuple[Tensor, State | None] | None = None
    ) -> tuple[Tensor, tuple[Tensor, State | None]]:
        """Hear a waveform, or a piece of one.

        Args:
            waveform: [batch, samples], within [-1, 1].
            state: as returned, to go on where the last piece ended; None starts.

        Returns:
            [batch, frames, output_size] for the frames that end within the piece, and the state: the front
            end's and the network's.
        """
        samples, recurrent = state or (None, None)
        features, samples = self.front_end(waveform, samples)
        if features.shape[1] == 0:
            return features.new_zeros(len(features), 0, self.head.out_features), (samples, recurrent)
        y, recurrent = self.read(features, recurrent)
        return y, (samples, recurrent)
