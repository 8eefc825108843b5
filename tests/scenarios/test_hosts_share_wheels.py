"""A large wheel of a client leaves the scheduler about once, however many hosts the cluster has."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from clusters import Person, on_workers, running
from distributed.security import Security

if TYPE_CHECKING:
    from pathlib import Path

    from clusters import Venvs
    from distributed import Scheduler

pytestmark = pytest.mark.cluster

SIZE = 20_000_000
HOSTS = 3

SYNC = f"""
client.wait_for_workers({HOSTS})
pkgsync.sync(client, progress=False)
assert everywhere(call, "import large; answer = large.data.stat().st_size") == [{SIZE}] * {HOSTS}
print(json.dumps([event for _, event in client.get_events("pkgsync") if event["action"] in ("uploaded", "served")]))
"""


def size_here() -> int:
    """Return the size of what was shipped."""
    import importlib

    return int(importlib.import_module("large").data.stat().st_size)


@pytest.mark.slow
def test_hosts_pass_a_wheel_on(tmp_path: Path, venvs: Venvs, certificates: dict[str, str]) -> None:
    """Over TLS, with certificates that each asks of the other; a host that comes later gets it from the others too."""
    person = Person(tmp_path / "person")
    init = "from pathlib import Path\ndata = Path(__file__).with_name('data.bin')\n"
    person.write({"large/__init__.py": init}, "job")
    (person.home / "job" / "large" / "data.bin").write_bytes(os.urandom(SIZE))
    cert, key = certificates["cert"], certificates["key"]
    security = Security(tls_ca_file=cert, tls_client_cert=cert, tls_client_key=key, require_encryption=True)
    options = ("--tls-ca-file", cert, "--tls-cert", cert, "--tls-key", key)
    tls = {
        f"DASK_DISTRIBUTED__COMM__TLS__{name}": value
        for name, value in {"CA_FILE": cert, "CLIENT__CERT": cert, "CLIENT__KEY": key}.items()
    }
    (tmp_path / "cluster").mkdir()

    def sent(dask_scheduler: Scheduler) -> list[tuple[str, int]]:
        events: Any = dask_scheduler.get_events("pkgsync")
        return [(one["package"], one["bytes"]) for _, one in events if one["action"] == "served"]

    with running(
        tmp_path / "cluster", venvs.base(), tmp_path / "cache", workers=0, options=options, security=security
    ) as cluster:
        for number in range(HOSTS):
            host = f"host{number}"
            cluster.add_worker(name=host, DASK_PKGSYNC__CACHE_DIRECTORY=str(tmp_path / host))
        events = person.run(cluster, SYNC, **tls)
        large = [event for event in events if event["package"].startswith("module_large")]
        assert [event["action"] for event in large] == ["uploaded", *["served"] * HOSTS]
        wheel = large[0]["bytes"]
        assert wheel <= sum(event["bytes"] for event in large[1:]) < 2 * wheel
        cluster.add_worker(name="late", DASK_PKGSYNC__CACHE_DIRECTORY=str(tmp_path / "late"))
        with cluster.client(HOSTS + 1) as client:
            assert list(on_workers(client, size_here).values()) == [SIZE] * (HOSTS + 1)
            served = [size for package, size in client.run_on_scheduler(sent) if package.startswith("module_large")]
        assert len(served) == HOSTS + 1
        assert served[-1] == 0
