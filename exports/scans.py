"""A step repeated over time: the form of everything that has no operator of its own."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Any

import numpy as np

from exports.builder import GraphBuilder
from exports.tracing import Symbol

# a step on tensors: the value of a time step and the states before it -> an output, and the states after
Step = Callable[[Any, tuple[Any, ...]], tuple[Any, tuple[Any, ...]]]


def add_scan(
    graph: GraphBuilder, step: Step, x: str, states: Sequence[str], lengths: str
) -> tuple[str, list[str]]:
    """Add a `Scan` of a step.

    Sequential in time, so a stream fed in chunks gives what the whole sequence gives, bit for bit. Only what
    the next states need is repeated; the rest is computed for all steps at once, before and after.

    Args:
        graph: what to add to.
        step: the equation; it must treat the last axis alone, as steps on [batch, channels] do.
        x: [time, batch, channels].
        states: before the first step, each [batch, width].
        lengths: int64 [batch], steps of each row that are not padding.

    Returns:
        The outputs [time, batch, channels], and the states after each row's last step.
    """
    current, before = Symbol(), tuple(Symbol(recurrent=True) for _ in states)
    output, after = step(current, before)
    outside = {current: x}
    # what depends on states is repeated as far as new states need it; a state that depends on none is not
    carried = [i for i, symbol in enumerate(after) if symbol.recurrent]
    used = _recurrent_ancestors([*(after[i] for i in carried), output])
    repeated = _recurrent_ancestors([after[i] for i in carried])
    held = [i for i, symbol in enumerate(before) if symbol in used or i in carried]
    if held:
        repeated |= dict.fromkeys(before[i] for i in held)
        sequences = list(
            dict.fromkeys(
                argument
                for symbol in [*repeated, *(after[i] for i in held)]
                for argument in (symbol.arguments if symbol.recurrent else (symbol,))
                if isinstance(argument, Symbol) and not argument.recurrent
            )
        ) or [current]
        body = graph.body()
        inside = {before[i]: body.input(f"state{i}", "float32", None) for i in held}
        inside |= {symbol: body.input(f"x{i}", "float32", None) for i, symbol in enumerate(sequences)}
        new = [after[i].emit(body, inside) for i in held]
        collected = list(dict.fromkeys([*(after[i] for i in carried), *_needed_after(output, repeated)]))
        body.results([*new, *(symbol.emit(body, inside) for symbol in collected)])
        names = graph.scan(
            body, [states[i] for i in held], [symbol.emit(graph, outside) for symbol in sequences]
        )
        outside |= dict(zip(collected, names[len(held) :], strict=True))
    last = [
        last_of(graph, initial, symbol.emit(graph, outside), lengths)
        for initial, symbol in zip(states, after, strict=True)
    ]
    return output.emit(graph, outside), last


def _recurrent_ancestors(symbols: Sequence[Symbol]) -> dict[Symbol, None]:
    """The symbols and what they are made from, as far as it depends on a state."""
    found: dict[Symbol, None] = {}
    waiting = [symbol for symbol in symbols if symbol.recurrent]
    while waiting:
        symbol = waiting.pop()
        if symbol not in found:
            found[symbol] = None
            waiting += [a for a in symbol.arguments if isinstance(a, Symbol) and a.recurrent]
    return found


def _needed_after(output: Symbol, repeated: Container[Symbol]) -> list[Symbol]:
    """What of the repeated values the output is made from."""
    if not output.recurrent:
        return []
    if output in repeated:
        return [output]
    arguments = [a for a in output.arguments if isinstance(a, Symbol)]
    return [symbol for argument in arguments for symbol in _needed_after(argument, repeated)]


def last_of(graph: GraphBuilder, initial: str, sequence: str, lengths: str) -> str:
    """The state [batch, width] after each row's last step: a row of `initial` where its length is 0."""
    history = graph.op("Concat", graph.op("Unsqueeze", initial, graph.axes(0)), sequence, axis=0)
    return graph.op("Squeeze", rows_before(graph, history, 1, lengths), graph.axes(0))


def rows_before(graph: GraphBuilder, history: str, count: int, lengths: str) -> str:
    """For each batch row the `count` time steps that end with its last one; `history` has `count` steps
    before the chunk.
    """
    steps = graph.constant(np.arange(count)[:, None], np.int64)
    index = graph.op("Unsqueeze", graph.op("Add", steps, lengths), graph.axes(2))
    channels = graph.op("Slice", graph.op("Shape", history), graph.axes(2), graph.axes(3), graph.axes(0))
    shape = graph.op("Concat", graph.op("Shape", graph.op("Squeeze", index, graph.axes(2))), channels, axis=0)
    return graph.op("GatherElements", history, graph.op("Expand", index, shape), axis=0)
