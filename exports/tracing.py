"""An equation written for tensors, run once with symbols in their place: what it does becomes ONNX nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from exports.builder import GraphBuilder
from exports.errors import ExportError


class Symbol:
    """A float32 value in PyTorch's functions and Python's operators; it remembers where it comes from.

    Attributes:
        kind: the ONNX operator that makes it, "" for an input.
        arguments: what that operator takes.
        attributes: its settings.
        part: which of the operator's `parts` outputs this is.
        recurrent: whether it depends on a state.
    """

    def __init__(
        self,
        kind: str = "",
        arguments: Sequence[Symbol | Tensor | float] = (),
        attributes: Mapping[str, Any] | None = None,
        part: tuple[int, int] = (0, 1),
        recurrent: bool = False,
    ) -> None:
        self.kind = kind
        self.arguments = tuple(arguments)
        self.attributes = dict(attributes or {})
        self.part, self.parts = part
        self.recurrent: bool = recurrent or any(a.recurrent for a in self.arguments if isinstance(a, Symbol))

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: Sequence[type],
        arguments: Sequence[Any] = (),
        keywords: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        return _apply(function.__name__.strip("_"), *arguments, **(keywords or {}))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *arguments, **keywords: _apply(name, self, *arguments, **keywords)

    def emit(self, graph: GraphBuilder, known: dict[Symbol, str]) -> str:
        """Add the nodes that make this value, except for what is known already.

        Args:
            graph: what to add to.
            known: the names of values in `graph`; gets the new ones.
        """
        if self not in known:
            names = [
                a.emit(graph, known) if isinstance(a, Symbol) else _constant(graph, a) for a in self.arguments
            ]
            outputs = graph.ops(self.kind, self.parts, *names, **self.attributes)
            known[self] = outputs[self.part]
        return known[self]


def _constant(graph: GraphBuilder, value: Tensor | float) -> str:
    array = value.detach().cpu().double().numpy() if isinstance(value, Tensor) else value
    return graph.constant(array, np.float32)


def _apply(name: str, *arguments: Any, **keywords: Any) -> Any:
    if name not in OPERATORS:
        raise ExportError(
            f"the operation {name} in a step has no ONNX form; known: {', '.join(sorted(OPERATORS))}"
        )
    try:
        return OPERATORS[name](*arguments, **keywords)
    except TypeError as error:
        raise ExportError(
            f"the operation {name} in a step has no ONNX form with these arguments: {error}"
        ) from error


def _node(kind: str, swapped: bool = False) -> Callable[..., Symbol]:
    def operator(*arguments: Any) -> Symbol:
        return Symbol(kind, arguments[::-1] if swapped else arguments)

    return operator


def _linear(x: Symbol, weight: Tensor, bias: Tensor | None = None) -> Symbol:
    product = Symbol("MatMul", [x, weight.T])
    return product if bias is None else Symbol("Add", [product, bias])


def _relu(x: Symbol, inplace: bool = False) -> Symbol:
    del inplace
    return Symbol("Relu", [x])


def _remainder(x: Symbol, divisor: float) -> Symbol:
    """With the sign of the divisor, as in PyTorch."""
    quotient = Symbol("Floor", [Symbol("Div", [x, divisor])])
    return Symbol("Sub", [x, Symbol("Mul", [quotient, divisor])])


def _chunk(x: Symbol, chunks: int, dim: int = 0) -> list[Symbol]:
    if dim != -1:  # a step's axes are not the graph's: it may run on all steps at once
        raise ExportError(f"chunk along dim {dim} in a step has no ONNX form: the last axis is dim=-1")
    return [Symbol("Split", [x], {"axis": dim}, (part, chunks)) for part in range(chunks)]


OPERATORS: dict[str, Callable[..., Any]] = {
    "add": _node("Add"),
    "radd": _node("Add", swapped=True),
    "sub": _node("Sub"),
    "rsub": _node("Sub", swapped=True),
    "mul": _node("Mul"),
    "rmul": _node("Mul", swapped=True),
    "div": _node("Div"),
    "truediv": _node("Div"),
    "rtruediv": _node("Div", swapped=True),
    "matmul": _node("MatMul"),
    "rmatmul": _node("MatMul", swapped=True),
    "maximum": _node("Max"),
    "minimum": _node("Min"),
    "neg": _node("Neg"),
    "abs": _node("Abs"),
    "sign": _node("Sign"),
    "sqrt": _node("Sqrt"),
    "exp": _node("Exp"),
    "log": _node("Log"),
    "relu": _relu,
    "sigmoid": _node("Sigmoid"),
    "tanh": _node("Tanh"),
    "square": lambda x: Symbol("Mul", [x, x]),
    "remainder": _remainder,
    "pow": _node("Pow"),
    "rpow": _node("Pow", swapped=True),
    "linear": _linear,
    "chunk": _chunk,
}


def _method(name: str) -> Callable[..., Any]:
    return lambda self, *arguments: _apply(name, self, *arguments)


for _name in (
    *("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv"),
    *("matmul", "rmatmul", "neg", "abs", "pow", "rpow"),
    # without a form: refused by name
    *("lt", "le", "gt", "ge", "mod", "floordiv", "getitem", "bool", "float", "iter"),
):
    setattr(Symbol, f"__{_name}__", _method(_name))
