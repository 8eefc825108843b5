"""What our code costs a process: imports, the plugin where the package is not installed, and its event loop."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from clusters import (
    BASE_PACKAGES,
    CRITICAL_PINS,
    SOURCE,
    TARGET_PACKAGES,
    Cluster,
    Venv,
    base_python,
    environment_with,
    imported_version,
    on_workers,
    surroundings,
    uv,
)

from benchmarks import event_loops
from benchmarks.checkout import imports
from benchmarks.race import Measured, Race, Scale
from benchmarks.table import Table
from benchmarks.wheels import HAS_UV
from dask_pkgsync import PackageSync, scan
from dask_pkgsync.scheduler.controller import Controller

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMED = """
import sys, time
{before}
started = time.perf_counter()
{what}
print(time.perf_counter() - started)
"""
DISTRIBUTED = "import distributed"
SYNC = "import dask_pkgsync; dask_pkgsync.sync"
UNPICKLE = "import asyncio, pickle; plugin = pickle.loads(data); asyncio.run(plugin.become())"
AND_START = f"{UNPICKLE}\n{imports(Controller=Controller)}"
"""Also what it needs as soon as it starts, which it may or may not have imported by then."""
LIMIT = 0.020
"""Seconds for which our code may hold an event loop."""
READ = f"data = open(sys.argv[1], 'rb').read(); {DISTRIBUTED}"


def importing(what: str, before: str = "") -> Measured:
    """Return the seconds that a statement takes in a new process of this interpreter, with our source on its path."""
    argv = [sys.executable, "-c", TIMED.format(what=what, before=before)]
    env = surroundings(PYTHONPATH=str(SOURCE))
    return Measured(subprocess.run(argv, capture_output=True, text=True, check=True, env=env).stdout)


def unpickling(venv: Venv, plugin: Path, cache: Path, path: str = "", what: str = UNPICKLE) -> Measured:
    """Return the seconds until a plugin is there in a new process that has imported Dask."""
    script = TIMED.format(what=what, before=READ)
    done = venv.run(script, str(plugin), DASK_PKGSYNC__CACHE_DIRECTORY=str(cache), PYTHONPATH=path)
    return Measured(done.stdout)


def longest_holds(root: Path, runs: int) -> Table:
    """Sync clusters whose hosts have nothing of ours, and return how long our code has held their event loops."""
    venv = Venv(root / "watched")
    uv(["venv", "--python", base_python(), str(venv.root)])
    uv(["pip", "install", "--python", venv.python, *BASE_PACKAGES])
    target = environment_with(venv.environment(), TARGET_PACKAGES)
    holds = root / "holds"
    event_loops.watched(next(venv.root.glob("lib/python*/site-packages")), holds)
    imported_version.__module__ = "__main__"  # so that it travels by value
    found: dict[str, list[float]] = {role: [] for role in event_loops.ROLES}
    for run in range(runs):
        directory = root / f"cluster{run}"
        directory.mkdir()
        cluster = Cluster(directory, venv, directory / "cache", env=HAS_UV)
        try:
            cluster.start_scheduler()
            cluster.add_worker("--nworkers", "2")
            with cluster.client(workers=2) as client:
                on_workers(client, imported_version, "numpy")  # so that the workers must be restarted
                client.register_plugin(PackageSync(target))
        finally:
            cluster.stop()
        for role, seconds in event_loops.take_longest(holds).items():
            found[role].append(seconds)
    rows = {"the longest": [max(run) for run in zip(*found.values(), strict=True)], **found, "the limit": [LIMIT]}
    title = "how long our code holds an event loop at most, in the first sync of a host"
    return Table(title, rows, "the longest", {"the limit": "<= 1"}, "Processor time of the loop's thread.")


def benchmark(scale: Scale) -> Iterator[Race | Table]:
    """Start processes."""
    yield Race(
        SYNC,
        {
            "all of it": lambda: importing(SYNC),
            "after distributed": lambda: importing(SYNC, DISTRIBUTED),
            "import dask_pkgsync.preload, after distributed": lambda: importing(
                "import dask_pkgsync.preload", DISTRIBUTED
            ),
        },
        {DISTRIBUTED: lambda: importing(DISTRIBUTED)},
        runs=10,
        warm=True,
    )
    with tempfile.TemporaryDirectory(prefix="pkgsync-bench-", ignore_cleanup_errors=True) as directory:
        root = Path(directory)
        venv = Venv(root / "venv")
        uv(["venv", "--python", base_python(), str(venv.root)])
        uv(["pip", "install", "--python", venv.python, *CRITICAL_PINS])
        plugin = root / "plugin.pickle"
        plugin.write_bytes(pickle.dumps(PackageSync(scan(modules=False))))
        yield Race(
            "the plugin, carried to where the package is not",
            {
                "the first on a host": lambda: unpickling(venv, plugin, Path(tempfile.mkdtemp(dir=root))),
                "another": lambda: unpickling(venv, plugin, root / "cache"),
                "another, with the controller": lambda: unpickling(venv, plugin, root / "cache", what=AND_START),
                "where the package is on the path": lambda: unpickling(venv, plugin, root / "cache", str(SOURCE)),
            },
            {DISTRIBUTED: lambda: Measured(venv.run(TIMED.format(what=DISTRIBUTED, before="")).stdout)},
            runs=10,
            warm=True,
            note=f"It has {plugin.stat().st_size / 1e6:.1f} MB.",
        )
        yield longest_holds(root, scale.pick(3, 1))


if __name__ == "__main__":
    from benchmarks.__main__ import main

    main(["startup", *sys.argv[1:]])
