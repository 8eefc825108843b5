"""A real cluster gets what lock files pin: files with the recorded hashes, and conda packages by URL and digest."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest
from clusters import CRITICAL, CRITICAL_PINS, on_workers, running, versions_here
from conda_channel import USUAL, make_prefix, serving
from package_index import Index
from package_index import serving as serving_index

import dask_pkgsync as pkgsync

if TYPE_CHECKING:
    from pathlib import Path

    from clusters import Venvs
    from conda_channel import Channel

    from dask_pkgsync import Environment

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def test_hashes_are_enforced_on_every_node(venvs: Venvs, base_environment: Environment, tmp_path: Path) -> None:
    """Nodes install a file with a recorded hash; with another hash the sync fails by name, and nothing changes."""
    index, lock = Index(), tmp_path / "requirements.txt"
    index.add("locked", "1.0")
    (content,) = index.wheels["locked"].values()
    pins = "".join(f"{name}=={base_environment.distributions[name].version}\n" for name in CRITICAL)
    with (
        serving_index(index),
        running(tmp_path, venvs.base(), tmp_path / "cache", workers=1, env={"UV_DEFAULT_INDEX": index.url}) as cluster,
        cluster.client(workers=1) as client,
    ):
        lock.write_text(f"{pins}locked==1.0 --hash=sha256:{'0' * 64}\n")
        with pytest.raises(pkgsync.SyncError) as caught:
            pkgsync.sync(client, lock, progress=False)
        assert {failure.packages for failure in caught.value.failures.values()} == {("locked==1.0",)}
        assert set(map(str, on_workers(client, versions_here, ["locked"]).values())) == {"{'locked': None}"}
        lock.write_text(f"{pins}locked==1.0 --hash=sha256:{hashlib.sha256(content).hexdigest()}\n")
        pkgsync.sync(client, lock, progress=False)
        assert set(map(str, on_workers(client, versions_here, ["locked"]).values())) == {"{'locked': '1.0'}"}


def test_an_explicit_list_of_conda_is_the_environment_of_the_workers(
    venvs: Venvs, conda_channel: Channel, tmp_path: Path
) -> None:
    """Nodes without conda get the very packages that it lists, interpreter included."""
    with serving(conda_channel) as served:
        prefix = make_prefix(served.url, tmp_path / "prefix", USUAL)
        records = [json.loads(path.read_text()) for path in sorted((prefix / "conda-meta").glob("*.json"))]
        lines = ["@EXPLICIT", *(f"{record['url']}#{record['sha256']}" for record in records)]
        (tmp_path / "explicit.txt").write_text("\n".join(lines))
        base = venvs.make(*CRITICAL_PINS, "py-rattler")
        with (
            running(tmp_path, base, tmp_path / "cache", workers=1) as cluster,
            cluster.client(workers=1) as client,
        ):
            pkgsync.sync(client, tmp_path / "explicit.txt", progress=False)
            (found,) = on_workers(client, conda_packages).values()
    assert found == sorted(f"{one['name']}-{one['version']}-{one['build']}" for one in records)


def conda_packages() -> list[str]:
    """Return what the prefix of this process's interpreter was made of."""
    import pathlib
    import sys

    return sorted(path.stem for path in pathlib.Path(sys.base_prefix, "conda-meta").glob("*.json"))
