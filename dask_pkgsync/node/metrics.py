"""The metrics of a worker: which target and layer it runs in, and how large the cache of its host is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dask_pkgsync.cache.meter import CacheMeter
from dask_pkgsync.node.dask_internals import metrics_namespace
from dask_pkgsync.options.node import node_settings
from dask_pkgsync.process.state import this_process
from dask_pkgsync.version import __version__
from dask_pkgsync.web.metrics import Metric, publish

if TYPE_CHECKING:
    from collections.abc import Sequence


async def publish_metrics() -> None:
    """Let ``/metrics`` of this worker have our metrics, where `prometheus_client` is installed."""
    meter = CacheMeter(lambda: node_settings().cache_directory)
    if publish("worker", lambda: metrics_of(meter), metrics_namespace()):
        await asyncio.to_thread(meter.measure)


def metrics_of(meter: CacheMeter) -> Sequence[Metric]:
    """Return the metrics of this process at this moment."""
    process, used = this_process(), meter.read()
    layer = process.layer.rpartition("/")[2][:12]
    info = (__version__, process.target[:12], layer)
    text = "The release of dask-pkgsync, and the target and layer of this worker."
    return [
        Metric("worker_info", "gauge", text, "version,target,layer", {info: 1.0}),
        Metric("worker_verified", "gauge", "Whether it was verified against a target.", values=bool(process.target)),
        Metric("worker_lacks", "gauge", "What it lacks of its layer until it restarts.", values=len(process.lacks)),
        Metric("worker_cache_layers", "gauge", "Layers in the cache of its host.", values=used.layers if used else 0),
        Metric("worker_cache_bytes", "gauge", "Bytes of these layers.", values=used.bytes if used else 0),
    ]
