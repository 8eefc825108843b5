"""Whether an environment would be let in: what the scheduler answers, and what the commands say."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dask
import msgpack
import pytest
from clusters import Cluster, Venv, environment_with, surroundings
from distributed import Client, Scheduler
from hypothesis import given
from hypothesis import strategies as st
from made_up_environments import junk, texts

from dask_pkgsync import Distribution, Policy, scan
from dask_pkgsync.client.api import check
from dask_pkgsync.client.connection import connect
from dask_pkgsync.model.blobs import request_for
from dask_pkgsync.model.claims import FileConflict
from dask_pkgsync.model.comparison import Comparison, Difference
from dask_pkgsync.model.errors import MessageError
from dask_pkgsync.model.policy import Level
from dask_pkgsync.model.reports.verdict import (
    MUST_PRESENT,
    NOBODY_YET,
    ONLY_WARNS,
    OUTCOMES,
    UNGUARDED,
    Verdict,
    refused,
    verdict_from_wire,
    verdict_to_wire,
)
from dask_pkgsync.model.target import Target
from dask_pkgsync.process.state import this_process
from dask_pkgsync.scanning.lock_file import read_lock
from dask_pkgsync.scheduler.clients.claims import Claim
from dask_pkgsync.scheduler.enforcement import guard
from dask_pkgsync.scheduler.extension import controller_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dask_pkgsync import Environment

HERE = scan(modules=False)
CRITICAL = ("cloudpickle", "dask", "distributed", "msgpack", "tornado")
PINS = "".join(f"{name}=={HERE.distributions[name].version}\n" for name in CRITICAL)


def ask(
    environment: Environment,
    *,
    policy: Policy | None = None,
    prepare: Callable[[Scheduler], None] = lambda _: None,
    is_guarded: bool = True,
    **configured: Any,
) -> Verdict:
    """Ask a scheduler that is configured so."""

    async def answer() -> Verdict:
        with dask.config.set({f"pkgsync.{key.replace('_', '-')}": value for key, value in configured.items()}):
            async with (
                Scheduler(port=0, dashboard_address=":0") as scheduler,
                Client(scheduler.address, asynchronous=True, set_as_default=False) as client,
            ):
                if is_guarded:
                    await guard(scheduler)
                prepare(scheduler)
                found: Any = check(client, environment, policy)
                verdict: Verdict = await found
                return verdict

    return asyncio.run(answer())


def wanted_by(owner: str, environment: Environment, **rest: Any) -> Callable[[Scheduler], None]:
    """Have somebody on the cluster who has got an environment, with the newest client's name."""

    def prepare(scheduler: Scheduler) -> None:
        controller = controller_of(scheduler)
        target = Target(environment, Policy(), owner=owner, **rest)
        name = next(iter(scheduler.clients))
        controller.claims.claims[name] = Claim(name, target)
        controller.rollout.target = target

    return prepare


def test_who_differs_from_an_unsynced_cluster_is_let_in() -> None:
    """In mode sync only what is critical keeps out; the rest a sync would bring."""
    verdict = ask(environment_with(HERE, {"click": "0.1", "never-made": "1.0"}))
    assert verdict == Verdict("let in", notes=(NOBODY_YET,))


def test_who_differs_in_what_is_critical_is_refused() -> None:
    """Dask's own packages, and those that the operator has named, together in one table."""
    other = environment_with(HERE, {"tornado": "1.0", "click": "0.1"})
    verdict = ask(other, levels={"click": "critical"})
    assert verdict.outcome == "refused"
    assert {row.name for row in verdict.differences} == {"tornado", "click"}
    page = verdict.page("tcp://here").splitlines()
    assert page[0].split() == ["package", "cluster", "client", "level"]
    assert page[-1] == "tcp://here: would be refused: it differs in critical packages (tornado, click)."


def test_who_differs_from_what_somebody_has_would_conflict() -> None:
    """The verdict names whose environment is in the way, and shows what differs; options count as in a sync."""
    mine = environment_with(HERE, {"click": "0.1"})
    verdict = ask(mine, prepare=wanted_by("ann@laptop", HERE))
    assert (verdict.outcome, verdict.owner) == ("conflict", "ann@laptop")
    assert [(row.name, row.found) for row in verdict.differences] == [("click", "0.1")]
    last = verdict.page("tcp://here").splitlines()[-1]
    assert last == "tcp://here: would conflict with the environment of ann@laptop (on-conflict decides)."
    optional = ask(HERE, policy=Policy.of(ignore=["click"]), prepare=wanted_by("ann@laptop", HERE))
    assert [row.name for row in optional.differences] == ["(option ignore)"]


def test_who_only_adds_is_let_in_and_reads_what_a_sync_would_change() -> None:
    """What is there already is not told, and what is there in nobody's name would be replaced."""
    mine = environment_with(HERE, {"one-more": "1.0", "two-more": "2.0"})
    verdict = ask(mine, prepare=wanted_by("ann@laptop", HERE))
    assert verdict == Verdict("let in", notes=("it would add 2 packages: one-more 1.0, two-more 2.0",))
    assert ask(HERE, prepare=wanted_by("ann@laptop", HERE)) == Verdict("let in")

    def kept(scheduler: Scheduler) -> None:
        wanted_by("ann@laptop", environment_with(HERE, {"click": "0.1"}))(scheduler)
        controller_of(scheduler).claims.forget_all()

    version = HERE.distributions["click"].version
    assert ask(HERE, prepare=kept) == Verdict("let in", notes=(f"it would change 1 package: click {version}",))


def test_what_is_known_to_have_the_same_files_would_conflict() -> None:
    """Once nodes have told of two packages with other files of one path, who has the one is not beside the other."""

    def known(scheduler: Scheduler) -> None:
        wanted_by("ann@laptop", environment_with(HERE, {"hers": "1.0"}))(scheduler)
        pair = [request_for(Distribution(name, "1.0")) for name in ("hers", "mine")]
        controller_of(scheduler).claims.file_conflicts[FileConflict(*pair, "tools.py")] = None

    verdict = ask(environment_with(HERE, {"mine": "1.0"}), prepare=known)
    assert (verdict.outcome, [row.name for row in verdict.differences]) == ("conflict", ["tools.py"])


def test_who_has_gone_and_who_asks_are_in_nobodys_way() -> None:
    """What this very process has got, or somebody who is not connected any more, is no conflict."""

    def gone(scheduler: Scheduler) -> None:
        controller = controller_of(scheduler)
        controller.claims.claims["Client-gone"] = Claim("Client-gone", Target(HERE, Policy(), owner="ann@laptop"))

    mine = environment_with(HERE, {"click": "0.1"})
    assert ask(mine, prepare=gone).is_let_in
    assert ask(mine, prepare=wanted_by("me@here", HERE, client_process=this_process().token)).is_let_in


def test_what_is_enforced_decides(tmp_path: Path) -> None:
    """Whatever the client's own options are."""
    (tmp_path / "r.txt").write_text(f"click==0.1\n{PINS}")

    def verdict(environment: Environment) -> Verdict:
        # (nobody is led to it: the environment of this process cannot be changed)
        def enforce(scheduler: Scheduler) -> None:
            operator_policy = controller_of(scheduler).operator_policy
            operator_policy.mode, operator_policy.expected = (
                "enforce",
                Target(read_lock(str(tmp_path / "r.txt")), Policy()),
            )

        return ask(environment, prepare=enforce, policy=Policy.of(ignore=["click"]))

    found = verdict(HERE)
    assert found.outcome == "refused"
    assert [row.name for row in found.differences] == ["click"]
    assert found.reason == "it differs from what is enforced (click)"
    assert verdict(environment_with(HERE, {"click": "0.1"})) == Verdict("let in")


def test_where_differences_are_only_told_everybody_is_let_in() -> None:
    """With the table of what differs."""
    verdict = ask(environment_with(HERE, {"tornado": "1.0"}), mode="warn")
    assert (verdict.outcome, verdict.notes) == ("let in", (ONLY_WARNS,))
    assert [row.name for row in verdict.differences] == ["tornado"]
    assert verdict.page("tcp://here").splitlines()[-1] == "tcp://here: would be let in."


def test_a_cluster_that_nothing_guards_is_told_so() -> None:
    """There a sync would refuse for what is critical, and Dask nobody."""
    assert ask(HERE, is_guarded=False) == Verdict("let in", notes=(UNGUARDED,))
    verdict = ask(environment_with(HERE, {"tornado": "1.0"}), is_guarded=False)
    assert (verdict.outcome, verdict.notes) == ("refused", (UNGUARDED,))
    released = ask(HERE, prepare=lambda scheduler: controller_of(scheduler).listen(), is_guarded=False)
    assert released == Verdict("let in", notes=(UNGUARDED, NOBODY_YET))


rows = st.builds(Difference, texts, st.sampled_from(Level), texts, texts, texts)
verdicts = st.builds(
    Verdict,
    st.sampled_from(OUTCOMES),
    texts,
    texts,
    st.builds(Comparison, st.lists(rows, max_size=3).map(tuple), texts, texts),
    st.lists(texts, max_size=3).map(tuple),
)


@given(verdicts)
def test_a_verdict_survives_the_wire(verdict: Verdict) -> None:
    """A verdict is the same after msgpack."""
    assert verdict_from_wire(msgpack.unpackb(msgpack.packb(verdict_to_wire(verdict)))) == verdict


@given(junk)
def test_junk_is_no_verdict(data: object) -> None:
    """Whatever a scheduler answers, reading it raises MessageError and nothing else."""
    with pytest.raises(MessageError):
        verdict_from_wire(data)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("outcome", "perhaps"),
        ("differences", {"expected": "cluster", "found": "client", "rows": [{"name": "six", "level": "quite"}]}),
        ("differences", {"expected": "cluster", "rows": []}),
        ("differences", [["six", "exact", "1", "2", ""]]),
    ],
)
def test_a_damaged_verdict_is_refused(key: str, value: object) -> None:
    """Outcomes and levels that nobody knows are no verdict."""
    with pytest.raises(MessageError, match=f"verdict.{key}"):
        verdict_from_wire({**verdict_to_wire(Verdict("let in")), key: value})


def test_of_many_differences_a_sentence_names_some() -> None:
    """The last line stays one line; the table has all of them."""
    many = Comparison(tuple(Difference(f"p{number}", Level.EXACT, "1", "2") for number in range(12)))
    verdict = refused(many, enforced=True)
    assert verdict.reason.endswith("p8, p9 and 2 more)")
    assert len(verdict.page("here").splitlines()) == 2 + 12 + 2


# -- the commands ----------------------------------------------------------------------------------------------------

PRELOAD = '["dask_pkgsync.preload"]'


@contextlib.contextmanager
def scheduler(root: Path, **env: str) -> Iterator[Cluster]:
    """Run a guarded scheduler of this environment."""
    here = Venv(Path(sys.prefix))
    settings = {"DASK_DISTRIBUTED__SCHEDULER__PRELOAD": PRELOAD, "DASK_PKGSYNC__MODULES": "false", **env}
    cluster = Cluster(root, here, root / "cache", env=settings)
    try:
        cluster.start_scheduler()
        cluster.wait_for(lambda: "guards this scheduler" in cluster.log("scheduler"), "the guard")
        yield cluster
    finally:
        cluster.stop()


def command(root: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command of somebody whose configuration has the preload for clients."""
    argv = [sys.executable, "-m", "dask", "pkgsync", *arguments]
    more = {"DASK_DISTRIBUTED__CLIENT__PRELOAD": PRELOAD, **env}
    return subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=120, env=surroundings(**more), cwd=root
    )


@pytest.mark.cluster
def test_commands_come_in_where_only_those_come_in_who_present_what_they_have(tmp_path: Path) -> None:
    """With the preload in the configuration or without; nothing but the command's own words is printed."""
    (tmp_path / "large.py").write_text("x = 1\n" * 1000)
    with scheduler(tmp_path, DASK_PKGSYNC__STOCK_CLIENTS="refuse") as cluster:
        for env in ({}, {"DASK_DISTRIBUTED__CLIENT__PRELOAD": "[]"}):
            checked = command(tmp_path, "check", cluster.address, "--no-modules", **env)
            assert (checked.returncode, checked.stderr) == (0, "")
            assert checked.stdout.splitlines() == [MUST_PRESENT, NOBODY_YET, f"{cluster.address}: would be let in."]
            done = command(tmp_path, "sync", cluster.address, "--only", "click", "--no-modules", "--no-progress", **env)
            assert done.returncode == 0, done.stderr
            assert "distributed.preloading" not in done.stderr
            for name in ("status", "release"):
                done = command(tmp_path, name, cluster.address, DASK_PKGSYNC__MODULES_LIMIT="1", **env)
                assert (done.returncode, done.stderr) == (0, "")
        limited = command(tmp_path, "check", cluster.address, DASK_PKGSYNC__MODULES_LIMIT="1")
        assert limited.returncode == 1
        assert "more than modules-limit allows" in limited.stderr
        assert "Traceback" not in limited.stderr


@pytest.mark.cluster
def test_who_would_be_refused_reads_why_and_the_verdict_last(tmp_path: Path) -> None:
    """The gate itself refuses the command, which presents what it has; who only looks is judged as a stock client."""
    other = tmp_path / "other" / "click-0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: click\nVersion: 0.1\n")
    with scheduler(tmp_path, DASK_PKGSYNC__MODE="enforce") as cluster:
        same = command(tmp_path, "check", cluster.address, "--no-modules")
        assert (same.returncode, same.stdout) == (0, f"{cluster.address}: would be let in.\n")
        checked = command(tmp_path, "check", cluster.address, "--no-modules", PYTHONPATH=str(other.parent))
        assert (checked.returncode, checked.stderr) == (1, "")
        lines = checked.stdout.splitlines()
        assert next(line.split() for line in lines if line.startswith("click "))[2].startswith("0.1")
        assert lines[-1] == f"{cluster.address}: would be refused, for the reason above."
        assert command(tmp_path, "status", cluster.address, PYTHONPATH=str(other.parent)).returncode == 0
        released = command(tmp_path, "release", cluster.address)
        assert (released.returncode, "pkgsync.mode is enforce" in released.stderr) == (1, True)
    wrong = command(tmp_path, "status", "tcp://127.0.0.1:1", DASK_PKGSYNC__MOED="sync")
    assert (wrong.returncode, "pkgsync.moed" in wrong.stderr, "Traceback" in wrong.stderr) == (1, True, False)


@pytest.mark.parametrize("argv", [[], ["--all"], [["--one"], ["--ours"], ["--two"]]])
def test_preloads_of_others_stay(argv: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A command leaves out ours, with its arguments, and no other; afterwards the configuration is what it was."""
    seen: list[Any] = []

    def note(*_: Any, **__: Any) -> Any:
        seen.append([dask.config.get(f"distributed.client.{key}") for key in ("preload", "preload-argv")])
        return SimpleNamespace()

    monkeypatch.setattr("dask_pkgsync.client.connection.Client", note)
    names = ["one", "dask_pkgsync.preload", "two"]
    with dask.config.set({"distributed.client.preload": names, "distributed.client.preload-argv": argv}):
        connect("tcp://nowhere", None, only_looks=True)
        assert dask.config.get("distributed.client.preload") == names
    assert seen == [[["one", "two"], [["--one"], ["--two"]] if argv and argv != ["--all"] else [argv, argv]]]
