"""Two clients with different copies of dask-pkgsync on one cluster, and others that come meanwhile."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING, Any

import pytest
from clusters import SOURCE

import dask_pkgsync as pkgsync
from dask_pkgsync.model.wire.protocol import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from clusters import Cluster, Venvs
    from distributed import Client, Scheduler

    from dask_pkgsync import Environment

    Run = Callable[..., AbstractContextManager[Cluster]]

SECOND = """
import sys
from distributed import Client
import dask_pkgsync as pkgsync
with Client(sys.argv[1]) as client:
    pkgsync.sync(client, progress=False, modules=False, extra=["tabulate==0.9.0"], on_conflict="replace", keep=True)
    print("synced")
"""


def state(dask_scheduler: Scheduler) -> dict[str, Any]:
    """Return whether the gate is closed, and whether there is a target."""
    controller: Any = dask_scheduler.extensions["pkgsync"]
    return {
        "closed": dask_scheduler.handlers["register-client"] == controller.gate.register_client,
        "target": controller.target is not None,
        "plugins": sum(getattr(plugin, "is_pkgsync", False) for plugin in dask_scheduler.plugins.values()),
    }


@pytest.mark.cluster
def test_who_connects_while_one_copy_replaces_another_undoes_nothing(
    run_cluster: Run, venvs: Venvs, base_environment: Environment, tmp_path: Path
) -> None:
    """The plugin of the copy before, which still hears of clients, leaves the new copy's gate and target alone."""
    other = tmp_path / "other"
    shutil.copytree(SOURCE / "dask_pkgsync", other / "dask_pkgsync", ignore=shutil.ignore_patterns("__pycache__"))
    with (other / "dask_pkgsync" / "version.py").open("a") as version:
        version.write("# another copy of the same release\n")
    done = threading.Event()

    def others(cluster: Cluster) -> None:
        while not done.is_set():
            with cluster.client():
                pass

    with run_cluster() as cluster, cluster.client(1) as client:
        pkgsync.sync(client, base_environment, progress=False)
        coming = threading.Thread(target=others, args=(cluster,))
        coming.start()
        try:
            said = venvs.base().run(SECOND, cluster.address, PYTHONPATH=str(other)).stdout
        finally:
            done.set()
            coming.join()
        assert "synced" in said
        assert client.run_on_scheduler(state) == {"closed": True, "target": True, "plugins": 1}


@pytest.mark.cluster
def test_a_sync_by_message_that_waited_for_a_release_leaves_the_gate_closed(
    run_cluster: Run, base_environment: Environment
) -> None:
    """After both, whoever looks finds a target with a gate, or neither; and who is not connected cannot sync."""
    from dask_pkgsync.client.dask_internals import ask_scheduler
    from dask_pkgsync.model.target import target_to_wire

    async def both(client: Client, target: Any) -> Any:
        import asyncio

        release = asyncio.create_task(ask_scheduler(client, "pkgsync_release", client=client.id, schema=SCHEMA))
        await asyncio.sleep(0)
        answer = await ask_scheduler(client, "pkgsync_sync", target=target, client=client.id)
        await release
        return answer

    with run_cluster() as cluster, cluster.client(1) as client:
        pkgsync.sync(client, base_environment, progress=False)
        target = target_to_wire(pkgsync.PackageSync(base_environment).target)
        for nobody in ("", "Client-of-somebody-else"):
            answer = client.sync(ask_scheduler, client, "pkgsync_sync", target=target, client=nobody)
            assert "is connected to this scheduler" in answer["error"]["text"]
        answer = client.sync(both, client, target)
        found = client.run_on_scheduler(state)
        assert found["closed"] == found["target"]
        assert answer is None or found["plugins"] == 1
