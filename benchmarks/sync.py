"""A whole sync on a real cluster of two workers, against what people use today.

The environment: about forty distributions (scikit-learn, matplotlib, statsmodels, xarray, zarr and what they need), of
which the nodes have an older numpy that a worker has imported, so that workers must be restarted.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from clusters import CRITICAL_PINS, Cluster, Venv, base_python, environment_with, imported_version, on_workers, uv
from distributed import Client, PipInstall
from distributed.diagnostics.plugin import InstallPlugin
from uv import find_uv_bin

import dask_pkgsync as pkgsync
from benchmarks.race import Measured, Race, Scale
from benchmarks.wheels import HAS_UV, directory_of
from dask_pkgsync.cache import trees

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MAIN = ["scikit-learn", "matplotlib", "statsmodels", "xarray", "zarr", "numpy"]
OLD = ["numpy==2.1.3"]
SAMPLE = "pkgsync-bench"
RELEASES = 500
"""Versions of the sample that there are: each sync takes another one, which no node has yet."""


class Bench:
    """Environments and clusters below one temporary directory."""

    def __init__(self, root: Path, packages: Sequence[str], workers: int, scale: Scale) -> None:
        self.root = root
        self.scale = scale
        self.workers = workers
        self.count = 0
        resolved = root / "requirements.txt"
        wanted = root / "requirements.in"
        wanted.write_text("\n".join([*CRITICAL_PINS, *packages]))
        options = ["--python", base_python(), "-o", str(resolved), "--no-annotate", "--no-header"]
        uv(["pip", "compile", str(wanted), *options])
        self.pins = resolved.read_text().split()
        self.full = self.venv(*self.pins)
        self.nodes: Venv | None = None

    def venv(self, *packages: str) -> Venv:
        """Return a fresh environment with pip."""
        self.count += 1
        venv = Venv(self.root / f"venv{self.count}")
        uv(["venv", "--seed", "--python", base_python(), str(venv.root)])
        uv(["pip", "install", "--python", venv.python, "--upgrade", "pip", *packages])
        return venv

    @contextlib.contextmanager
    def cluster(self, cache: Path, **env: str) -> Iterator[tuple[Cluster, Client]]:
        """Run a fresh scheduler and nannied workers, which have imported numpy."""
        self.count += 1
        root = self.root / f"cluster{self.count}"
        root.mkdir()
        if self.nodes is None or not self.scale.small:  # (peers, which install into it, are left out there)
            self.nodes = self.venv(*CRITICAL_PINS, *OLD)
        cluster = Cluster(root, self.nodes, cache, env=env)
        try:
            cluster.start_scheduler()
            cluster.add_worker("--nworkers", str(self.workers))
            with cluster.client(workers=self.workers) as client:
                imported_version.__module__ = "__main__"  # so that it travels by value
                on_workers(client, imported_version, "numpy")
                yield cluster, client
        except BaseException:
            sys.stderr.write(cluster.logs())
            raise
        finally:
            cluster.stop()

    def timed(self, cache: Path, action: Callable[[Client], object], **env: str) -> Measured:
        """Return the seconds that an action takes on a fresh cluster."""
        with self.cluster(cache, **env) as (_, client):
            started = perf_counter()
            action(client)
            client.wait_for_workers(self.workers)
            seconds = perf_counter() - started
            expected = next(pin for pin in self.pins if pin.startswith("numpy==")).partition("==")[2]
            assert set(on_workers(client, imported_version, "numpy").values()) == {expected}
            return Measured(seconds)


def pip_install(bench: Bench) -> Callable[[Client], object]:
    """Return what the documentation of Dask advises."""
    return lambda client: client.register_plugin(PipInstall(packages=bench.pins, restart_workers=True))


def unsafe_uv(bench: Bench, cache: Path) -> Callable[[Client], object]:
    """Return the quickest that can be had: uv, straight into the base, unverified, and a restart."""
    program, pins = find_uv_bin(), bench.pins

    def install() -> None:
        import sys

        argv = [program, "--no-config", "--cache-dir", str(cache), "pip", "install", "-q", "--no-deps"]
        subprocess.run([*argv, "--python", sys.executable, *pins], check=True)

    install.__module__ = "__main__"
    return lambda client: client.register_plugin(InstallPlugin(install, restart_workers=True))


def whole_sync(bench: Bench) -> Iterator[Race]:
    """Bring a fresh cluster to the environment, with caches that are warm, and with new ones."""
    target = bench.full.environment()
    cache, pip_cache = bench.root / "cache", bench.root / "pip"

    def ours(client: Client) -> object:
        return client.register_plugin(pkgsync.PackageSync(target))

    def again() -> Measured:
        for part in ("layers", "leases"):
            trees.remove(cache / part)
        return bench.timed(cache, ours, **HAS_UV)

    def new() -> Path:
        return Path(tempfile.mkdtemp(dir=bench.root))

    title = f"{len(bench.pins)} pins on {bench.workers} workers, restart included"
    unsafe, pip = unsafe_uv(bench, cache / "uv"), pip_install(bench)
    warm = {
        "uv into the base, unverified": lambda: bench.timed(cache, unsafe),
        "PipInstall": lambda: bench.timed(cache, pip, PIP_CACHE_DIR=str(pip_cache)),
    }
    cold = {
        "uv into the base, unverified": lambda: bench.timed(new(), unsafe_uv(bench, new())),
        "PipInstall": lambda: bench.timed(new(), pip, PIP_CACHE_DIR=str(new())),
    }
    goals = {"uv into the base, unverified": "<= 1.2"}
    # Each peer, and each run, needs a cluster of its own: that is too long for the small scale.
    yield Race(f"{title}, caches warm", {"dask-pkgsync": again}, bench.scale.pick(warm, {}), goals, runs=3, warm=True)
    if not bench.scale.small:
        ours_cold = {"dask-pkgsync": lambda: bench.timed(new(), ours, **HAS_UV)}
        yield Race(f"{title}, caches cold", ours_cold, cold, goals, runs=3)


def first_small(bench: Bench) -> Iterator[Race]:
    """Sync one small package to a running cluster whose nodes have no uv, and an empty cache."""
    wheels = directory_of(bench.root / "first-wheels", [(SAMPLE, "1.0")])
    only_there = {"UV_FIND_LINKS": str(wheels), "UV_NO_INDEX": "1", "PATH": os.defpath}
    uv_here = {"uv": version("uv")}

    def first() -> Measured:
        with bench.cluster(Path(tempfile.mkdtemp(dir=bench.root)), **only_there) as (cluster, client):
            base = cluster.scheduler_venv.environment()
            target = environment_with(base, {SAMPLE: "1.0", **uv_here})
            started = perf_counter()
            client.register_plugin(pkgsync.PackageSync(target, only=[SAMPLE]))
            return Measured(perf_counter() - started)

    limit = {"the limit": lambda: Measured(1.5)}
    title = f"one small package, the first sync of {bench.workers} workers without uv"
    yield Race(title, {"register_plugin": first}, limit, {"the limit": "<= 1"}, runs=3)


def small_and_matching(bench: Bench) -> Iterator[Race]:
    """Sync one small package, and nothing at all, on a cluster that runs."""
    versions = (f"1.{number}" for number in count())
    wheels = directory_of(bench.root / "wheels", ((SAMPLE, f"1.{number}") for number in range(RELEASES)))
    only_there = {"UV_FIND_LINKS": str(wheels), "UV_NO_INDEX": "1"}
    with bench.cluster(bench.root / "cache", **HAS_UV, **only_there) as (cluster, client):
        base, address = cluster.scheduler_venv.environment(), cluster.address

        def small() -> None:
            client.register_plugin(pkgsync.PackageSync(environment_with(base, {SAMPLE: next(versions)})))

        def back() -> Measured:
            small()
            started = perf_counter()
            client.register_plugin(pkgsync.PackageSync(base))
            return Measured(perf_counter() - started)

        def bare_uv() -> None:
            directory = tempfile.mkdtemp(dir=bench.root)
            options = ["--find-links", str(wheels), "--no-index", "--no-deps", "--target", directory]
            uv(["pip", "install", "--python", base_python(), *options, f"{SAMPLE}=={next(versions)}"])

        def matching() -> None:
            with Client(address, set_as_default=False) as other:
                other.register_plugin(pkgsync.PackageSync(base))

        def plain() -> None:
            with Client(address, set_as_default=False):
                pass

        title = f"one small package, live, on a running cluster of {bench.workers} workers"
        yield Race(title, {"register_plugin": small}, {"uv pip install, once": bare_uv}, runs=10, warm=True)
        yield Race("back to the base", {"register_plugin": back}, runs=10)
        client.register_plugin(pkgsync.PackageSync(base))
        name = "Client() and PackageSync, all in place"
        yield Race(
            "a cluster that matches", {name: matching}, {"plain Client()": plain}, {"plain Client()": "<= 1.2"}, runs=30
        )


def benchmark(scale: Scale) -> Iterator[Race]:
    """Sync clusters."""
    with tempfile.TemporaryDirectory(prefix="pkgsync-bench-", ignore_cleanup_errors=True) as directory:
        bench = Bench(Path(directory), *scale.pick((MAIN, 2), (["numpy"], 1)), scale)
        yield from small_and_matching(bench)
        yield from first_small(bench)
        yield from whole_sync(bench)


if __name__ == "__main__":
    from benchmarks.__main__ import main

    main(["sync", *sys.argv[1:]])
