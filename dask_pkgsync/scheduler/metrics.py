"""The metrics of a scheduler: nodes, rollouts, refusals, bytes and layers, as its controller knows them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from dask_pkgsync.version import __version__
from dask_pkgsync.web.metrics import Metric

if TYPE_CHECKING:
    from dask_pkgsync.cache.meter import CacheMeter
    from dask_pkgsync.scheduler.controller import Controller


def metrics_of(controller: Controller, meter: CacheMeter) -> list[Metric]:
    """Return the metrics of a controller at this moment."""
    history, target = controller.history, controller.target
    states = Counter(node.state for node in controller.nodes.status(target))
    locations = controller.blob_service.locations.values()
    used = meter.read()
    refused: dict[tuple[str, ...], float] = {key: float(count) for key, count in history.refused.items()}

    def by_one(counts: dict[str, float] | Counter[str]) -> dict[tuple[str, ...], float]:
        return {(name,): count for name, count in counts.items()}

    return [
        Metric("info", "gauge", "The release of dask-pkgsync, and the mode.", "version,mode", {_info(controller): 1}),
        Metric("target", "gauge", "Whether the cluster has a target.", values=float(target is not None)),
        Metric("nodes", "gauge", "Nodes by state, also those that failed and have left.", "state", by_one(states)),
        Metric("claims", "gauge", "Clients whose claim the target satisfies.", values=len(controller.claims.claims)),
        Metric("rollout_running", "gauge", "Whether a rollout runs.", values=float(history.began is not None)),
        Metric("rollouts", "counter", "Rollouts by outcome.", "outcome", by_one(history.rollouts)),
        Metric("rollout_seconds", "counter", "Seconds of rollouts by outcome.", "outcome", by_one(history.seconds)),
        Metric("refusals", "counter", "Clients and workers that were refused.", "who,reason", refused),
        Metric("bytes", "counter", "Bytes by source: client, scheduler, built.", "source", by_one(history.bytes)),
        Metric("layers", "counter", "Layers of nodes that were built or reused.", "how", by_one(history.layers)),
        Metric("blobs", "gauge", "Wheels of clients that the scheduler knows.", values=len(locations)),
        Metric("blob_bytes", "gauge", "Bytes of these wheels.", values=sum(one.blob.size for one in locations)),
        Metric("cache_layers", "gauge", "Layers in the cache of this host.", values=used.layers if used else 0),
        Metric("cache_bytes", "gauge", "Bytes of these layers.", values=used.bytes if used else 0),
    ]


def _info(controller: Controller) -> tuple[str, str]:
    return __version__, controller.operator_policy.mode if controller.is_permanent else ""
