"""What a recurrence is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from models.kernels import project
from models.registry import Registry

RECURRENCES: Registry[Recurrence] = Registry("recurrence")

State = tuple[Tensor, ...]
Weights = Mapping[str, Tensor]


class Recurrence(ABC):
    """One layer and direction of a recurrent network. Classes of functions; there are no instances.

    A subclass says its equation in `step` and its parameters in `shapes`; that is enough to train, export and
    stream it. `run` runs over a whole sequence, here by calling `step`; a subclass that can do better
    overrides it.

    Attributes:
        gates: rows of the input weights per hidden unit.
        states: names of the carried states, hidden state first. Zeros mean "start".
        projects: whether `weight_hr` may project the hidden state, as in `torch.nn.LSTM`.
    """

    gates: ClassVar[int] = 1
    states: ClassVar[tuple[str, ...]] = ("h",)
    projects: ClassVar[bool] = False

    @classmethod
    def shapes(cls, hidden_size: int, output_size: int, bias: bool) -> dict[str, tuple[int, ...]]:
        """Name and shape of each parameter besides the input projection's, `weight_hh` among them.

        `output_size` is the width of the hidden state, other than `hidden_size` only where `projects`.
        """
        rows = cls.gates * hidden_size
        return {"weight_hh": (rows, output_size)} | ({"bias_hh": (rows,)} if bias else {})

    @classmethod
    def reset_(cls, module: nn.Module, names: Mapping[str, str], hidden_size: int) -> None:
        """Draw the parameters anew, from U(-1/sqrt(hidden_size), 1/sqrt(hidden_size)) as torch does.

        Args:
            module: whose parameters they are.
            names: name in `shapes` (or "weight_ih", "bias_ih") -> name in `module`.
            hidden_size: units.
        """
        bound = 1.0 / math.sqrt(hidden_size)
        for name in names.values():
            nn.init.uniform_(module.get_parameter(name), -bound, bound)

    @staticmethod
    @abstractmethod
    def step(drive: Tensor, state: State, weights: Weights) -> State:
        """One time step: drive [batch, gates * H] and the state before it -> the state after."""

    @classmethod
    def run(
        cls, drive: Tensor, lengths: Tensor | None, state: State, weights: Weights
    ) -> tuple[Tensor, State]:
        """Run over a sequence.

        Args:
            drive: [time, batch, gates * H].
            lengths: int64 [batch] on the CPU, falling, at least 1; None for all of `time`.
            state: the state before it, each [batch, units].
            weights: what `shapes` lists.

        Returns:
            Every hidden state [time, batch, units], zero past a row's length, and the state after each row's
            last step.
        """
        outputs = []
        for t, d in enumerate(drive):
            after = cls.step(d, state, weights)
            if lengths is not None:
                counts = (t < lengths).to(d.device).unsqueeze(1)
                outputs.append(torch.where(counts, after[0], 0.0))
                state = tuple(torch.where(counts, new, old) for new, old in zip(after, state, strict=True))
            else:
                outputs.append(after[0])
                state = after
        return torch.stack(outputs), state

    @classmethod
    def project_and_run(
        cls, x: Tensor, weight_ih: Tensor, lengths: Tensor | None, state: State, weights: Weights
    ) -> tuple[Tensor, State]:
        """`run` on the drive `weight_ih x_t`; for those whose fused kernel does both.

        Args:
            x: [time, batch, inputs].
            weight_ih: [gates * H, inputs].
            lengths, state, weights: as in `run`.
        """
        return cls.run(project(x, weight_ih), lengths, state, weights)
