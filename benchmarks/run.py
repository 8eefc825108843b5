"""``dask-pkgsync run``: what it adds to a command, at the first start in an environment, and at each later one."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from clusters import CRITICAL_PINS, SOURCE, Venv, base_python, surroundings, uv
from conda_channel import needed

from benchmarks.race import Race, Scale
from benchmarks.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LIMIT = 0.050
"""Seconds that a later start may take longer than the command by itself."""
PACKAGES = ("pandas==2.2.3", "numpy==2.2.6", "scipy==1.15.3", "pyarrow==19.0.1")
"""What makes the environment as large as those of people."""


def call(argv: Sequence[str], cache: Path) -> float:
    """Run a command, and return its seconds."""
    started = perf_counter()
    env = surroundings(DASK_PKGSYNC__CACHE_DIRECTORY=str(cache))
    subprocess.run(argv, check=True, env=env, capture_output=True, cwd=cache.parent)
    return perf_counter() - started


def by_hand(directory: Path, lock: Path, uv_cache: Path) -> None:
    """Make the same environment with uv, from its warm cache."""
    shutil.rmtree(directory, ignore_errors=True)
    uv(["venv", "--python", base_python(), str(directory)])
    python = str(directory / "bin" / "python")
    uv(["pip", "install", "--no-deps", "--cache-dir", str(uv_cache), "--python", python, "-r", str(lock)])


def benchmark(scale: Scale) -> Iterator[Race | Table]:
    """Start commands."""
    with tempfile.TemporaryDirectory(prefix="pkgsync-bench-", ignore_cleanup_errors=True) as directory:
        root = Path(directory)
        venv, lock, cache = Venv(root / "venv"), root / "lock.txt", root / "cache"
        uv(["venv", "--python", base_python(), str(venv.root)])
        uv(["pip", "install", "--python", venv.python, *CRITICAL_PINS, str(SOURCE)])
        pins = {name: f"{name}=={one.version}" for name, one in needed("distributed").items()}
        pins |= {pin.partition("==")[0]: pin for pin in scale.pick(PACKAGES, ())}
        lock.write_text("\n".join(pins.values()))
        run = [str(venv.root / "bin" / "dask-pkgsync"), "run", "--environment", str(lock), "--"]
        call([*run, "python", "-c", "pass"], cache)
        (layer,) = (path for path in (cache / "layers").iterdir() if (path / "bin").is_dir())
        files = (layer / "pkgsync-files").read_bytes().count(b"\0")
        bare = [str(layer / "bin" / "python"), "-c", "pass"]
        command, again = [], []
        for _ in range(scale.pick(30, 3)):
            command.append(call(bare, cache))
            again.append(call([*run, *["python", "-c", "pass"]], cache))
        added = [max(0.0, min(again) - min(command))]
        yield Table(
            f"a later start in an environment of {files} files and directories",
            {
                "what is added": added,
                "python -c pass": command,
                "dask-pkgsync run -- python -c pass": again,
                "the limit": [LIMIT],
            },
            "what is added",
            {"the limit": "<= 1"},
            "Added is the difference of the shortest times.",
        )

        def first() -> float:
            for place in ("layers", "recalled", "verified"):
                subprocess.run(["chmod", "-R", "u+w", str(cache / place)], check=False)
                shutil.rmtree(cache / place, ignore_errors=True)
            return call([*run, "python", "-c", "pass"], cache)

        (uv_cache,) = (cache / "uv").iterdir()
        yield Race(
            "the first start, with all packages in the cache of uv",
            {"dask-pkgsync run": first},
            {"uv venv, and uv pip install": lambda: by_hand(root / "by-hand", lock, uv_cache)},
            {"uv venv, and uv pip install": "<= 2"},
            runs=3,
        )
