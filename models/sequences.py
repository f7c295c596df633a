"""`SequenceModel`: a number for every step of a sequence, for problems that ask how long a network
remembers.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import one_hot

from models.accelerated import AcceleratedRNN
from models.initialization import Initialization, initialize_


class SequenceModel(nn.Module):
    """A recurrent network with a linear head on every step.

    Args:
        input_size: numbers a step, or how many symbols there are.
        output_size: numbers that each step gives.
        hidden_size: units a layer.
        num_layers: layers.
        filter: name of a registered filter.
        filter_options: its keyword arguments, default its own defaults.
        recurrence: name of a registered recurrence.
        bias: whether the recurrent layers have biases; an orthogonal one's authors have none.
        initialization: see `DigitClassifier`.
        longest: how many steps chrono initialisation spans.

    Attributes:
        config: the arguments above, plain values: `SequenceModel(**config)` is a network of the same shape.

    Raises:
        ValueError: an argument is out of range, or the initialisation is for other networks.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int = 128,
        num_layers: int = 1,
        filter: str = "momentum",  # noqa: A002  the concept's name throughout the project
        filter_options: dict[str, Any] | None = None,
        recurrence: str = "lstm",
        bias: bool = True,
        initialization: Initialization | None = None,
        longest: int = 784,
    ) -> None:
        super().__init__()
        self.rnn = AcceleratedRNN(
            filter,
            recurrence,
            input_size,
            hidden_size,
            num_layers=num_layers,
            bias=bias,
            filter_options=filter_options,
        )
        self.head = nn.Linear(hidden_size, output_size)
        initialization = initialize_(self.rnn, initialization, longest)
        self.config: dict[str, Any] = {
            "input_size": input_size,
            "output_size": output_size,
            "hidden_size": hidden_size,
            "num_layers": num_layers,
            "filter": filter,
            "filter_options": filter_options,
            "recurrence": recurrence,
            "bias": bias,
            "initialization": initialization,
            "longest": longest,
        }

    def forward(self, x: Tensor) -> Tensor:
        """Run over whole sequences.

        Args:
            x: [batch, time, input_size]; or symbols, int64 [batch, time] in [0, input_size), which are read
                one-hot.

        Returns:
            [batch, time, output_size].
        """
        if not x.is_floating_point():
            x = one_hot(x, self.rnn.input_size).to(self.head.weight.dtype)
        h, _ = self.rnn(x.transpose(0, 1))
        y: Tensor = self.head(h)
        return y.transpose(0, 1)
