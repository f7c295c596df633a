"""A thin layer over `onnx.helper`: names are given out, and each call returns the name of its output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8  # read by every onnxruntime this project supports

_ELEMENT_TYPES = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32}


class GraphBuilder:
    """Collects the parts of one graph in order."""

    def __init__(self, parent: GraphBuilder | None = None) -> None:
        self._parent = parent
        self._prefix: str = "" if parent is None else f"{parent._prefix}body{len(parent._nodes)}_"
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[tuple[str, tuple[int, ...], bytes], onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, dtype: str, shape: Sequence[int | str] | None) -> str:
        """Declare a graph input; a string in `shape` is a dynamic dimension, None any shape."""
        name = self._prefix + name
        self._inputs.append(helper.make_tensor_value_info(name, _ELEMENT_TYPES[dtype], shape))
        return name

    def output(self, name: str, value: str, dtype: str, shape: Sequence[int | str]) -> None:
        """Make `value` a graph output called `name`."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, _ELEMENT_TYPES[dtype], list(shape)))

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike) -> str:
        """An initializer, shared by all who ask for the same values."""
        if self._parent is not None:  # a body sees its surroundings
            return self._parent.constant(value, dtype)
        array = np.asarray(value, dtype=dtype, order="C")
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in self._initializers:
            self._initializers[key] = numpy_helper.from_array(array, f"constant_{len(self._initializers)}")
        return str(self._initializers[key].name)

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node with `count` outputs and return their names; an input named "" is an absent optional
        one.
        """
        outputs = [f"{self._prefix}{kind.lower()}_{len(self._nodes)}_{index}" for index in range(count)]
        self._nodes.append(helper.make_node(kind, list(inputs), outputs, **attributes))
        return outputs

    def axes(self, *values: int) -> str:
        """A constant list of axes or positions."""
        return self.constant(values, np.int64)

    def slice_time(self, value: str, start: int | None = None, end: int | None = None) -> str:
        """`value[start:end]` along the first axis."""
        last = np.iinfo(np.int64).max
        return self.op(
            "Slice", value, self.axes(start or 0), self.axes(last if end is None else end), self.axes(0)
        )

    def results(self, values: Sequence[str]) -> None:
        """Make these float32 values the outputs, in order; one may be there more than once."""
        produced = {name for node in self._nodes for name in node.output}
        for value in values:
            name = value if value in produced else self.op("Identity", value)
            produced.discard(name)
            self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))

    def body(self) -> GraphBuilder:
        """A graph inside this one, for an operator that repeats it; its constants are this graph's."""
        return GraphBuilder(self)

    def scan(self, body: GraphBuilder, states: Sequence[str], sequences: Sequence[str]) -> list[str]:
        """Run `body` once a step along the first axis of `sequences`.

        The body's inputs are the states and one step of each sequence, its outputs the new states and what to
        collect. Returns the last states and then the collected sequences.
        """
        graph = helper.make_graph(body._nodes, f"{body._prefix}body", body._inputs, body._outputs)
        return self.ops(
            "Scan",
            len(body._outputs),
            *states,
            *sequences,
            body=graph,
            num_scan_inputs=len(sequences),
        )

    def model(self, name: str, metadata: dict[str, str]) -> onnx.ModelProto:
        """The finished model, checked.

        Raises:
            onnx.checker.ValidationError: the graph is not valid ONNX.
        """
        graph = helper.make_graph(
            self._nodes, name, self._inputs, self._outputs, list(self._initializers.values())
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="momentum-serve",
        )
        helper.set_model_props(model, metadata)
        onnx.checker.check_model(model, full_check=True)
        return model
