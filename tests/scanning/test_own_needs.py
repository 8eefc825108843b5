"""What an environment has for dask-pkgsync alone, and what else speaks for a package."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from dask_pkgsync import scan
from dask_pkgsync.client.plugin import PackageSync, without_own_needs
from dask_pkgsync.model.policy import Policy
from dask_pkgsync.model.record import recorded
from dask_pkgsync.scanning.own_needs import only_ours
from dask_pkgsync.scanning.snapshot import Snapshot, snapshot

if TYPE_CHECKING:
    from pathlib import Path


class Site:
    """A directory of installed packages, which is the whole search path."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def install(self, name: str, *requires: str, installer: str = "pip", requested: bool = False) -> None:
        """Add a package of one module."""
        module = name.replace("-", "_")
        info = self.path / f"{module}-1.0.dist-info"
        info.mkdir(parents=True)
        lines = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{lines}\nRequires-Dist: x\n"
        )
        (info / "INSTALLER").write_text(f"{installer}\n")
        (self.path / f"{module}.py").write_text("")
        (info / "RECORD").write_text(f"{recorded(f'{module}.py', b'')}\n")
        if requested:
            (info / "REQUESTED").touch()

    def scanned(self) -> Snapshot:
        """Scan it."""
        return Snapshot(scan([str(self.path)]))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Return an environment in which dask-pkgsync needs a tool and a library, and the library another one."""
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site")])
    site = Site(tmp_path / "site")
    site.install("dask-pkgsync", "tool>=1", "library", "dask", 'other; extra == "test"', requested=True)
    site.install("tool")
    site.install("library", "inner-part[fast]<2")
    site.install("inner-part")
    site.install("dask")
    site.install("other")
    return site


ALL = {"tool", "library", "inner-part"}


def test_what_nothing_else_needs_is_ours(site: Site) -> None:
    """Neither Dask's own packages, nor what an extra brings, nor what is there without any reason."""
    assert only_ours(site.scanned()) == ALL


@pytest.mark.parametrize("requirement", ["inner-part", 'Inner.Part>1; extra == "some"'])
def test_what_another_package_mentions_is_not(requirement: str, site: Site) -> None:
    """In whatever spelling, and if only in an extra."""
    site.install("more", requirement)
    assert only_ours(site.scanned()) == ALL - {"inner-part"}
    site.install("most", "library")
    assert only_ours(site.scanned()) == {"tool"}


@pytest.mark.parametrize(("installer", "expected"), [("pip", {"library", "inner-part"}), ("uv", ALL)])
def test_what_the_user_asked_pip_for_is_not(installer: str, expected: set[str], site: Site, tmp_path: Path) -> None:
    """Of every package uv says that it was asked for."""
    for path in (tmp_path / "site").glob("tool*"):
        path.rename(tmp_path / path.name)
    site.install("tool", installer=installer, requested=True)
    assert only_ours(site.scanned()) == expected


@pytest.mark.parametrize(
    "statement", ["import library", "  from library.part import one", "import os, library as other"]
)
def test_what_local_code_imports_is_not(
    statement: str, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor, then, what that needs."""
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "helpers.py").write_text(f"def task():\n    pass\n{statement.strip()}\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "job"), *sys.path])
    scanned = snapshot()
    assert "module-helpers" in scanned.environment.distributions
    assert only_ours(scanned) == {"tool"}


@pytest.mark.parametrize("kind", ["module", "class"])
def test_what_a_notebook_has_imported_is_not(kind: str, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module itself, or something of it."""
    import library  # type: ignore[import-not-found]

    value: Any = library if kind == "module" else type("Thing", (), {"__module__": "library.part"})
    monkeypatch.setattr(sys.modules["__main__"], "something", value, raising=False)
    assert only_ours(site.scanned()) == {"tool"}
    monkeypatch.delitem(sys.modules, "library")


def test_without_dask_pkgsync_nothing_is_ours(site: Site, tmp_path: Path) -> None:
    """Where it was put on the path in another way, nobody knows what it brought."""
    (tmp_path / "site" / "dask_pkgsync-1.0.dist-info").rename(tmp_path / "gone")
    assert only_ours(site.scanned()) == frozenset()


@pytest.mark.parametrize(
    ("policy", "left_out"),
    [
        (Policy.of(), ALL),
        (Policy.of(levels={"tool": "exact"}), ALL - {"tool"}),
        (Policy.of(extra=["library>=1"]), ALL - {"library"}),
        (Policy.of(only=["tool"]), set()),
    ],
)
def test_what_is_named_travels(policy: Policy, left_out: set[str], site: Site) -> None:
    """In whichever option."""
    scanned = site.scanned()
    kept = without_own_needs(scanned, policy).distributions.keys()
    assert scanned.environment.distributions.keys() - kept == left_out


def test_a_target_offers_the_clients_installer() -> None:
    """Although the installer is no part of the target: a node without one gets it."""
    plugin = PackageSync(modules=False)
    assert [tool.name for tool in plugin.target.tools] == ["uv"]
    assert "uv" not in plugin.target.environment.distributions
    assert "uv" in plugin.snapshot.environment.distributions
    named = PackageSync(modules=False, levels={"uv": "exact"})
    assert "uv" in named.target.environment.distributions
