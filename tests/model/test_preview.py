"""What a dry run says that a sync would do."""

from __future__ import annotations

from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.environments.interpreter import Interpreter
from dask_pkgsync.model.indexes import OWN
from dask_pkgsync.model.policy import Policy
from dask_pkgsync.model.reports.cluster_comparison import ObservedNode, compare_nodes
from dask_pkgsync.model.reports.preview import Supply, SyncPreview, preview
from dask_pkgsync.model.target import Target

PYTHON = Interpreter("cpython", "3.11.7", "linux-x86_64", "cp311-cp311-manylinux_2_36_x86_64")
CRITICAL = {"cloudpickle": "3.1", "dask": "2026.8.0", "distributed": "2026.8.0", "msgpack": "1.1", "tornado": "6.5"}
SUPPLIES = {
    "numpy": Supply("index", 60_000_000, frozenset({"numpy"})),
    "mine": Supply("this client (/home/ann/mine)", 2_000, frozenset({"mine"})),
}


def environment(**versions: str) -> Environment:
    return Environment.of(PYTHON, [Distribution(name, version) for name, version in {**CRITICAL, **versions}.items()])


def planned(*nodes: ObservedNode, strict: bool = False) -> SyncPreview:
    policy = Policy.of(strict=strict)
    target = Target(environment(numpy="2.1", mine="1.0"), policy, "warn", 600.0, "", "auto", OWN)
    return preview(target, compare_nodes(target.environment, nodes, policy), SUPPLIES)


def node(number: int, role: str, has: Environment, **rest: object) -> ObservedNode:
    return ObservedNode(f"tcp://10.0.0.{number}:40000", role, environment=has, **rest)


OLD = environment(numpy="1.26", scipy="1.0")


def test_it_says_what_would_be_installed_from_where():
    """Each change has its source and its size; what is not known is shown as such."""
    result = planned(node(1, "worker", OLD))
    changes = {change.name: change for change in result.nodes[0].changes}
    assert [(one.action, one.old, one.new) for one in changes.values()] == [
        ("install", "", "1.0"),
        ("replace", "1.26", "2.1"),
    ]
    assert result.nodes[0].size == 60_002_000
    page = str(result)
    assert "this client (/home/ann/mine)" in page
    assert "A sync would change 1 node, at most 60.0 MB on each host:" in page
    assert result
    assert result.ok


def test_it_says_which_workers_would_be_restarted():
    """A worker that has imported what is replaced is restarted if it has a nanny; others take it live."""
    late, nanny = frozenset({"numpy"}), "tcp://10.0.0.9:1"
    workers = [
        node(1, "worker", OLD, imported=late, nanny=nanny),
        node(2, "worker", OLD, imported=late),
        node(3, "worker", OLD, nanny=nanny),
    ]
    (group,) = planned(*workers, node(4, "scheduler", OLD, imported=late)).nodes
    assert list(group.effects) == [
        "restarted: 1 worker, which has imported numpy",
        "would fail: 1 worker without a nanny, as numpy was imported there",
        "live: 1 worker, without a restart",
        "the scheduler keeps what it has imported: numpy",
    ]


def test_a_cluster_of_another_python_is_refused():
    """What no layer can replace is named, and the dry run is not ok."""
    has = environment(numpy="2.1", mine="1.0", tornado="6.1")
    result = planned(node(1, "worker", has))
    assert not result.ok
    assert result.nodes[0].refusals == ("tornado: the nodes have 6.1, you have 6.5; no layer can replace it",)
    assert "A sync would fail:" in str(result)


def test_a_cluster_that_matches_would_not_change():
    """Where the nodes match, the dry run is false."""
    result = planned(node(1, "worker", environment(numpy="2.1", mine="1.0")))
    assert not result
    assert str(result).endswith("A sync would change nothing.")


def test_what_strict_hides_is_told():
    """Under a strict policy, packages that only the nodes have are named."""
    (group,) = planned(node(1, "worker", OLD), strict=True).nodes
    assert group.hidden == ("scipy 1.0",)


def test_html_is_escaped():
    """Texts of nodes cannot bring markup into a page."""
    has = Environment.of(PYTHON, [*OLD.distributions.values()])
    result = planned(ObservedNode("<script>", "worker", environment=has))
    assert "<script>" not in result._repr_html_()
