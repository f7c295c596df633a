"""What holds bit for bit?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from exports.card import Exactness, Promise
from exports.session import Floats, Result, Runner


def measure_exactness(runner: Runner, x: Floats, unit: int = 1, streams: bool = True) -> Exactness:
    """Find out what holds bit for bit in onnxruntime here, by trying.

    Args:
        runner: the graph, with one thread.
        x: 8 sequences [8, size].
        unit: numbers a step.
        streams: whether the network can be fed in chunks at all.
    """
    count, size = x.shape
    whole = _rows(runner, runner.run(x), [size] * count)
    batched = all(
        _same(whole[row : row + 1], _rows(runner, runner.run(x[row : row + 1]), [size]))
        for row in range(count)
    ) and all(_same(whole[:n], _rows(runner, runner.run(x[:n]), [size] * n)) for n in (2, 3, 5))
    if not streams:
        return Exactness(batched=_promise(batched), padded="impossible", streamed="impossible")
    lengths = [max(1, n) for n in (1, 2, size // 8, size // 4, size // 2, size - 2, size - 1, size)]
    padded = all(
        _same([row], _rows(runner, runner.run(x[i : i + 1, :length]), [length]))
        for i, (row, length) in enumerate(
            zip(_rows(runner, runner.run(x, lengths), lengths), lengths, strict=True)
        )
    )
    chunks = (unit, 5 * unit + unit // 2, 28 * unit + unit // 3, size // 2)
    fed = [_in_chunks(runner, x, chunk) for chunk in chunks]
    said = len(whole[0]) - len(runner.start(1))  # the rest are states
    return Exactness(
        batched=_promise(batched),
        padded=_promise(padded),
        streamed=_promise(all(_same(whole, rows) for rows in fed)),
        streamed_difference=max(_difference(whole, rows, said) for rows in fed),
    )


def _promise(same: bool) -> Promise:
    return "bitwise" if same else "rounding"


def _rows(runner: Runner, result: Result, lengths: Sequence[int]) -> list[list[Floats]]:
    """What a result says of each row, and all its states."""
    return [
        [*said, *(value[row] for value in result[2].values())]
        for row, said in enumerate(runner.rows(result, lengths))
    ]


def _same(a: list[list[Floats]], b: list[list[Floats]]) -> bool:
    return all(
        np.array_equal(x, y) for one, other in zip(a, b, strict=True) for x, y in zip(one, other, strict=True)
    )


def _difference(a: list[list[Floats]], b: list[list[Floats]], said: int) -> float:
    return max(
        float(np.abs(x - y).max(initial=0.0))
        for one, other in zip(a, b, strict=True)
        for x, y in zip(one[:said], other[:said], strict=True)
    )


def _in_chunks(runner: Runner, x: Floats, chunk: int) -> list[list[Floats]]:
    count, size = x.shape
    states, parts = runner.start(count), []
    for start in range(0, size, chunk):
        piece = x[:, start : start + chunk]
        result = runner.run(piece, states=states)
        states = result[2]
        parts.append(_rows(runner, result, [piece.shape[1]] * count))
    joined = [list(row) for row in parts[-1]]
    for row in range(count):
        joined[row][0] = np.concatenate([part[row][0] for part in parts])
    return joined
