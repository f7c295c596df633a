"""Recurrences as ONNX nodes: an operator of their own where there is one, else their step in a `Scan`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from exports.builder import GraphBuilder
from exports.scans import add_scan
from models import GRU, LSTM, Recurrence, RNNReLU, RNNTanh

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Operator:
    """ONNX's operator for a recurrence.

    Attributes:
        kind: its name.
        order: which of torch's gates stands at each place of ONNX's.
        attributes: its settings.
    """

    kind: str
    order: tuple[int, ...]
    attributes: Mapping[str, int | Sequence[str]]


OPERATORS: dict[type[Recurrence], Operator] = {
    LSTM: Operator("LSTM", (0, 3, 1, 2), {}),  # i, o, f, c
    GRU: Operator("GRU", (1, 0, 2), {"linear_before_reset": 1}),  # z, r, h
    RNNTanh: Operator("RNN", (0,), {"activations": ["Tanh"]}),
    RNNReLU: Operator("RNN", (0,), {"activations": ["Relu"]}),
}


def add_recurrence(
    graph: GraphBuilder,
    recurrence: type[Recurrence],
    x: str,
    weight_ih: Doubles,
    weights: Mapping[str, Tensor],
    states: Sequence[str],
    lengths: str,
    lengths64: str,
) -> tuple[str, list[str]]:
    """Add one layer.

    Args:
        graph: what to add to.
        recurrence: which.
        x: [time, batch, inputs].
        weight_ih: [gates * H, inputs]; the drive is `weight_ih x`.
        weights: the recurrence's parameters, as `Recurrence.shapes` lists them.
        states: before the first step, each [batch, H].
        lengths, lengths64: steps of each row that are not padding [batch], int32 and int64.

    Returns:
        Every hidden state [time, batch, H] and the states after each row's last step.
    """
    operator = OPERATORS.get(recurrence)
    if operator is None:
        drive = graph.op("MatMul", x, graph.constant(weight_ih.T, np.float32))

        def step(d: object, before: tuple[object, ...]) -> tuple[object, tuple[object, ...]]:
            after = recurrence.step(d, before, weights)  # type: ignore[arg-type]
            return after[0], after

        return add_scan(graph, step, drive, states, lengths64)
    count = len(operator.order)

    def ordered(value: Doubles) -> Doubles:
        gates = np.split(value, count)
        return np.concatenate([gates[i] for i in operator.order])

    def parameter(name: str) -> Doubles:
        value: Doubles = weights[name].detach().cpu().double().numpy()
        return ordered(value)

    recurrent = parameter("weight_hh")
    bias = np.zeros(2 * len(recurrent))
    if "bias_hh" in weights:
        bias[len(recurrent) :] = parameter("bias_hh")
    y, *last = graph.ops(
        operator.kind,
        1 + len(states),
        x,
        *(graph.constant(value[None], np.float32) for value in (ordered(weight_ih), recurrent, bias)),
        lengths,
        *(graph.op("Unsqueeze", state, graph.axes(0)) for state in states),
        hidden_size=recurrent.shape[1],
        **operator.attributes,
    )
    axis = graph.axes(0)
    # onnxruntime gives zeros where a row has no steps at all
    waits = graph.op("Unsqueeze", graph.op("Equal", lengths64, graph.constant(0, np.int64)), graph.axes(1))
    after = [
        graph.op("Where", waits, old, graph.op("Squeeze", new, axis))
        for old, new in zip(states, last, strict=True)
    ]
    return graph.op("Squeeze", y, graph.axes(1)), after
