"""`scan --format` prints files of other tools, and `--for` what another platform would get."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from package_index import Index, serving

from dask_pkgsync import Environment, scan
from dask_pkgsync.cli.group import pkgsync
from dask_pkgsync.options.lock_file import locked_environment
from dask_pkgsync.wheels.lock_export import compiled

if TYPE_CHECKING:
    from pathlib import Path


def test_this_environment_is_written() -> None:
    """The file is on standard output, and what is not in it on standard error."""
    here = scan(modules=False)
    result = CliRunner().invoke(pkgsync, ["scan", "--no-modules", "--format", "requirements"])
    assert result.exit_code == 0, result.output
    assert f"tornado=={here.distributions['tornado'].version}" in result.stdout.splitlines()
    assert "not in it: dask-pkgsync " in result.stderr
    json = CliRunner().invoke(pkgsync, ["scan", "--no-modules", "--format", "json"]).stdout
    assert Environment.from_json(json).distributions.keys() == here.distributions.keys()
    assert CliRunner().invoke(pkgsync, ["scan", "--format", "toml"]).exit_code == 2


@pytest.mark.skipif(sys.version_info < (3, 11), reason="reading TOML needs Python 3.11, or tomli")
def test_a_pylock_has_the_hashes_of_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made by uv, for exactly these versions, and is read back with the hashes."""
    index = Index()
    index.add("one", "1.0")
    index.add("one", "1.1")
    with serving(index):
        monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
        (tmp_path / "pylock.toml").write_text(compiled("one==1.0\n"))
    (found,) = locked_environment(str(tmp_path / "pylock.toml"), {}).distributions.values()
    assert found.version == "1.0"
    assert len(found.hashes) == 1


def test_an_unknown_platform_is_told() -> None:
    """With the names of those that are known."""
    result = CliRunner().invoke(pkgsync, ["scan", "--no-modules", "--for", "amiga"])
    assert result.exit_code == 1
    assert "linux-x86_64" in result.stderr
