"""A small artifact with the contract of frame models; `expected` tells, in numpy, what it must answer.

A frame's scores grow with the loudest sample of its hop and, a little, with the sum of these since the start:
so an answer is right only if the partial hop and the sum are carried from call to call.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import parser

SAMPLE_RATE = 8000
HOP = 80
LABELS = ["quiet", "soft", "loud"]
# At the start a hop is soft when its loudest sample exceeds 0.1, and loud when it exceeds 0.5.
WEIGHTS = np.array([0.0, 8.0, 16.0], np.float32)
BIAS = np.array([0.0, -0.8, -4.8], np.float32)
DRIFT = np.array([0.0, 0.0005, 0.0], np.float32)

_GRAPH = f"""
<ir_version: 8, opset_import: ["": 17]>
small_frames (
    float[batch, samples] waveform, int32[batch] lengths,
    float[batch, {HOP - 1}] rest, int32[batch] pending, float[batch, 1] total
) => (
    float[batch, frames, 3] probabilities, int32[batch] frames,
    float[batch, {HOP - 1}] rest_next, int32[batch] pending_next, float[batch, 1] total_next
)
<
    float[3] weights = {{{", ".join(map(str, WEIGHTS))}}},
    float[3] bias = {{{", ".join(map(str, BIAS))}}},
    float[3] drift = {{{", ".join(map(str, DRIFT))}}},
    float silent = {{0}},
    int32 hop = {{{HOP}}},
    int64 long_hop = {{{HOP}}},
    int64 longest_rest = {{{HOP - 1}}},
    int64[3] grid_shape = {{0, -1, {HOP}}},
    int64 zero = {{0}}, int64 one = {{1}},
    int64[1] axis_1 = {{1}}, int64[1] axis_2 = {{2}}, int64[1] last = {{-1}}, int64[1] end = {{{2**31}}}
>
{{
    heard = Add(pending, lengths)
    frames = Div(heard, hop)
    pending_next = Mod(heard, hop)

    buffer = Concat<axis = 1>(rest, waveform)
    shape = Shape<start = 1>(buffer)
    width = Squeeze(shape)
    time = Div(width, long_hop)
    span = Mul(time, long_hop)
    steps = Range(zero, span, one)
    long_pending = Cast<to = 7>(pending)
    start = Sub(longest_rest, long_pending)
    start_column = Unsqueeze(start, axis_1)
    index = Add(start_column, steps)
    bound = Sub(width, one)
    bounded = Min(index, bound)
    sounds = GatherElements<axis = 1>(buffer, bounded)

    long_lengths = Cast<to = 7>(lengths)
    lengths_column = Unsqueeze(long_lengths, axis_1)
    rest_steps = Range(zero, longest_rest, one)
    rest_index = Add(lengths_column, rest_steps)
    rest_next = GatherElements<axis = 1>(buffer, rest_index)

    hops = Reshape(sounds, grid_shape)
    sizes = Abs(hops)
    all_peaks = ReduceMax<axes = [2], keepdims = 0>(sizes)
    order = Range(zero, time, one)
    long_frames = Cast<to = 7>(frames)
    frames_column = Unsqueeze(long_frames, axis_1)
    counts = Less(order, frames_column)
    peaks = Where(counts, all_peaks, silent)
    with_total = Concat<axis = 1>(total, peaks)
    sums = CumSum(with_total, one)
    totals = Slice(sums, axis_1, end, axis_1)
    total_next = Slice(sums, last, end, axis_1)

    peaks_column = Unsqueeze(peaks, axis_2)
    totals_column = Unsqueeze(totals, axis_2)
    loudness = Mul(peaks_column, weights)
    drifted = Mul(totals_column, drift)
    unbiased = Add(loudness, drifted)
    scores = Add(unbiased, bias)
    probabilities = Softmax<axis = -1>(scores)
}}
"""


def small_frames_graph() -> bytes:
    """The graph, as the bytes of a model.onnx."""
    model = parser.parse_model(_GRAPH)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def small_frames_card(graph: bytes, name: str, version: str) -> dict[str, Any]:
    """The card of `small_frames_graph`."""
    waveform = np.where(np.arange(2 * HOP) < HOP, 0.25, -0.75)
    return {
        "schema_version": 1,
        "name": name,
        "version": version,
        "task": "frames",
        "description": "A graph for tests.",
        "labels": LABELS,
        "inputs": [
            {"name": "waveform", "dtype": "float32", "shape": ["batch", "samples"]},
            {"name": "lengths", "dtype": "int32", "shape": ["batch"]},
        ],
        "outputs": [
            {"name": "probabilities", "dtype": "float32", "shape": ["batch", "frames", len(LABELS)]},
            {"name": "frames", "dtype": "int32", "shape": ["batch"]},
        ],
        "states": [
            {"name": "rest", "output": "rest_next", "dtype": "float32", "shape": ["batch", HOP - 1]},
            {"name": "pending", "output": "pending_next", "dtype": "int32", "shape": ["batch"]},
            {"name": "total", "output": "total_next", "dtype": "float32", "shape": ["batch", 1]},
        ],
        "sample_rate": SAMPLE_RATE,
        "hop_length": HOP,
        "silence": "quiet",
        "exactness": {"batched": "bitwise", "padded": "bitwise", "streamed": "bitwise"},
        "metrics": [],
        "verification": {"max_difference": 0.0, "tolerance": 1e-5, "cases": []},
        "provenance": {
            "recipe": {},
            "seed": None,
            "epochs": 0,
            "data_sha256": {},
            "git_commit": None,
            "created": "2026-01-01T00:00:00Z",
            "libraries": {},
        },
        "file": {"name": "model.onnx", "sha256": hashlib.sha256(graph).hexdigest(), "bytes": len(graph)},
        "golden": {
            "inputs": {"waveform": [waveform.tolist()], "lengths": [len(waveform)]},
            "outputs": {"probabilities": [expected(waveform).tolist()], "frames": [2]},
            "tolerance": 1e-5,
        },
    }


def expected(waveform: NDArray[Any]) -> NDArray[np.float32]:
    """What the graph answers to a whole waveform, within rounding.

    Args:
        waveform: [samples], at SAMPLE_RATE.

    Returns:
        The probabilities, [samples // HOP, 3].
    """
    count = len(waveform) // HOP
    peaks = np.abs(waveform[: count * HOP].astype(np.float32)).reshape(count, HOP).max(axis=1)
    scores = np.exp(peaks[:, None] * WEIGHTS + peaks.cumsum()[:, None] * DRIFT + BIAS)
    return np.asarray(scores / scores.sum(axis=1, keepdims=True), np.float32)
