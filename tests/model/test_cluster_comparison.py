"""How the nodes of a cluster are compared with an environment and with each other."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_pkgsync.model.comparison import MISSING
from dask_pkgsync.model.environments.conda import CondaPackage
from dask_pkgsync.model.environments.distribution import Distribution, Fault
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.environments.interpreter import Interpreter
from dask_pkgsync.model.policy import Level, Policy
from dask_pkgsync.model.reports.cluster_comparison import ObservedNode, compare_nodes
from dask_pkgsync.model.reports.status import ClusterStatus

PYTHON = Interpreter("cpython", "3.11.7", "linux-x86_64", "cp311-cp311-manylinux_2_36_x86_64")
CRITICAL = {"cloudpickle": "3.1", "dask": "2026.8.0", "distributed": "2026.8.0", "msgpack": "1.1", "tornado": "6.5"}


def environment(python: Interpreter = PYTHON, **versions: str) -> Environment:
    return Environment.of(python, [Distribution(name, version) for name, version in {**CRITICAL, **versions}.items()])


def node(number: int, role: str = "worker", has: Environment | None = None, **rest: object) -> ObservedNode:
    return ObservedNode(f"tcp://10.0.0.{number}:40000", role, environment=has, **rest)


HERE = environment(numpy="2.1")


def test_nodes_that_are_alike_are_one_column():
    """Nodes with the same differences share a column, whatever they have otherwise that does not count."""
    nodes = [
        node(1, "scheduler", environment(numpy="2.0", pip="24.0")),
        *(node(number, "worker", environment(numpy="2.0", pip=f"25.{number}")) for number in range(2, 102)),
        node(200, "worker", environment(numpy="1.26")),
    ]
    comparison = compare_nodes(HERE, nodes)
    assert [group.label for group in comparison.groups] == ["scheduler, 100 workers", "1 worker"]
    assert [(row.name, row.here, row.found) for row in comparison] == [("numpy", "2.1", ("2.0", "1.26"))]
    assert bool(comparison)
    assert len(str(comparison).splitlines()) < 12


def test_a_cluster_that_matches_has_no_differences():
    """Where nothing differs, the comparison is false and says how many nodes were compared."""
    has = environment(numpy="2.1", rich="1")
    comparison = compare_nodes(HERE, [node(1, "scheduler", has), node(2, "worker", has)])
    assert not comparison
    assert comparison.matches
    assert "no differences between this environment and 2 nodes" in str(comparison)
    assert not compare_nodes(HERE, [])
    assert str(compare_nodes(HERE, [])) == "the cluster has no nodes"


def test_critical_differences_come_first():
    """Python and what Dask needs stand above all other packages, and `critical` has them alone."""
    other = replace(PYTHON, version="3.13.0", tag="cp313-cp313-manylinux_2_36_x86_64")
    has = environment(other, numpy="1.0", tornado="6.1")
    comparison = compare_nodes(environment(numpy="2.1", aiohttp="3"), [node(1, "worker", has)])
    assert [row.name for row in comparison] == ["python", "tornado", "aiohttp", "numpy"]
    assert [row.name for row in comparison.critical] == ["python", "tornado"]
    assert comparison.differences[0].found == ("cpython 3.13.0",)


def test_nodes_are_compared_with_each_other():
    """A package that this environment lacks is a difference if not all nodes have it alike."""
    usual = environment(numpy="2.1", scipy="1.0")
    alike = [node(1, "scheduler", usual), node(2, has=usual)]
    assert not compare_nodes(HERE, alike)
    lacking, newer = node(3, has=HERE), node(4, has=environment(numpy="2.1", scipy="2.0"))
    comparison = compare_nodes(HERE, [*alike, lacking, newer])
    assert [(row.name, row.here) for row in comparison] == [("scipy", MISSING)]
    shown = dict(zip((group.label for group in comparison.groups), comparison.differences[0].found, strict=True))
    assert sorted(shown.values()) == sorted(["1.0", MISSING, "2.0"])
    assert shown["scheduler, 1 worker"] == "1.0"


def test_nodes_of_another_platform_are_compared_exactly_with_each_other():
    """Across platforms a compatible version will do for this environment; nodes of one platform must be the same."""
    mac = environment(replace(PYTHON, platform="macosx-11.0-arm64", tag="cp311-cp311-macosx_11_0_arm64"), numpy="2.1.0")
    one, other = node(1, has=environment(numpy="2.1.1")), node(2, has=environment(numpy="2.1.2"))
    assert not compare_nodes(mac, [one])
    assert [row.found for row in compare_nodes(mac, [one, other])] == [("2.1.1", "2.1.2")]


def test_only_critical_packages_of_a_nanny_count():
    """A nanny runs no code of users, so that other packages of it are not compared."""
    worker = node(1, has=HERE, nanny="tcp://10.0.0.2:40000")
    assert not compare_nodes(HERE, [worker, node(2, "nanny", environment(numpy="1.0"))])
    comparison = compare_nodes(HERE, [worker, node(2, "nanny", environment(numpy="1.0", tornado="6.1"))])
    assert [(row.name, row.found) for row in comparison] == [("tornado", ("6.5", "6.1"))]
    assert [group.label for group in comparison.groups] == ["1 worker", "1 nanny"]


def test_what_is_known_in_part_is_compared_in_part():
    """Of a node that tells only Dask's versions, nothing else is said to be missing."""
    partial = node(1, "scheduler", environment(), is_partial=True, problem="only some packages could be compared")
    comparison = compare_nodes(HERE, [partial])
    assert not comparison
    assert "only some packages could be compared" in str(comparison)
    both = compare_nodes(HERE, [partial, node(2, has=environment(numpy="1.0"))])
    assert [row.found for row in both] == [("?", "1.0")]


def test_a_node_that_was_not_seen_is_told():
    """A node that could not be looked at makes the comparison true, and is named with the reason."""
    comparison = compare_nodes(HERE, [node(1, has=HERE), node(2, problem="no answer within 120 s")])
    assert comparison
    assert [one.address for one in comparison.unseen] == ["tcp://10.0.0.2:40000"]
    assert "tcp://10.0.0.2:40000: no answer within 120 s" in str(comparison)


def test_faults_and_policies_count():
    """A broken package differs, an ignored one does not, and under a strict policy further packages do."""
    broken = Environment.of(PYTHON, HERE.distributions.values(), [Fault("corrupt", "/x", "METADATA is empty", "numpy")])
    assert "corrupt" in compare_nodes(HERE, [node(1, has=broken)]).differences[0].found[0]
    has = [node(1, has=environment(numpy="2.1", scipy="1.0"))]
    assert not compare_nodes(HERE, has)
    assert [row.name for row in compare_nodes(HERE, has, Policy.of(strict=True))] == ["scipy"]
    assert not compare_nodes(HERE, [node(1, has=environment(numpy="1"))], Policy.of(ignore=["numpy"]))


def test_conda_packages_are_compared():
    """A conda package of another build is a difference between nodes, as between two environments."""

    def conda(build: str) -> Environment:
        package = CondaPackage("libfoo", "1.0", build, "linux-64", "conda-forge", sha256=build * 32)
        return HERE.with_conda([package])

    comparison = compare_nodes(conda("aa"), [node(1, "scheduler", conda("aa")), node(2, has=conda("bb"))])
    assert [row.name for row in comparison] == ["libfoo"]
    assert [row.level for row in comparison] == [Level.EXACT]


def test_html_is_escaped_and_json_is_complete():
    """Texts of nodes cannot bring markup into a page; JSON has every difference and node."""
    comparison = compare_nodes(HERE, [node(1, has=environment(numpy="1.0"), host="<b>"), node(2, problem="<script>")])
    assert "<script>" not in comparison._repr_html_()
    assert "&lt;script&gt;" in comparison._repr_html_()
    data = json.loads(comparison.to_json())
    assert data["matches"] is False
    row = data["differences"][0]
    assert (row["package"], row["level"], row["here"], row["found"]) == ("numpy", "exact", "2.1", {"1 worker": "1.0"})
    assert data["groups"][0]["nodes"] == [{"address": "tcp://10.0.0.1:40000", "role": "worker", "host": "<b>"}]
    assert data["unseen"][0]["problem"] == "<script>"
    assert "numpy" in str(ClusterStatus("", (), comparison=comparison))


@given(st.lists(st.tuples(st.sampled_from(["1.0", "2.0", ""]), st.sampled_from(["1.0", "2.0", ""])), max_size=8))
def test_every_cell_is_what_its_nodes_have(versions: list[tuple[str, str]]):
    """Whatever nodes have, each cell shows it for each node of its column, and all nodes stand in one column."""
    nodes = [
        node(number, has=environment(**{name: one for name, one in (("numpy", a), ("scipy", b)) if one}))
        for number, (a, b) in enumerate(versions)
    ]
    comparison = compare_nodes(HERE, nodes)
    assert sorted(one.address for one in comparison.nodes) == sorted(one.address for one in nodes)
    for row in comparison:
        for group, cell in zip(comparison.groups, row.found, strict=True):
            for one in group.nodes:
                found = one.environment.distributions.get(row.name)
                assert cell == (found.version if found else MISSING)
    names = {row.name for row in comparison}
    assert ("numpy" in names) == any(a != "2.1" for a, _ in versions)
    assert ("scipy" in names) == (len({b for _, b in versions}) > 1)


@pytest.mark.parametrize("count", [1, 3])
def test_columns_of_the_same_kind_are_told_apart(count: int):
    """Two columns never have the same heading: they name the host, or a number."""
    nodes = [node(at, has=environment(numpy=f"1.{at}"), host=f"host{min(at, count)}") for at in range(4)]
    labels = [group.label for group in compare_nodes(HERE, nodes).groups]
    assert len(set(labels)) == 4
    assert "1 worker on host0" in labels
