"""Clients on macOS and Windows get their environments on Linux nodes, as near as there are wheels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from clusters import CRITICAL, on_workers, running, versions_here
from package_index import Index, serving

import dask_pkgsync as pkgsync
from dask_pkgsync import Distribution, Environment

if TYPE_CHECKING:
    from clusters import Venvs

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ENVIRONMENTS = Path(__file__).parents[1] / "environments"
MODULES = ["numpy", "aiohttp", "cryptography.fernet", "pydantic", "PIL.Image", "orjson", "keyring", "zmq", "patched"]
"""What tasks import: compiled code of many kinds, and the three packages of our own index."""


def scanned(name: str, base: Environment) -> Environment:
    """Return an environment that was scanned on another platform, with the nodes' Python and critical packages."""
    data = json.loads((ENVIRONMENTS / f"{name}.json").read_text())
    data["interpreter"]["version"] = base.interpreter.version
    data["interpreter"]["tag"] = ""
    environment = Environment.from_json(json.dumps(data))
    critical = {name: Distribution(name, base.distributions[name].version) for name in CRITICAL}
    return environment.with_distributions({**environment.distributions, **critical}.values())


def our_index() -> Index:
    """Return an index of packages of which not every release is for Linux."""
    index = Index()
    for system in ("macosx_11_0_arm64", "win_amd64"):
        index.add("patched", "1.4.2", tag=f"py3-none-{system}")
        index.add("only-there", "2.1.0", tag=f"py3-none-{system}")
    index.add("patched", "1.4.1")
    index.add("patched", "1.4.3")
    index.add("patched", "1.5.0")
    index.add("only-there", "2.0.9")
    index.add("built-here", "3.0.1")
    index.add("built-here", "3.0.2")
    return index


def test_other_platforms(venvs: Venvs, tmp_path: Path) -> None:
    """Environments of macOS and Windows arrive on Linux: exact, or as near as told; nodes that join resolve nothing."""
    base = venvs.base()
    with (
        serving(our_index()) as index,
        running(tmp_path, base, tmp_path / "cache", workers=2, env={"UV_INDEX": index.url}) as cluster,
        cluster.client(workers=2) as client,
    ):
        mac = scanned("macos-arm64", base.environment())
        with pytest.raises(pkgsync.SyncError) as refused:
            pkgsync.sync(client, mac, progress=False, strict=True)
        assert rows_of(str(refused.value)) == {"patched", "only-there", "built-here", "pyobjc-framework-cocoa"}
        assert all(found == {"tabulate": None} for found in on_workers(client, versions_here, ["tabulate"]).values())

        report = pkgsync.sync(client, mac, progress=False)
        got = {row.name: (row.asked, row.got, row.kind) for row in report.substitutions}
        assert got["patched"] == ("1.4.2", "1.4.3", "near")
        assert got["built-here"] == ("3.0.1+local.2", "3.0.1", "near")
        assert got["only-there"] == ("2.1.0", "", "left out")
        assert got["appnope"] == ("0.1.4", "", "foreign")
        assert got["secretstorage"][2] == "added"
        assert all(row.why for row in report.substitutions)
        assert "asked" in str(report)
        assert "asked" in report._repr_html_()
        check_nodes(client, mac, got)

        cluster.add_worker(name="joins")
        client.wait_for_workers(3, timeout=60)
        check_nodes(client, mac, got)
        assert len(resolutions(client)) == 1
        pkgsync.release(client)

        windows = scanned("windows-x86_64", base.environment())
        report = pkgsync.sync(client, windows, progress=False)
        got = {row.name: (row.asked, row.got, row.kind) for row in report.substitutions}
        assert got["pywin32"][2] == "foreign"
        check_nodes(client, windows, got)


def rows_of(text: str) -> set[str]:
    """Return the names in the table of an error."""
    lines = text.partition("------")[2].splitlines()[1:]
    return {line.split()[0] for line in lines if line.strip() and not line.startswith(" ")}


def check_nodes(client: Any, environment: Environment, got: dict[str, tuple[str, str, str]]) -> None:
    """Check that every worker has all versions as asked, or as the report says, and can import them."""
    expected = {name: one.version for name, one in environment.distributions.items() if name not in got}
    expected |= {name: version for name, (_, version, _) in got.items() if version}
    expected.pop("pip", None)
    for found in on_workers(client, versions_here, list(expected)).values():
        assert found == expected
    assert set(on_workers(client, import_all, MODULES).values()) == {len(MODULES)}


def import_all(modules: list[str]) -> int:
    """Import modules; return how many there are."""
    import importlib

    return len([importlib.import_module(module) for module in modules])


def resolutions(client: Any) -> list[str]:
    """Return the platforms for which the scheduler has resolved a target."""

    def kept(dask_scheduler: Any) -> list[str]:
        controller = dask_scheduler.extensions["pkgsync"]
        return [one.environment.interpreter.platform for one in controller.rollout.steps.resolutions.kept.values()]

    found: list[str] = client.run_on_scheduler(kept)
    return found
