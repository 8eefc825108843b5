"""Hashes of a lock file are enforced: what is installed is a file that the lock file names, or nothing is installed."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from package_index import Index, serving
from uv import find_uv_bin

from dask_pkgsync.cache.directory import open_cache
from dask_pkgsync.installers.pip import Pip
from dask_pkgsync.installers.uv import Uv
from dask_pkgsync.layers.build import build
from dask_pkgsync.layers.fill import Sources
from dask_pkgsync.layers.layer import Base
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.indexes import Indexes
from dask_pkgsync.model.plan import Install, Plan
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.scanning.installed import this_interpreter

if TYPE_CHECKING:
    from dask_pkgsync.installers import Installer


@pytest.mark.parametrize("name", ["uv", "pip"])
def test_only_the_named_files_are_installed(name: str, tmp_path: Path) -> None:
    """A wheel with another hash ends the build, also if the installer has it in its cache, and no client is asked."""
    index = Index()
    index.add("locked", "1.0")
    index.add("free", "1.0")
    (content,) = index.wheels["locked"].values()
    right, wrong = hashlib.sha256(content).hexdigest(), "0" * 64
    cache = open_cache(str(tmp_path / "cache"))
    python = Path(sys.executable)
    installer: Installer = Uv(Path(find_uv_bin()), python, tmp_path / "uv")
    if name == "pip":
        installer = Pip((sys.executable, "-m", "pip"), python, tmp_path / "pip")
    base = Base(python, (tmp_path / "base",), Environment.of(this_interpreter(), []))

    def layer(*hashes: str) -> str:
        plan = Plan((Install("free", "1.0"), Install("locked", "1.0", hashes=hashes)), complete=True)
        sources = Sources("auto", indexes=Indexes(index.url))
        return build(plan, base, cache, lambda: installer, timeout=60, sources=sources).digest

    with serving(index):
        bare = layer()
        with pytest.raises(LayerError) as caught:
            layer(wrong)
        assert "hash" in caught.value.problem
        assert caught.value.packages == ("locked==1.0",)
        assert layer(right, wrong) not in (bare, layer(right))


def test_without_an_index_hashes_cannot_be_met(tmp_path: Path) -> None:
    """What the client repacks is not the file that the lock file names: that is said before anything is asked."""
    base = Base(Path(sys.executable), (tmp_path / "base",), Environment.of(this_interpreter(), []))
    plan = Plan((Install("locked", "1.0", hashes=("0" * 64,)),), complete=True)
    cache = open_cache(str(tmp_path / "cache"))
    with pytest.raises(LayerError, match="no index is asked"):
        build(plan, base, cache, lambda: pytest.fail("asked"), timeout=1, sources=Sources("client"))
