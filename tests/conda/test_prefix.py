"""Prefixes on nodes: built from a real channel, exactly the client's packages, or refused with every reason."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conda_channel import Channel, make_prefix

from dask_pkgsync.cache.directory import Cache, open_cache
from dask_pkgsync.conda.prefix import CondaSources, build_prefix
from dask_pkgsync.conda.tool import own_rattler
from dask_pkgsync.layers.publication import changes_in
from dask_pkgsync.scanning.installed import scan_installed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dask_pkgsync.layers.layer import Layer
    from dask_pkgsync.model.environments.conda import CondaPackage

SMALL = ("python", "libfoo", "twins", "greeter 1.0 pyh0_0")


def tool() -> Path:
    """Return the directory of the py-rattler that the tests have."""
    found = own_rattler()
    assert found is not None
    return found


def packages_in(prefix: Path) -> tuple[CondaPackage, ...]:
    """Return the conda packages of a prefix; the size of scripts, which depends on its path, is left out."""
    (site_packages,) = prefix.glob("lib/python*/site-packages")
    found = scan_installed([str(site_packages)]).conda.values()
    return tuple(replace(package, installed_size=0) for package in found)


def build(packages: Sequence[CondaPackage], cache: Cache, transport: str = "index", **rest: object) -> Layer:
    """Build a prefix with the tests' own py-rattler."""
    sources = CondaSources(transport, **rest)  # type: ignore[arg-type]
    return build_prefix(packages, cache, tool, sources, timeout=100)


def files_of(prefix: Path) -> Mapping[str, tuple[int, bytes | str]]:
    """Return mode and content of each file of the packages in a prefix, as if all prefixes had the same path."""
    found: dict[str, tuple[int, bytes | str]] = {}
    for directory, folders, names in os.walk(prefix):
        folders[:] = [name for name in folders if name not in ("__pycache__", "conda-meta")]
        for name in names:
            path = Path(directory, name)
            place = path.relative_to(prefix).as_posix()
            if path.is_symlink():
                found[place] = (0, str(path.readlink()))
            elif place not in ("CACHEDIR.TAG", "pkgsync-files", "pkgsync-layer.json"):
                found[place] = (path.stat().st_mode, without_path(path.read_bytes(), os.fsencode(prefix)))
    return found


def without_path(content: bytes, prefix: bytes) -> bytes:
    """Return a file without the path of its prefix: in binary files zeros fill what the path leaves of its room.

    In the first line of a script no path may have more than 127 bytes; a longer one is given to a shell.
    """
    long = re.match(rb"#!/bin/sh\n'''exec' \"(.*)\" \"\$0\" \"\$@\" #'''\n", content)
    if long:
        content = b"#!" + long[1] + content[long.end() - 1 :]
    return re.sub(rb"\0+", b"\0", content.replace(prefix, b"PREFIX")) if prefix in content else content


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return open_cache(str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def client(conda_channel: Channel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a client's environment."""
    return make_prefix(conda_channel.url, tmp_path_factory.mktemp("client") / "prefix", SMALL)


def test_a_prefix_is_the_clients_environment_file_by_file(client: Path, cache: Cache) -> None:
    """The same packages with the same records and files, and programs that find everything at the final path."""
    packages = packages_in(client)
    prefix = build(packages, cache)
    assert not prefix.reused
    assert prefix.whole == str(prefix.root)
    assert packages_in(prefix.root) == packages
    assert files_of(prefix.root) == files_of(client)
    said = subprocess.run([prefix.bin / "greet"], capture_output=True, text=True, check=True).stdout
    assert said == "hello from 1.0 pyh0_0\n"
    assert subprocess.run([prefix.bin / "foo"], capture_output=True, text=True, check=True).stdout.startswith(
        str(prefix.root)
    )
    again = build(packages, cache)
    assert again.reused
    assert not changes_in(again)
