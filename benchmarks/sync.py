"""A whole sync on a real cluster of two workers, against what people use today.

The environment: about forty distributions (scikit-learn, matplotlib, statsmodels, xarray, zarr and what they need), of
which the nodes have an older numpy that a worker has imported, so that workers must be restarted.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from clusters import CRITICAL_PINS, Cluster, Venv, base_python, environment_with, imported_version, on_workers, uv
from distributed import Client, PipInstall
from distributed.diagnostics.plugin import InstallPlugin
from table import show
from uv import find_uv_bin

import dask_pkgsync as pkgsync

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAIN = ["scikit-learn", "matplotlib", "statsmodels", "xarray", "zarr", "numpy"]
OLD = ["numpy==2.1.3"]


class Bench:
    """Environments and clusters below one temporary directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.count = 0
        resolved = root / "requirements.txt"
        wanted = root / "requirements.in"
        wanted.write_text("\n".join([*CRITICAL_PINS, *MAIN]))
        uv(
            [
                "pip",
                "compile",
                str(wanted),
                "--python",
                base_python(),
                "-o",
                str(resolved),
                "--no-annotate",
                "--no-header",
            ]
        )
        self.pins = resolved.read_text().split()
        self.full = self.venv(*self.pins)

    def venv(self, *packages: str) -> Venv:
        """Return a fresh environment with pip."""
        self.count += 1
        venv = Venv(self.root / f"venv{self.count}")
        uv(["venv", "--seed", "--python", base_python(), str(venv.root)])
        uv(["pip", "install", "--python", venv.python, "--upgrade", "pip", *packages])
        return venv

    @contextlib.contextmanager
    def cluster(self, cache: Path, **env: str) -> Iterator[tuple[Cluster, Client]]:
        """Run a fresh scheduler and two nannied workers, which have imported numpy."""
        self.count += 1
        root = self.root / f"cluster{self.count}"
        root.mkdir()
        cluster = Cluster(root, self.venv(*CRITICAL_PINS, *OLD), cache, env=env)
        try:
            cluster.start_scheduler()
            cluster.add_worker("--nworkers", "2")
            with cluster.client(workers=2) as client:
                imported_version.__module__ = "__main__"  # so that it travels by value
                on_workers(client, imported_version, "numpy")
                yield cluster, client
        except BaseException:
            sys.stderr.write(cluster.logs())
            raise
        finally:
            cluster.stop()

    def timed(self, cache: Path, action: Callable[[Client], object], **env: str) -> float:
        """Return the seconds that an action takes on a fresh cluster."""
        with self.cluster(cache, **env) as (_, client):
            started = perf_counter()
            action(client)
            client.wait_for_workers(2)
            seconds = perf_counter() - started
            expected = next(pin for pin in self.pins if pin.startswith("numpy==")).partition("==")[2]
            assert set(on_workers(client, imported_version, "numpy").values()) == {expected}
            return seconds


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


def whole_sync(bench: Bench, runs: int) -> None:
    """Print the end-to-end table."""
    target = bench.full.environment()
    cache = bench.root / "cache"

    def ours(client: Client) -> object:
        return client.register_plugin(pkgsync.PackageSync(target))

    def forget_layers() -> None:
        for part in ("layers", "leases"):
            shutil.rmtree(cache / part, ignore_errors=True)

    def new() -> Path:
        return Path(tempfile.mkdtemp(dir=bench.root))

    warm: dict[str, list[float]] = {"dask-pkgsync": [], "uv into the base, unverified": [], "PipInstall": []}
    cold: dict[str, list[float]] = {"dask-pkgsync": [], "PipInstall": []}
    pip_cache = str(new())
    bench.timed(cache, ours)
    for _ in range(runs):
        forget_layers()
        warm["dask-pkgsync"].append(bench.timed(cache, ours))
        warm["uv into the base, unverified"].append(bench.timed(cache, unsafe_uv(bench, cache / "uv")))
        cold["dask-pkgsync"].append(bench.timed(new(), ours))
        cold["PipInstall"].append(bench.timed(cache, pip_install(bench), PIP_CACHE_DIR=str(new())))
        if not warm["PipInstall"]:  # fills the cache
            bench.timed(cache, pip_install(bench), PIP_CACHE_DIR=pip_cache)
        warm["PipInstall"].append(bench.timed(cache, pip_install(bench), PIP_CACHE_DIR=pip_cache))
    title = f"{len(bench.pins)} pins on two workers, restart included"
    goals = {"uv into the base, unverified": "<= 2", "PipInstall": "<= 0.05"}
    show(f"{title}, caches warm", warm, "dask-pkgsync", goals)
    show(f"{title}, caches cold", cold, "dask-pkgsync", {"PipInstall": "<= 0.2"})


def small_and_matching(bench: Bench, runs: int) -> None:
    """Print what one small package costs, and what a cluster costs that matches already."""
    with bench.cluster(bench.root / "cache") as (cluster, client):
        base = cluster.scheduler_venv.environment()
        small, plain, matching, first = [], [], [], []
        for version in ("1.15.0", "1.16.0", "1.17.0"):
            wanted = environment_with(base, {"six": version})
            started = perf_counter()
            client.register_plugin(pkgsync.PackageSync(wanted))
            small.append(perf_counter() - started)
        started = perf_counter()
        client.register_plugin(pkgsync.PackageSync(base))
        first.append(perf_counter() - started)
        address = cluster.address
        for _ in range(runs * 10):
            started = perf_counter()
            with Client(address, set_as_default=False):
                plain.append(perf_counter() - started)
            started = perf_counter()
            with Client(address, set_as_default=False) as other:
                other.register_plugin(pkgsync.PackageSync(base))
                matching.append(perf_counter() - started)
    show("one small package, live, on a running cluster", {"register_plugin": small}, "register_plugin", {})
    seconds = {"Client() and PackageSync, all in place": matching, "plain Client()": plain}
    show("a cluster that matches", seconds, "Client() and PackageSync, all in place", {"plain Client()": "<= 1.2"})
    print(f"back to the base for the first time: {first[0]:.3f} s")


def main(argv: list[str] | None = None) -> None:
    """Run, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args(argv).runs
    root = Path(tempfile.mkdtemp(prefix="pkgsync-bench-"))
    try:
        bench = Bench(root)
        small_and_matching(bench, runs)
        whole_sync(bench, runs)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
