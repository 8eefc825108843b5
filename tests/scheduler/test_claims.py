"""Several people on one cluster: who adds gets along, who conflicts is told."""

from __future__ import annotations

import asyncio
import re
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from clusters import (
    SOURCE,
    Person,
    environment_with,
    nannies_prepare,
    on_workers,
    running,
    surroundings,
    versions_here,
)
from distributed import Client, Scheduler

import dask_pkgsync as pkgsync
from dask_pkgsync import ConflictError, PackageSync, PkgsyncError, Policy, scan
from dask_pkgsync.model.blobs import BlobRequest
from dask_pkgsync.model.claims import FileConflict, conflict, merge
from dask_pkgsync.model.clash import Clash
from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.environments.interpreter import Interpreter
from dask_pkgsync.model.environments.origin import Unrecorded
from dask_pkgsync.model.presentation import Presentation, presentation_to_wire
from dask_pkgsync.model.target import Target
from dask_pkgsync.scheduler.clients.claims import Claim, Claims, FileConflictError, MustWaitError
from dask_pkgsync.scheduler.clients.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from clusters import Venvs

HERE = Interpreter("cpython", "3.11.7", "linux-x86_64", "cp311-cp311-linux_x86_64")
MANY = [f"a-package-with-a-long-name-{number}" for number in range(5)]
CRITICAL = [Distribution(name, "1.0") for name in ("cloudpickle", "dask", "distributed", "msgpack", "tornado")]


def target(policy: Policy | None = None, **versions: str) -> Target:
    """Return what somebody wants."""
    wanted = [Distribution(name, version) for name, version in versions.items()]
    return Target(Environment.of(HERE, [*CRITICAL, *wanted]), policy or Policy(), owner="ann@laptop")


def test_what_only_one_wants_is_no_conflict() -> None:
    """Two environments go together if what both have is the same; together they are both."""
    ann, ben = target(numpy="2.1", six="1.0"), target(numpy="2.1", rich="15.0")
    assert not conflict(ann, ben)
    both = merge(ann, ben)
    assert {"numpy", "six", "rich"} < both.environment.distributions.keys()
    assert not conflict(both, ann)
    assert merge(ann, ann).id == ann.id


def test_what_both_have_in_other_versions_is_a_conflict() -> None:
    """So are other options, and whatever only one has where nothing else may be importable."""
    ann = target(numpy="2.1", six="1.0")
    assert [row.name for row in conflict(ann, target(numpy="2.2"))] == ["numpy"]
    strict = Policy.of(strict=True)
    found = {row.name for row in conflict(target(strict, six="1.0"), target(strict, rich="15.0"))}
    assert found == {"rich", "six"}
    options = Policy.of(ignore=["x", "y"], levels={"a*": "ignore", "b": "exact"}, strict=True, only=["six", "b"])
    rows = {row.name: (row.expected, row.found) for row in conflict(ann, target(options, numpy="2.1", six="1.0"))}
    assert rows == {
        "(option ignore)": ("without these", "x, y"),
        "(option levels)": ("without these", "b: exact, a*: ignore"),
        "(option only)": ("none", "b, six"),
        "(option strict)": ("false", "true"),
    }
    long = conflict(ann, target(Policy.of(extra=[f"package-{number}" for number in range(50)]), six="1.0"))
    assert [(row.name, len(row.found)) for row in long] == [("(option extra)", 61)]
    text = str(ConflictError("ann@laptop", conflict(ann, target(numpy="2.2"))))
    assert "the environment of ann@laptop" in text
    assert "2.1      2.2" in text
    assert "on_conflict='replace'" in text


@pytest.mark.parametrize(
    ("one", "other", "shown"),
    [
        ({"ignore": [*MANY, "torch"]}, {"ignore": MANY}, ("torch", "without these")),
        ({"only": []}, {}, ("without these", "none")),
        ({"platform_specific": ["zz-top"]}, {}, ("zz-top", "without these")),
        (
            {"levels": {"a*": "exact", "ab*": "ignore"}},
            {"levels": {"ab*": "ignore", "a*": "exact"}},
            ("in another order",) * 2,
        ),
        ({"extra": [*MANY, "torch>2"]}, {"extra": [*MANY, "torch>1"]}, ("torch>2", "torch>1")),
    ],
)
def test_options_that_differ_conflict_however_long_they_are(
    one: dict[str, Any], other: dict[str, Any], shown: tuple[str, str]
) -> None:
    """The table shows what differs, and not what is the same."""
    policies = Policy.of(**one), Policy.of(**other)
    (row,) = conflict(*(target(policy, six="1.0") for policy in policies))
    assert (row.expected, row.found) == shown
    assert not conflict(*(target(policies[0], six="1.0") for _ in range(2)))


def test_who_has_one_of_two_that_differ_never_gets_the_file_of_the_other() -> None:
    """Not even from somebody who has both, and whose own environment is therefore either's; both may have both."""
    file_conflicts = [FileConflict(BlobRequest("six", "1.0"), BlobRequest("rich", "15.0"), "shared.py")]
    one, other = target(six="1.0"), target(rich="15.0")
    both, neither = target(six="1.0", rich="15.0"), target(numpy="2.1")
    (row,) = conflict(one, other, file_conflicts)
    assert (row.name, row.expected, row.found) == ("shared.py", "six 1.0", "rich 15.0")
    (row,) = conflict(one, both, file_conflicts)
    assert (row.expected, row.found) == ("six 1.0", "rich 15.0, six 1.0")
    assert conflict(both, other, file_conflicts)
    assert not conflict(both, both, file_conflicts)
    assert not conflict(one, one, file_conflicts)
    assert not conflict(both, neither, file_conflicts)
    assert not conflict(neither, one, file_conflicts)
    assert not [row for row in conflict(one, target(rich="16.0"), file_conflicts) if row.name == "shared.py"]


def test_for_somebody_who_has_gone_while_waiting_nothing_is_done() -> None:
    """The one who was in the way goes, too: then nobody wants what was waited for."""

    async def wait() -> None:
        scheduler: Any = SimpleNamespace(clients={"ann": object(), "ben": object()})
        claims = Claims(scheduler, lambda _: None)
        claims.remember(Claim("ann", target(six="1.0")), replaces=True)
        want = Claim("ben", replace(target(six="2.0"), on_conflict="wait", client_process="another", owner="ben@desk"))
        waiting = asyncio.create_task(claims.wait_for_others(want))
        await asyncio.sleep(0)
        scheduler.clients.clear()
        with pytest.raises(PkgsyncError, match="ben@desk has gone"):
            await waiting

    asyncio.run(wait())


def test_who_loses_an_environment_is_told() -> None:
    """Everybody whose place was taken, or whose cluster was released, but for the one who did it."""
    sent: list[tuple[str, str]] = []
    scheduler: Any = SimpleNamespace(
        clients={"ann": object(), "ben": object()},
        client_send=lambda client, message: sent.append((client, message["text"])),
    )
    claims = Claims(scheduler, lambda _: None)
    ann = Claim("ann", target(six="1.0"))
    claims.remember(ann, replaces=True)
    ben = Claim("ben", replace(target(six="2.0"), on_conflict="replace", client_process="another", owner="ben@desk"))
    plan = asyncio.run(claims.combined_with_others(ben))
    assert plan.replaced == (ann,)
    assert claims.claims["ann"] is ann  # until it is done
    asyncio.run(claims.permit([], plan, ben))
    claims.end(plan.replaced, "ben@desk")
    claims.remember(ben, replaces=True)
    assert sent.pop()[0] == "ann"
    claims.remember(Claim("ann", replace(target(rich="1.0"), owner="ann@laptop")), replaces=True)
    claims.forget_all("ann", "ann@laptop")
    (client, text) = sent.pop()
    assert client == "ben"
    assert text.startswith("ann@laptop has released this cluster: tasks run in the cluster's own packages")
    assert not sent
    claims.remember(ben, replaces=True)
    claims.forget_all()
    assert not sent
    claims.remember(ben, replaces=True)
    claims.forget_all("Client-pkgsync-look-1")
    assert sent.pop()[1].startswith("somebody has released")


def test_what_nodes_have_found_is_known_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is found and forgotten, what was in the way is a conflict when it is looked at again."""
    monkeypatch.setattr("dask_pkgsync.scheduler.clients.claims.MAX_APART", 2)
    scheduler: Any = SimpleNamespace(clients={"ann": object(), "ben": object()})
    claims = Claims(scheduler, lambda _: None)
    claims.remember(Claim("ann", target(six="1.0", tabulate="1.0", rich="1.0")), replaces=True)
    mine = replace(target(numpy="2.1", six="1.0", tabulate="1.0", rich="1.0"), client_process="another")
    ben = Claim("ben", mine)
    plan = asyncio.run(claims.combined_with_others(ben))
    noise = [Clash("six", "tabulate", "a.py"), Clash("rich", "six", "b.py"), Clash("six", "gone", "c.py")]
    asyncio.run(claims.permit(noise, plan, ben))
    with pytest.raises(FileConflictError):
        asyncio.run(claims.permit([Clash("numpy", "six", "shared.py"), *noise, *noise], plan, ben))
    with pytest.raises(ConflictError, match=r"shared\.py"):
        asyncio.run(claims.combined_with_others(ben))
    with pytest.raises(MustWaitError):
        asyncio.run(claims.combined_with_others(Claim("ben", replace(mine, on_conflict="wait"))))
    instead = Claim("ben", replace(mine, on_conflict="replace"))
    plan = asyncio.run(claims.combined_with_others(instead))
    assert plan.target.id == mine.id
    asyncio.run(claims.permit([Clash("numpy", "six", "shared.py")], plan, instead))


def test_what_somebody_keeps_stays_while_it_is_not_replaced() -> None:
    """Another one who wants the same, or adds to what somebody wants who is still there, does not end it."""
    scheduler: Any = SimpleNamespace(clients={"ann": object(), "ben": object()})
    claims = Claims(scheduler, lambda _: None)
    claims.remember(Claim("ann", replace(target(six="1.0"), keep=True)), replaces=True)
    other = Claim("ben", replace(target(six="1.0"), client_process="another"))
    claims.remember(other, replaces=False)
    assert claims.kept
    claims.remember(other, replaces=True)
    assert claims.kept
    del scheduler.clients["ann"]
    claims.remember(other, replaces=True)
    assert not claims.kept


SECOND = """
import sys, warnings
warnings.simplefilter("ignore")
from distributed import Client
import dask_pkgsync as pkgsync
address, path, choice = sys.argv[1:]
environment = pkgsync.Environment.from_json(open(path).read())
if __name__ == "__main__":
    with Client(address, timeout=60) as client:
        try:
            report = pkgsync.sync(client, environment, progress=choice == "wait", on_conflict=choice)
            print("OK", report.changed)
        except pkgsync.PkgsyncError as error:
            print(type(error).__name__, error)
"""


@pytest.fixture
def second(venvs: Venvs, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that syncs as somebody else, from a process of their own."""

    def run(address: str, environment: Environment, choice: str = "refuse") -> subprocess.CompletedProcess[str]:
        path = tmp_path / f"{environment.fingerprint}.json"
        path.write_text(environment.to_json())
        return venvs.base().run(SECOND, address, str(path), choice, PYTHONPATH=str(SOURCE))

    return run


@pytest.mark.cluster
def test_a_second_client_adds_conflicts_waits_and_replaces(
    run_cluster: Any, base_environment: Environment, second: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Adding is merged live; a conflict is refused with the owner and the differences; the rest is as asked for.

    Who waits reads for whom, and who was replaced that they were.
    """
    mine = environment_with(base_environment, {"six": "1.17.0"})
    names = ["six", "tabulate"]
    with run_cluster(workers=2) as cluster:
        with cluster.client(2) as client:
            pkgsync.sync(client, mine, progress=False)
            same = second(cluster.address, mine)
            assert same.stdout.strip() == "OK False", same.stderr
            adding = second(cluster.address, environment_with(mine, {"tabulate": "0.9.0"}))
            assert adding.stdout.strip() == "OK True", adding.stderr
            assert set(map(str, on_workers(client, versions_here, names).values())) == {
                "{'six': '1.17.0', 'tabulate': '0.9.0'}"
            }
            other = environment_with(base_environment, {"six": "1.16.0"})
            refused = second(cluster.address, other)
            assert refused.stdout.startswith("ConflictError This cluster has the environment of ")
            assert "six" in refused.stdout
            assert {one["six"] for one in on_workers(client, versions_here, names).values()} == {"1.17.0"}
            events = [event for _, event in client.get_events("pkgsync")]
            (told,) = (event for event in events if event["action"] == "conflict")
            assert "1.16.0" in told["reason"]
            replaced = second(cluster.address, other, "replace")
            assert replaced.stdout.strip() == "OK True", replaced.stderr
            assert {one["six"] for one in on_workers(client, versions_here, names).values()} == {"1.16.0"}
            cluster.wait_for(lambda: "has replaced the environment that this client had synced" in caplog.text, "word")
            assert len([record for record in caplog.records if record.name == "dask_pkgsync"]) == 1
            log = cluster.log("scheduler")
            for line in ("synced to environment", "conflicts with that of", "was replaced by that of"):
                assert line in log
            pkgsync.sync(client, mine, progress=False)
            waiting: list[Any] = []
            thread = threading.Thread(target=lambda: waiting.append(second(cluster.address, other, "wait")))
            thread.start()

            def states() -> dict[str, str]:
                return {one.state: one.detail for one in pkgsync.status(client).clients}

            cluster.wait_for(lambda: "waiting" in states() or not thread.is_alive(), "somebody who waits")
            assert {one["six"] for one in on_workers(client, versions_here, names).values()} == {"1.17.0"}
            assert states().keys() == {"synced", "waiting"}
            assert states()["waiting"].startswith("until ")
        thread.join(120)  # the owner has gone
        assert waiting[0].stdout.strip() == "OK True", waiting[0].stderr
        assert re.search(
            r"^pkgsync: waiting until \S+@\S+ has disconnected: six conflicts$", waiting[0].stderr, re.MULTILINE
        )


def test_the_status_of_a_client_says_whose_version_is_which() -> None:
    """A version of the cluster and one of the client stand beside each other, each with whose it is."""
    theirs = target(numpy="2.0", six="1.0").environment
    shown = presentation_to_wire(Presentation(theirs, "ben@desk"))
    state = SimpleNamespace(client_key="Client-1", versions={"packages": {}, "pkgsync": shown})
    scheduler: Any = SimpleNamespace(clients={"Client-1": state}, client_comms={"Client-1": object()})
    claims = Claims(scheduler, lambda _: None)
    (found,) = asyncio.run(Sessions(scheduler).status(target(numpy="2.1", six="1.0"), claims, {}))
    assert (found.person, found.state, found.detail) == ("ben@desk", "differs", "numpy: cluster 2.1, client 2.0")


@pytest.mark.cluster
def test_of_two_that_come_at_the_same_instant_one_wins(
    tmp_path: Path, venvs: Venvs, base_environment: Environment, second: Any
) -> None:
    """Whoever is first has the cluster; the other is told; both stay for the time of the test."""
    (tmp_path / "cluster").mkdir()
    with running(tmp_path / "cluster", venvs.base(), tmp_path / "cache", workers=1) as cluster:
        wanted = [environment_with(base_environment, {"six": version}) for version in ("1.16.0", "1.17.0")]
        results: list[str] = []
        with cluster.client(1) as one, cluster.client(1) as client:

            def sync(index: int) -> None:
                results.append(second(cluster.address, wanted[index]).stdout.split()[0])

            threads = [threading.Thread(target=sync, args=(index,)) for index in (0, 1)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert one.status == "running"
            found = {version["six"] for version in on_workers(client, versions_here, ["six"]).values()}
        assert "OK" in results
        assert found < {"1.16.0", "1.17.0"}


@pytest.mark.cluster
def test_a_worker_that_was_led_on_is_led_back(run_cluster: Any, base_environment: Environment) -> None:
    """What a worker registered with counts no more once it has taken something else live."""
    wanted = [environment_with(base_environment, {"inflection": version}) for version in ("0.5.0", "0.4.0", "0.5.0")]
    with run_cluster(workers=1) as cluster, cluster.client(1) as client:
        pkgsync.sync(client, wanted[0], progress=False)
        client.restart()  # so that the worker registers with the target
        assert client.get_metadata("pkgsync")["target"] == pkgsync.status(client).target
        found = []
        for environment in wanted[1:]:
            pkgsync.sync(client, environment, progress=False)
            found += [one["inflection"] for one in on_workers(client, versions_here, ["inflection"]).values()]
        assert found == ["0.4.0", "0.5.0"]


@pytest.mark.cluster
def test_one_who_disappears_half_way_leaves_a_cluster_that_others_can_sync(
    run_cluster: Any, base_environment: Environment, venvs: Venvs, tmp_path: Path
) -> None:
    """What a client has begun that is killed meanwhile ends, or fails; then it is nobody's any more."""
    theirs = environment_with(base_environment, {"six": "1.16.0", "tabulate": "0.9.0"})
    mine = environment_with(base_environment, {"six": "1.17.0"})
    (tmp_path / "theirs.json").write_text(theirs.to_json())
    with run_cluster(workers=2) as cluster, cluster.client(2) as client:
        argv = [venvs.base().python, "-c", SECOND, cluster.address, str(tmp_path / "theirs.json"), "refuse"]
        with subprocess.Popen(argv, env=surroundings(PYTHONPATH=str(SOURCE))) as second:
            cluster.wait_for(lambda: nannies_prepare(client), "their sync")
            second.kill()
        pkgsync.sync(client, mine, progress=False)
        assert {one["six"] for one in on_workers(client, versions_here, ["six"]).values()} == {"1.17.0"}
        status = pkgsync.status(client)
        assert status.matches
        assert [one.state for one in status.clients] == ["synced"]


async def _race(scheduler: Scheduler, here: Environment, number: int) -> list[PkgsyncError | None]:
    """Let two people ask for conflicting environments at the same instant; return what each was told."""
    async with (
        Client(scheduler.address, asynchronous=True, set_as_default=False) as one,
        Client(scheduler.address, asynchronous=True, set_as_default=False) as other,
    ):

        async def ask(client: Client, owner: str) -> PkgsyncError | None:
            system = Distribution("a-package-of-the-system", f"{number}.{len(owner)}", Unrecorded())  # never installed
            plugin = PackageSync(Environment.of(here.interpreter, [*here.distributions.values(), system]))
            plugin.target = replace(plugin.target, client_process=owner, owner=owner)
            try:
                await client.register_plugin(plugin)
            except PkgsyncError as error:
                return error
            return None

        found = await asyncio.gather(ask(one, "ann@laptop"), ask(other, "benjamin@laptop"))
        controller = scheduler.extensions["pkgsync"]
        assert [want.target.owner for want in controller.claims.claims.values()] == [controller.target.owner]
        return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::dask_pkgsync.DiscrepancyWarning")  # of the package that no node can have
def test_in_hundreds_of_rounds_exactly_one_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two who come at the same instant one has the cluster, and the other is told whose it is; nothing is left."""
    monkeypatch.chdir(tmp_path)  # beside a large pyproject.toml each of them would read uv's options in it
    here = scan(modules=False)

    async def rounds() -> None:
        async with Scheduler(port=0, dashboard_address=":0") as scheduler:
            for number in range(200):
                found = await _race(scheduler, here, number)
                (refused,) = (error for error in found if error is not None)
                assert isinstance(refused, ConflictError)
                winner = ("ann@laptop", "benjamin@laptop")[found.index(None)]
                assert refused.owner == winner
            controller = scheduler.extensions["pkgsync"]
            assert len(controller.claims.claims) == 1
            assert len(controller.sessions.since) <= 2
            await controller.release()
            assert not scheduler.plugins.keys() & {"pkgsync"}

    asyncio.run(rounds())


OWN_CODE = """
    [build-system]
    requires = ["hatchling"]
    build-backend = "hatchling.build"
    [project]
    name = "{name}"
    version = "1.0"
    [tool.hatch.build.targets.wheel]
    include = ["*.py"]
"""


@pytest.fixture
def ann_and_ben(tmp_path: Path) -> tuple[Person, Person]:
    """Return two people whose projects have a file of one name, and who both have modules beside their scripts."""
    people = []
    for name in ("ann", "ben"):
        person = Person(tmp_path / name)
        project = person.write(
            {"pyproject.toml": OWN_CODE.format(name=f"{name}-tools"), "shared_name.py": f"whose = '{name}'\n"},
            f"{name}-tools",
        )
        person.install("-e", str(project))
        person.write({"helpers.py": f"whose = '{name}'\n", "common.py": "x = 1\n", f"only_{name}.py": ""}, "job")
        people.append(person)
    return people[0], people[1]


@pytest.mark.slow
@pytest.mark.cluster
def test_nobody_gets_the_code_of_another_under_the_name_of_their_own(
    run_cluster: Any, ann_and_ben: tuple[Person, Person], tmp_path: Path
) -> None:
    """Other code under one name is a conflict that names the file; so is what only the built packages show."""
    ann, ben = ann_and_ben
    stays = f"""
        pkgsync.sync(client, progress=False, modules=["helpers", "common"])
        open({str(tmp_path / "synced")!r}, "w").close()
        import time
        while not os.path.exists({str(tmp_path / "ended")!r}):
            time.sleep(0.1)
        try:
            print(json.dumps(everywhere(call, "import helpers; answer = helpers.whose")))
        except ImportError as error:
            print(json.dumps([type(error).__name__, error.name]))
        """
    anns: list[Any] = []
    with run_cluster(workers=2) as cluster:
        thread = threading.Thread(target=lambda: anns.append(ann.run(cluster, stays)))
        thread.start()
        try:
            cluster.wait_for((tmp_path / "synced").exists, "Ann's sync")
            found = ben.run(
                cluster,
                """
                results = []
                def tried(**options):
                    try:
                        pkgsync.sync(client, progress=False, **options)
                        results.append(everywhere(call, "import shared_name; answer = shared_name.whose"))
                    except pkgsync.PkgsyncError as error:
                        results.append(f"{type(error).__name__} {error}")
                        assert everywhere(call, "import helpers; answer = helpers.whose") == ["ann", "ann"]
                tried()
                tried(modules=["common", "only_ben"])
                tried(modules=["common", "only_ben"], on_conflict="replace")
                print(json.dumps(results))
                """,
            )
        finally:
            (tmp_path / "ended").touch()
            thread.join()
        by_name, by_file, replaced = found
        assert by_name.startswith("ConflictError This cluster has the environment of ")
        rows = [line.split()[0] for line in by_name.splitlines() if line.endswith(" exact")]
        assert rows == ["module-helpers"]  # what both have and is the same is none, nor what only one has
        assert "modules=[...]" in by_name
        assert by_file.startswith("ConflictError ")
        (row,) = (line.split() for line in by_file.splitlines() if line.endswith(" exact"))
        assert row == ["shared_name.py", "ann-tools", "1.0", "ben-tools", "1.0", "exact"]
        assert replaced == ["ben", "ben"]
        assert anns == [["ModuleNotFoundError", "helpers"]]  # what she had was taken from her


STAYS = """
import time
from pathlib import Path
pkgsync.sync(client, progress=False)
mark = Path("mark")
mark.touch()
while mark.exists():
    time.sleep(0.05)
print(json.dumps(everywhere(call, "import of_ann, of_ben; answer = [of_ann.whose, of_ben.whose]")))
"""
COMES = """
pkgsync.sync(client, progress=False)
print(json.dumps(everywhere(call, "import of_ann, of_ben, tabulate; answer = [of_ann.whose, of_ben.whose]")))
"""


def somebody(root: Path, name: str) -> Person:
    """Return somebody with an editable project that nobody else has."""
    person = Person(root / name)
    files = {"pyproject.toml": OWN_CODE.format(name=f"of-{name}"), f"of_{name}.py": f"whose = {name!r}\n"}
    person.install("-e", str(person.write(files, "project")))
    return person


@pytest.mark.cluster
@pytest.mark.slow
def test_each_is_asked_for_what_only_they_have(tmp_path: Path, venvs: Venvs) -> None:
    """Where a node has Ann's layer already, nobody has sent Ann's wheel to this scheduler when Ben adds to it."""
    ann, ben = somebody(tmp_path, "ann"), somebody(tmp_path, "ben")
    ben.install("tabulate==0.9.0")
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
    with running(tmp_path / "before", venvs.base(), tmp_path / "cache", workers=1) as cluster:
        ann.run(cluster, "pkgsync.sync(client, progress=False)\nprint(0)")
    mark = ann.home / "mark"
    with (
        running(tmp_path / "after", venvs.base(), tmp_path / "cache", workers=2) as cluster,
        ThreadPoolExecutor() as threads,
    ):
        anns = threads.submit(ann.run, cluster, STAYS)
        try:
            cluster.wait_for(lambda: mark.exists() or anns.done(), "Ann's sync")
            assert mark.exists(), anns.exception()
            with cluster.client() as client:
                assert "uploaded" not in [event["action"] for _, event in client.get_events("pkgsync")]
            bens = ben.run(cluster, COMES)
        finally:
            mark.unlink(missing_ok=True)  # so that Ann goes
        assert bens == anns.result() == [["ann", "ben"]] * 2


@pytest.mark.filterwarnings("ignore::dask_pkgsync.DiscrepancyWarning")  # of the package that no node can have
def test_of_two_who_wait_for_the_same_person_one_goes_on_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each gets the cluster when the one before has gone; nobody who would wait is refused."""
    monkeypatch.chdir(tmp_path)
    here = scan(modules=False)
    people = ("ann@laptop", "benjamin@laptop", "cy@desk")

    async def queue() -> None:
        async with Scheduler(port=0, dashboard_address=":0") as scheduler:
            clients = {
                owner: await Client(scheduler.address, asynchronous=True, set_as_default=False) for owner in people
            }

            async def ask(owner: str) -> str:
                system = Distribution("a-package-of-the-system", f"1.{len(owner)}", Unrecorded())
                plugin = PackageSync(
                    Environment.of(here.interpreter, [*here.distributions.values(), system]), on_conflict="wait"
                )
                plugin.target = replace(plugin.target, client_process=owner, owner=owner)
                await clients[owner].register_plugin(plugin)
                return owner

            assert await ask(people[0]) == people[0]
            asked = {asyncio.create_task(ask(owner)) for owner in people[1:]}
            controller = scheduler.extensions["pkgsync"]
            while len(controller.claims.waiting) < len(asked):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert set(controller.claims.waiting.values()) == {people[0]}
            await clients[people[0]].close()
            done, waiting = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            (first,) = (task.result() for task in done)
            while first not in controller.claims.waiting.values():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await clients[first].close()
            (last,) = await asyncio.gather(*waiting)
            assert {first, last} == set(people[1:])
            assert not controller.claims.waiting
            await clients[last].close()

    asyncio.run(asyncio.wait_for(queue(), 60))
