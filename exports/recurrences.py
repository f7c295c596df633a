"""Recurrences as ONNX nodes: the `LSTM` operator on the filtered input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from exports.builder import GraphBuilder
from exports.errors import ExportError
from exports.filters import add_filter, plan_filter
from models import LSTM, AcceleratedRNN

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LayerState:
    """A carried state of the graph: its name and shape [batch, *shape]."""

    name: str
    shape: tuple[int, ...]


def states_of(rnn: AcceleratedRNN) -> list[LayerState]:
    """What a graph of `rnn` carries: h and c of all layers, and each layer's filter state, all batch-first.

    Raises:
        ExportError: the network has no ONNX form.
    """
    if rnn.recurrence is not LSTM:
        raise ExportError(f"the recurrence {rnn.recurrence.__name__} has no ONNX form; train with lstm")
    if rnn.bidirectional:
        raise ExportError(
            "a bidirectional network cannot be exported: it needs the end of a stream at its beginning; "
            "train with bidirectional=False"
        )
    if rnn.proj_size:
        raise ExportError("ONNX's LSTM has no projection: train with proj_size=0 to export")
    length = plan_filter(rnn.filter).state_length
    states = [LayerState(name, (rnn.num_layers, rnn.hidden_size)) for name in rnn.recurrence.states]
    if length:
        bias = 1 if rnn.bias else 0
        states += [
            LayerState(f"m_l{layer}", (length, rnn.layer_input_size(layer) + bias))
            for layer in range(rnn.num_layers)
        ]
    return states


def add_rnn(
    graph: GraphBuilder, rnn: AcceleratedRNN, x: str, states: dict[str, str], lengths: str
) -> tuple[str, str, dict[str, str]]:
    """Add all layers.

    Args:
        graph: what to add to.
        rnn: the network.
        x: [time, batch, input_size].
        states: the inputs that `states_of` lists, each [batch, *shape].
        lengths: int32 [batch].

    Returns:
        Every hidden state of the last layer [time, batch, hidden_size], the last one [batch, hidden_size] (of
        each row's own length), and the new states by name.
    """
    plan = plan_filter(rnn.filter)
    lengths64 = graph.op("Cast", lengths, to=TensorProto.INT64)
    before = {name: graph.op("Transpose", value, perm=[1, 0, 2]) for name, value in states.items()}
    last: dict[str, list[str]] = {"h": [], "c": []}
    after: dict[str, str] = {}
    for layer in range(rnn.num_layers):
        if rnn.bias:
            x = graph.op("Pad", x, graph.axes(0, 0, 0, 0, 0, 1), graph.constant(1.0, np.float32))
        name = f"m_l{layer}"
        if name in before:
            x, m = add_filter(graph, plan, x, before[name], lengths64)
            after[name] = graph.op("Transpose", m, perm=[1, 0, 2])
        initial = [graph.slice_time(before[state], layer, layer + 1) for state in ("h", "c")]
        weights = [graph.constant(value, np.float32) for value in _lstm_weights(rnn, layer, plan.gain)]
        y, h, c = graph.ops("LSTM", 3, x, *weights, lengths, *initial, hidden_size=rnn.hidden_size)
        last["h"].append(h)
        last["c"].append(c)
        x = graph.op("Squeeze", y, graph.axes(1))
    for name, values in last.items():
        joined = graph.op("Concat", *values, axis=0) if len(values) > 1 else values[0]
        after[name] = graph.op("Transpose", joined, perm=[1, 0, 2])
    return x, graph.op("Squeeze", last["h"][-1], graph.axes(0)), after


def _lstm_weights(rnn: AcceleratedRNN, layer: int, gain: float) -> tuple[Floats, Floats, Floats]:
    """W [1, 4 H, inputs], R [1, 4 H, H], B [1, 8 H] of one layer, for the filtered `[x ; 1]` without the
    filter's gain.
    """

    def parameter(name: str) -> npt.NDArray[np.float64]:
        value: npt.NDArray[np.float64] = getattr(rnn, f"{name}_l{layer}").detach().cpu().double().numpy()
        # torch orders the gates i, f, g, o; ONNX i, o, f, c
        i, f, g, o = np.split(value, 4)
        return np.concatenate([i, o, f, g])

    w, r = parameter("weight_ih"), parameter("weight_hh")
    b = np.zeros(8 * rnn.hidden_size)
    if rnn.bias:
        w = np.concatenate([w, parameter("bias_ih")[:, None]], axis=1)
        b[4 * rnn.hidden_size :] = parameter("bias_hh")
    return (gain * w)[None].astype(np.float32), r[None].astype(np.float32), b[None].astype(np.float32)
