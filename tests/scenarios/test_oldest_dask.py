"""The oldest Dask that `pyproject.toml` promises to work with, in every process: scheduler, workers and client."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest
from clusters import OLDEST, OLDEST_PINS, SOURCE, Person, running

if TYPE_CHECKING:
    from pathlib import Path

CLOUDPICKLE = "3.1.2"
COMMON = (*OLDEST_PINS, f"cloudpickle=={CLOUDPICKLE}", str(SOURCE))

PRELOAD = json.dumps(["dask_pkgsync.preload"])
GUARDED = {"DASK_DISTRIBUTED__SCHEDULER__PRELOAD": PRELOAD}
PRESENTING = {"DASK_DISTRIBUTED__CLIENT__PRELOAD": PRELOAD, "DASK_PKGSYNC__MODULES": "false"}

SYNC = """
import time, uuid
SIX, TABULATE = "import six; answer = six.__version__", "import tabulate; answer = tabulate.__version__"
OUTCOMES = lambda report: [node.outcome for node in report.nodes[1:]]

client.wait_for_workers(2)
found = {"dask": dask.__version__, "at first": everywhere(call, SIX)}
futures = [client.submit(lambda: uuid.uuid4().hex, pure=False, workers=[worker], allow_other_workers=True)
           for worker in client.nthreads() for _ in range(10)]  # each has something to lose
before = client.gather(futures)
found["sync"] = OUTCOMES(pkgsync.sync(client, progress=False, modules=False))
found["kept"] = client.gather(futures) == before
found["drained"] = [event["lost"] for _, event in client.get_events("pkgsync") if event["action"] == "drained"]
found["synced"] = everywhere(call, SIX)
client.register_plugin(pkgsync.PackageSync(modules=False, extra=["tabulate==0.9.0"]))
found["registered"] = everywhere(call, TABULATE)
found["state"] = sorted({node.state for node in pkgsync.status(client).nodes})
client.cancel(futures)
while any(client.has_what().values()):  # an idle worker is no peer for long, as it is restarted at once
    time.sleep(0.05)
found["release"] = OUTCOMES(pkgsync.release(client))
found["released"] = everywhere(call, SIX)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Person:
    """Return somebody with the oldest Dask, in whose environment the cluster runs."""
    return Person(tmp_path_factory.mktemp("operator"), *COMMON, "six==1.15.0")


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Person:
    """Return somebody with the oldest Dask, and six in another version, who connects."""
    return Person(tmp_path_factory.mktemp("user"), *COMMON, "six==1.17.0")


def oldest_cluster(operator: Person, root: Path, **rest: Any) -> Any:
    """Run a cluster of the oldest Dask that is guarded by its configuration."""
    return running(root, operator.venv, root / "cache", **rest)


def test_the_reference_names_it() -> None:
    """What people read is what is tested."""
    assert OLDEST["dask"] == OLDEST["distributed"]
    assert f"Dask {OLDEST['dask']} or newer" in (SOURCE / "docs" / "reference.md").read_text()


@pytest.mark.cluster
def test_the_oldest_dask_syncs_drains_and_releases(operator: Person, user: Person, tmp_path: Path) -> None:
    """It refuses, syncs with a restart, loses no result, takes a plugin, and gives everything back."""
    with oldest_cluster(operator, tmp_path, workers=2, env=GUARDED) as cluster:
        user.install("cloudpickle==3.0.0")
        refused = user.run(cluster, "pass", check=False)
        assert refused.returncode == 1
        assert f"cloudpickle  {CLOUDPICKLE}      3.0.0   critical" in refused.stderr
        user.install(f"cloudpickle=={CLOUDPICKLE}")
        assert user.run(cluster, SYNC) == {
            "dask": OLDEST["dask"],
            "at first": ["1.15.0"] * 2,
            "sync": ["restarted"] * 2,
            "kept": True,
            "drained": [0, 0],
            "synced": ["1.17.0"] * 2,
            "registered": ["0.9.0"] * 2,
            "state": ["matches"],
            "release": ["restarted"] * 2,
            "released": ["1.15.0"] * 2,
        }


@pytest.mark.cluster
@pytest.mark.skipif(version("distributed") == OLDEST["distributed"], reason="this is the oldest Dask")
def test_a_newer_dask_is_told_why_it_is_refused(operator: Person, tmp_path: Path) -> None:
    """Also where its client asks the scheduler, before it registers, for what the oldest does not know."""
    expected = rf"distributed +{OLDEST['distributed']} +{version('distributed')} +critical"
    guarded = oldest_cluster(operator, tmp_path, workers=0, env=GUARDED)
    with guarded as cluster, pytest.raises(ImportError, match=expected), cluster.client():
        pass


@pytest.mark.cluster
def test_the_oldest_dask_enforces(operator: Person, user: Person, tmp_path: Path) -> None:
    """The scheduler's environment is what workers get and clients must have."""
    env = {**GUARDED, "DASK_PKGSYNC__MODE": "enforce"}
    script = "client.wait_for_workers(1)\nprint(json.dumps(everywhere(call, 'import six; answer = six.__version__')))\n"
    with oldest_cluster(operator, tmp_path, worker_venv=user.venv, env=env) as cluster:
        refused = user.run(cluster, script, check=False, **PRESENTING)
        assert refused.returncode == 1
        assert "1.15.0   1.17.0  exact" in refused.stderr
        assert operator.run(cluster, script, **PRESENTING) == ["1.15.0"]
