"""uv.lock is read through uv, which owns the format."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.model.lockfiles.pin import EVERYTHING, Choice
from dask_pkgsync.options.lock_file import locked_environment
from dask_pkgsync.wheels.lock_export import export_argv, exported

PROJECT = """
[project]
name = "mine"
version = "0.1"
requires-python = ">=3.10"
dependencies = ["six"]
[project.optional-dependencies]
gpu = ["toolz"]
[dependency-groups]
dev = ["tabulate"]
"""


def _package(name: str, digit: str) -> str:
    wheel = f"https://example.org/{name}-1.0-py3-none-any.whl"
    return (
        f'[[package]]\nname = "{name}"\nversion = "1.0"\nsource = {{ registry = "https://example.org/simple" }}\n'
        f'wheels = [{{ url = "{wheel}", hash = "sha256:{digit * 64}" }}]\n'
    )


LOCK = f"""version = 1
revision = 3
requires-python = ">=3.10"
[[package]]
name = "mine"
version = "0.1"
source = {{ virtual = "." }}
dependencies = [{{ name = "six" }}]
[package.optional-dependencies]
gpu = [{{ name = "toolz" }}]
[package.dev-dependencies]
dev = [{{ name = "tabulate" }}]
[package.metadata]
requires-dist = [{{ name = "six" }}, {{ name = "toolz", marker = "extra == 'gpu'" }}]
provides-extras = ["gpu"]
[package.metadata.requires-dev]
dev = [{{ name = "tabulate" }}]
{_package("six", "1")}{_package("tabulate", "2")}{_package("toolz", "3")}"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """Return the lock file of a project."""
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "uv.lock").write_text(LOCK)
    return tmp_path / "uv.lock"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="reading TOML needs Python 3.11, or tomli")
def test_a_uv_lock_is_exported(lock: Path) -> None:
    """With its groups, extras and hashes, without the project itself; nothing is written beside it."""
    before = sorted(lock.parent.iterdir())
    found = locked_environment(str(lock), {}).distributions
    assert {name: one.hashes for name, one in found.items()} == {"six": ("1" * 64,), "tabulate": ("2" * 64,)}
    assert set(locked_environment(str(lock), {"lock_extras": ["gpu"]}).distributions) == {"six", "tabulate", "toolz"}
    assert sorted(lock.parent.iterdir()) == before
    with pytest.raises(PolicyError, match=r"uv cannot export it: .*nope"):
        locked_environment(str(lock), {"lock_groups": ["nope"]})


def test_without_its_project_a_uv_lock_is_not_exported(lock: Path) -> None:
    """Uv needs pyproject.toml: without it, the lock is read as it is."""
    (lock.parent / "pyproject.toml").unlink()
    assert exported(lock, EVERYTHING) is None
    if sys.version_info >= (3, 11):
        assert set(locked_environment(str(lock), {}).distributions) == {"six", "tabulate", "toolz"}


def test_uv_is_called_with_exactly_this() -> None:
    """The argument vector: the lock as it is, without the locked projects; chosen groups replace the default ones."""
    choice = Choice(("lint",), ("gpu",))
    assert export_argv(Path("/bin/uv"), Path("/project"), choice) == [
        *["/bin/uv", "--no-config", "--no-progress", "--color", "never", "export", "--directory", "/project"],
        *["--frozen", "--format", "pylock.toml", "--no-emit-workspace", "--no-header", "--quiet"],
        *["--python", sys.executable, "--extra", "gpu", "--no-default-groups", "--group", "lint"],
    ]
