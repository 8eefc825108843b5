"""Metrics, as a real Prometheus parser reads them from a real scheduler."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import dask
import yaml
from distributed import Scheduler, Worker
from prometheus_client.parser import text_string_to_metric_families
from tornado.httpclient import AsyncHTTPClient

from dask_pkgsync.model.reports.sync import NodeReport, SyncReport
from dask_pkgsync.node.metrics import publish_metrics
from dask_pkgsync.process.state import this_process
from dask_pkgsync.scheduler.extension import controller_of
from dask_pkgsync.scheduler.history import History, kind_of

DOCS = Path(__file__).parents[2] / "docs"


async def metrics_of(server: Any) -> dict[str, dict[tuple[str, ...], float]]:
    """Return the metrics of a server: by name, and by the values of their labels, in the order of the labels' names."""
    answer = await AsyncHTTPClient(force_instance=True).fetch(f"http://127.0.0.1:{server.http_server.port}/metrics")
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(answer.body.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(value for _, value in sorted(sample.labels.items()))] = sample.value
    return found


def events(controller: Any) -> None:
    """Let happen what the metrics count."""
    critical = "package  scheduler  client  level\ntornado  6.5  6.1  critical"
    controller.log_event({"action": "client-refused", "client": "c", "person": "", "address": "x", "reason": critical})
    controller.log_event({"action": "worker-refused", "worker": "w", "reason": "it has not been verified against"})
    controller.log_event({"action": "uploaded", "package": "a.whl", "bytes": 1000})
    controller.log_event({"action": "served", "package": "a.whl", "bytes": 10})
    nodes = (NodeReport("a", "nanny", fetched=500, layer="x"), NodeReport("b", "nanny", layer="x"))
    for report, failures in ((SyncReport("t", nodes), ()), (SyncReport("t", nodes[1:]), ("a",)), (None, ())):
        controller.history.begin()
        controller.history.end(report, failures)


def test_a_scheduler_and_a_worker_publish_their_metrics(tmp_path):
    """What happens on a cluster can be read at `/metrics`, and all names of the dashboard and the alerts are there."""

    async def main() -> dict[str, dict[tuple[str, ...], float]]:
        settings = {"distributed.scheduler.preload": [], "pkgsync.cache-directory": str(tmp_path / "cache")}
        with dask.config.set(settings):
            async with Scheduler(host="127.0.0.1", port=0, dashboard_address=":0") as scheduler:
                controller = controller_of(scheduler)
                await controller.pages.mount()
                assert "dask_pkgsync_refusals_total" not in {
                    name for name, values in (await metrics_of(scheduler)).items() if values
                }
                events(controller)
                async with Worker(scheduler.address, nthreads=1, dashboard_address=":0") as worker:
                    await publish_metrics()
                    return {**await metrics_of(scheduler), **await metrics_of(worker)}

    found = asyncio.run(main())
    assert found["dask_pkgsync_refusals_total"] == {("critical", "client"): 1, ("unverified", "worker"): 1}
    assert found["dask_pkgsync_bytes_total"] == {("client",): 1000, ("scheduler",): 10, ("built",): 500}
    assert found["dask_pkgsync_rollouts_total"] == {("synced",): 1, ("partly",): 1, ("failed",): 1}
    assert found["dask_pkgsync_layers_total"] == {("built",): 1, ("reused",): 2}
    assert found["dask_pkgsync_nodes"] == {("base",): 2}
    assert found["dask_pkgsync_target"] == {(): 0}
    assert found["dask_pkgsync_worker_verified"] == {(): bool(this_process().target)}
    assert found["dask_pkgsync_worker_cache_bytes"] == {(): 0}

    board = json.loads((DOCS / "grafana.json").read_text())
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    alerts = yaml.safe_load((DOCS / "alerts.yaml").read_text())
    expressions += [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    names = set(re.findall(r"dask_pkgsync_\w+", " ".join(expressions)))
    assert len(names) >= 8
    assert names <= found.keys()
    table = set(re.findall(r"`(dask_pkgsync_\w+)`", (DOCS / "metrics.md").read_text()))
    assert {name for name in found if name.startswith("dask_pkgsync") and not name.endswith("_created")} == table


def test_a_history_keeps_the_last_and_counts_all():
    """The last fifty refusals are kept, newest first, and all are counted; a release ends the target."""
    history = History()
    for number in range(70):
        history.note({"action": "client-refused", "client": f"c{number}", "reason": "no"})
    assert [one.name for one in history.refusals][:2] == ["c69", "c68"]
    assert len(history.refusals) == 50
    assert history.refused == {("client", "other"): 70}
    history.begin()
    assert history.began is not None
    history.end(SyncReport("t", ()), ())
    assert history.target_since > 0
    history.note({"action": "released", "by": "ann"})
    assert (history.began, history.target_since) == (None, 0.0)
    assert [event["action"] for _, event in history.happenings] == ["released"]


def test_reasons_have_few_kinds():
    """A label of a metric has few values, whatever a reason says."""
    texts = ("malformed message at x", "package  a  b  level\nnumpy  1  2  exact", "x  1  2  critical", "anything")
    assert [kind_of(text) for text in texts] == ["malformed", "packages", "critical", "other"]
