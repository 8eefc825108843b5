"""Nothing that an installer could read as an option or a path gets past the boundary, on real processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from clusters import environment_with, imported_version, on_workers

import dask_pkgsync as pkgsync
from dask_pkgsync.model.target import target_to_wire

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from clusters import Cluster

    from dask_pkgsync import Environment

    Run = Callable[..., AbstractContextManager[Cluster]]

HOSTILE = [
    ("name", "-r/etc/passwd"),
    ("name", "--index-url"),
    ("name", "../six"),
    ("name", "six @ file:///tmp/x"),
    ("name", "six\n--index-url http://127.0.0.1:1"),
    ("name", ""),
    ("version", "1.0\n--index-url http://127.0.0.1:1"),
    ("version", "1.0 --hash=sha256:00"),
    ("version", "1.0; python_version>'3'"),
    ("version", "/etc/passwd"),
    ("version", "-"),
    ("version", "1.0\x00"),
]


def with_hostile(wire: dict[str, Any], field: str, value: str) -> dict[str, Any]:
    """Return a target as a hostile client would send it."""
    name, version = (value, "1.17.0") if field == "name" else ("six", value)
    others = {one: rest for one, rest in wire["environment"]["distributions"].items() if one != "six"}
    hostile = {**others, name: {"version": version, "installer": "uv"}}
    return {**wire, "environment": {**wire["environment"], "distributions": hostile}}


@pytest.mark.cluster
def test_a_hostile_target_is_refused_by_every_node(
    run_cluster: Run, base_environment: Environment, tmp_path: Path
) -> None:
    """Scheduler, nannies and lone workers refuse names and versions that are none, and run no installer for them."""

    class Hostile(pkgsync.PackageSync):
        wire: dict[str, Any]

        def __reduce__(self) -> tuple[Any, ...]:
            from dask_pkgsync.carry.travel import carried

            state = {"target": self.wire, "client": ""}
            return carried("scheduler", "dask_pkgsync.scheduler.plugin:registered_plugin", state)

    plugin = Hostile(environment_with(base_environment, {"six": "1.17.0"}))
    good = target_to_wire(plugin.target)
    with run_cluster(cache=tmp_path / "own") as cluster:
        cluster.add_worker(name="alone", nanny=False)
        with cluster.client(workers=2) as client:
            client.register_plugin(pkgsync.PackageSync(base_environment))

            async def ask(dask_scheduler: Any, address: str, target: dict[str, Any]) -> Any:
                return await dask_scheduler.rpc(address).pkgsync_prepare(target=target)

            info = client.scheduler_info(n_workers=-1)["workers"]
            addresses = [entry["nanny"] or address for address, entry in info.items()]
            for field, value in HOSTILE:
                plugin.wire = with_hostile(good, field, value)
                with pytest.raises(pkgsync.MessageError):
                    client.register_plugin(plugin)
                for address in addresses:
                    answer = client.run_on_scheduler(ask, address=address, target=plugin.wire)
                    assert "malformed message" in answer["failure"]["problem"]
            assert not list((cluster.cache / "layers").glob("*"))
            assert set(on_workers(client, imported_version, "six").values()) == {"1.15.0"}


@pytest.mark.parametrize(
    "extra", ["-r/etc/passwd", "--index-url=http://x", "six @ file:///tmp/x", "six\n--pre", "./local", ""]
)
def test_a_hostile_extra_is_refused_on_the_client(extra: str) -> None:
    """What is no requirement, or names a place, is refused where it is written."""
    with pytest.raises(pkgsync.PolicyError, match="extra"):
        pkgsync.PackageSync(extra=[extra])


def test_options_that_make_no_sense_say_what_was_expected() -> None:
    """A wrong option is an error that names it, before anything is sent."""
    with pytest.raises(pkgsync.PolicyError, match="ignore"):
        pkgsync.PackageSync(ignore=["dask"])
    with pytest.raises(pkgsync.PolicyError, match="scheduler: expected one of warn, refuse"):
        pkgsync.PackageSync(scheduler="perhaps")
    with pytest.raises(pkgsync.PolicyError, match="install-timeout"):
        pkgsync.PackageSync(install_timeout="soon")
    with pytest.raises(pkgsync.PolicyError, match="both in ignore and in only"):
        pkgsync.PackageSync(ignore=["six"], only=["Six"])
    with pytest.raises(pkgsync.PolicyError, match="list of package names"):
        pkgsync.PackageSync(ignore="six")
