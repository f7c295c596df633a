"""No filter: the plain network."""

from __future__ import annotations

from torch import Tensor

from models.filters.base import FILTERS, Filter, State


@FILTERS.register("identity")
class Identity(Filter):
    """`v_t = u_t`."""

    linear = True
    states = ()

    def step(self, u: Tensor, state: State) -> tuple[Tensor, State]:
        return u, state

    def forward(self, u: Tensor, state: State, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        del lengths
        return u, state
