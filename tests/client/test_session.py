"""What a client has synced stays while it is there, comes back with it, and goes some time after it."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import pytest
from clusters import (
    CLIENT_PACKAGES,
    SOURCE,
    environment_with,
    nannies_prepare,
    on_workers,
    surroundings,
    versions_here,
)
from distributed import Client, Scheduler, Worker

import dask_pkgsync as pkgsync
from dask_pkgsync.cli.connection import connected
from dask_pkgsync.client import api as client_side
from dask_pkgsync.client.session import ClientSession
from dask_pkgsync.model.errors import WarnsOnlyError

if TYPE_CHECKING:
    from pathlib import Path

    from clusters import Cluster

    from dask_pkgsync import Environment


MISMATCH = pytest.mark.filterwarnings("ignore::distributed.versions.VersionMismatchWarning")
"""What Dask says when a client comes back that has not all that workers have: numpy, in a fresh environment."""


def six_on(client: Any) -> set[str | None]:
    """Return the versions of six on all workers."""
    return {found["six"] for found in on_workers(client, versions_here, ["six"]).values()}


def actions(client: Any) -> list[str]:
    """Return what the scheduler has told."""
    return [event["action"] for _, event in client.get_events("pkgsync")]


def kill_scheduler(cluster: Cluster) -> str:
    """Kill the scheduler and the workers; return its address."""
    address = cluster.address
    for process in cluster.processes.values():
        process.kill()
        process.wait()
    cluster.stop()
    cluster.scheduler_file.unlink()
    return address


OTHER = """
import os, sys, time, warnings
warnings.simplefilter("ignore")
from distributed import Client
import dask_pkgsync as pkgsync
address, environment, mark = sys.argv[1:]

def version():
    from importlib.metadata import version
    return version("tabulate")

def wait_for(condition):
    while not condition():
        time.sleep(0.05)

if __name__ == "__main__":
    with Client(address, timeout=60) as client:
        pkgsync.sync(client, pkgsync.Environment.from_json(open(environment).read()), progress=False)
        open(mark, "w").close()
        wait_for(lambda: not os.path.exists(mark) and client.status == "running")
        print(client.submit(version, pure=False).result(timeout=60))
        open(mark, "w").close()
        wait_for(lambda: not os.path.exists(mark))
"""


@pytest.mark.cluster
@pytest.mark.smoke
@MISMATCH
def test_clients_that_come_back_to_a_new_scheduler_sync_before_their_tasks_run(
    run_cluster: Any, base_environment: Environment, venvs: Any, tmp_path: Path
) -> None:
    """What they submit is kept until the new cluster matches; both end where they were, whoever is first."""
    mine = environment_with(base_environment, {"six": "1.17.0"})
    (tmp_path / "more.json").write_text(environment_with(mine, {"tabulate": "0.9.0"}).to_json())
    mark = tmp_path / "mark"
    with run_cluster(workers=1) as cluster, cluster.client(1) as client:
        pkgsync.sync(client, mine, progress=False)
        argv = [cluster.address, str(tmp_path / "more.json"), str(mark)]
        env = surroundings(PYTHONPATH=str(SOURCE))
        with subprocess.Popen([venvs.base().python, "-c", OTHER, *argv], stdout=subprocess.PIPE, env=env) as other:
            cluster.wait_for(mark.exists, "the other client's sync")
            before = pkgsync.status(client).target
            address = kill_scheduler(cluster)
            cluster.start_scheduler(address)
            cluster.add_worker(name="again")
            mark.unlink()
            cluster.wait_for(lambda: client.status == "running", "the client", 60)
            assert client.submit(versions_here, ["six"], pure=False).result(timeout=60) == {"six": "1.17.0"}
            cluster.wait_for(mark.exists, "the other client's task")
            status = pkgsync.status(client)
            assert status.matches
            assert status.target == before
            assert sorted(one.state for one in status.clients) == ["synced", "synced"]
            mark.unlink()
            assert other.communicate(timeout=60)[0].decode().strip() == "0.9.0"
        pkgsync.release(client)
        assert "_ensure_connected" not in vars(client)


@pytest.mark.cluster
@MISMATCH
def test_a_scheduler_that_is_killed_during_a_sync_is_told_and_synced_when_it_is_back(
    run_cluster: Any, base_environment: Environment
) -> None:
    """The sync raises at once, and another one works on what has taken its place."""
    mine = environment_with(base_environment, {"six": "1.17.0", "tabulate": "0.9.0"})
    with run_cluster(workers=1) as cluster, cluster.client(1) as client:
        found: list[BaseException] = []

        def sync() -> None:
            try:
                pkgsync.sync(client, mine, progress=False)
            except pkgsync.PkgsyncError as error:
                found.append(error)

        thread = threading.Thread(target=sync)
        thread.start()
        cluster.wait_for(lambda: nannies_prepare(client), "the sync")
        address = kill_scheduler(cluster)
        thread.join(60)
        assert "the connection to the scheduler was lost during the sync" in str(found[0])
        cluster.start_scheduler(address)
        cluster.add_worker(name="again")
        cluster.wait_for(lambda: client.status == "running", "the client", 60)
        client.wait_for_workers(1, timeout=60)
        assert six_on(client) == {"1.15.0"}
        pkgsync.sync(client, mine, progress=False)
        assert six_on(client) == {"1.17.0"}


def test_a_scan_that_fails_while_connecting_is_raised_by_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask would only log it, and connect unsynced, where it is not raised in what stands in for its own steps."""
    scanned_in: list[threading.Thread] = []

    def presented_snapshot(_: object) -> Any:
        scanned_in.append(threading.current_thread())
        raise pkgsync.PolicyError("the loose modules are too large")

    async def on_connect(_: Any, sync: Any) -> None:
        with pytest.raises(pkgsync.PolicyError, match="too large"):
            await sync()

    monkeypatch.setattr(client_side, "presented_snapshot", presented_snapshot)
    monkeypatch.setattr(client_side, "sync_on_connect", on_connect)
    client: Any = None
    asyncio.run(client_side.sync_at_connection(client, None))
    assert len(scanned_in) == 1
    assert scanned_in[0] is not threading.main_thread()  # where an event loop runs


TLS = dict.fromkeys(("tls_ca_file", "tls_cert", "tls_key"))


def release_after(time: str) -> None:
    """Configure a scheduler that is running."""
    import dask

    dask.config.set({"pkgsync.release-after": time})


def next_look(dask_scheduler: Any) -> float | None:
    """Return when the scheduler looks whether it can release what nobody uses; None if it does not mean to."""
    timer = dask_scheduler.extensions["pkgsync"].expiry.timer
    return None if timer is None else float(timer.when())


@pytest.mark.cluster
def test_what_nobody_uses_is_released(run_cluster: Any, base_environment: Environment) -> None:
    """Not while somebody is connected or results are published, nor if it is to be kept."""
    mine = environment_with(base_environment, {"six": "1.17.0"})
    with (
        run_cluster(workers=1, env={"DASK_PKGSYNC__RELEASE_AFTER": "1s"}) as cluster,
        # somebody watches, as dask pkgsync status does
        connected(cluster.address, {**TLS}, presents=False) as looking,
    ):

        def has_released(times: int) -> bool:
            return cluster.log("scheduler").count("released, as nobody") == times

        def all_have_gone() -> bool:
            return pkgsync.status(looking).clients == ()

        with cluster.client(1) as client:
            pkgsync.sync(client, mine, progress=False)
        cluster.wait_for(lambda: has_released(1), "the release")
        assert all_have_gone()
        with cluster.client(1) as client:
            assert six_on(client) == {"1.15.0"}
            client.run_on_scheduler(release_after, "10 minutes")
            pkgsync.sync(client, mine, progress=False)
        cluster.wait_for(all_have_gone, "the client to have gone")
        assert looking.run_on_scheduler(next_look) is not None
        with cluster.client(1) as client:  # a stock client comes in time
            assert looking.run_on_scheduler(next_look) is None
            assert pkgsync.status(client).note == ""
            assert six_on(client) == {"1.17.0"}
            client.publish_dataset(kept=client.submit(versions_here, ["six"]))
            client.run_on_scheduler(release_after, "1s")
        cluster.wait_for(all_have_gone, "the client to have gone")
        first = looking.run_on_scheduler(next_look)
        cluster.wait_for(lambda: looking.run_on_scheduler(next_look) != first, "the look that finds results")
        with cluster.client(1) as client:
            assert client.get_dataset("kept").result(timeout=60) == {"six": "1.17.0"}
            assert six_on(client) == {"1.17.0"}
            client.unpublish_dataset("kept")
        cluster.wait_for(lambda: has_released(2), "the release")
        with cluster.client(1) as client:
            assert six_on(client) == {"1.15.0"}
            assert "released" in actions(client)
            pkgsync.sync(client, mine, keep=True, progress=False)
        cluster.wait_for(all_have_gone, "the client to have gone")
        assert looking.run_on_scheduler(next_look) is None
        with cluster.client(1) as client:
            assert pkgsync.status(client).matches
            pkgsync.sync(client, mine, progress=False)  # the same again changes nothing of that
        cluster.wait_for(all_have_gone, "the client to have gone")
        assert looking.run_on_scheduler(next_look) is None
        with cluster.client(1) as client:
            assert six_on(client) == {"1.17.0"}


@pytest.mark.cluster
def test_what_was_never_synced_can_be_released(run_cluster: Any, venvs: Any) -> None:
    """A scheduler with our preload answers before anybody has synced: every node has its base, and keeps working."""
    guarded = {"DASK_DISTRIBUTED__SCHEDULER__PRELOAD": '["dask_pkgsync.preload"]'}
    with run_cluster(workers=1, venv=venvs.make(*CLIENT_PACKAGES), env=guarded) as cluster:
        cluster.add_worker(nanny=False)
        with cluster.client(2) as client:
            report = pkgsync.release(client)
            found = [(node.role, node.outcome, node.notes) for node in report.nodes]
            assert sorted(found) == [(role, "matched", ()) for role in ("nanny", "scheduler", "worker")]
            assert six_on(client) == {"1.15.0"}
            assert {node.state for node in pkgsync.status(client).nodes} == {"base"}


@pytest.mark.cluster
def test_a_plugin_that_is_taken_off_is_told(run_cluster: Any, base_environment: Environment) -> None:
    """Without a release the gate lets everybody in, and says so; Dask's own setting keeps it from being taken off."""
    mine = environment_with(base_environment, {"six": "1.17.0"})
    with run_cluster(workers=1) as cluster, cluster.client(1) as client:
        pkgsync.sync(client, mine, progress=False)
        client.unregister_scheduler_plugin("pkgsync")
        with cluster.client():
            assert "gate-open" in actions(client)
    blocked = {"DASK_DISTRIBUTED__SCHEDULER__BLOCKED_HANDLERS": '["unregister_scheduler_plugin"]'}
    with run_cluster(workers=1, env=blocked) as cluster, cluster.client(1) as client:
        pkgsync.sync(client, mine, progress=False)
        with pytest.raises(ValueError, match="unregister_scheduler_plugin"):
            client.unregister_scheduler_plugin("pkgsync")
        with cluster.client():
            assert "gate-open" not in actions(client)


@pytest.mark.cluster
def test_a_status_names_every_client(run_cluster: Any, base_environment: Environment) -> None:
    """Who has synced, and who is there besides; how long; and which worker is behind which nanny."""
    with run_cluster(workers=1) as cluster, cluster.client(1) as client:
        pkgsync.sync(client, base_environment, progress=False)
        with cluster.client() as other:
            status = pkgsync.status(client)
            states = {one.name: one.state for one in status.clients}
            assert states == {client.id: "synced", other.id: "stock"}
            nanny = status.nodes[1]
            assert nanny.role == "nanny"
            assert nanny.worker in client.scheduler_info()["workers"]
            assert 0 < nanny.since <= status.now
            assert other.id in str(status)


class Rejoining:
    """Somebody whose connection breaks; what the sync does then is said by the test, which stands for the cluster."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)
        self.calls = 0
        self.client: Any = None

    async def sync(self) -> None:
        """Do what comes next."""
        self.calls += 1
        await asyncio.sleep(0.01)
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(outcome, Exception):
            raise outcome
        if outcome == "the stream breaks":
            self.client.scheduler_comm.abort()

    async def run(self) -> str:
        """Connect, lose the connection, and return the state in which the client ends, and whether it works."""
        async with (
            Scheduler(port=0, dashboard_address=":0") as scheduler,
            Worker(scheduler.address, nthreads=1),
            Client(scheduler.address, asynchronous=True, set_as_default=False, timeout=60) as self.client,
        ):
            ClientSession(self.client, self.sync).begin()
            self.client.scheduler_comm.comm.abort()
            while self.client.status == "running":  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            kept = self.client.submit(sum, [1, 2], pure=False)
            breaks_again = "the stream breaks" in self.outcomes  # then Dask cancels what was submitted
            while self.client.status in ("connecting", "closing"):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            if self.client.status != "running":
                return str(self.client.status)
            assert await self.client.submit(sum, [2, 3], pure=False) == 5
            assert breaks_again or await kept == 3
            return "running"


@pytest.mark.parametrize(
    ("outcomes", "calls", "end"),
    [
        ([], 1, "running"),
        ([OSError("a pooled connection broke"), None], 2, "running"),
        (["the stream breaks", None], 2, "running"),
        (["the stream breaks", "the stream breaks", None], 3, "running"),
        ([WarnsOnlyError("installs nothing")], 1, "running"),
        ([pkgsync.SyncError({})], 1, "closed"),
        ([ValueError("whatever else the scheduler raises")], 1, "closed"),
    ],
)
def test_a_client_that_comes_back_works_or_is_closed(
    outcomes: list[Any], calls: int, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever happens while it syncs again, it never hangs, and what it has submitted meanwhile is sent once."""
    somebody = Rejoining(*outcomes)
    assert asyncio.run(somebody.run()) == end
    assert somebody.calls == calls
    told = [record for record in caplog.records if "this client is closed" in record.getMessage()]
    assert len(told) == (end == "closed")
    assert all(bool(record.exc_info) == isinstance(outcomes[-1], ValueError) for record in told)


@pytest.mark.cluster
def test_every_sync_of_a_client_shows_its_progress(run_cluster: Any, base_environment: Environment) -> None:
    """A client that syncs again with something else sees the steps of each node again."""

    class Heard(pkgsync.Reporter):
        def __init__(self) -> None:
            self.steps: set[tuple[str, str]] = set()

        def progressed(self, progress: Any) -> None:
            self.steps.add((progress.role, progress.step))

    with run_cluster(workers=1) as cluster, cluster.client(1) as client:
        for version in ("1.16.0", "1.17.0"):
            reporter = Heard()
            pkgsync.sync(client, environment_with(base_environment, {"six": version}), progress=reporter)
            assert {("nanny", "prepare"), ("nanny", "activate"), ("scheduler", "prepare")} <= reporter.steps
