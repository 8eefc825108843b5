"""Clients that a scheduler recognises by a fingerprint: when they are, when not any more, and what waits until when."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

import dask
import pytest
from clusters import Person
from contracts.surroundings import OP, heard_by, until
from distributed import Client, Scheduler, Worker

import dask_pkgsync as pkgsync
from dask_pkgsync.client import api, connecting, holding, recognition
from dask_pkgsync.client.handshake import present, take_presented
from dask_pkgsync.model.wire.protocol import PRESENTED, UNKNOWN_FINGERPRINT
from dask_pkgsync.scheduler.enforcement import guard
from dask_pkgsync.scheduler.extension import controller_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

SYNCING = {
    "DASK_DISTRIBUTED__CLIENT__PRELOAD": json.dumps(["dask_pkgsync.preload"]),
    "DASK_PKGSYNC__MODULES": "false",  # the script is written anew for each process
}


@pytest.fixture(autouse=True)
def _fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Remember nothing from before, and nothing for later."""
    monkeypatch.setattr(recognition, "_memories", {})
    monkeypatch.setattr(recognition, "_forgotten", set())
    with dask.config.set({"pkgsync.cache-directory": str(tmp_path / "cache")}):
        undo = present()
        yield
        undo()


@contextlib.asynccontextmanager
async def guarded(**config: Any) -> AsyncIterator[Scheduler]:
    """Run a guarded scheduler and a worker in this process, whose environment is that of the clients."""
    quiet = {"dashboard": False, "dashboard_address": ":0"}
    with dask.config.set({f"pkgsync.{key}": value for key, value in config.items()}):
        async with Scheduler(port=0, host="127.0.0.1", **quiet) as scheduler:
            await guard(scheduler)
            async with Worker(scheduler.address, nthreads=1, **quiet):
                yield scheduler


@contextlib.asynccontextmanager
async def client_of(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Client, bool]]:
    """Connect a client as our preload does; yield it, and whether it was recognised."""
    # The worker of this process would make this client one of a task.
    monkeypatch.setattr("dask_pkgsync.client.handshake.runs_a_worker_of", lambda _: False)
    async with Client(scheduler.address, asynchronous=True, set_as_default=False) as client:
        sent = scheduler.clients[client.id].versions[PRESENTED]
        is_recognised = "fingerprint" in sent
        assert is_recognised == ("environment" not in sent)
        if is_recognised:
            await connecting.connected(client)
        else:
            await api.sync_connected(client, take_presented(client))
        yield client, is_recognised


async def connect(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Connect a client, let it compute something, and return whether it was recognised."""
    async with client_of(scheduler, monkeypatch) as (client, is_recognised):
        assert await client.submit(int, 5, pure=False) == 5
        return is_recognised


@pytest.mark.parametrize("mode", ["enforce", "sync"])
def test_the_second_client_is_recognised(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in a process that starts later, and only by the scheduler that let the first one in."""

    async def clients() -> list[bool]:
        async with guarded(mode=mode) as scheduler, guarded(mode=mode) as other:
            first = [await connect(scheduler, monkeypatch) for _ in range(2)]
            recognition._memories.clear()  # as in another process
            return [*first, await connect(scheduler, monkeypatch), await connect(other, monkeypatch)]

    assert asyncio.run(clients()) == [False, True, True, False]


def test_a_scheduler_that_has_forgotten_is_shown_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Client()` returns all the same, and is recognised the next time."""

    async def clients() -> list[bool]:
        async with guarded(mode="enforce") as scheduler:
            found = [await connect(scheduler, monkeypatch)]
            controller_of(scheduler).acquaintances.forget()
            return [*found, await connect(scheduler, monkeypatch), await connect(scheduler, monkeypatch)]

    assert asyncio.run(clients()) == [False, False, True]


def test_nobody_is_recognised_who_asks_for_another_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """With other options the same environment makes another target."""

    async def clients() -> list[bool]:
        async with guarded(mode="sync") as scheduler:
            found = [await connect(scheduler, monkeypatch), await connect(scheduler, monkeypatch)]
            with dask.config.set({"pkgsync.strict": True}):
                found.append(await connect(scheduler, monkeypatch))
            return [*found, await connect(scheduler, monkeypatch)]  # the cluster has the strict target now

    assert asyncio.run(clients()) == [False, True, False, False]


def test_an_enforced_environment_recognises_clients_with_code_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their loose modules stay at home, so they need not sync anything; an edit is noticed."""
    monkeypatch.syspath_prepend(str(tmp_path / "beside"))
    (tmp_path / "beside").mkdir()
    module = tmp_path / "beside" / "mine_alone.py"
    module.write_text("x = 1\n")

    async def clients() -> list[bool]:
        async with guarded(mode="enforce") as scheduler:
            with dask.config.set({"pkgsync.modules": True}):
                found = [await connect(scheduler, monkeypatch), await connect(scheduler, monkeypatch)]
                module.write_text("x = 12\n")
                found += [await connect(scheduler, monkeypatch), await connect(scheduler, monkeypatch)]
                (tmp_path / "beside" / "another.py").write_text("")
                return [*found, await connect(scheduler, monkeypatch)]

    with pytest.warns(UserWarning, match="local code stays here"):
        found = asyncio.run(clients())
    assert found == [False, True, False, True, False]


# -- what waits ------------------------------------------------------------------------------------------------------


def test_nothing_is_sent_before_the_verification(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks and calls wait for it, in their order, and begin it; who sends nothing is verified a little later."""
    steps: list[str] = []

    async def clients() -> None:
        async with guarded(mode="enforce") as scheduler:
            await connect(scheduler, monkeypatch)
            allowed = asyncio.Event()
            verify = api.sync_connected

            async def verified(client: Client, presented: Any) -> None:
                steps.append("begun")
                await allowed.wait()
                await verify(client, presented)
                steps.append("verified")

            monkeypatch.setattr(api, "sync_connected", verified)
            async with client_of(scheduler, monkeypatch) as (client, is_recognised):
                assert is_recognised
                assert steps == []
                futures = [client.submit(str, number, key=f"held-{number}") for number in range(3)]
                call = asyncio.create_task(client.run(int))
                await until(lambda: steps)
                assert not any(key in scheduler.tasks for key in ("held-0", "held-1", "held-2"))
                assert not call.done()
                allowed.set()
                assert await client.gather(futures) == ["0", "1", "2"]
                assert list((await call).values()) == [0]
                assert await client.submit(int, 7) == 7
            assert steps == ["begun", "verified"]
            monkeypatch.setattr(holding, "QUIET", 0)
            async with client_of(scheduler, monkeypatch):
                await until(lambda: steps.count("verified") == 2)

    asyncio.run(clients())


def test_a_message_that_was_on_its_way_when_the_verification_ended_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask hands the function that sends to the event loop, which may call it after it was replaced again."""

    async def clients() -> None:
        async with guarded(mode="enforce") as scheduler:
            await connect(scheduler, monkeypatch)
            async with client_of(scheduler, monkeypatch) as (client, _):
                held = client._send_to_scheduler_safe
                assert await client.submit(int, 5) == 5
                assert client._send_to_scheduler_safe != held
                heard = heard_by(scheduler)
                held({"op": OP, "number": 7})
                await until(lambda: heard == [7])

    asyncio.run(clients())


def test_a_cache_that_cannot_be_used_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then only this process's next client is not recognised."""
    (tmp_path / "file").write_text("")

    async def clients() -> list[bool]:
        async with guarded(mode="enforce") as scheduler:
            with dask.config.set({"pkgsync.cache-directory": str(tmp_path / "file" / "cache")}):
                return [await connect(scheduler, monkeypatch) for _ in range(2)]

    assert asyncio.run(clients()) == [False, False]


def test_a_client_that_cannot_be_verified_raises_our_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its futures, its calls, and whatever it sends later; others are not concerned."""

    async def fail(_client: Client, _presented: Any) -> None:
        raise pkgsync.PkgsyncError("it is not what it was")

    async def clients() -> None:
        async with guarded(mode="enforce") as scheduler:
            await connect(scheduler, monkeypatch)
            with monkeypatch.context() as patched:
                patched.setattr(api, "sync_connected", fail)
                async with client_of(scheduler, monkeypatch) as (client, _):
                    with pytest.raises(pkgsync.PkgsyncError, match="what it was"):
                        await client.submit(int, 5)
                    with pytest.raises(pkgsync.PkgsyncError, match="what it was"):
                        await client.run(int)
                    with pytest.raises(pkgsync.PkgsyncError, match="what it was"):
                        await client.submit(int, 6)
                    assert not scheduler.tasks
            assert await connect(scheduler, monkeypatch)

    asyncio.run(clients())


def test_a_client_that_is_closed_before_is_not_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    """To look at a cluster costs no verification."""
    begun: list[int] = []

    async def verify(_client: Client, _presented: Any) -> None:
        begun.append(1)

    async def clients() -> None:
        async with guarded(mode="enforce") as scheduler:
            await connect(scheduler, monkeypatch)
            monkeypatch.setattr(api, "sync_connected", verify)
            async with client_of(scheduler, monkeypatch) as (_, is_recognised):
                assert is_recognised
            assert not begun

    asyncio.run(clients())


def test_a_lost_connection_is_not_the_end_of_a_verification(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again, and the messages wait meanwhile."""
    tries: list[int] = []
    monkeypatch.setattr(holding, "PAUSE", 0)

    async def verify(_client: Client, _presented: Any) -> None:
        tries.append(1)
        if len(tries) == 1:
            raise pkgsync.PkgsyncError("lost") from OSError("the connection")

    async def clients() -> None:
        async with guarded(mode="enforce") as scheduler:
            await connect(scheduler, monkeypatch)
            monkeypatch.setattr(api, "sync_connected", verify)
            assert await connect(scheduler, monkeypatch)

    asyncio.run(clients())
    assert len(tries) == 2


# -- the memory ------------------------------------------------------------------------------------------------------


SHORT = {"fingerprint": "a" * 64, "target": "b" * 64}


def remember(root: Path, *sources: Path, short: dict[str, Any] = SHORT, scheduler: str = "Scheduler-1") -> str:
    """Remember something of now; return for which situation."""
    here = recognition.situation()
    recognition.remember([here], scheduler, short, map(str, sources), str(root))
    return here


def test_a_process_that_starts_later_reads_what_was_written(tmp_path: Path) -> None:
    """For as long as the files of local code, and the directories of the search path, are what they were."""
    code = tmp_path / "project" / "code.py"
    code.parent.mkdir()
    code.write_text("x = 1\n")
    here = remember(tmp_path / "cache", code)
    for scheduler, expected in (("Scheduler-1", SHORT), ("Scheduler-2", None)):
        recognition._memories.clear()
        assert recognition.recall(here, scheduler) == expected
    assert recognition.is_configuration_valid()
    code.write_text("x = 12\n")
    assert recognition.recall(here, "Scheduler-1") is None
    code.unlink()
    assert recognition.recall(here, "Scheduler-1") is None


def test_of_a_directory_only_what_can_be_imported_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log file that a script writes beside itself changes nothing; a new module or package does."""
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.syspath_prepend(str(place))
    here = remember(tmp_path / "cache")
    (place / "out.log").write_text("")
    os.utime(place, ns=(1, 1))
    assert recognition.recall(here, "Scheduler-1") == SHORT
    (place / "package").mkdir()
    assert recognition.recall(here, "Scheduler-1") is None


def test_an_update_of_a_conda_package_without_python_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No directory of modules changes, only the record of a library."""
    site_packages, records = tmp_path / "lib" / "python3.11" / "site-packages", tmp_path / "conda-meta"
    for directory in (site_packages, records):
        directory.mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [*sys.path, str(site_packages)])
    here = remember(tmp_path / "cache")
    assert recognition.recall(here, "Scheduler-1") == SHORT
    (records / "libfoo-2.2-h1_0.json").touch()
    os.utime(records, ns=(1, 1))  # a file system may store times in steps
    assert recognition.recall(here, "Scheduler-1") is None


def test_several_schedulers_may_know_one_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the newest are remembered, and none of another environment."""
    monkeypatch.setattr(recognition, "MAX_SCHEDULERS", 2)
    for number in range(3):
        here = remember(tmp_path / "cache", scheduler=f"Scheduler-{number}")
    known = [recognition.recall(here, f"Scheduler-{number}") for number in range(3)]
    assert known == [None, SHORT, SHORT]
    recognition.forget("Scheduler-2")
    assert recognition.recall(here, "Scheduler-2") is None
    other = {**SHORT, "fingerprint": "c" * 64}
    remember(tmp_path / "cache", short=other, scheduler="Scheduler-2")
    assert recognition.recall(here, "Scheduler-2") == other
    assert recognition.recall(here, "Scheduler-1") is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"short": 5}', "\xff", '{"short": {}, "schedulers": 5}'])
def test_a_damaged_file_is_no_memory(content: str, tmp_path: Path) -> None:
    """Then the environment is presented as if for the first time."""
    here = remember(tmp_path / "cache")
    recognition._memories.clear()
    (file,) = (tmp_path / "cache" / recognition.DIRECTORY).iterdir()
    file.write_text(content, encoding="latin-1")
    assert recognition.recall(here, "Scheduler-1") is None


def test_files_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are removed; very much local code is not remembered at all."""
    monkeypatch.setattr(recognition, "KEPT", 2)
    for number in range(4):
        with dask.config.set({"pkgsync.install-timeout": 100 + number}):
            remember(tmp_path / "cache")
    assert len(list((tmp_path / "cache" / recognition.DIRECTORY).iterdir())) == 2
    monkeypatch.setattr(recognition, "MAX_FILES", 1)
    assert recognition.recall(remember(tmp_path / "cache", tmp_path, tmp_path / "cache"), "Scheduler-1") is None


def test_what_decides_about_an_environment_makes_another_situation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search path, the working directory, the configuration and the files that it comes from."""
    found = {recognition.situation()}
    monkeypatch.syspath_prepend(str(tmp_path))
    found.add(recognition.situation())
    monkeypatch.chdir(tmp_path)
    found.add(recognition.situation())
    monkeypatch.setenv("DASK_PKGSYNC__STRICT", "true")
    found.add(recognition.situation())
    monkeypatch.setattr(dask.config, "paths", [str(tmp_path)])
    (tmp_path / "mine.yaml").write_text("pkgsync: {}\n")
    found.add(recognition.situation())
    with dask.config.set({"pkgsync.strict": True}):
        found.add(recognition.situation())
    assert len(found) == 6


def test_the_refusal_by_which_releases_understand_each_other_stays() -> None:
    """A client of another release tells by this text that it has to present everything."""
    assert UNKNOWN_FINGERPRINT == (
        "pkgsync: this scheduler does not know the environment of this fingerprint: present all of it"
    )


# -- real processes --------------------------------------------------------------------------------------------------


RECOGNISED = """
def presented(dask_scheduler):
    return [sorted(client.versions["pkgsync"]) for name, client in dask_scheduler.clients.items() if name == NAME]

client.wait_for_workers(1)
NAME = client.id
presented.__globals__["NAME"] = NAME
(keys,) = client.run_on_scheduler(presented)
answer = everywhere(call, "import six; answer = six.add_move.__doc__")
print(json.dumps(["fingerprint" in keys, "environment" in keys, answer]))
"""


@pytest.mark.slow
@pytest.mark.cluster
def test_what_was_changed_in_place_is_noticed_before_the_first_task(tmp_path: Path, run_cluster: Any) -> None:
    """A recognised client's packages are looked at like those of any other, and the nodes get them as they are."""
    person = Person(tmp_path / "person")
    person.install("six==1.17.0")
    six = next(person.venv.root.glob("lib/python*/site-packages/six.py"))
    six.rename(six.with_suffix(".linked"))  # it may be a link into the cache of uv
    shutil.copy2(six.with_suffix(".linked"), six)
    six.with_suffix(".linked").unlink()
    with run_cluster(workers=1) as cluster:
        plain = person.run(cluster, RECOGNISED, **SYNCING)
        assert plain[:2] == [False, True]
        assert person.run(cluster, RECOGNISED, **SYNCING) == [True, False, plain[2]]
        edited = six.read_text().replace(str(plain[2][0]), "Edited in place.")
        with six.open("r+") as file:  # the directory does not change
            file.write(edited)
            file.truncate()
        assert person.run(cluster, RECOGNISED, **SYNCING) == [True, False, ["Edited in place."]]
