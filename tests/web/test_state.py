"""The data behind the page: pages of nodes, differences by host, what was asked and got, and no secret."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from simulated_cluster import TARGET, address, cluster

from dask_pkgsync.model.reports.status import ClientStatus, NodeStatus
from dask_pkgsync.model.reports.sync import NodeReport
from dask_pkgsync.web.state import MOST_PER_PAGE, PER_PAGE, Query, matrix, packages, query_of


def test_a_thousand_nodes_come_in_pages_with_those_that_failed_first():
    """Each answer has one page of nodes and is small; all pages together have each node once."""
    state = cluster(1000)
    first = state.page(Query())
    assert [row["state"] for row in first["nodes"]["rows"][:11]] == ["failed"] * 10 + ["matches"]
    assert (first["nodes"]["total"], first["nodes"]["pages"], len(first["nodes"]["rows"])) == (1000, 40, PER_PAGE)
    assert first["nodes"]["states"] == {"failed": 10, "matches": 990}
    assert len(json.dumps(first)) < 40_000
    seen = [row["address"] for page in range(1, 41) for row in state.page(Query(page))["nodes"]["rows"]]
    assert sorted(seen) == sorted(address(number) for number in range(1000))
    assert state.page(Query(999))["nodes"]["page"] == 40


def test_nodes_are_found_by_state_and_text():
    """A viewer can ask for the nodes of one state, or whose texts contain something."""
    state = cluster(1000)
    failed = state.page(Query(state="failed"))["nodes"]
    assert (failed["found"], failed["pages"], failed["total"]) == (10, 1, 1000)
    assert "script" in failed["rows"][0]["last-words"]
    assert [row["host"] for row in state.page(Query(find="host249"))["nodes"]["rows"]] == ["host249"] * 4
    assert state.page(Query(find="no such text"))["nodes"]["found"] == 0
    assert state.page(Query(find="no such text"))["nodes"]["pages"] == 1


def test_no_secret_is_shown():
    """Neither an index nor a store is part of the state, as their URLs can hold passwords."""
    text = json.dumps(cluster(3, clients=(ClientStatus("Client-1", "ann@laptop", "synced"),)).page(Query()))
    assert "ann@laptop" in text
    assert "hunter2" not in text
    assert "index.example" not in text


def test_hosts_that_differ_alike_are_one_column():
    """The matrix has a row for each package that a host has otherwise, and a column for hosts that are alike."""
    lacks = "numpy 2.1.0: builds is warn"
    reports = [NodeReport(address(number), "nanny", left_out=(lacks,) if number < 8 else ()) for number in range(12)]
    hosts = {address(number): f"host{number // 4}" for number in range(12)}
    found = matrix(reports, hosts)
    assert found["columns"] == [{"hosts": 2, "names": ["host0", "host1"]}]
    assert found["rows"] == [{"package": "numpy", "cells": ["builds is warn"]}]
    assert found["alike"] == 1
    assert matrix([], {}) == {"columns": [], "alike": 0, "rows": []}


def test_what_was_asked_and_got_is_told_with_the_reason():
    """Each package has what was asked for, and what how many nodes have, and why that differs."""
    reports = [
        NodeReport("a", "nanny", replaced=("numpy 2.0.0 → 2.1.0",), skipped=("toolz 1.0.0: imported already",)),
        NodeReport("b", "nanny", installed=("numpy 2.1.0", "toolz 1.0.0")),
    ]
    rows = {row["package"]: row for row in packages(TARGET, reports)["rows"]}
    assert rows["numpy"]["asked"] == "2.1.0"
    assert {(got["version"], got["why"], got["nodes"]) for got in rows["numpy"]["got"]} == {
        ("2.1.0", "was 2.0.0", 1),
        ("2.1.0", "", 1),
    }
    assert ("its own", "imported already") in {(got["version"], got["why"]) for got in rows["toolz"]["got"]}
    assert packages(None, reports) == {"rows": [], "more": 0}


def test_a_cluster_without_a_target_is_shown():
    """Where nobody has synced, there is no target, and the nodes are shown all the same."""
    data = cluster(2, target=None).page(Query())
    assert data["target"] is None
    assert data["nodes"]["total"] == 2
    assert cluster(0).page(Query())["nodes"]["rows"] == []


@given(st.dictionaries(st.sampled_from(["page", "per-page", "state", "find", "other"]), st.text(max_size=300)))
def test_any_query_is_answered(arguments: dict[str, str]):
    """Whatever stands in the URL, one valid page is returned."""
    query = query_of(arguments)
    assert query.page >= 1
    assert 1 <= query.per_page <= MOST_PER_PAGE
    nodes = cluster(3).page(query)["nodes"]
    assert 1 <= nodes["page"] <= nodes["pages"]


def test_texts_of_nodes_cannot_break_the_message():
    """Control characters and halves of characters in texts of nodes are replaced."""
    node = NodeStatus("tcp://\x1b[31m:1", "worker", "failed", "\ud800 broken")
    data = cluster(0, nodes=(node,)).page(Query())
    json.dumps(data, ensure_ascii=False).encode()
    assert "\x1b" not in data["nodes"]["rows"][0]["address"]
