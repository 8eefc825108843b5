"""Why a client cannot give a wheel: the reason is what was found, and not a guess."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from dask_pkgsync import Distribution, Environment, WheelError
from dask_pkgsync.cache.directory import open_cache
from dask_pkgsync.model.blobs import BlobRequest
from dask_pkgsync.scanning.installed import this_interpreter
from dask_pkgsync.scanning.snapshot import Snapshot
from dask_pkgsync.wheels.pack import Packer

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        (BlobRequest("toolz", "0.0.1"), f"the client has {version('toolz')} installed"),
        (BlobRequest("no-such-package", "1.0"), "it is not installed on the client"),
        (BlobRequest("toolz", "0.0.2"), "the environment of this client has 0.0.1"),
        (BlobRequest("another", "1.0"), "the environment of this client does not have it"),
    ],
)
def test_what_is_not_installed_here_in_that_version_is_told_so(
    asked: BlobRequest, problem: str, tmp_path: Path
) -> None:
    """An environment from a file may name what this client does not have; it has not changed since any scan."""
    given = [Distribution("toolz", "0.0.1"), Distribution("no-such-package", "1.0")]
    snapshot = Snapshot(Environment.of(this_interpreter(), given))
    with pytest.raises(WheelError) as caught:
        Packer(snapshot, open_cache(str(tmp_path / "cache"))).pack(asked)
    assert caught.value.problem == problem
    assert caught.value.package == f"{asked.name} {asked.version}"
    assert "the index has for the platform of the nodes" in caught.value.advice
