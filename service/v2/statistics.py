"""The statistics extension's words for what the engine counts."""

from __future__ import annotations

from typing import Any

from service.engine.statistics import Histogram, VersionStatistics


def render(name: str, version: str, done: VersionStatistics) -> dict[str, Any]:
    """The protocol's object for one version of a model. Durations are in nanoseconds.

    Stacking tensors, running them and splitting what comes of it is all `compute_infer`.
    """
    none = _duration(0, 0)
    return {
        "name": name,
        "version": version,
        "last_inference": done.last_inference,
        "inference_count": done.rows,
        "execution_count": done.executions,
        "inference_stats": {
            "success": _histogram(done.request),
            "fail": _duration(sum(done.failures.values()), done.failed_ns),
            "queue": _histogram(done.queue),
            "compute_input": none,
            "compute_infer": _histogram(done.compute),
            "compute_output": none,
            "cache_hit": none,
            "cache_miss": none,
        },
        "response_stats": {},
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": none,
                "compute_infer": _duration(*spent),
                "compute_output": none,
            }
            for rows, spent in sorted(done.batches.items())
        ],
        "memory_usage": [],
    }


def _histogram(histogram: Histogram) -> dict[str, int]:
    return _duration(histogram.count, histogram.ns)


def _duration(count: int, ns: int) -> dict[str, int]:
    return {"count": count, "ns": ns}
