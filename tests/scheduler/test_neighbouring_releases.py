"""Two neighbouring releases work together, whichever of the two the cluster has; others are told who upgrades."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from clusters import BASE_PACKAGES, SOURCE, Person, running

RELEASES = Path(__file__).parents[1] / "releases"
"""Wheels of earlier releases, each built from the commit of that release (`tests/releases/README.md`)."""
BEFORE = str(RELEASES / "dask_pkgsync-0.2.0-py3-none-any.whl")
"""The release before this one."""
TOO_OLD = str(RELEASES / "dask_pkgsync-0.1.0-py3-none-any.whl")
"""One that is outside of the window."""
NOW = str(SOURCE)

PRELOAD = json.dumps(["dask_pkgsync.preload"])
GUARDED = {"DASK_DISTRIBUTED__SCHEDULER__PRELOAD": PRELOAD}
PRESENTING = {"DASK_DISTRIBUTED__CLIENT__PRELOAD": PRELOAD}

SYNC = """
    report = pkgsync.sync(client, progress=False)
    seen = everywhere(call, "import six, helper; answer = [six.__version__, helper.VALUE]")
    again = pkgsync.sync(client, progress=False)
    status = pkgsync.status(client)
    verdict = __import__("importlib").import_module("dask_pkgsync.client.api").check(client, pkgsync.scan())
    released = pkgsync.release(client)
    print(json.dumps({
        "outcomes": sorted(node.outcome for node in report.nodes),
        "seen": seen,
        "again": sorted({node.outcome for node in again.nodes}),
        "matches": status.matches,
        "let in": verdict.is_let_in,
        "released": len(released.nodes),
    }))
"""


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Person]:
    """Return somebody with each release, and with another six than the cluster's."""
    found = {}
    for name, release in {"now": NOW, "before": BEFORE, "too old": TOO_OLD}.items():
        found[name] = Person(tmp_path_factory.mktemp("person"), *BASE_PACKAGES, release)
    for person in found.values():
        person.install("six==1.17.0")
        person.write({"helper.py": "VALUE = 7"}, "job")
    return found


@pytest.fixture(scope="module")
def operators(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Person]:
    """Return the operators of clusters with each release."""
    releases = {"now": NOW, "before": BEFORE, "too old": TOO_OLD}
    return {
        name: Person(tmp_path_factory.mktemp("operator"), *BASE_PACKAGES, release) for name, release in releases.items()
    }


def cluster_of(operator: Person, tmp_path: Path, **env: str) -> Any:
    """Run a guarded cluster in the environment of its operator."""
    return running(tmp_path, operator.venv, tmp_path / "cache", workers=2, env={**GUARDED, **env})


PAIRS = [("now", "before"), ("before", "now")]


@pytest.mark.cluster
@pytest.mark.parametrize(("cluster", "client"), PAIRS, ids=["older client", "older cluster"])
def test_a_guarded_cluster_is_synced_by_a_neighbouring_release(
    cluster: str, client: str, people: dict[str, Person], operators: dict[str, Person], tmp_path: Path
) -> None:
    """Sync, local code, status, check and release work across two releases, and the guard stays in force."""
    with cluster_of(operators[cluster], tmp_path) as running_one:
        told = people[client].run(running_one, SYNC)
        assert told["outcomes"].count("live") + told["outcomes"].count("restarted") >= 2
        assert told["seen"] == [["1.17.0", 7]] * 2
        assert told["again"] == ["matched"]
        assert told["matches"]
        assert told["let in"]
        assert told["released"] == 3
        assert "guards this scheduler" in running_one.log("scheduler")
        again = people[cluster].run(running_one, SYNC)  # the scheduler still is of its own release
        assert again["seen"] == [["1.17.0", 7]] * 2


@pytest.mark.cluster
@pytest.mark.parametrize(("cluster", "client"), PAIRS, ids=["older client", "older cluster"])
def test_a_neighbouring_release_that_presents_is_synced_as_it_connects(
    cluster: str, client: str, people: dict[str, Person], operators: dict[str, Person], tmp_path: Path
) -> None:
    """What a client presents in Dask's handshake is read across two releases."""
    with cluster_of(operators[cluster], tmp_path, DASK_PKGSYNC__STOCK_CLIENTS="refuse") as running_one:
        script = 'print(json.dumps(everywhere(call, "import six; answer = six.__version__")))'
        assert people[client].run(running_one, script, **PRESENTING) == ["1.17.0"] * 2


@pytest.mark.cluster
def test_a_neighbouring_release_joins_what_another_client_has_synced(
    people: dict[str, Person], operators: dict[str, Person], tmp_path: Path
) -> None:
    """On a cluster without a guard, the second release neither takes the first one's place nor is refused."""
    script = """
    first = pkgsync.sync(client, progress=False, keep=True, modules=False)
    print(json.dumps([sorted(node.outcome for node in first.nodes), pkgsync.status(client).matches]))
    """
    operator = operators["now"]
    with running(tmp_path, operator.venv, tmp_path / "cache", workers=1) as cluster:
        assert people["before"].run(cluster, script)[1]
        outcomes, matches = people["now"].run(cluster, script)
        assert matches
        assert set(outcomes) <= {"matched", "live", "restarted"}


@pytest.mark.cluster
def test_a_release_outside_of_the_window_is_told_to_upgrade(
    people: dict[str, Person], operators: dict[str, Person], tmp_path: Path
) -> None:
    """Whether it presents or syncs, an older client reads who has to upgrade, and to what; the guard is unharmed."""
    script = "pkgsync.sync(client, progress=False)"
    with cluster_of(operators["now"], tmp_path) as cluster:
        for env in ({}, PRESENTING):
            refused = people["too old"].run(cluster, script, check=False, **env)
            assert refused.returncode
            assert "0.2.0 or newer" in refused.stderr
            assert "on the client" in refused.stderr
        assert people["now"].run(cluster, SYNC)["matches"]


@pytest.mark.cluster
def test_a_cluster_outside_of_the_window_is_told_to_be_too_old(
    people: dict[str, Person], operators: dict[str, Person], tmp_path: Path
) -> None:
    """A newer client says which release the scheduler has, and breaks nothing there."""
    with cluster_of(operators["too old"], tmp_path) as cluster:
        refused = people["now"].run(cluster, "pkgsync.sync(client, progress=False)", check=False)
        assert refused.returncode
        assert "0.1.0" in refused.stderr
        assert "same release on both sides" in refused.stderr
        told = people["too old"].run(
            cluster, "print(json.dumps(len(pkgsync.sync(client, progress=False, modules=False).nodes)))"
        )
        assert told == 3
