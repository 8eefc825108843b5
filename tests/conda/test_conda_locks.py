"""Lock files of pixi and conda-lock, and explicit lists, are environments of conda packages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dask
import pytest
from conda_channel import SUBDIR, call_rattler, tiny_channel

from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.options.lock_file import locked_environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conda_channel import Channel

LOCK = """
async def main(channel, subdir, path, *specs):
    virtual = rattler.VirtualPackage.detect(rattler.VirtualPackageOverrides.from_env())
    gateway = rattler.Gateway(cache_dir=Path(path).parent / "index")
    records = await rattler.solve(
        [channel], [rattler.MatchSpec(spec) for spec in specs], gateway=gateway, virtual_packages=virtual
    )
    here, mac = rattler.LockPlatform(subdir), rattler.LockPlatform("osx-arm64")
    lock = rattler.LockFile([here, mac])
    for name in ("default", "gpu"):
        lock.set_channels(name, [rattler.LockChannel(channel)])
        for record in records:
            if name == "gpu" or record.name.normalized != "libfoo":
                lock.add_conda_package(name, here, record)
    lock.add_pypi_package("default", here, "six", "1.17.0", "https://example.org/six-1.17.0-py2.py3-none-any.whl")
    lock.to_path(path)
asyncio.run(main(*argv))
"""

CONDA_LOCK = """version: 1
metadata:
  content_hash: {{linux-64: abc}}
  channels: [{{url: conda-forge, used_env_vars: []}}]
  platforms: [{platform}]
  sources: [environment.yml]
package:
- name: python
  version: 3.11.7
  manager: conda
  platform: {platform}
  dependencies: {{}}
  url: https://conda.example/conda-forge/{platform}/python-3.11.7-h1_0_cpython.conda
  hash: {{md5: {md5}, sha256: {sha256}}}
  category: main
  optional: false
- name: dask-core
  version: 2026.8.0
  manager: conda
  platform: {platform}
  dependencies: {{python: '>=3.10'}}
  url: https://conda.example/conda-forge/noarch/dask-core-2026.8.0-pyhd8ed1ab_0.conda
  hash: {{md5: {md5}, sha256: {sha256}}}
  category: main
  optional: false
- name: six
  version: 1.17.0
  manager: pip
  platform: {platform}
  dependencies: {{}}
  url: https://example.org/six-1.17.0-py2.py3-none-any.whl
  hash: {{sha256: {sha256}}}
  category: main
  optional: false
"""


@pytest.fixture
def channel(tmp_path: Path) -> Channel:
    """Return a small channel."""
    return tiny_channel(tmp_path / "channel")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path) -> Iterator[None]:
    with dask.config.set({"pkgsync.cache-directory": str(tmp_path / "cache")}):
        yield


def test_a_pixi_lock_is_read(channel: Channel, tmp_path: Path) -> None:
    """Its packages with their digests, what pip adds, and the environment that was chosen."""
    path = tmp_path / "pixi.lock"
    call_rattler(LOCK, channel.url, SUBDIR, str(path), "python", "libfoo=2.1", "greeter")
    found = locked_environment(str(path), {})
    assert set(found.conda) == {"python", "greeter"}
    assert all(one.sha256 and one.url.startswith(channel.url) for one in found.conda.values())
    assert found.distributions["six"].version == "1.17.0"
    gpu = locked_environment(str(path), {"lock_groups": ["gpu"]})
    assert set(gpu.conda) == {"python", "greeter", "libfoo"}
    assert gpu.conda["libfoo"].version == "2.1"
    with pytest.raises(PolicyError, match=r"no environment nope; it has default, gpu"):
        locked_environment(str(path), {"lock_groups": ["nope"]})


def test_a_conda_lock_is_read(tmp_path: Path) -> None:
    """Its packages by URL and digest; critical distributions are known by the names of their conda packages."""
    path = tmp_path / "conda-lock.yml"
    path.write_text(CONDA_LOCK.format(platform=SUBDIR, md5="a" * 32, sha256="b" * 64))
    found = locked_environment(str(path), {})
    assert found.interpreter.version == "3.11.7"
    assert found.conda["python"].sha256 == "b" * 64
    assert found.distributions["dask"].version == "2026.8.0"
    assert found.conda["dask-core"].distributions == ("dask",)
    assert found.distributions["six"].hashes == ("b" * 64,)
    path.write_text(CONDA_LOCK.format(platform="win-64", md5="a" * 32, sha256="b" * 64))
    with pytest.raises(PolicyError, match=f"does not cover this platform: it has win-64, and this is {SUBDIR}"):
        locked_environment(str(path), {})
    path.write_text("nonsense: [")
    with pytest.raises(PolicyError, match="py-rattler cannot read it"):
        locked_environment(str(path), {})


def test_an_explicit_list_is_read(tmp_path: Path) -> None:
    """Without any library: URLs and digests, without passwords; what is no package is told, all at once."""
    path = tmp_path / "explicit.txt"
    place = "https://user:secret@conda.example/t/tk-1/forge"
    lines = [
        "# This file may be used to create an environment",
        "@EXPLICIT",
        f"{place}/{SUBDIR}/python-3.11.7-h1_0_cpython.conda#{'a' * 32}",
        f"{place}/noarch/tzdata-2025b-h78e105d_0.tar.bz2#sha256:{'b' * 64}",
        f"{place}/{SUBDIR}/msgpack-python-1.1.0-py311_0.conda",
    ]
    path.write_text("\n".join(lines))
    found = locked_environment(str(path), {})
    assert found.conda["python"].md5 == "a" * 32
    assert found.conda["python"].channel == "https://conda.example/forge"
    assert found.conda["tzdata"].sha256 == "b" * 64
    assert found.conda["tzdata"].noarch
    assert found.distributions["msgpack"].version == "1.1.0"
    assert "secret" not in found.to_json()
    path.write_text("\n".join([*lines, "numpy", "https://conda.example/x"]))
    with pytest.raises(PolicyError, match=r"line 6: expected the URL(.|\n)*line 7: expected the URL"):
        locked_environment(str(path), {})
    path.write_text(f"@EXPLICIT\n{place}/{SUBDIR}/zlib-1.3-0.conda")
    with pytest.raises(PolicyError, match="pins no Python"):
        locked_environment(str(path), {})
    path.write_text(f"@EXPLICIT\n{place}/win-64/python-3.11.7-0.conda")
    with pytest.raises(PolicyError, match="does not cover this platform: it has win-64"):
        locked_environment(str(path), {})
