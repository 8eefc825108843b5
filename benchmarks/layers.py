"""Building a layer from a warm cache, against ``cp -rl`` of the finished tree and a bare ``uv pip install``."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from clusters import CRITICAL_PINS, Venv, base_python, environment_with, uv
from table import measure, show
from uv import find_uv_bin

from dask_pkgsync.cache.directory import open_cache
from dask_pkgsync.installers.uv import Uv
from dask_pkgsync.layers.build import build
from dask_pkgsync.layers.layer import Base, Layer
from dask_pkgsync.model.plan import make_plan
from dask_pkgsync.scanning.installed import scan_installed

MAIN = ["scikit-learn", "matplotlib", "statsmodels", "xarray", "zarr"]


def main(argv: list[str] | None = None) -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args(argv).runs
    root = Path(tempfile.mkdtemp(prefix="pkgsync-bench-"))
    try:
        _compare(root, runs)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _venv(directory: Path, *packages: str) -> Venv:
    venv = Venv(directory)
    uv(["venv", "--python", base_python(), str(directory)])
    uv(["pip", "install", "--python", venv.python, *packages])
    return venv


def _site(venv: Venv) -> Path:
    return next(venv.root.glob("lib/python*/site-packages"))


def _compare(root: Path, runs: int) -> None:
    node, client = _venv(root / "node", *CRITICAL_PINS), _venv(root / "client", *CRITICAL_PINS, *MAIN)
    base = Base(Path(node.python), (_site(node),), scan_installed([str(_site(node))]))
    wanted = scan_installed([str(_site(client))]).distributions
    target = environment_with(base.environment, {name: found.version for name, found in wanted.items()})
    plan = make_plan(base.environment, target)
    cache = open_cache(str(root / "cache"))
    installer = Uv(Path(find_uv_bin()), base.python, cache.uv)
    numbers = count()

    def layer() -> Layer:
        shutil.rmtree(cache.leases)
        for old in cache.layers.iterdir():
            old.rename(root / f"old{next(numbers)}")  # removing is not what is measured
        return build(plan, base, cache, lambda: installer, timeout=600)

    done = layer()
    requirements = root / "requirements.txt"
    requirements.write_text("\n".join(plan.pins))

    def copy() -> None:
        subprocess.run(["cp", "-rl", str(done_copy), str(root / f"copy{next(numbers)}")], check=True)

    def bare_uv() -> None:
        directory = root / f"bare{next(numbers)}"
        common = [find_uv_bin(), "--no-config", "-q", "--cache-dir", str(cache.uv)]
        subprocess.run([*common, "venv", "--python", node.python, str(directory)], check=True)
        install = ["pip", "install", "--no-deps", "--python", f"{directory}/bin/python", "-r", str(requirements)]
        subprocess.run([*common, *install], check=True)

    done_copy = root / "tree"
    subprocess.run(["cp", "-rl", str(done.root), str(done_copy)], check=True)
    files = sum(1 for path in done_copy.rglob("*") if path.is_file())
    seconds = measure({"layer": layer, "cp -rl of the tree": copy, "uv venv and uv pip install": bare_uv}, runs)
    title = f"a layer of {len(plan.pins)} distributions, {files} files, from a warm cache"
    show(title, seconds, "layer", {"cp -rl of the tree": "<= 1.3"})


if __name__ == "__main__":
    main()
