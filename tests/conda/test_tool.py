"""py-rattler on a node: its own, the client's, or that of an index; one copy for each host."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from package_index import Index, serving, wheel
from uv import find_uv_bin

from dask_pkgsync.cache.directory import Cache, open_cache
from dask_pkgsync.conda import tool
from dask_pkgsync.conda.tool import OLDEST, find_rattler, own_rattler
from dask_pkgsync.installers.uv import Uv
from dask_pkgsync.model.errors import WheelError
from dask_pkgsync.model.indexes import Indexes
from dask_pkgsync.model.reports.failure import LayerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dask_pkgsync.installers import Installer

LIBRARY = {"rattler/rattler.abi3.so": "not a library", "rattler/__init__.py": ""}


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return open_cache(str(tmp_path / "cache"))


@pytest.fixture
def _without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this environment have no py-rattler."""
    monkeypatch.setattr(tool.util, "find_spec", lambda _: None)


@pytest.fixture
def index() -> Iterator[Index]:
    """Serve an index that has two releases of py-rattler."""
    with serving(Index()) as index:
        index.add("py-rattler", f"{OLDEST}.1", more=LIBRARY)
        index.add("py-rattler", f"{OLDEST.major}.{OLDEST.minor + 1}.0", more=LIBRARY)
        yield index


def no_installer() -> Installer:
    raise LayerError("install", "this node has no installer")


def find(cache: Cache, index: Index | None = None, **rest: object) -> Path:
    """Find py-rattler as a node does."""

    def installer() -> Installer:
        return Uv(Path(find_uv_bin()), Path(sys.executable), cache.uv)

    indexes = () if index is None else (Indexes(default=index.url),)
    return find_rattler(
        cache, installer if index else no_installer, python=Path(sys.executable), timeout=60, indexes=indexes, **rest
    )  # type: ignore[arg-type]


def test_the_nodes_own_is_used_where_it_is(cache: Cache) -> None:
    """Nothing is fetched then."""
    found = find(cache, wheel=lambda: pytest.fail("the client was asked"))
    assert found == own_rattler()
    assert (found / "rattler" / "__init__.py").exists()
    assert not list(cache.tools.iterdir())


def test_one_of_another_release_is_not_the_nodes_own(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its interface may be another one."""
    (tmp_path / "old" / "rattler").mkdir(parents=True)
    (tmp_path / "old" / "rattler" / "__init__.py").touch()
    (tmp_path / "old" / "py_rattler-0.9.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "old"))
    monkeypatch.delitem(sys.modules, "rattler", raising=False)
    assert own_rattler() is None


@pytest.mark.usefixtures("_without")
def test_the_clients_wheel_is_unpacked_once_per_host(cache: Cache, tmp_path: Path) -> None:
    """The second process that needs it finds it."""
    filename, content = wheel("py-rattler", f"{OLDEST}.0", more=LIBRARY)
    path = tmp_path / filename
    path.write_bytes(content)
    found = find(cache, wheel=lambda: path)
    assert (found / "rattler" / "rattler.abi3.so").read_text() == "not a library"
    assert found.is_relative_to(cache.tools)
    assert find(cache, wheel=lambda: pytest.fail("the client was asked again")) == found
    assert not list(cache.building.iterdir())


@pytest.mark.usefixtures("_without")
def test_without_one_of_the_clients_an_index_is_asked_for_a_release_that_is_known(cache: Cache, index: Index) -> None:
    """The interface changes from one release to the next, so a newer one is not taken."""
    found = find(cache, index, wheel=lambda: None)
    assert (found / "rattler" / "rattler.abi3.so").exists()
    assert (found / f"py_rattler-{OLDEST}.1.dist-info").exists()


@pytest.mark.usefixtures("_without")
def test_every_reason_is_told_if_it_cannot_be_had(cache: Cache, tmp_path: Path) -> None:
    """And what to do; nothing is left behind."""

    def fails() -> Path:
        raise WheelError("py-rattler 0.28.0", "it was edited")

    with serving(Index()) as empty, pytest.raises(LayerError, match="py-rattler") as caught:
        find(cache, empty, wheel=fails)
    assert "the client's cannot be used: it was edited" in caught.value.problem
    assert "the index has no such version" in caught.value.problem
    assert "pip install py-rattler" in caught.value.advice
    damaged = tmp_path / "py_rattler-0.28.0-py3-none-any.whl"
    damaged.write_bytes(b"not a zip")
    with pytest.raises(LayerError, match="the client's cannot be used"):
        find(cache, wheel=lambda: damaged)
    damaged.write_bytes(wheel("py-rattler", "0.28.0")[1])
    with pytest.raises(LayerError, match="the client's is not the expected one"):
        find(cache, wheel=lambda: damaged)
    with pytest.raises(LayerError, match="the client has none for this platform"):
        find(cache, may_fetch=False, wheel=lambda: None)
    assert not list(cache.building.iterdir())
    assert not list(cache.tools.iterdir())
