"""A client or worker with a critical mismatch never gets in."""

from __future__ import annotations

import asyncio
import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest
from clusters import CRITICAL_PINS, SOURCE, environment_with, imported_version, on_workers, other_python
from distributed.comm import connect

import dask_pkgsync as pkgsync

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from clusters import Cluster, Venvs
    from distributed import Client

    from dask_pkgsync import Environment

    Run = Callable[..., AbstractContextManager[Cluster]]

pytestmark = pytest.mark.cluster

STOCK_CLIENT = """
import sys, warnings
warnings.simplefilter("ignore")
from distributed import Client
try:
    with Client(sys.argv[1], timeout=60) as client:
        print("CONNECTED", client.submit(sum, [1, 2]).result())
except ImportError as error:
    print("REFUSED", error)
"""


def without(*names: str) -> list[str]:
    """Return the critical pins but for some."""
    return [pin for pin in CRITICAL_PINS if not pin.startswith(names)]


def scheduler_state(client: Client) -> dict[str, Any]:
    """Return what a refused client could have left behind."""

    def look(dask_scheduler: Any) -> dict[str, Any]:
        return {
            "clients": sorted(dask_scheduler.clients),
            "comms": sorted(dask_scheduler.client_comms),
            "tasks": len(dask_scheduler.tasks),
            "workers": sorted(dask_scheduler.workers),
        }

    found: dict[str, Any] = client.run_on_scheduler(look)
    return found


@pytest.mark.smoke
@pytest.mark.parametrize(("package", "other"), [("tornado", "tornado==6.4.2"), ("cloudpickle", "cloudpickle==3.0.0")])
def test_a_stock_client_with_another_critical_package_is_refused(
    run_cluster: Run, venvs: Venvs, base_environment: Environment, package: str, other: str
) -> None:
    """A client without dask-pkgsync raises, out of Client(...), the table; the scheduler and others notice nothing."""
    stranger = venvs.make(*without(package), other)
    with run_cluster() as cluster, cluster.client(workers=1) as client:
        client.register_plugin(pkgsync.PackageSync(base_environment))
        before = scheduler_state(client)
        said = stranger.run(STOCK_CLIENT, cluster.address).stdout
        assert said.startswith("REFUSED")
        assert package in said
        assert other.partition("==")[2] in said
        assert "critical" in said
        assert scheduler_state(client) == before
        assert set(on_workers(client, imported_version, "six").values()) == {"1.15.0"}
        assert venvs.base().run(STOCK_CLIENT, cluster.address).stdout.strip() == "CONNECTED 3"
        refusals = [event for _, event in client.get_events("pkgsync") if event["action"] == "client-refused"]
        assert "refused: client at tcp://127.0.0.1:" in cluster.log("scheduler")
        assert [package in event["reason"] for event in refusals] == [True]


def test_a_stock_client_with_another_python_is_refused(
    run_cluster: Run, venvs: Venvs, base_environment: Environment
) -> None:
    """Python's X.Y is critical; the table shows both."""
    stranger = venvs.make(*CRITICAL_PINS, python=other_python())
    with run_cluster() as cluster, cluster.client(workers=1) as client:
        client.register_plugin(pkgsync.PackageSync(base_environment))
        before = scheduler_state(client)
        said = stranger.run(STOCK_CLIENT, cluster.address).stdout
        assert said.startswith("REFUSED")
        assert "python" in said
        assert f"{sys.version_info[0]}.{sys.version_info[1]}" in said
        assert scheduler_state(client) == before


REGISTER = """
import sys, warnings
warnings.simplefilter("ignore")
from distributed import Client
import dask_pkgsync
with Client(sys.argv[1], timeout=60) as client:
    try:
        client.register_plugin(dask_pkgsync.PackageSync(modules=False))
    except dask_pkgsync.EnvironmentMismatchError as error:
        print("MISMATCH", isinstance(error, ImportError), error)
"""


def test_registering_from_a_mismatched_client_raises_the_same_table(
    run_cluster: Run, venvs: Venvs, tmp_path: Any
) -> None:
    """register_plugin raises EnvironmentMismatchError with every critical difference, and changes nothing."""
    stranger = venvs.make(*without("tornado", "cloudpickle"), "tornado==6.4.2", "cloudpickle==3.0.0")
    source = tmp_path / "source"
    shutil.copytree(SOURCE / "dask_pkgsync", source / "dask_pkgsync")
    with run_cluster() as cluster:
        said = stranger.run(REGISTER, cluster.address, PYTHONPATH=str(source)).stdout
        assert said.startswith("MISMATCH True")
        assert "tornado" in said
        assert "cloudpickle" in said
        assert stranger.run(STOCK_CLIENT, cluster.address, check=False).stdout is not None
        with cluster.client(workers=1) as client:
            assert client.submit(sum, [1, 2]).result() == 3


def test_registering_from_another_python_says_so(run_cluster: Run, venvs: Venvs) -> None:
    """The plugin itself travels across versions of Python, so that the person is told what is wrong."""
    stranger = venvs.make(*CRITICAL_PINS, python=other_python())
    with run_cluster() as cluster:
        said = stranger.run(REGISTER, cluster.address, PYTHONPATH=str(SOURCE)).stdout
        assert said.startswith("MISMATCH True")
        assert "python" in said


def test_a_worker_with_another_critical_package_is_refused(
    run_cluster: Run, venvs: Venvs, base_environment: Environment
) -> None:
    """A worker whose critical packages are not the scheduler's never joins, and its log says why."""
    stranger = venvs.make(*without("cloudpickle"), "cloudpickle==3.0.0")
    with run_cluster() as cluster, cluster.client(workers=1) as client:
        client.register_plugin(pkgsync.PackageSync(base_environment))
        process = cluster.add_worker(name="stranger", venv=stranger)
        cluster.wait_for(lambda: process.poll() is not None, "the refused worker to end")
        assert "cloudpickle" in cluster.log("stranger")
        assert len(client.scheduler_info(n_workers=-1)["workers"]) == 1


def malformed_handshakes() -> list[dict[str, Any]]:
    """Return handshakes that no Dask sends."""
    packages = {"python": "3.11.7.final.0", "dask": "2026.8.0"}
    return [
        {},
        {"client": "c-1"},
        {"client": 7, "versions": {"packages": packages}},
        {"client": "c-2", "versions": None},
        {"client": "c-3", "versions": {"packages": [1, 2]}},
        {"client": "c-4", "versions": {"packages": {"dask": "1\x1b[2J\n"}}},
        {"client": "c-5", "versions": {"packages": {"dask": {"nested": 1}}}},
        {"client": "c-6", "versions": {"packages": {f"p{number}": "1" for number in range(5_000)}}},
        {"client": "c-7", "versions": {"packages": {"dask": "9" * 100_000}}},
        {"client": "c-8", "versions": {"packages": packages, "pkgsync": {"schema": 99}}},
        {"client": "c-9", "versions": {"packages": packages, "pkgsync": "junk"}},
        {"client": "c-10", "versions": {"packages": packages}},
    ]


def test_a_malformed_handshake_is_refused_and_leaves_nothing(run_cluster: Run, base_environment: Environment) -> None:
    """Malformed, missing, oversized and future handshakes get a clear answer, and no state stays behind."""

    async def knock(address: str, message: dict[str, Any]) -> Any:
        comm = await connect(address)
        try:
            await comm.write({"op": "register-client", "reply": False, **message})
            return await asyncio.wait_for(comm.read(), 60)
        finally:
            comm.abort()

    with run_cluster() as cluster, cluster.client(workers=1) as client:
        client.register_plugin(pkgsync.PackageSync(base_environment))
        before = scheduler_state(client)
        for message in malformed_handshakes():
            (answer,) = client.sync(knock, cluster.address, message)
            assert answer["op"] == "stream-start"
            assert "expected" in answer["error"] or "does not match" in answer["error"]
            assert "\x1b" not in answer["error"]
        assert scheduler_state(client) == before
        assert client.submit(sum, [1, 2]).result() == 3


def test_a_gate_whose_plugin_was_removed_lets_everybody_through_and_says_so(
    run_cluster: Run, venvs: Venvs, base_environment: Environment
) -> None:
    """Unregistering the plugin behind our back opens the gate, and an event tells."""
    stranger = venvs.make(*without("cloudpickle"), "cloudpickle==3.0.0")
    with run_cluster() as cluster, cluster.client(workers=1) as client:
        client.register_plugin(pkgsync.PackageSync(base_environment))
        client.unregister_scheduler_plugin("pkgsync")
        assert "REFUSED" not in stranger.run(STOCK_CLIENT, cluster.address, check=False).stdout
        assert "gate-open" in [event["action"] for _, event in client.get_events("pkgsync")]


def test_a_second_registration_takes_over_the_first(run_cluster: Run, base_environment: Environment) -> None:
    """Registering again does not wrap the gate twice, nor warn of a plugin of the same name."""

    def handlers(dask_scheduler: Any) -> tuple[str, int]:
        handler = dask_scheduler.handlers["register-client"]
        gate = handler.__self__
        return gate.originals["register-client"].__qualname__, sum(
            getattr(plugin, "is_pkgsync", False) for plugin in dask_scheduler.plugins.values()
        )

    with run_cluster() as cluster, cluster.client(workers=1) as client:
        for wanted in ({}, {"six": "1.16.0"}, {"six": "1.17.0"}):
            client.register_plugin(pkgsync.PackageSync(environment_with(base_environment, wanted)))
            assert client.run_on_scheduler(handlers) == ("Scheduler.add_client", 1)
        assert not cluster.warnings_of_us("scheduler")
        pkgsync.release(client)

        def restored(dask_scheduler: Any) -> str:
            return str(dask_scheduler.handlers["register-client"].__qualname__)

        assert client.run_on_scheduler(restored) == "Scheduler.add_client"
