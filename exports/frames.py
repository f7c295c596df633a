"""The graph of a `FrameModel` that classifies: a waveform in, probabilities for every frame out."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor

from exports.builder import GraphBuilder
from exports.card import StateSpec, TensorSpec
from exports.exported import Exported
from exports.recurrences import add_rnn, states_of
from exports.session import FramesRunner
from exports.subject import Row, Subject
from models import FrameModel, FrontEnd

HISTORY, PENDING = "samples", "pending"
# onnxruntime takes logarithms by this many, or by a divisor of it, and what is left over one by one with
# another rounding: rows of whole vectors, or the rounding would depend on the place in the batch
VECTOR = 16


def frames_graph(network: FrameModel, name: str, version: str) -> Exported:
    """Build the graph.

    Inputs: `waveform` float32 [batch, samples] within [-1, 1]; `lengths` int32 [batch], how many of each
    row's samples count, 0 and up; the states. Outputs: `probabilities` [batch, frames, classes]; `frames`
    int32 [batch], how many of these end within the row's samples (past them: without meaning); the new
    states, `<name>_next`. States of the front end: `samples`, the last win_length - 1, and `pending`, how
    many of them belong to a frame that has not ended.

    Raises:
        ExportError: the network has no ONNX form.
    """
    graph = GraphBuilder()
    front_end = network.front_end
    inputs = [
        TensorSpec(name="waveform", dtype="float32", shape=["batch", "samples"]),
        TensorSpec(name="lengths", dtype="int32", shape=["batch"]),
    ]
    outputs = [
        TensorSpec(
            name="probabilities", dtype="float32", shape=["batch", "frames", network.head.out_features]
        ),
        TensorSpec(name="frames", dtype="int32", shape=["batch"]),
    ]
    states = [
        StateSpec(
            name=HISTORY,
            output=f"{HISTORY}_next",
            dtype="float32",
            shape=["batch", front_end.win_length - 1],
        ),
        StateSpec(name=PENDING, output=f"{PENDING}_next", dtype="int32", shape=["batch"]),
        *(
            StateSpec(
                name=state.name, output=f"{state.name}_next", dtype="float32", shape=["batch", *state.shape]
            )
            for state in states_of(network.rnn)
        ),
    ]
    for tensor in inputs:
        graph.input(tensor.name, tensor.dtype, tensor.shape)
    for state in states:
        graph.input(state.name, state.dtype, state.shape)
    x, counts, after = add_front_end(graph, front_end, "waveform", "lengths")
    every, _, new = add_rnn(graph, network.rnn, x, {state.name: state.name for state in states}, counts)
    after |= new
    weight = graph.constant(network.head.weight.detach().numpy().T, np.float32)
    bias = graph.constant(network.head.bias.detach().numpy(), np.float32)
    logits = graph.op("Add", graph.op("MatMul", graph.op("Transpose", every, perm=[1, 0, 2]), weight), bias)
    values = {"probabilities": graph.op("Softmax", logits, axis=-1), "frames": counts}
    for tensor in outputs:
        graph.output(tensor.name, values[tensor.name], tensor.dtype, tensor.shape)
    for state in states:
        graph.output(state.output, after[state.name], state.dtype, state.shape)
    return Exported(graph.model(name, {"name": name, "version": version}), inputs, outputs, states)


def add_front_end(
    graph: GraphBuilder, front_end: FrontEnd, waveform: str, lengths: str
) -> tuple[str, str, dict[str, str]]:
    """Add a front end.

    Every row of the batch is in the middle of a frame at another place. Its samples, behind those carried,
    are first moved so that the next frame begins where all others' do; frames are then made of whole hops. A
    frame is a row of a matrix product: how it rounds does not depend on how many there are, as it would in
    `Conv`.

    Args:
        graph: what to add to; it has the inputs `samples` and `pending`.
        front_end: the front end.
        waveform: [batch, samples].
        lengths: int32 [batch].

    Returns:
        Features [frames, batch, features] with as many frames as any row could need, how many frames count
        int32 [batch], and the new states.
    """
    win, hop = front_end.win_length, front_end.hop_length
    hops = -(-win // hop)
    zero, one = graph.constant(0, np.int64), graph.constant(1, np.int64)
    hop_size = graph.constant(hop, np.int64)
    shape = graph.op("Shape", waveform)
    batch, samples = (graph.op("Slice", shape, *(graph.axes(i) for i in (k, k + 1, 0))) for k in (0, 1))
    # as many as end if the rest of a hop is pending; one at least, which operators need
    frames = graph.op("Div", graph.op("Add", samples, graph.constant(hop - 1, np.int64)), hop_size)
    frames = graph.op("Max", frames, graph.axes(1))
    # the last frame reaches past the samples where it does not end
    padding = graph.axes(0, 0, 0, hops * hop)
    heard = graph.op("Pad", graph.op("Concat", HISTORY, waveform, axis=1), padding)

    pending = graph.op("Cast", PENDING, to=TensorProto.INT64)
    total = graph.op("Add", pending, graph.op("Cast", lengths, to=TensorProto.INT64))
    counts = graph.op("Cast", graph.op("Div", total, hop_size), to=TensorProto.INT32)
    after = {PENDING: graph.op("Cast", graph.op("Mod", total, hop_size), to=TensorProto.INT32)}
    last = graph.op("Range", zero, graph.constant(win - 1, np.int64), one)
    end = graph.op("Unsqueeze", graph.op("Cast", lengths, to=TensorProto.INT64), graph.axes(1))
    after[HISTORY] = graph.op("GatherElements", heard, graph.op("Add", end, last), axis=1)

    width = graph.op("Mul", graph.op("Add", frames, graph.constant(hops - 1, np.int64)), hop_size)
    place = graph.op("Range", zero, graph.op("Squeeze", width), one)
    first = graph.op("Sub", graph.constant(hop - 1, np.int64), pending)
    index = graph.op("Add", graph.op("Unsqueeze", first, graph.axes(1)), place)
    aligned = graph.op("GatherElements", heard, index, axis=1)
    grid = graph.op("Concat", batch, graph.axes(-1), graph.axes(hop), axis=0)
    # time first: [hops, batch, hop]
    by_hop = graph.op("Transpose", graph.op("Reshape", aligned, grid), perm=[1, 0, 2])
    parts = []
    for number in range(hops):
        start = graph.axes(number)
        stop = graph.op("Add", frames, start)
        parts.append(graph.op("Slice", by_hop, start, stop, graph.axes(0)))
    rest = win - (hops - 1) * hop
    if rest < hop:
        parts[-1] = graph.op("Slice", parts[-1], graph.axes(0), graph.axes(rest), graph.axes(2))
    windows = graph.op("Concat", *parts, axis=2) if hops > 1 else parts[0]

    basis = graph.constant(front_end.basis.numpy(), np.float32)
    bins = graph.axes(front_end.basis.shape[1] // 2)
    spectrum = graph.op("MatMul", windows, basis)
    squares = graph.op("Mul", spectrum, spectrum)
    power = graph.op(
        "Add",
        graph.op("Slice", squares, graph.axes(0), bins, graph.axes(2)),
        graph.op("Slice", squares, bins, graph.axes(np.iinfo(np.int64).max), graph.axes(2)),
    )
    if front_end.bands is not None:
        power = graph.op("MatMul", power, graph.constant(front_end.bands.numpy(), np.float32))
    power = graph.op("Add", power, graph.constant(front_end.floor, np.float32))
    features = front_end.features
    surplus = -features % VECTOR
    if surplus:
        power = graph.op("Pad", power, graph.axes(0, 0, 0, 0, 0, surplus), graph.constant(1.0, np.float32))
    logarithm = graph.op("Log", power)
    if surplus:
        logarithm = graph.op("Slice", logarithm, graph.axes(0), graph.axes(features), graph.axes(2))
    mean, std = front_end.mean.double().numpy(), front_end.std.double().numpy()
    scaled = graph.op("Mul", logarithm, graph.constant(front_end.scale / std, np.float32))
    return graph.op("Add", scaled, graph.constant(-mean / std, np.float32)), counts, after


@dataclass(frozen=True)
class FramesSubject(Subject):
    """A `FrameModel` and its graph. A step is a frame."""

    def runner(self) -> FramesRunner:
        return FramesRunner(self.exported.model.SerializeToString(), self.exported)

    def redrawn(self) -> FramesSubject:
        other = copy.deepcopy(self.network)
        other.rnn.reset_parameters()
        other.head.reset_parameters()
        return FramesSubject(other, frames_graph(other, "redrawn", "1"), self.unit)

    def draw(self, batch: int, size: int, generator: torch.Generator) -> Tensor:
        """Noise whose loudness changes from hop to hop."""
        loudness = 10.0 ** (-4.0 * torch.rand(batch, -(-size // self.unit), generator=generator))
        noise = 2.0 * torch.rand(batch, size, generator=generator) - 1.0
        return noise * loudness.repeat_interleave(self.unit, dim=1)[:, :size]

    def ask(self, network: FrameModel, x: Tensor) -> list[Row]:
        logits, (_, after) = network(x)
        probabilities = logits.softmax(dim=-1).double().numpy()
        names = network.rnn.recurrence.states
        if after is None:
            raise ValueError(f"expected at least a frame of {self.unit} samples, got {x.shape[1]}")
        states = [state.double().numpy() for state in after[: len(names)]]
        return [[row, *(state[:, i] for state in states)] for i, row in enumerate(probabilities)]
