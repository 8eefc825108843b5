"""The state of a cluster of any size, as a controller would have it, for tests of what shows it."""

from __future__ import annotations

from dataclasses import replace

from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.environments.interpreter import Interpreter
from dask_pkgsync.model.indexes import Indexes
from dask_pkgsync.model.policy import Policy
from dask_pkgsync.model.reports.failure import NodeFailure
from dask_pkgsync.model.reports.status import NodeStatus
from dask_pkgsync.model.reports.sync import NodeReport
from dask_pkgsync.model.target import Target
from dask_pkgsync.web.state import ClusterState

PYTHON = Interpreter("cpython", "3.11.7", "linux-x86_64", "cp311-cp311-manylinux_2_36_x86_64")
TARGET = Target(
    Environment.of(PYTHON, [Distribution("numpy", "2.1.0"), Distribution("toolz", "1.0.0")]),
    Policy.of(ignore=["ipykernel"], extra=["s3fs>=2024.6"]),
    indexes=Indexes("https://ann:hunter2@index.example/simple"),
    store="s3://key:hunter2@bucket/wheels",
    owner="ann@laptop",
)


def address(number: int) -> str:
    return f"tcp://10.0.{number // 250}.{number % 250}:40000"


def _state(number: int) -> str:
    return "failed" if number % 100 == 5 else "matches"


def cluster(count: int, **rest: object) -> ClusterState:
    """Return the state of a cluster of so many nodes, of which every hundredth has failed."""
    nodes = tuple(NodeStatus(address(at), "nanny", _state(at), "<b>bad</b>", 1000.0) for at in range(count))
    hosts = {address(number): f"host{number // 4}" for number in range(count)}
    failures = {
        node.address: NodeFailure(node.address, "install", "it failed", "Ask.", "error: <script>alert(1)</script>")
        for node in nodes
        if node.state == "failed"
    }
    reports = {
        node.address: NodeReport(node.address, "nanny", installed=("numpy 2.1.0",), layer="ab" * 32, fetched=10)
        for node in nodes
        if node.state != "failed"
    }
    state = ClusterState(
        {"rollout": {"running": False}, "target": {"since": 5.0}}, TARGET, nodes, hosts, reports, failures
    )
    return replace(state, **rest)
