"""An `AcceleratedRNN` as ONNX nodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from exports.builder import GraphBuilder
from exports.errors import ExportError
from exports.filters import form_of
from exports.operators import add_recurrence
from models import AcceleratedRNN


@dataclass(frozen=True)
class LayerState:
    """A carried state of the graph: its name and shape [batch, *shape]."""

    name: str
    shape: tuple[int, ...]


def states_of(rnn: AcceleratedRNN) -> list[LayerState]:
    """What a graph of `rnn` carries: the recurrence's states of all layers, and each layer's filter states.

    Raises:
        ExportError: the network has no ONNX form.
    """
    if rnn.bidirectional:
        raise ExportError(
            "a bidirectional network cannot be exported: it needs the end of a stream at its beginning; "
            "train with bidirectional=False"
        )
    if rnn.proj_size:
        raise ExportError("ONNX's LSTM has no projection: train with proj_size=0 to export")
    states = [LayerState(name, (rnn.num_layers, rnn.hidden_size)) for name in rnn.recurrence.states]
    for layer in range(rnn.num_layers):
        shapes = form_of(rnn.filter).state_shapes(_filtered_channels(rnn, layer))
        states += [LayerState(f"{name}_l{layer}", shape) for name, shape in shapes.items()]
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
    form = form_of(rnn.filter)
    lengths64 = graph.op("Cast", lengths, to=TensorProto.INT64)
    last: dict[str, list[str]] = {name: [] for name in rnn.recurrence.states}
    after: dict[str, str] = {}
    for layer in range(rnn.num_layers):
        (suffix,) = rnn.suffixes(layer)
        weights = rnn.layer_weights(suffix)
        weight_ih = weights.pop("weight_ih").detach().cpu().double().numpy()
        if rnn.bias:
            x = graph.op("Pad", x, graph.axes(0, 0, 0, 0, 0, 1), graph.constant(1.0, np.float32))
            bias_ih = weights.pop("bias_ih").detach().cpu().double().numpy()
            weight_ih = np.concatenate([weight_ih, bias_ih[:, None]], axis=1)
        if not rnn.filter.linear:
            x = graph.op("MatMul", x, graph.constant(weight_ih.T, np.float32))
            weight_ih = np.eye(len(weight_ih))
        names = form.state_shapes(_filtered_channels(rnn, layer))
        x, filtered = form.add(graph, x, {name: states[f"{name}_l{layer}"] for name in names}, lengths64)
        after |= {f"{name}_l{layer}": value for name, value in filtered.items()}
        index = graph.constant(layer, np.int64)
        before = [graph.op("Gather", states[name], index, axis=1) for name in last]
        x, new = add_recurrence(
            graph, rnn.recurrence, x, form.gain * weight_ih, weights, before, lengths, lengths64
        )
        for values, value in zip(last.values(), new, strict=True):
            values.append(value)
    for name, values in last.items():
        rows = [graph.op("Unsqueeze", value, graph.axes(1)) for value in values]
        after[name] = graph.op("Concat", *rows, axis=1) if len(rows) > 1 else rows[0]
    return x, last["h"][-1], after


def _filtered_channels(rnn: AcceleratedRNN, layer: int) -> int:
    if rnn.filter.linear:
        return rnn.layer_input_size(layer) + int(rnn.bias)
    return rnn.recurrence.gates * rnn.hidden_size
