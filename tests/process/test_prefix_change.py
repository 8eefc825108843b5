"""A process on a conda prefix goes on with another one if they differ only in modules of pure Python."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from dask_pkgsync.layers.layer import Layer
from dask_pkgsync.layers.layout import SITE_PACKAGES
from dask_pkgsync.process.prefix_change import why_new_process
from dask_pkgsync.process.state import this_process

if TYPE_CHECKING:
    from pathlib import Path


def record(prefix: Path, name: str, build: str, *paths: str, noarch: str | None = "python") -> None:
    """Write the record of a package into a prefix."""
    (prefix / "conda-meta").mkdir(parents=True, exist_ok=True)
    entries = [{"_path": path, "path_type": "hardlink", "sha256": "0" * 64, "size_in_bytes": 1} for path in paths]
    data: dict[str, Any] = {"name": name, "version": "1.0", "build": build, "subdir": "noarch", "files": list(paths)}
    data |= {"paths_data": {"paths_version": 1, "paths": entries}, **({"noarch": noarch} if noarch else {})}
    (prefix / "conda-meta" / f"{name}-1.0-{build}.json").write_text(json.dumps(data, indent=2))


def layer_on(prefix: Path | None) -> Layer:
    """Return a layer on a prefix."""
    root = (prefix or prefix_of_nothing()).parent / "layer"
    return Layer("0" * 64, root, complete=False, pins=(), whole=str(prefix) if prefix else "")


def prefix_of_nothing() -> Path:
    """Return a path that does not matter."""
    from pathlib import Path

    return Path("/nowhere/prefix")


@pytest.fixture
def prefixes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Return the prefix that this process runs on, as far as it knows, and another one with the same library."""
    one, other = tmp_path / "one", tmp_path / "other"
    for prefix in (one, other):
        record(prefix, "libfoo", "h1_0", "lib/libfoo.so", noarch=None)
    monkeypatch.setattr(this_process(), "whole", str(one))
    return one, other


def test_another_build_of_pure_python_is_taken_live(prefixes: tuple[Path, Path]) -> None:
    """Its modules and its programs are looked up anew; so are those that come or go."""
    one, other = prefixes
    record(one, "greeter", "0", f"{SITE_PACKAGES}/greeter.py")
    record(other, "greeter", "1", f"{SITE_PACKAGES}/greeter.py", "bin/greet")
    record(other, "added", "0", f"{SITE_PACKAGES}/added.py")
    assert why_new_process(layer_on(other)) == ""
    assert why_new_process(layer_on(one)) == "", "it is the very prefix"


@pytest.mark.parametrize(
    ("path", "noarch"), [("lib/libbar.so", None), (f"{SITE_PACKAGES}/bar.py", None), ("share/bar/data", "python")]
)
def test_anything_else_needs_a_new_process(prefixes: tuple[Path, Path], path: str, noarch: str | None) -> None:
    """Libraries, compiled modules, and data that the running process may have read."""
    one, other = prefixes
    record(one, "bar", "0", f"{SITE_PACKAGES}/bar.py")
    record(other, "bar", "1", path, noarch=noarch)
    assert "the conda package bar" in why_new_process(layer_on(other))


def test_a_process_leaves_its_interpreter_only_by_a_restart(
    prefixes: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the base of a node into a prefix, and back."""
    assert "interpreter" in why_new_process(layer_on(None))
    assert "interpreter" in why_new_process(None)
    monkeypatch.setattr(this_process(), "whole", "")
    assert "interpreter" in why_new_process(layer_on(prefixes[1]))
    assert why_new_process(layer_on(None)) == ""
