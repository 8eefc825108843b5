"""Metrics for Prometheus on the ``/metrics`` that Dask's HTTP servers have, where `prometheus_client` is installed."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_KEPT = "_dask_pkgsync_collectors"
"""The attribute of the registry that keeps our collectors, also if another copy of this package takes over."""


@dataclass(frozen=True)
class Metric:
    """A metric with its values."""

    name: str
    """Its name after the prefix, for example ``nodes``; that of a counter without ``_total``."""
    kind: Literal["gauge", "counter"]
    text: str
    """What it says, in one sentence."""
    label: str = ""
    """The name of its label; several are separated by commas. Empty if it has none."""
    values: Mapping[tuple[str, ...], float] | float = 0.0
    """Its value, or its values by those of the labels."""


class Collector:
    """Makes what `prometheus_client` asks for at each request.

    Parameters
    ----------
    read : callable
        Returns the metrics. It is called on the event loop, and must not block.
    prefix : str
        The beginning of all names, for example ``dask_pkgsync``.
    """

    def __init__(self, read: Callable[[], Sequence[Metric]], prefix: str) -> None:
        self.read, self.prefix = read, prefix

    def collect(self) -> Iterator[Any]:
        """Yield each metric."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        for metric in self.read():
            kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            labels = metric.label.split(",") if metric.label else []
            family = kind(f"{self.prefix}_{metric.name}", metric.text, labels=labels)
            values = metric.values if not isinstance(metric.values, int | float) else {(): metric.values}
            for of_labels, value in sorted(values.items()):
                family.add_metric(list(of_labels), value)
            yield family


def publish(role: str, read: Callable[[], Sequence[Metric]], namespace: str = "dask") -> bool:
    """Let ``/metrics`` of this process have some metrics, in place of those that were published for the role before.

    Dask itself has one registry for a process, however many schedulers or workers run in it; the last one is shown.

    Parameters
    ----------
    role : str
        ``scheduler`` or ``worker``.
    read : callable
        As for `Collector`.
    namespace : str
        Dask's option ``distributed.dashboard.prometheus.namespace``.

    Returns
    -------
    bool
        False if `prometheus_client` has not been imported: Dask imports it at the start where it is installed.
    """
    registry = getattr(sys.modules.get("prometheus_client"), "REGISTRY", None)
    if registry is None:
        return False
    kept: dict[str, Any] = vars(registry).setdefault(_KEPT, {})
    if role in kept:
        registry.unregister(kept.pop(role))
    collector = Collector(read, f"{namespace}_pkgsync" if namespace else "pkgsync")
    registry.register(collector)
    kept[role] = collector
    return True
