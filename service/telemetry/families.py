"""prometheus_client's metric families from plain numbers. Without numbers, a family is there all the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from service.engine.statistics import BOUNDS, Histogram

Key = TypeVar("Key", bound=tuple[str, ...])

# 1, 2.5 and 5 of each decade: enough for a graph, and a third of the series.
_SHOWN = [index for index in range(len(BOUNDS)) if index % 10 in (0, 4, 7)]


def counter(name: str, text: str, labels: Sequence[str], values: Mapping[Key, float]) -> CounterMetricFamily:
    """A number that only grows.

    Args:
        name: without `_total`, which is added.
        text: what it means.
        labels: their names.
        values: by the labels' values.
    """
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def gauge(name: str, text: str, labels: Sequence[str], values: Mapping[Key, float]) -> GaugeMetricFamily:
    """A number that rises and falls; see `counter`."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def durations(
    name: str, text: str, labels: Sequence[str], histograms: Mapping[Key, Histogram]
) -> HistogramMetricFamily:
    """Histograms of seconds; see `counter`."""
    family = HistogramMetricFamily(name, text, labels=labels)
    for key, histogram in histograms.items():
        below = [*accumulate(histogram.counts)]
        buckets = [(BOUNDS[index], below[index]) for index in _SHOWN]
        family.add_metric(key, _buckets(buckets, below[-1]), histogram.ns / 1e9)
    return family


def sizes(
    name: str, text: str, labels: Sequence[str], counts: Mapping[Key, Mapping[int, int]]
) -> HistogramMetricFamily:
    """Histograms of whole numbers, in powers of two: how many there are of each; see `counter`."""
    family = HistogramMetricFamily(name, text, labels=labels)
    for key, histogram in counts.items():
        bounds = [2**power for power in range(8)]
        buckets = [(bound, sum(n for size, n in histogram.items() if size <= bound)) for bound in bounds]
        total = sum(size * count for size, count in histogram.items())
        family.add_metric(key, _buckets(buckets, sum(histogram.values())), total)
    return family


def _buckets(buckets: Iterable[tuple[float, int]], count: int) -> list[tuple[str, float]]:
    return [*((str(float(bound)), float(below)) for bound, below in buckets), ("+Inf", float(count))]
