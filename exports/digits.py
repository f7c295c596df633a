"""The graph of a `DigitClassifier`: pixels in, probabilities out, state in and out."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from exports.builder import GraphBuilder
from exports.card import StateSpec, TensorSpec
from exports.exported import Exported
from exports.recurrences import add_rnn, states_of
from exports.session import DigitsRunner
from exports.subject import Row, Subject
from models import DigitClassifier


def digits_graph(classifier: DigitClassifier, name: str, version: str) -> Exported:
    """Build the graph.

    Inputs: `pixels` float32 [batch, time] in [0, 1], raster order; `lengths` int32 [batch], how many of each
    row's pixels count, at least 1; the states. Outputs: `probabilities` [batch, classes] after each row's
    last pixel; `trace` [batch, time, classes] after every pixel (past a row's length: without meaning); the
    new states, `<name>_next`.

    Raises:
        ExportError: the network has no ONNX form.
    """
    graph = GraphBuilder()
    time: int | str = "time" if classifier.permutation is None else len(classifier.permutation)
    classes = classifier.head.out_features
    inputs = [
        TensorSpec(name="pixels", dtype="float32", shape=["batch", time]),
        TensorSpec(name="lengths", dtype="int32", shape=["batch"]),
    ]
    outputs = [
        TensorSpec(name="probabilities", dtype="float32", shape=["batch", classes]),
        TensorSpec(name="trace", dtype="float32", shape=["batch", time, classes]),
    ]
    states = [
        StateSpec(
            name=state.name, output=f"{state.name}_next", dtype="float32", shape=["batch", *state.shape]
        )
        for state in states_of(classifier.rnn)
    ]
    for tensor in inputs:
        graph.input(tensor.name, tensor.dtype, tensor.shape)
    for state in states:
        graph.input(state.name, state.dtype, state.shape)
    x = graph.op("Unsqueeze", graph.op("Transpose", "pixels", perm=[1, 0]), graph.axes(2))
    if classifier.permutation is not None:
        x = graph.op("Gather", x, graph.constant(classifier.permutation.numpy(), np.int64), axis=0)
    every, last, after = add_rnn(
        graph, classifier.rnn, x, {state.name: state.name for state in states}, "lengths"
    )
    weight = graph.constant(classifier.head.weight.detach().numpy().T, np.float32)
    bias = graph.constant(classifier.head.bias.detach().numpy(), np.float32)
    for tensor, hidden in zip(outputs, (last, graph.op("Transpose", every, perm=[1, 0, 2])), strict=True):
        logits = graph.op("Add", graph.op("MatMul", hidden, weight), bias)
        graph.output(tensor.name, graph.op("Softmax", logits, axis=-1), tensor.dtype, tensor.shape)
    for state in states:
        graph.output(state.output, after[state.name], state.dtype, state.shape)
    return Exported(graph.model(name, {"name": name, "version": version}), inputs, outputs, states)


@dataclass(frozen=True)
class DigitsSubject(Subject):
    """A `DigitClassifier` and its graph. A step is a pixel."""

    @property
    def streams(self) -> bool:
        """A permuted image has to be there as a whole."""
        return self.network.permutation is None

    def runner(self) -> DigitsRunner:
        return DigitsRunner(self.exported.model.SerializeToString(), self.exported)

    def redrawn(self) -> DigitsSubject:
        other = copy.deepcopy(self.network)
        other.permutation = None  # so that short sequences can be tried
        other.rnn.reset_parameters()
        other.head.reset_parameters()
        return DigitsSubject(other, digits_graph(other, "redrawn", "1"))

    def draw(self, batch: int, size: int, generator: torch.Generator) -> Tensor:
        return torch.rand(batch, size, generator=generator)

    def ask(self, network: DigitClassifier, x: Tensor) -> list[Row]:
        logits, after = network.read(x)
        trace = logits.softmax(dim=-1).double().numpy()
        states = [state.double().numpy() for state in after[: len(network.rnn.recurrence.states)]]
        return [
            [trace[row], trace[row, -1], *(state[:, row] for state in states)] for row in range(len(trace))
        ]
