"""The values of metrics as the families of `prometheus_client`, which writes and serves them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, TypeAlias

from prometheus_client import CollectorRegistry, make_asgi_app, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector as PrometheusCollector
from prometheus_client.utils import floatToGoString

from trackcore import Collector, Metric, MetricKind, MetricValue

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_Family: TypeAlias = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
_AsgiApp: TypeAlias = Callable[..., object]


class _Values(PrometheusCollector):
    def __init__(self, read: Callable[[], Iterable[MetricValue]]) -> None:
        self._read = read

    def collect(self) -> Iterator[_Family]:
        """Yield the families, as they are now."""
        families: dict[Metric, _Family] = {}
        for value in self._read():
            family = families.get(value.metric)
            if family is None:
                family = families[value.metric] = _family(value.metric)
            _add(family, value)
        yield from families.values()


def make_registry(read: Callable[[], Iterable[MetricValue]]) -> CollectorRegistry:
    """Return a registry of the values that `read` returns, each time they are asked for."""
    registry = CollectorRegistry()
    registry.register(_Values(read))
    return registry


def wsgi_app(collector: Collector) -> WSGIApplication:
    """Return a WSGI app with the metrics of a collector."""
    app: WSGIApplication = make_wsgi_app(make_registry(collector.metrics.values))
    return app


def asgi_app(collector: Collector) -> _AsgiApp:
    """Return an ASGI app with the metrics of a collector."""
    app: _AsgiApp = make_asgi_app(make_registry(collector.metrics.values))
    return app


def _family(metric: Metric) -> _Family:
    if metric.kind is MetricKind.COUNTER:
        return CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    if metric.kind is MetricKind.GAUGE:
        return GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    return HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)


def _add(family: _Family, value: MetricValue) -> None:
    if isinstance(family, HistogramMetricFamily):
        bounds = [*map(floatToGoString, value.metric.bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(value.buckets), strict=True))
        family.add_metric(value.labels, buckets, value.total)
    else:
        family.add_metric(value.labels, value.value)
