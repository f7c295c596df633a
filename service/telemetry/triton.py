"""The engine's statistics under the names that Triton Inference Server gives them, for dashboards of it.

Triton's names of counters do not end in _total, as the text formats would have a counter's end: they are of
no known type here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import Metric

from service.engine.statistics import VersionStatistics

# Triton's reasons, of ours.
_REASONS = {
    "REJECTED": ("queue_full", "overload", "deadline"),
    "CANCELED": ("cancelled",),
    "BACKEND": ("error", "lane_died"),
    "OTHER": ("stopped",),
}
_SAMPLES: tuple[tuple[str, str, Callable[[VersionStatistics], int]], ...] = (
    ("request_success", "Requests that were answered", lambda done: done.request.count),
    ("count", "Rows that ran", lambda done: done.rows),
    ("exec_count", "Batches that ran", lambda done: done.executions),
    ("request_duration_us", "Answered requests' time, microseconds", lambda done: done.request.ns // 1000),
    ("queue_duration_us", "What they waited of it, microseconds", lambda done: done.queue.ns // 1000),
    ("compute_infer_duration_us", "What they ran of it, microseconds", lambda done: done.compute.ns // 1000),
)
_Key = tuple[str, str]


def metrics(versions: Mapping[_Key, VersionStatistics], pending: Mapping[_Key, int]) -> Iterable[Metric]:
    """The metrics.

    Args:
        versions: by name and version.
        pending: how many requests wait for each.
    """
    failures = Metric("nv_inference_request_failure", "Requests that were not, by reason", "unknown")
    for (model, version), done in versions.items():
        for reason, ours in _REASONS.items():
            labels = {"model": model, "version": version, "reason": reason}
            failures.add_sample(failures.name, labels, sum(done.failures[one] for one in ours))
    yield failures
    for name, text, value in _SAMPLES:
        metric = Metric(f"nv_inference_{name}", text, "unknown")
        for (model, version), done in versions.items():
            metric.add_sample(metric.name, {"model": model, "version": version}, value(done))
        yield metric
    waiting = Metric("nv_inference_pending_request_count", "Requests that wait", "gauge")
    for model, version in versions:
        labels = {"model": model, "version": version}
        waiting.add_sample(waiting.name, labels, pending.get((model, version), 0))
    yield waiting
