"""Reports, statuses, errors and environments as people and other processes get them."""

from __future__ import annotations

import pickle
from html import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_environments import environments, texts

from dask_pkgsync import Distribution, Environment, Interpreter, LayerError, NodeFailure, SyncError
from dask_pkgsync.display.rollout_progress import summary
from dask_pkgsync.model.comparison import compare
from dask_pkgsync.model.environments.distribution import Fault
from dask_pkgsync.model.environments.origin import FromArchive, FromVcs
from dask_pkgsync.model.errors import MessageError, PkgsyncError, PolicyError
from dask_pkgsync.model.mismatch import EnvironmentMismatchError
from dask_pkgsync.model.plan import Hide, Install, Keep, Plan, Replace, Skip
from dask_pkgsync.model.policy import Policy
from dask_pkgsync.model.reports.discrepancies import Discrepancy, DiscrepancyWarning, exceptions, faults_of
from dask_pkgsync.model.reports.progress import Progress, Reporter
from dask_pkgsync.model.reports.status import ClusterStatus, NodeStatus, status_from_wire, status_to_wire
from dask_pkgsync.model.reports.sync import (
    OUTCOMES,
    NodeReport,
    SyncReport,
    node_report,
    report_from_wire,
    report_to_wire,
    sync_report_from_wire,
    sync_report_to_wire,
    with_changes,
)
from dask_pkgsync.model.text import html_table, human_bytes, text_table

HERE = Interpreter("cpython", "3.11.7", "linux-x86_64", "cp311-cp311-linux_x86_64")
PLAN = Plan(
    (
        Install("new", "1"),
        Replace("six", "2", "1"),
        Hide("old", "3"),
        Skip("pip", "24", "a <tool>", ignored=True),
        Keep("kept", "1"),
    )
)


def test_a_report_names_what_had_changed_on_a_node() -> None:
    """Each change is a note, unless a note names its details already, and survives the way to the client."""
    report = NodeReport("tcp://n:1", "nanny", notes=("built anew: six.py was replaced",))
    changed = with_changes(report, ["its layer was changed: six.py was replaced", "its base was changed: six 1 → 2"])
    assert changed.notes == (*report.notes, "prepared anew, as its base was changed: six 1 → 2")
    assert report_from_wire(report_to_wire(changed)) == changed


def test_a_report_without_workers_says_so_first() -> None:
    """Where only the scheduler was there to match, nobody reads that all is well, in text, HTML or the last line."""
    alone = SyncReport("t" * 64, (NodeReport("tcp://s:1", "scheduler"),))
    assert str(alone).startswith("The cluster has no workers: those that join will start in this environment.")
    assert "has no workers" in alone._repr_html_()
    assert summary(alone, 1.0).startswith("The cluster has no workers: those that join will start")
    status = ClusterStatus("t" * 64, (NodeStatus("a", "scheduler", "matches"), NodeStatus("b", "nanny", "failed")))
    assert "the cluster has no workers: those that join" in str(status).splitlines()[0]
    full = SyncReport("t" * 64, (*alone.nodes, NodeReport("tcp://n:1", "nanny")))
    assert "no workers" not in str(full) + summary(full, 1.0) + full._repr_html_()
    assert not SyncReport("", alone.nodes).headline, "after a release nothing is promised to those that join"


def test_a_report_says_what_was_done_to_a_node() -> None:
    """Every kind of step is listed with its versions and reason."""
    report = node_report("tcp://n:1", "nanny", PLAN, outcome="restarted", seconds=1.5, fetched=2_500_000)
    assert report.installed == ("new 1",)
    assert report.replaced == ("six 1 → 2",)
    assert report.hidden == ("old 3",)
    assert report.skipped == ("pip 24: a <tool>",)
    whole = SyncReport("t" * 64, (report, NodeReport("tcp://n:2", "nanny")), 2.0, {"prepare": 1.0})
    text = str(whole)
    assert "2.5 MB" in text
    assert "replaced: six 1 → 2" in text
    assert "a &lt;tool&gt;" in whole._repr_html_()
    assert whole.changed
    assert not SyncReport("", (NodeReport("n", "nanny"), NodeReport("m", "worker", "left alone"))).changed


def test_a_report_is_ok_if_nothing_is_left_out() -> None:
    """What nodes lack, or have otherwise, stands at the head and in the headline; tools and what is ignored do not."""
    late = Plan((Skip("numpy", "2.0", "imported: <already>"), Skip("pip", "24", "a tool", ignored=True)))
    nodes = (node_report("tcp://n:1", "scheduler", late), node_report("tcp://n:2", "nanny", PLAN))
    assert SyncReport("t", nodes[1:]).ok
    assert not SyncReport("t", nodes[1:]).discrepancies
    assert not SyncReport("t", (NodeReport("tcp://n:1", "nanny", "waiting"),)).ok
    report = SyncReport("t", nodes, here=(Discrepancy("helpers", "it is gone", "Restart."),))
    assert not report.ok
    assert report.discrepancies == (
        Discrepancy("helpers", "it is gone", "Restart."),
        Discrepancy("numpy", "imported: <already>", nodes=1),
    )
    head = str(report).partition("\n\n")[0].splitlines()
    assert head[1:] == ["  helpers: it is gone. What to do: Restart.", "  numpy (on 1 node): imported: <already>."]
    assert "imported: &lt;already&gt;" in report._repr_html_()
    assert exceptions(report.discrepancies) == ", except for helpers, numpy"
    many = [Discrepancy(f"m{number}", "gone") for number in range(9)]
    assert exceptions(many) == ", except for m0, m1, m2, m3, m4 and 4 more"
    assert "helpers: it is gone" in str(DiscrepancyWarning(report.discrepancies))
    everywhere = SyncReport("t", nodes[:1])
    assert everywhere.discrepancies == (Discrepancy("numpy", "imported: <already>"),)
    older = {key: value for key, value in report_to_wire(nodes[0]).items() if key != "left-out"}
    assert report_from_wire(older).left_out == ()


def test_faults_are_discrepancies_unless_they_are_ignored() -> None:
    """A distribution that cannot be read is missing on the nodes; metadata of a source tree is not."""
    faults = [Fault("broken", "/x", "METADATA is missing", "six"), Fault("stray", "/y", "not installed", "mine")]
    environment = Environment.of(HERE, [], [*faults, Fault("unreadable", "/z", "cannot be listed")])
    assert [one.name for one in faults_of(environment, Policy())] == ["six", "/z"]
    assert not SyncReport("t", (), here=faults_of(environment, Policy())).ok
    left_behind = Environment.of(HERE, [], [Fault("broken", "/~ix-1.dist-info", "left behind by pip")])
    report = SyncReport("t", (), here=faults_of(left_behind, Policy()))
    assert report.ok
    assert "left behind by pip" in str(report)
    assert [one.name for one in faults_of(environment, Policy.of(ignore=["six"]))] == ["/z"]


def test_nodes_with_the_same_story_share_it() -> None:
    """What was done to many nodes alike is told once."""
    same = [node_report(f"tcp://n:{number}", "nanny", PLAN) for number in range(50)]
    assert str(SyncReport("", tuple(same))).count("installed: new 1") == 1


def test_reports_survive_the_wire() -> None:
    """Reports are the same after a round trip, and junk is refused."""
    report = node_report("tcp://n:1", "nanny", PLAN, notes=("a note",), layer="d" * 64)
    assert report_from_wire(report_to_wire(report)) == report
    whole = SyncReport("t" * 64, (report,), 2.0, {"prepare": 1.0})
    assert sync_report_from_wire(sync_report_to_wire(whole)) == whole
    with pytest.raises(MessageError, match="one of matched"):
        report_from_wire({**report_to_wire(report), "outcome": "exploded"})
    with pytest.raises(MessageError):
        sync_report_from_wire({**sync_report_to_wire(whole), "steps": [1]})


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (12_300_000, "12.3 MB"), (5e12, "5000.0 GB")]
)
def test_bytes_are_written_for_people(count: float, text: str) -> None:
    """Sizes have units of a thousand."""
    assert human_bytes(int(count)) == text


def test_a_status_tells_whether_all_match() -> None:
    """A cluster matches if it has a target and every node has it, or is left alone."""
    good = ClusterStatus("t" * 64, (NodeStatus("a", "scheduler", "matches"), NodeStatus("b", "nanny", "left alone")))
    assert good.matches
    bad = ClusterStatus("t" * 64, (NodeStatus("a", "nanny", "failed", "<why>"),))
    assert not bad.matches
    assert not ClusterStatus("", ()).matches
    assert status_from_wire(status_to_wire(bad)) == bad
    assert "&lt;why&gt;" in bad._repr_html_()
    assert "failed" in str(bad)
    assert "&lt;b&gt;" in ClusterStatus("<b>", ())._repr_html_()
    assert "no target" in str(ClusterStatus("", ()))
    with pytest.raises(MessageError):
        status_from_wire({"schema": 2, "target": "", "nodes": [{"address": "a"}]})


def env(**versions: str) -> Environment:
    """Return an environment with these distributions."""
    return Environment.of(HERE, [Distribution(name, version) for name, version in versions.items()])


def errors() -> list[PkgsyncError]:
    """Return one of each error that crosses processes."""
    failure = NodeFailure("tcp://n:1", "install", "no such version", "look", "line 1\nline 2", ("six==9",))
    return [
        EnvironmentMismatchError(compare(env(dask="1"), env(dask="2"))),
        MessageError("here", "a name", "x" * 500),
        PolicyError("ignore: dask cannot be ignored"),
        LayerError("install", "broke", advice="mend it", last_words="words", packages=("six==9",)),
        SyncError({"tcp://n:1": failure}, adopted=True),
        SyncError({"tcp://n:1": failure, "tcp://n:2": failure}),
    ]


@pytest.mark.parametrize("error", errors(), ids=lambda error: type(error).__name__)
def test_errors_survive_pickling(error: PkgsyncError) -> None:
    """An error says the same after it has crossed a process boundary, and is one of ours."""
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert isinstance(again, PkgsyncError)


def test_errors_say_what_to_do() -> None:
    """Sentences hold what was expected, found, where, and what to do now."""
    mismatch, message, _, layer, adopted, nothing = (str(error) for error in errors())
    assert "critical" in mismatch
    assert "connect again" in mismatch
    assert isinstance(errors()[0], ImportError)
    assert len(message) < 250
    assert layer.splitlines()[-1] == "  what to do: mend it"
    assert "have left the cluster" in adopted
    assert "the cluster is as it was" in nothing
    assert nothing.count("no such version") == 1
    assert "tcp://n:1, tcp://n:2" in nothing
    assert "  | line 2" in nothing
    assert str(NodeFailure("n", "scan", "odd")) == "n: scan: odd"


def test_the_fingerprint_is_of_what_counts() -> None:
    """Spelling of a version and who installed it do not count; a version, the interpreter and a commit do."""
    base = env(six="1.0")
    assert len(base.fingerprint) == 64
    assert env(six="1.0.0").fingerprint == base.fingerprint
    mirror = Environment.of(HERE, [Distribution("six", "1.0", FromArchive("https://mirror/six"), "pip")])
    assert mirror.fingerprint == base.fingerprint
    assert env(six="1.1").fingerprint != base.fingerprint
    commits = [Environment.of(HERE, [Distribution("six", "1.0", FromVcs("u", commit))]) for commit in ("a", "b")]
    assert commits[0].fingerprint != commits[1].fingerprint
    other = Environment(Interpreter("cpython", "3.11.8", "linux-x86_64", "t"), base.distributions)
    assert other.fingerprint != base.fingerprint


def test_an_environment_is_a_value() -> None:
    """Environments are equal, hashed and pickled by what they hold, cannot be changed, and keep the first of a name."""
    one, two = env(six="1.0", numpy="2.0"), env(numpy="2.0", six="1.0")
    assert one == two
    assert hash(one) == hash(two)
    assert pickle.loads(pickle.dumps(one)) == one
    with pytest.raises(TypeError):
        one.distributions["six"] = one.distributions["numpy"]  # type: ignore[index]
    first = Environment.of(HERE, [Distribution("six", "1.0"), Distribution("six", "2.0")])
    assert first.distributions["six"].version == "1.0"


def test_a_reporter_does_nothing_by_default() -> None:
    """The base class of reporters can be told everything and shows nothing."""
    reporter = Reporter()
    reporter.started("t")
    reporter.progressed(Progress("n", "nanny", "prepare", "started"))
    reporter.finished(SyncReport("t", ()))
    reporter.failed(ValueError())


lines = st.lists(texts, max_size=3).map(tuple)
reports = st.builds(
    NodeReport,
    texts,
    st.sampled_from(["scheduler", "nanny", "worker"]),
    st.sampled_from(OUTCOMES),
    lines,
    lines,
    lines,
    lines,
    lines,
    st.floats(0, 1e6),
    st.integers(0, 2**50),
    texts,
)


@given(st.builds(SyncReport, texts, st.lists(reports, max_size=3).map(tuple), st.floats(0, 1e6)))
def test_every_report_survives_the_wire_and_can_be_shown(report: SyncReport) -> None:
    """Any report is the same after a round trip, names every node, and is shown as text and as HTML."""
    assert sync_report_from_wire(sync_report_to_wire(report)) == report
    for node in report.nodes:
        assert node.address.rstrip() in str(report)
        assert escape(node.address) in report._repr_html_()
    assert report._repr_html_().count("<tr>") == len(report.nodes) + 1


def test_a_report_of_nothing_done_has_no_details() -> None:
    """A cluster that matched is a table and nothing more."""
    report = SyncReport("t", (NodeReport("tcp://n:1", "nanny"), NodeReport("tcp://n:2", "nanny")))
    assert "\n\n" not in str(report)
    assert "<details>" not in report._repr_html_()
    assert [line.split()[0] for line in str(report).splitlines()[2:]] == ["tcp://n:1", "tcp://n:2"]


cells = st.lists(st.lists(texts, min_size=2, max_size=2), max_size=4)


@given(cells)
def test_columns_of_a_table_begin_below_each_other(rows: list[list[str]]) -> None:
    """Every cell of the second column stands where its head stands, and no line ends in a space."""
    laid_out = text_table(["one", "two"], rows).split("\n")
    column = laid_out[0].index("two")
    for line, (_, second) in zip(laid_out[2:], rows, strict=True):
        assert line[column:] == second.rstrip() or not second.rstrip()
    assert all(line == line.rstrip() for line in laid_out)
    assert len(laid_out) == len(rows) + 2


@given(cells)
def test_no_cell_is_markup(rows: list[list[str]]) -> None:
    """Whatever the cells hold, an HTML table has the tags of a table only."""
    table = html_table(["one", "two"], rows)
    assert table.count("<") == 2 * (1 + 1 + 1 + 1 + 2 + 3 * len(rows))


@given(environments(), st.permutations(range(13)))
def test_the_order_of_distributions_does_not_count(environment: Environment, order: list[int]) -> None:
    """An environment is the same in whatever order it was read."""
    listed = list(environment.distributions.values())
    shuffled = [listed[place] for place in order if place < len(listed)]
    again = Environment.of(environment.interpreter, shuffled, environment.faults)
    assert again == environment
    assert list(again.distributions) == list(environment.distributions)
    assert again.fingerprint == environment.fingerprint
    assert pickle.loads(pickle.dumps(again)).faults == environment.faults


def test_a_failure_cannot_command_a_terminal() -> None:
    """What another machine's installer said is shown without escapes; lines stay lines."""
    failure = NodeFailure("n", "install", "bad\x1b[2J", "look", "one\x07\ntwo")
    assert "\x1b" not in str(failure)
    assert "\x07" not in str(SyncError({"n": failure}))
    assert "  | two" in str(failure)
