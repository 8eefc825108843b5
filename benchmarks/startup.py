"""What our code costs a process that starts: imports, and the plugin where the package is not installed."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from clusters import CRITICAL_PINS, SOURCE, Venv, base_python, surroundings, uv

from benchmarks.checkout import imports
from benchmarks.race import Measured, Race, Scale
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
UNPICKLE = "import pickle; plugin = pickle.loads(data)"
AND_START = f"{UNPICKLE}\n{imports(Controller=Controller)}"
"""Also what it needs as soon as it starts, which it may or may not have imported by then."""
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


def benchmark(_: Scale) -> Iterator[Race]:
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


if __name__ == "__main__":
    from benchmarks.__main__ import main

    main(["startup", *sys.argv[1:]])
