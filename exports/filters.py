"""Filters as ONNX nodes.

A stream fed in chunks must give what the whole sequence gives. A linear first-order filter with a short
memory is a sum over a window of past inputs, always added up in the same order, and what has no form of its
own repeats its step in a `Scan`: both agree bit for bit. Momentum with a long memory carries its value, and
agrees up to rounding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from exports.builder import GraphBuilder
from exports.scans import add_scan, last_of, rows_before
from models import Filter, Identity, Momentum, Nesterov
from models.filters.scan import number

# a window of at most this many inputs is carried as state (momentum's up to mu = 0.92)
LONGEST_WINDOW = 255
# inputs whose weight is below this are left out: far under float32's precision of 6e-8, relative to the
# newest input's weight
NEGLIGIBLE = 2.0**-28


class FilterForm(ABC):
    """How a filter is carried out in a graph.

    Attributes:
        gain: factor on the result, to be folded into the weights that read it.
    """

    gain: float

    @abstractmethod
    def state_shapes(self, channels: int) -> dict[str, tuple[int, ...]]:
        """Name and shape, without the batch, of each carried state; zeros mean "start"."""

    @abstractmethod
    def add(
        self, graph: GraphBuilder, x: str, states: dict[str, str], lengths: str
    ) -> tuple[str, dict[str, str]]:
        """Add the filter's nodes, without its gain.

        Args:
            graph: what to add to.
            x: [time, batch, channels].
            states: each [batch, *shape].
            lengths: int64 [batch], steps of each row that are not padding.

        Returns:
            The filtered sequence [time, batch, channels] and the states after each row's last step.
        """


def form_of(filter_: Filter) -> FilterForm:
    """Choose the form for a filter."""
    if isinstance(filter_, Identity):
        return MomentumWindow(gain=1.0, powers=())
    if isinstance(filter_, Momentum):
        power, powers = number(filter_.mu), []
        while power > NEGLIGIBLE:
            powers.append(power)
            power *= power
        short = 2 ** len(powers) - 1 <= LONGEST_WINDOW
        return (MomentumWindow if short else MomentumCarried)(number(filter_.epsilon), tuple(powers))
    if (
        isinstance(filter_, Nesterov)
        and filter_.restart is not None
        and filter_.restart <= LONGEST_WINDOW + 1
    ):
        return NesterovWindow(number(filter_.epsilon), filter_.restart)
    return ScanForm(filter_)


@dataclass(frozen=True)
class MomentumWindow(FilterForm):
    """Momentum as a sum of `window` past inputs, in a number of nodes that grows with its logarithm.

    Attributes:
        powers: weight mu^n of each doubling, n = 1, 2, 4, ...
    """

    gain: float
    powers: tuple[float, ...]

    @property
    def window(self) -> int:
        """How many inputs before the chunk are part of the sums."""
        return int(2 ** len(self.powers) - 1)

    def state_shapes(self, channels: int) -> dict[str, tuple[int, ...]]:
        return {"m": (self.window, channels)} if self.window else {}

    def add(
        self, graph: GraphBuilder, x: str, states: dict[str, str], lengths: str
    ) -> tuple[str, dict[str, str]]:
        if not self.window:
            return x, {}
        history = graph.op("Concat", graph.op("Transpose", states["m"], perm=[1, 0, 2]), x, axis=0)
        v = history
        for level, power in enumerate(self.powers):
            v = _doubled(graph, v, 2**level, graph.constant(power, np.float32))
        rows = rows_before(graph, history, self.window, lengths)
        return v, {"m": graph.op("Transpose", rows, perm=[1, 0, 2])}


@dataclass(frozen=True)
class MomentumCarried(FilterForm):
    """Momentum with its own value as state: streamed equals whole up to rounding only. A step at a time, as
    in a `Scan`, so long a sum would lose two digits.

    Attributes:
        powers: weight mu^n of each doubling, n = 1, 2, 4, ...
    """

    gain: float
    powers: tuple[float, ...]

    def state_shapes(self, channels: int) -> dict[str, tuple[int, ...]]:
        return {"m": (channels,)}

    def add(
        self, graph: GraphBuilder, x: str, states: dict[str, str], lengths: str
    ) -> tuple[str, dict[str, str]]:
        carried = graph.op("Mul", states["m"], graph.constant(self.powers[0], np.float32))
        first = graph.op("Add", graph.slice_time(x, 0, 1), carried)
        v = graph.op("Concat", first, graph.slice_time(x, 1), axis=0)
        time = graph.op("Slice", graph.op("Shape", x), *(graph.axes(i) for i in (0, 1, 0)))
        for level, power in enumerate(self.powers):
            later = graph.op("Pad", v, graph.axes(2**level, 0, 0, 0, 0, 0))
            shifted = graph.op("Slice", later, graph.axes(0), time, graph.axes(0))
            v = graph.op("Add", v, graph.op("Mul", shifted, graph.constant(power, np.float32)))
        return v, {"m": last_of(graph, states["m"], v, lengths)}


@dataclass(frozen=True)
class NesterovWindow(FilterForm):
    """Nesterov's filter with restart, whose memory ends where a period begins: a sum of `window` past inputs
    with weights that depend on each row's place k in the schedule.
    """

    gain: float
    restart: int

    @property
    def levels(self) -> int:
        """How many doublings cover a period."""
        return (self.restart - 1).bit_length()

    @property
    def window(self) -> int:
        """How many inputs before the chunk are part of the sums."""
        return int(2**self.levels - 1)

    def state_shapes(self, channels: int) -> dict[str, tuple[int, ...]]:
        return {"m": (self.window, channels), "k": (1,)} if self.window else {}

    def add(
        self, graph: GraphBuilder, x: str, states: dict[str, str], lengths: str
    ) -> tuple[str, dict[str, str]]:
        if not self.window:
            return x, {}
        period = graph.constant(self.restart, np.float32)
        history = graph.op("Concat", graph.op("Transpose", states["m"], perm=[1, 0, 2]), x, axis=0)
        zero, one = graph.constant(0, np.int64), graph.constant(1, np.int64)
        time = graph.op(
            "Squeeze", graph.op("Slice", graph.op("Shape", history), *(graph.axes(i) for i in (0, 1, 0)))
        )
        steps = graph.op("Cast", graph.op("Range", zero, time, one), to=TensorProto.FLOAT)
        # the history begins `window` steps before k
        steps = graph.op("Add", steps, graph.constant(-self.window % self.restart, np.float32))
        k = graph.op("Add", graph.op("Reshape", steps, graph.axes(-1, 1, 1)), states["k"])
        k = graph.op("Mod", k, period, fmod=1)
        factors = graph.op("Div", k, graph.op("Add", k, graph.constant(3, np.float32)))
        v = history
        for level in range(self.levels):
            n = 2**level
            v = _doubled(graph, v, n, graph.slice_time(factors, n))
            if level + 1 < self.levels:
                factors = graph.op("Mul", graph.slice_time(factors, n), graph.slice_time(factors, 0, -n))
        rows = rows_before(graph, history, self.window, lengths)
        passed = graph.op("Unsqueeze", graph.op("Cast", lengths, to=TensorProto.FLOAT), graph.axes(1))
        after = graph.op("Mod", graph.op("Add", states["k"], passed), period, fmod=1)
        return v, {"m": graph.op("Transpose", rows, perm=[1, 0, 2]), "k": after}


@dataclass(frozen=True)
class ScanForm(FilterForm):
    """A filter's step, repeated."""

    filter: Filter
    gain: float = 1.0

    def state_shapes(self, channels: int) -> dict[str, tuple[int, ...]]:
        return {name: (size,) for name, size in self.filter.state_sizes(channels).items()}

    def add(
        self, graph: GraphBuilder, x: str, states: dict[str, str], lengths: str
    ) -> tuple[str, dict[str, str]]:
        names = self.filter.states
        output, last = add_scan(graph, self.filter.step, x, [states[name] for name in names], lengths)
        return output, dict(zip(names, last, strict=True))


def _doubled(graph: GraphBuilder, v: str, n: int, factor: str) -> str:
    """Sums of the last n inputs -> sums of the last 2 n, without the first n steps."""
    earlier = graph.op("Mul", graph.slice_time(v, 0, -n), factor)
    return graph.op("Add", graph.slice_time(v, n), earlier)
