"""The contestants of the training benchmark: our cells, torch's, and the step-by-step way of the authors'
code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models import (
    DTRIV,
    AcceleratedRNN,
    AdamDTRIV,
    AdamLSTM,
    MomentumDTRIV,
    MomentumGRU,
    MomentumLSTM,
    MomentumRNN,
    NesterovDTRIV,
    NesterovLSTM,
    RMSPropDTRIV,
    RMSPropLSTM,
    unroll,
)

OURS: dict[str, Callable[[int, int], AcceleratedRNN]] = {
    "MomentumLSTM": MomentumLSTM,
    "NesterovLSTM": NesterovLSTM,
    "AdamLSTM": AdamLSTM,
    "RMSPropLSTM": RMSPropLSTM,
    "MomentumGRU": MomentumGRU,
    "MomentumRNN": MomentumRNN,
    "DTRIV": lambda i, h: DTRIV(i, h, bias=False),
    "MomentumDTRIV": lambda i, h: MomentumDTRIV(i, h, bias=False),
    "NesterovDTRIV": lambda i, h: NesterovDTRIV(i, h, bias=False),
    "AdamDTRIV": lambda i, h: AdamDTRIV(i, h, bias=False),
    "RMSPropDTRIV": lambda i, h: RMSPropDTRIV(i, h, bias=False),
}
TORCHS: dict[str, Callable[[int, int], nn.Module]] = {
    "torch.nn.LSTM": nn.LSTM,
    "torch.nn.GRU": nn.GRU,
    "torch.nn.RNN": nn.RNN,
}
BASELINE = "torch.nn.LSTM"
STEPWISE = " step by step"


@dataclass(frozen=True)
class Size:
    """Time steps, batch, inputs and hidden units."""

    time: int
    batch: int
    inputs: int
    hidden: int

    def __str__(self) -> str:
        return f"T = {self.time}, batch {self.batch}, I = {self.inputs}, H = {self.hidden}"

    def lstm_operations(self) -> float:
        """Floating-point operations of an LSTM's matrix products, forward and backward."""
        return 3 * 2.0 * self.time * self.batch * 4 * self.hidden * (self.inputs + self.hidden)


class Contestant:
    """A network in training: `step` is forward, backward and the optimizer's step.

    Args:
        name: of a cell of `OURS` or `TORCHS`, or one of ours and `STEPWISE`.
        size: what it is trained on.
        device: where.
    """

    def __init__(self, name: str, size: Size, device: torch.device) -> None:
        torch.manual_seed(0)
        cell, self.stepwise = name.removesuffix(STEPWISE), name.endswith(STEPWISE)
        self.network = (OURS | TORCHS)[cell](size.inputs, size.hidden).to(device)
        self.optimizer = torch.optim.RMSprop(self.network.parameters(), lr=1e-6)
        self.x = torch.rand(size.time, size.batch, size.inputs, device=device)

    def step(self) -> None:
        """One training step on the last hidden state."""
        self.optimizer.zero_grad()
        self._last().square().mean().backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def _last(self) -> Tensor:
        if self.stepwise and isinstance(self.network, AcceleratedRNN):
            return unroll(self.network, self.x)[-1]
        y: Tensor = self.network(self.x)[0]
        return y[-1]
