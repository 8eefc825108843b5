"""A layer stays what it was, whatever somebody installs on a worker, and what changes all the same is mended."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from clusters import BASE_PACKAGES, LIGHT, environment_with, imported_version, on_workers, pid_here, uv, versions_here
from distributed import PipInstall
from package_index import Index, serving
from uv import find_uv_bin

import dask_pkgsync as pkgsync
from dask_pkgsync.cache import trees
from dask_pkgsync.layers.manifest import compare_with_manifest

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from clusters import Cluster, Venvs
    from distributed import Client

    Run = Callable[..., AbstractContextManager[Cluster]]

pytestmark = pytest.mark.cluster

TARGET = LIGHT["six"]


@pytest.fixture
def with_uv(tmp_path: Path) -> dict[str, str]:
    """Return the variables of nodes that have uv, so that a cache of their own does not have to fetch it."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "uv").symlink_to(find_uv_bin())
    return {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}


def install_by_hand(uv_bin: str, url: str) -> str:
    """Install on this worker with pip and with uv, and return what went wrong."""
    import subprocess
    import sys

    programs = [sys.executable, "-m", "pip", "install"], [uv_bin, "pip", "install", "--python", sys.executable]
    packages = ["hand-one", "six==1.16.0"], ["hand-two", "six==1.16.0"]
    for program, package in zip(programs, packages, strict=True):
        argv = [*program, "--index-url", url, *package]
        finished = subprocess.run(argv, capture_output=True, text=True, check=False)
        if finished.returncode:
            return finished.stderr
    return ""


def nannied(client: Client) -> list[str]:
    """Return the addresses of the workers that have a nanny."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return [address for address, facts in workers.items() if facts.get("nanny")]


def kill(cluster: Cluster, client: Client, *workers: str) -> None:
    """Kill the processes of workers, and wait until their nannies have started others."""
    count = len(nannied(client))
    for pid in client.run(os.getpid, workers=list(workers)).values():
        os.kill(pid, signal.SIGKILL)

    def are_back() -> bool:
        present = nannied(client)
        return len(present) == count and not set(workers) & set(present)

    cluster.wait_for(are_back, "the workers that nannies start again", timeout=120)


def of_nodes(report: pkgsync.SyncReport, what: str) -> int:
    """Return how many nodes name something in their notes."""
    return sum(any(what in note for note in node.notes) for node in report.nodes)


def test_what_is_installed_on_a_worker_ends_with_it(
    run_cluster: Run, venvs: Venvs, tmp_path: Path, with_uv: dict[str, str]
) -> None:
    """Whatever installs there: it reaches neither the layer nor the base, hides nothing of either, and can be used."""
    index = Index()
    for name in ("hand-one", "hand-two", "hand-pipinstall"):
        index.add(name, "1.0")
    index.add("six", "1.16.0")
    venv = venvs.make(*BASE_PACKAGES, "pip")
    target, before = environment_with(venv.environment(), LIGHT), venv.listing()
    cache = tmp_path / "own-cache"
    with (
        serving(index),
        run_cluster(workers=2, venv=venv, cache=cache, env=with_uv) as cluster,
        cluster.client(workers=2) as client,
    ):
        pkgsync.sync(client, target, progress=False)
        kill(cluster, client, nannied(client)[0])  # the next one starts in the layer, and the other has taken it live
        assert set(on_workers(client, install_by_hand, find_uv_bin(), index.url).values()) == {""}
        client.register_plugin(PipInstall(["hand-pipinstall"], pip_options=["--index-url", index.url]))
        for module in ("hand_one", "hand_two", "hand_pipinstall"):
            assert set(on_workers(client, imported_version, module).values()) == {"1.0"}
        assert all(not compare_with_manifest(layer) for layer in (cache / "layers").iterdir())
        assert venv.listing() == before
        assert {node.state for node in pkgsync.status(client).nodes} == {"matches"}
        assert {node.outcome for node in pkgsync.sync(client, target, progress=False).nodes} == {"matched"}
        assert set(on_workers(client, imported_version, "six").values()) == {TARGET}
        kill(cluster, client, nannied(client)[0])
        left = [found["hand-one"] for found in on_workers(client, versions_here, ["hand-one"]).values()]
        assert sorted(map(str, left)) == ["1.0", "None"], "it does not end with the worker, or with more than it"


@pytest.mark.slow
def test_what_changes_all_the_same_is_mended(
    run_cluster: Run, venvs: Venvs, tmp_path: Path, with_uv: dict[str, str]
) -> None:
    """It is seen by status, sync and each start of a worker, told by name, and built anew; its users move."""
    venv, cache = venvs.make(*BASE_PACKAGES, "wheel"), tmp_path / "own-cache"
    target = environment_with(venv.environment(), LIGHT)
    with run_cluster(workers=2, venv=venv, cache=cache, env=with_uv) as cluster, cluster.client(workers=2) as client:
        pkgsync.sync(client, target, progress=False)
        (layer,) = (cache / "layers").iterdir()
        site_packages = next(layer.glob("lib/python*/site-packages"))
        first, second = nannied(client)
        cluster.add_worker(nanny=False, name="without-nanny")
        client.wait_for_workers(3, timeout=60)
        on_workers(client, pid_here)  # a worker without a nanny runs no task before it has the environment

        # Files are gone: the status names them, and the worker that starts next has them again.
        site_packages.chmod(0o755)
        trees.remove(site_packages / "tabulate")
        (site_packages / "inflection.py").unlink()
        status = pkgsync.status(client)
        changed = [node for node in status.nodes if node.state == "changed"]
        assert len(changed) == 4, "two nannies, a worker without a nanny, and the scheduler use it"
        assert all("inflection.py" in node.detail for node in changed)
        assert not status.matches
        kill(cluster, client, first)
        assert set(on_workers(client, imported_version, "inflection").values()) == {LIGHT["inflection"]}
        assert set(on_workers(client, imported_version, "tabulate").values()) == {LIGHT["tabulate"]}

        # A file is replaced, in the cache of uv as well, and one worker has imported it: that one is restarted.
        (site_packages / "six.py").write_text("__version__ = 'mine'\n")
        assert client.submit(imported_version, "six", workers=[second], pure=False).result(timeout=60) == "mine"
        before = on_workers(client, pid_here)
        report = pkgsync.sync(client, target, progress=False)
        assert of_nodes(report, "six.py was replaced") == 4
        assert [node.outcome for node in report.nodes].count("restarted") == 1
        assert len(set(before.values()) & set(on_workers(client, pid_here).values())) == 2
        assert set(on_workers(client, imported_version, "six").values()) == {TARGET}

        cluster.processes["without-nanny"].terminate()  # nobody could restart it for what follows
        cluster.wait_for(lambda: len(client.scheduler_info(n_workers=-1)["workers"]) == 2, "the end of that worker")

        # The whole cache is gone, and the base was upgraded in place: the workers come back, and the sync names both.
        trees.remove(cache)
        uv(["pip", "install", "--python", venv.python, "inflection==0.3.1"])
        kill(cluster, client, nannied(client)[0])
        report = pkgsync.sync(client, target, progress=False)
        assert of_nodes(report, "its layer was changed: it is gone") >= 1
        assert of_nodes(report, "inflection 0.5.1 → 0.3.1") >= 1
        assert {node.state for node in pkgsync.status(client).nodes} == {"matches"}
        for module in ("six", "inflection"):
            assert set(on_workers(client, imported_version, module).values()) == {LIGHT[module]}

        # Without a worker the report says so before all else.
        for name in [name for name in cluster.processes if name != "scheduler"]:
            cluster.processes[name].terminate()
        cluster.wait_for(lambda: not client.scheduler_info(n_workers=-1)["workers"], "the end of all workers")
        text = str(pkgsync.sync(client, target, progress=False))
        assert text.startswith("The cluster has no workers: those that join will start in this environment.")
