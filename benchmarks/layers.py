"""Building a layer from a warm cache, against ``cp -rl`` of the finished tree and a bare ``uv pip install``.

And what looks at each of its files: the verification of every byte, and whether a layer is unchanged.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
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
from dask_pkgsync.cache.trees import Tree
from dask_pkgsync.cache.verified import VerifiedFiles
from dask_pkgsync.installers.uv import Uv, index_options, index_variables
from dask_pkgsync.layers.build import build
from dask_pkgsync.layers.fill import Sources
from dask_pkgsync.layers.layer import Base
from dask_pkgsync.layers.layout import SITE_PACKAGES
from dask_pkgsync.layers.publication import changes_in
from dask_pkgsync.layers.verify import verify
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.indexes import OWN, Indexes
from dask_pkgsync.model.plan import make_plan
from dask_pkgsync.scanning.installed import scan_installed
from dask_pkgsync.scanning.records import listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dask_pkgsync.cache.directory import Cache
    from dask_pkgsync.layers.layer import Layer
    from dask_pkgsync.model.plan import Plan

MAIN = ["scikit-learn", "matplotlib", "statsmodels", "xarray", "zarr"]


def _venv(directory: Path, *packages: str) -> Venv:
    venv = Venv(directory)
    uv(["venv", "--python", base_python(), str(directory)])
    uv(["pip", "install", "--python", venv.python, *packages])
    return venv


def _site(venv: Venv) -> Path:
    return next(venv.root.glob("lib/python*/site-packages"))


def _races(root: Path, node: Venv, versions: Mapping[str, str], indexes: Indexes, title: str) -> Iterator[Race]:
    """Build layers that have these versions, verify one, and compare it with its manifest."""
    root.mkdir()
    base = Base(Path(node.python), (_site(node),), scan_installed([str(_site(node))]))
    cache = open_cache(str(root / "cache"))
    installer, sources = Uv(Path(find_uv_bin()), base.python, cache.uv), Sources(indexes=indexes)
    numbers = count()

    def made(plan: Plan) -> Layer:
        shutil.rmtree(cache.leases, ignore_errors=True)
        for old in cache.layers.iterdir():
            trees.move(old, root / f"old{next(numbers)}")  # removing is not what is measured
        return build(plan, base, cache, lambda: installer, timeout=600, sources=sources)

    target = environment_with(base.environment, versions)
    filled = made(make_plan(base.environment, target)).site_packages
    found = {
        **target.distributions,
        **scan_installed([str(filled)]).distributions,
    }  # with digests, as clients send them
    plan = make_plan(base.environment, Environment.of(target.interpreter, found.values()))
    tree = root / "tree"
    subprocess.run(["cp", "-rlP", str(made(plan).root), str(tree)], check=True)
    files = len(Tree(str(tree)).files)
    requirements = root / "requirements.txt"
    requirements.write_text("\n".join(plan.pins))

    def copy(options: str) -> None:
        subprocess.run(["cp", options, str(tree), str(root / f"copy{next(numbers)}")], check=True)

    def bare_uv() -> None:
        directory = root / f"bare{next(numbers)}"
        common = [find_uv_bin(), "--no-config", "-q", "--cache-dir", str(cache.uv)]
        env = {**os.environ, **index_variables(indexes)}
        subprocess.run([*common, "venv", "--python", node.python, str(directory)], check=True, env=env)
        install = ["pip", "install", "--no-deps", *index_options(indexes), "--python", f"{directory}/bin/python"]
        subprocess.run([*common, *install, "-r", str(requirements)], check=True, env=env)

    yield Race(
        f"a layer of {len(plan.pins)} {title}, {files} files, from a warm cache",
        {"layer": lambda: made(plan)},
        {
            "cp -rl of the tree": lambda: copy("-rl"),
            "cp -rlP of the tree": lambda: copy("-rlP"),
            "uv venv and uv pip install": bare_uv,
        },
        {"cp -rl of the tree": "<= 1.1"},
        note="(cp -rl follows the link lib64, and so links each file twice; uv asks the index about each pin)",
    )
    yield from _looks(made(plan), cache, plan.pins, files)


def _looks(layer: Layer, cache: Cache, pins: Sequence[str], files: int) -> Iterator[Race]:
    """Look at the files of a layer that was just built."""
    installed = listed(layer.site_packages)
    entries = [entry for one in installed.values() for entry in one.entries]
    paths = [f"{layer.root}/{path}" for path in Tree(str(layer.root)).files]
    site_packages = str(layer.site_packages)

    def verified(known: Cache) -> None:
        verify(Tree(str(layer.root)), SITE_PACKAGES, installed, pins, VerifiedFiles(known))

    def sizes() -> None:
        found = Tree(str(layer.root)).files
        for entry in entries:
            facts = found.get(f"{SITE_PACKAGES}/{entry.path}") or os.stat(f"{site_packages}/{entry.path}")  # noqa: PTH116
            assert entry.bytes in (None, facts.st_size)

    def looked_up() -> None:
        for path in paths:
            os.lstat(path)

    never_filled = replace(cache, root=cache.root / "nothing-verified")
    never_filled.root.mkdir(exist_ok=True)
    yield Race(
        f"every byte of {files} files verified against RECORD, for their manifest as well",
        {"verified on this host before": lambda: verified(cache)},
        {"existence and size, likewise": sizes, "for the first time": lambda: verified(never_filled)},
        {"existence and size, likewise": "<= 1.3"},
        runs=9,
    )
    yield Race(
        f"whether a layer of {files} files is unchanged, when it is used again",
        {"changes_in": lambda: changes_in(layer)},
        {"os.lstat of each file": looked_up},
        {"os.lstat of each file": "<= 2"},
        runs=9,
    )


def benchmark(scale: Scale) -> Iterator[Race]:
    """Build layers of wheels made by hand, and of what people use."""
    with tempfile.TemporaryDirectory(prefix="pkgsync-bench-", ignore_cleanup_errors=True) as directory:
        root = Path(directory)
        node = _venv(root / "node", *CRITICAL_PINS)
        versions = {f"pkgsync-bench-{number}": f"1.{number}" for number in range(20)}
        wheels = directory_of(root / "wheels", versions.items(), scale.pick(50, 2))
        yield from _races(root / "hand-made", node, versions, only(wheels), "distributions made by hand")
        if not scale.small:
            client = _venv(root / "client", *CRITICAL_PINS, *MAIN)
            found = scan_installed([str(_site(client))]).distributions
            versions = {name: one.version for name, one in found.items()}
            yield from _races(root / "real", node, versions, OWN, "real distributions")


if __name__ == "__main__":
    from benchmarks.__main__ import main

    main(["layers", *sys.argv[1:]])
