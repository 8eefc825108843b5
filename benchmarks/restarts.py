"""How long a cluster is without a worker in a sync for which its workers must be restarted."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from clusters import (
    BASE_PACKAGES,
    TARGET_PACKAGES,
    Cluster,
    Venv,
    base_python,
    environment_with,
    imported_version,
    on_workers,
    uv,
)

import dask_pkgsync as pkgsync
from benchmarks.race import Measured, Race, Scale
from benchmarks.wheels import HAS_UV

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from distributed import Client

WORKERS = 2
SHORTEST = 1e-6
"""Seconds that stand for none at all, as rows are divided by each other."""


def without_workers(client: Client, begin: int) -> Measured:
    """Return the seconds in which no worker was registered, from an event of the cluster's on."""
    present, since, seconds = set(), 0.0, SHORTEST
    for number, (time, event) in enumerate(client.get_events("all")):
        worker = event.get("worker")
        if event.get("action") == "add-worker":
            seconds += 0 if present or number < begin else time - since
            present.add(worker)
        elif event.get("action") == "remove-worker":
            present.discard(worker)
            since = time
    return Measured(seconds)


class Bench:
    """Clusters of workers that have imported what is replaced."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.venv = Venv(root / "venv")
        uv(["venv", "--python", base_python(), str(self.venv.root)])
        uv(["pip", "install", "--python", self.venv.python, *BASE_PACKAGES])
        self.target = environment_with(self.venv.environment(), TARGET_PACKAGES)

    def timed(self, action: Callable[[Client], object], *options: str) -> Measured:
        """Return the seconds without workers that an action on a fresh cluster brings about."""
        directory = Path(tempfile.mkdtemp(dir=self.root))
        cluster = Cluster(directory, self.venv, self.root / "cache", env=HAS_UV)
        try:
            cluster.start_scheduler()
            cluster.add_worker("--nworkers", str(WORKERS), *options)
            with cluster.client(workers=WORKERS) as client:
                on_workers(client, imported_version, "numpy")
                begin = len(client.get_events("all"))
                action(client)
                client.wait_for_workers(WORKERS)
                return without_workers(client, begin)
        finally:
            cluster.stop()

    def sync(self, client: Client) -> None:
        """Sync, which takes the place of numpy."""
        pkgsync.sync(client, self.target, progress=False)


def restart(client: Client) -> None:
    """Restart all workers as they are."""
    client.restart_workers(list(client.nthreads()))


def benchmark(scale: Scale) -> Iterator[Race]:
    """Restart workers."""
    imported_version.__module__ = "__main__"  # so that it travels by value
    with tempfile.TemporaryDirectory(prefix="pkgsync-bench-", ignore_cleanup_errors=True) as directory:
        bench = Bench(Path(directory))
        bare = "Client.restart_workers, without us"
        others = {
            "with names (--name)": lambda: bench.timed(bench.sync, "--name", "named"),
            "without successors (--resources)": lambda: bench.timed(bench.sync, "--resources", "GPU=1"),
        }
        yield Race(
            f"time without a worker, in a sync that restarts {WORKERS}",
            {"workers and successors": lambda: bench.timed(bench.sync), **scale.pick(others, {})},
            scale.pick({bare: lambda: bench.timed(restart)}, {}),
            {bare: "0; without successors <= 1.1"},
            runs=5,
            warm=True,
            note="A microsecond stands for none.",
        )


if __name__ == "__main__":
    from benchmarks.__main__ import main

    main(["restarts", *sys.argv[1:]])
