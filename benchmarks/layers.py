"""Building a layer from a warm cache, against ``cp -rl`` of the finished tree and a bare ``uv pip install``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from clusters import CRITICAL_PINS, Venv, base_python, environment_with, uv
from uv import find_uv_bin

from benchmarks.race import Race, Scale
from benchmarks.wheels import directory_of, only
from dask_pkgsync.cache import trees
from dask_pkgsync.cache.directory import open_cache
from dask_pkgsync.installers.uv import Uv, index_options, index_variables
from dask_pkgsync.layers.build import build
from dask_pkgsync.layers.fill import Sources
from dask_pkgsync.layers.layer import Base, Layer
from dask_pkgsync.model.indexes import OWN, Indexes
from dask_pkgsync.model.plan import make_plan
from dask_pkgsync.scanning.installed import scan_installed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAIN = ["scikit-learn", "matplotlib", "statsmodels", "xarray", "zarr"]


def _venv(directory: Path, *packages: str) -> Venv:
    venv = Venv(directory)
    uv(["venv", "--python", base_python(), str(directory)])
    uv(["pip", "install", "--python", venv.python, *packages])
    return venv


def _site(venv: Venv) -> Path:
    return next(venv.root.glob("lib/python*/site-packages"))


def _race(root: Path, node: Venv, versions: Mapping[str, str], indexes: Indexes, title: str) -> Race:
    """Build a layer that has these versions."""
    root.mkdir()
    base = Base(Path(node.python), (_site(node),), scan_installed([str(_site(node))]))
    plan = make_plan(base.environment, environment_with(base.environment, versions))
    cache = open_cache(str(root / "cache"))
    installer = Uv(Path(find_uv_bin()), base.python, cache.uv)
    numbers = count()

    def layer() -> Layer:
        shutil.rmtree(cache.leases, ignore_errors=True)
        for old in cache.layers.iterdir():
            trees.move(old, root / f"old{next(numbers)}")  # removing is not what is measured
        return build(plan, base, cache, lambda: installer, timeout=600, sources=Sources(indexes=indexes))

    tree = root / "tree"
    subprocess.run(["cp", "-rl", str(layer().root), str(tree)], check=True)
    files = sum(1 for path in tree.rglob("*") if path.is_file())
    requirements = root / "requirements.txt"
    requirements.write_text("\n".join(plan.pins))

    def copy() -> None:
        subprocess.run(["cp", "-rl", str(tree), str(root / f"copy{next(numbers)}")], check=True)

    def bare_uv() -> None:
        directory = root / f"bare{next(numbers)}"
        common = [find_uv_bin(), "--no-config", "-q", "--cache-dir", str(cache.uv)]
        env = {**os.environ, **index_variables(indexes)}
        subprocess.run([*common, "venv", "--python", node.python, str(directory)], check=True, env=env)
        install = ["pip", "install", "--no-deps", *index_options(indexes), "--python", f"{directory}/bin/python"]
        subprocess.run([*common, *install, "-r", str(requirements)], check=True, env=env)

    return Race(
        f"a layer of {len(plan.pins)} {title}, {files} files, from a warm cache",
        {"layer": layer},
        {"cp -rl of the tree": copy, "uv venv and uv pip install": bare_uv},
        {"cp -rl of the tree": "<= 1.3"},
    )


def benchmark(scale: Scale) -> Iterator[Race]:
    """Build layers of wheels made by hand, and of what people use."""
    with tempfile.TemporaryDirectory(prefix="pkgsync-bench-", ignore_cleanup_errors=True) as directory:
        root = Path(directory)
        node = _venv(root / "node", *CRITICAL_PINS)
        versions = {f"pkgsync-bench-{number}": f"1.{number}" for number in range(20)}
        wheels = directory_of(root / "wheels", versions.items(), scale.pick(50, 2))
        yield _race(root / "hand-made", node, versions, only(wheels), "distributions made by hand")
        if not scale.small:
            client = _venv(root / "client", *CRITICAL_PINS, *MAIN)
            found = scan_installed([str(_site(client))]).distributions
            versions = {name: one.version for name, one in found.items()}
            yield _race(root / "real", node, versions, OWN, "real distributions")


if __name__ == "__main__":
    from benchmarks.__main__ import main

    main(["layers", *sys.argv[1:]])
