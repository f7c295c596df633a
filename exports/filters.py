"""Filters as ONNX nodes.

A stream fed in chunks must give what the whole sequence gives. Where the momentum's memory is short the
filter is a sum over a window of past inputs, always added up in the same order, so that the two agree bit for
bit; where it is long the state is the filtered value itself, and they agree up to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from exports.builder import GraphBuilder
from exports.errors import ExportError
from models import Filter, Momentum

# a window of at most this many inputs is carried as state (mu up to 0.92)
LONGEST_WINDOW = 255
# inputs whose weight is below this are left out: far under float32's precision of 6e-8, relative to the
# newest input's weight
NEGLIGIBLE = 2.0**-28


@dataclass(frozen=True)
class FilterPlan:
    """How a filter is carried out over chunks.

    Attributes:
        gain: factor on the result, folded into the weights that read it.
        powers: weight mu^n of each doubling, n = 1, 2, 4, ...
        streamed: what a stream keeps against the whole sequence, see `Card.exactness`.
    """

    gain: float
    powers: tuple[float, ...]
    streamed: Literal["bitwise", "rounding"]

    @property
    def window(self) -> int:
        """How many inputs before the chunk are part of the sums."""
        return int(2 ** len(self.powers) - 1)

    @property
    def state_length(self) -> int:
        """Rows of the state: the window's inputs, or the one filtered value; 0 without memory."""
        return self.window if self.streamed == "bitwise" else 1


def plan_filter(filter_: Filter) -> FilterPlan:
    """Choose the form for a filter.

    Raises:
        ExportError: there is no ONNX form for this filter.
    """
    if not isinstance(filter_, Momentum):
        raise ExportError(f"the filter {type(filter_).__name__} has no ONNX form; train with momentum")
    powers: list[float] = []
    power = filter_.mu
    while power > NEGLIGIBLE:
        powers.append(power)
        power *= power
    short = 2 ** len(powers) - 1 <= LONGEST_WINDOW
    return FilterPlan(filter_.epsilon, tuple(powers), "bitwise" if short else "rounding")


def add_filter(graph: GraphBuilder, plan: FilterPlan, x: str, state: str, lengths: str) -> tuple[str, str]:
    """Add the filter's nodes, without its gain.

    Args:
        graph: what to add to.
        plan: the filter's form.
        x: [time, batch, channels].
        state: [state_length, batch, channels]; zeros mean "start".
        lengths: int64 [batch], steps of each row that are not padding.

    Returns:
        The filtered sequence [time, batch, channels] and the state after each row's last step.
    """
    if plan.streamed == "bitwise":
        history = graph.op("Concat", state, x, axis=0)
        v = history
        for level, power in enumerate(plan.powers):
            v = _add_shifted(graph, graph.slice_time(v, 2**level), graph.slice_time(v, 0, -(2**level)), power)
        return v, _rows_before(graph, history, plan.window, lengths)
    weight = graph.constant(plan.powers[0], np.float32)
    first = graph.op("Add", graph.slice_time(x, 0, 1), graph.op("Mul", state, weight))
    v = graph.op("Concat", first, graph.slice_time(x, 1), axis=0)
    time = graph.op("Slice", graph.op("Shape", x), graph.axes(0), graph.axes(1), graph.axes(0))
    for level, power in enumerate(plan.powers):
        later = graph.op("Pad", v, graph.axes(2**level, 0, 0, 0, 0, 0))
        v = _add_shifted(graph, v, graph.op("Slice", later, graph.axes(0), time, graph.axes(0)), power)
    return v, _rows_before(graph, graph.op("Concat", state, v, axis=0), 1, lengths)


def _add_shifted(graph: GraphBuilder, v: str, shifted: str, power: float) -> str:
    return graph.op("Add", v, graph.op("Mul", shifted, graph.constant(power, np.float32)))


def _rows_before(graph: GraphBuilder, history: str, count: int, lengths: str) -> str:
    """For each batch row the `count` time steps that end with its last one; `history` has `count` steps
    before the chunk.
    """
    steps = graph.constant(np.arange(count)[:, None], np.int64)
    index = graph.op("Unsqueeze", graph.op("Add", steps, lengths), graph.axes(2))
    channels = graph.op("Slice", graph.op("Shape", history), graph.axes(2), graph.axes(3), graph.axes(0))
    shape = graph.op("Concat", graph.op("Shape", graph.op("Squeeze", index, graph.axes(2))), channels, axis=0)
    return graph.op("GatherElements", history, graph.op("Expand", index, shape), axis=0)
