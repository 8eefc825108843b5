"""A cluster that its configuration guards: what is refused, what is let in, and that nothing fails open."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import sys
import uuid
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import pytest
from click.testing import CliRunner
from clusters import SOURCE, Cluster, Person, Venv, running, uv
from distributed import Client, Scheduler, Worker

from dask_pkgsync import Policy, PolicyError, scan
from dask_pkgsync.cli import group as cli
from dask_pkgsync.model.comparison import Comparison
from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.handshake import may_be_on
from dask_pkgsync.model.lockfiles.lockfile import environment_from_lock
from dask_pkgsync.model.operator_policy import OperatorPolicy
from dask_pkgsync.model.target import Target
from dask_pkgsync.options.configuration import check_configuration
from dask_pkgsync.options.documents import schema
from dask_pkgsync.options.node import node_settings
from dask_pkgsync.options.person import install_timeout, local_snapshot, policy_from, scheduler_rule
from dask_pkgsync.options.scheduler import release_after
from dask_pkgsync.options.values import defaults, setting
from dask_pkgsync.scanning.installed import this_interpreter
from dask_pkgsync.scanning.lock_file import read_lock
from dask_pkgsync.scheduler.clients.acquaintances import Acquaintances
from dask_pkgsync.scheduler.clients.gate import Gate, own_versions
from dask_pkgsync.scheduler.enforcement import guard

PRELOAD = json.dumps(["dask_pkgsync.preload"])
GUARDED = {"DASK_DISTRIBUTED__SCHEDULER__PRELOAD": PRELOAD}
PRESENTING = {"DASK_DISTRIBUTED__CLIENT__PRELOAD": PRELOAD, "DASK_PKGSYNC__MODULES": "false"}
FINE = "client.wait_for_workers(1)\nprint(json.dumps(everywhere(call, 'import six; answer = six.__version__')))\n"


@pytest.fixture
def operator(tmp_path: Path) -> Person:
    """Return somebody whose environment the cluster runs in, with dask-pkgsync."""
    return Person(tmp_path / "operator")


@pytest.fixture
def user(tmp_path: Path) -> Person:
    """Return somebody who connects."""
    return Person(tmp_path / "user")


def guarded(operator: Person, tmp_path: Path, workers: int = 1, **env: str) -> Any:
    """Run a cluster that is guarded by its configuration alone."""
    root = tmp_path / f"cluster{len(list(tmp_path.glob('cluster*')))}"
    root.mkdir()
    return running(root, operator.venv, root / "cache", workers=workers, env={**GUARDED, **env})


@pytest.mark.cluster
def test_an_enforced_environment_lets_in_who_matches_and_nobody_else(
    operator: Person, user: Person, tmp_path: Path
) -> None:
    """Clients are judged by what they present; workers are brought to it; nobody changes or releases it."""
    uv(["pip", "uninstall", "--python", operator.venv.python, "dask-pkgsync"])
    operator.install(str(SOURCE))
    with guarded(operator, tmp_path, DASK_PKGSYNC__MODE="enforce") as cluster:
        assert user.run(cluster, FINE, **PRESENTING) == ["1.15.0"]
        assert user.run(cluster, FINE) == ["1.15.0"]  # a stock client, by Dask's own handshake
        same = "print(json.dumps([pkgsync.sync(client, progress=False).changed]))"
        assert user.run(cluster, same, **PRESENTING) == [False]
        user.install("six==1.17.0")
        refused = user.run(cluster, FINE, check=False, **PRESENTING)
        assert refused.returncode == 1
        assert "six" in refused.stderr
        assert "1.15.0   1.17.0  exact" in refused.stderr
        refused = user.venv.run(OWN_WORKERS_FIRST, cluster.address, check=False, **PRESENTING)
        assert refused.stdout == "one\nopen\n"  # neither with a worker of another cluster here, nor after it
        assert refused.stderr.count("1.15.0   1.17.0  exact") == 2
        for script, reason in (
            ("pkgsync.sync(client, progress=False, modules=False)", "1.15.0   1.17.0"),
            ("pkgsync.release(client)", "pkgsync.mode is enforce"),
        ):
            done = user.run(cluster, script, check=False)
            assert done.returncode == 1
            assert reason in done.stderr
            if "sync" in script.partition("(")[0].split("."):
                assert str(operator.venv.root) not in done.stderr  # nothing of the scheduler's own lines
        checked = user.venv.run(CHECK, cluster.address, "--no-modules", check=False)
        assert (checked.returncode, "1.17.0" in checked.stdout) == (1, True)
        checked = user.venv.run(CHECK, cluster.address, "--no-modules", "--ignore", "six", check=False)
        assert checked.returncode == 1  # the operator's policy counts, not the client's
        user.install("six==1.15.0")
        assert not cluster.warnings_of_us("scheduler")
        user.write({"helpers.py": ""}, "job")
        done = user.run(cluster, "print(pkgsync.sync(client, progress=False, modules=['helpers']))", check=False)
        assert "local code stays here, as the operator decides" in done.stderr
        assert "module-helpers" in done.stderr
        assert done.stdout.count("matched") == 2  # the scheduler, and the worker that came later
        checked = user.venv.run(CHECK, cluster.address, "--no-modules")
        assert checked.stdout.splitlines()[-1] == f"{cluster.address}: would be let in."


OWN_WORKERS_FIRST = """
import sys, traceback
from distributed import Client, LocalCluster

def connect():
    try:
        with Client(sys.argv[1], set_as_default=False):
            print("let in")
    except ImportError:
        traceback.print_exc(chain=False)

with LocalCluster(n_workers=1, processes=False, dashboard_address=None) as own:
    print(len(own.workers) and "one")
    connect()
    print("open")
connect()
"""
CHECK = "import sys; from dask_pkgsync.cli.group import pkgsync; pkgsync(['check', *sys.argv[1:]])"


@pytest.mark.cluster
def test_a_lock_file_is_what_workers_get_and_clients_must_have(operator: Person, user: Person, tmp_path: Path) -> None:
    """The operator's file decides; a client without a fingerprint can be refused."""
    pins = tmp_path / "requirements.txt"
    pins.write_text("six==1.17.0 \\\n    --hash=sha256:abc\n")
    env = {
        "DASK_PKGSYNC__MODE": "enforce",
        "DASK_PKGSYNC__TARGET": str(pins),
        "DASK_PKGSYNC__STOCK_CLIENTS": "refuse",
        "DASK_PKGSYNC__ONLY": '["six"]',
    }
    versions = user.venv.environment().distributions
    pins.write_text(pins.read_text() + "".join(f"{n}=={versions[n].version}\n" for n in CRITICAL))
    with guarded(operator, tmp_path, **env) as cluster:
        refused = user.run(cluster, FINE, check=False)
        assert "only clients that say what they have" in refused.stderr
        assert "1.17.0" in user.run(cluster, FINE, check=False, **PRESENTING).stderr
        user.install("six==1.17.0")
        assert user.run(cluster, FINE, **PRESENTING) == ["1.17.0"]


LEVELS = '{"six": "critical"}'


@pytest.mark.cluster
def test_the_operator_makes_more_packages_critical(operator: Person, user: Person, tmp_path: Path) -> None:
    """Who has another six is refused when connecting, if it is said, and when syncing in any case."""
    user.install("six==1.17.0")
    with guarded(operator, tmp_path, DASK_PKGSYNC__LEVELS=LEVELS) as cluster:
        for env in (PRESENTING, {**PRESENTING, "DASK_PKGSYNC__ON_CONNECT": "present"}):
            refused = user.run(cluster, FINE, check=False, **env)
            assert refused.returncode == 1
            assert "1.15.0   1.17.0  critical" in refused.stderr
        assert user.run(cluster, FINE) == ["1.15.0"]  # a stock client has not said which six it has
        refused = user.run(cluster, "pkgsync.sync(client, progress=False, modules=False)", check=False)
        assert "1.15.0   1.17.0  critical" in refused.stderr
        user.install("six==1.15.0")
        assert user.run(cluster, FINE, **PRESENTING) == ["1.15.0"]


def test_stock_clients_are_held_against_critical_levels_by_what_dask_says() -> None:
    """Dask's handshake names numpy, for example; what is not named, or not there, is no difference."""
    own = Environment.of(this_interpreter(), [Distribution("numpy", "2.1"), Distribution("six", "1.0")])
    operator_policy = OperatorPolicy(policy=Policy.of(levels={"numpy": "critical", "pan*": "critical"}), own=own)
    assert judged(operator_policy, numpy="2.1", pandas="3.0", six="2.0", lz4=None) is None
    assert judged(operator_policy, numpy=None) is None
    assert "2.1      2.2     critical" in str(judged(operator_policy, numpy="2.2", python="3.11.7"))
    operator_policy.stock_clients = "refuse"
    assert "only clients that say" in str(judged(operator_policy))
    assert judged(operator_policy, client=f"Client-worker-{uuid.uuid1()}") is None  # of a task
    assert "only clients that say" in str(judged(operator_policy, client=f"Client-my-worker-{uuid.uuid1()}"))


def judged(
    operator_policy: OperatorPolicy, client: str = "Client-1", host: object = None, **packages: str | None
) -> str | None:
    """Return what a rule says of a stock client that has Dask's critical packages as the scheduler."""
    message = {"client": client, "versions": {"packages": packages, "host": host}}
    return operator_policy.judge_client(message, None, Comparison(()))


def test_where_the_operator_expects_something_all_counts_that_dask_says() -> None:
    """A stock client with another numpy, or without, does not match the operator's; on other platforms a patch may."""
    here = this_interpreter()
    environment = Environment.of(here, [Distribution(name, "2.1.0") for name in ("numpy", "pandas", "six")])
    operator_policy = OperatorPolicy(
        "enforce", expected=Target(environment, policy := Policy.of(ignore=["pandas"])), policy=policy
    )
    assert judged(operator_policy, numpy="2.1", pandas="1.0", lz4="5", toolz=None) is None
    assert "2.1.0    2.1.1   exact" in str(judged(operator_policy, numpy="2.1.1"))
    assert "not there" in str(judged(operator_policy, numpy=None))
    other = {"OS": "Plan9", "machine": "mips"}
    assert judged(operator_policy, host=other, numpy="2.1.1") is None
    assert "compatible" in str(judged(operator_policy, host=other, numpy="3.0"))
    message = {"address": "tcp://x:1", "versions": {"packages": {"numpy": "2.1.1"}}}
    assert operator_policy.judge_worker(message, Comparison(())) is None  # it will be brought to it
    operator_policy.mode = "warn"
    assert "2.1.1" in str(operator_policy.judge_worker(message, Comparison(())))
    assert "connect again" not in str(operator_policy.judge_worker(message, Comparison(())))


def test_who_came_in_before_the_gate_was_closed_is_judged_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that Dask let in while the scheduler was starting loses its connection, and is refused."""

    async def late() -> None:
        async with Scheduler(port=0, dashboard_address=":0") as scheduler:
            async with Client(scheduler.address, asynchronous=True, set_as_default=False, timeout=60) as client:
                with dask.config.set({"pkgsync.stock-clients": "refuse"}):
                    await guard(scheduler)
                while client.status != "closed":  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert scheduler.client_comms == {}
            events = [event["action"] for _, event in scheduler.get_events("pkgsync")]
            assert events == ["client-refused"]

    asyncio.run(late())


def test_a_scheduler_in_a_persons_process_that_cannot_be_guarded_lets_nobody_in() -> None:
    """A notebook with a cluster of its own goes on; whoever connects reads what is wrong with the configuration."""
    reason = r"cannot be guarded as it is configured: pkgsync\.target: /there/is/no/such\.lock"

    async def broken() -> None:
        config = {
            "distributed.scheduler.preload": ["dask_pkgsync.preload"],
            "pkgsync.mode": "enforce",
            "pkgsync.target": "/there/is/no/such.lock",
        }
        with dask.config.set(config):
            async with Scheduler(port=0, dashboard_address=":0") as scheduler:
                with pytest.raises(ImportError, match=reason):
                    await Client(scheduler.address, asynchronous=True, set_as_default=False)
                assert not scheduler.client_comms
                with pytest.raises(RuntimeError) as caught:  # in Dask's words, from ours
                    async with Worker(scheduler.address, nthreads=1):
                        pass
                assert re.search(reason, str(caught.value.__cause__))
                assert not scheduler.workers

    asyncio.run(broken())


@pytest.mark.parametrize(
    ("system", "machine", "platform", "may_be"),
    [
        ("Linux", "x86_64", "linux-x86_64", True),
        ("Linux", "aarch64", "linux-x86_64", False),
        ("Darwin", "arm64", "macosx-14.0-arm64", True),
        ("Darwin", "arm64", "macosx-10.9-universal2", True),
        ("Darwin", "x86_64", "macosx-14.0-arm64", False),
        ("Windows", "AMD64", "win-amd64", True),
        ("Windows", "AMD64", "linux-x86_64", False),
        ("Darwin", "arm64", "linux-x86_64", False),
        (5, "x86_64", "linux-x86_64", True),  # it cannot be told
        ("Linux", None, "win-amd64", True),
    ],
)
def test_the_platform_is_told_by_what_dask_says_of_a_host(
    system: object, machine: object, platform: str, may_be: bool
) -> None:
    """Python calls a platform otherwise than the operating system does."""
    message = {"versions": {"host": {"OS": system, "machine": machine}}}
    assert may_be_on(message, platform) is may_be
    assert may_be_on({"versions": {}}, platform)


class Awaited(asyncio.Event):
    """An event that says when somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.somebody_waits = asyncio.Event()

    async def wait(self) -> bool:
        self.somebody_waits.set()
        return await super().wait()


def gate_of(server: Any, policy: OperatorPolicy, told: list[dict[str, Any]] | None = None) -> Gate:
    """Return the gate of a scheduler that does not run."""
    events = [] if told is None else told
    return Gate(server, policy, lambda _: None, lambda: True, events.append, Acquaintances(lambda _: True))


def test_whoever_comes_while_the_operators_environment_is_read_waits() -> None:
    """Until it is known by which rule to judge, nobody is let in and nobody refused."""

    async def early() -> None:
        let_in = asyncio.Event()

        async def original(*_: Any, **__: Any) -> None:
            let_in.set()

        handlers = {"register-client": original, "register-worker": original, "identity": Scheduler.identity}
        server = SimpleNamespace(handlers=handlers, add_client=partial(Scheduler.add_client, None))
        gate = gate_of(server, OperatorPolicy())
        gate.close()
        gate.ready = Awaited()
        message = {"client": "c", "versions": {"packages": own_versions()}}
        comm: Any = SimpleNamespace(peer_address="tcp://1.2.3.4:5")
        coming = asyncio.create_task(gate.register_client(comm, **message))
        await gate.ready.somebody_waits.wait()
        assert not let_in.is_set()
        gate.ready.set()
        await coming
        assert let_in.is_set()

    asyncio.run(early())


@pytest.mark.parametrize(
    ("stock", "reason"), [("judge", "tornado"), ("refuse", "only clients that say"), ("allow", "")]
)
def test_the_operator_decides_about_stock_clients(stock: str, reason: str) -> None:
    """Judged by Dask's own handshake, refused, or let in; what is malformed is refused in any case."""
    told: list[dict[str, Any]] = []
    server = SimpleNamespace(add_client=partial(Scheduler.add_client, None))
    gate = gate_of(server, OperatorPolicy(stock_clients=stock), told)
    other = {} if stock == "refuse" else {"tornado": "1.0"}
    message = {"client": "c", "versions": {"packages": {**own_versions(), **other}}}
    found = gate._reason(message, "client", "tcp://1.2.3.4:5")
    assert (found or "") == "" if stock == "allow" else reason in str(found)
    assert "malformed" in str(gate._reason({"client": "c", "versions": {"packages": 5}}, "client", "tcp://1.2.3.4:5"))
    gate.operator_policy.mode = "warn"
    assert gate._reason(message, "client", "tcp://1.2.3.4:5") is None
    assert [event["action"] for event in told] == [] if stock == "allow" else ["mismatch"]


CRITICAL = ("cloudpickle", "dask", "distributed", "msgpack", "tornado")


@pytest.mark.cluster
def test_warnings_refuse_nobody(operator: Person, user: Person, tmp_path: Path) -> None:
    """In mode warn a client works as well as it can; whatever differs is an event and a line of the log."""
    user.install("toolz==0.12.0", "tornado==6.4.2", "six==1.17.0")
    script = """
        client.wait_for_workers(1)
        events = [event for _, event in client.get_events("pkgsync") if event["action"] == "mismatch"]
        print(json.dumps([everywhere(call, "import six; answer = six.__version__"), events[-1]["reason"]]))
        """
    with guarded(operator, tmp_path, DASK_PKGSYNC__MODE="warn") as cluster:
        for env, differing in (({}, {"toolz", "tornado"}), (PRESENTING, {"six", "toolz", "tornado"})):
            there, reason = user.run(cluster, script, **env)
            assert there == ["1.15.0"]
            assert {line.split()[0] for line in reason.splitlines()[2:]} == differing
        (line, *_) = (line for line in cluster.log("scheduler").splitlines() if "let in all the same" in line)
        assert "WARNING" in line
        told = user.run(cluster, "client.wait_for_workers(1)", check=False, **PRESENTING).stderr
        assert "EnvironmentMismatchWarning: this cluster has other packages than this client" in told
        assert "1.15.0   1.17.0  exact" in told
        for command in ("sync", "release"):
            done = user.run(cluster, f"pkgsync.{command}(client)", check=False)
            assert done.returncode == 1
            assert "configured to install nothing" in done.stderr
        done = user.run(cluster, "client.register_plugin(pkgsync.PackageSync(modules=False))", check=False)
        assert "configured to install nothing" in done.stderr
        assert "Traceback" not in cluster.log("scheduler")


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ({"DASK_PKGSYNC__MOED": "enforce"}, "pkgsync.moed: there is no such option (in the environment variable"),
        ({"DASK_PKGSYNC__MODE": "strict"}, "pkgsync.mode: expected one of sync, enforce, warn, found 'strict'"),
        (
            {"DASK_PKGSYNC__MODE": "enforce", "DASK_PKGSYNC__TARGET": "/no/such.lock"},
            f"pkgsync.target: /no/such.lock cannot be read: {os.strerror(errno.ENOENT)} (in the environment variable",
        ),
        ({"DASK_PKGSYNC__TARGET": "scheduler"}, "is for the modes enforce and warn only"),
    ],
)
def test_a_scheduler_that_cannot_be_guarded_does_not_run(
    env: dict[str, str], reason: str, operator: Person, tmp_path: Path
) -> None:
    """Whatever is wrong with the configuration, the scheduler stops and says so: nobody gets in."""
    cluster = Cluster(tmp_path, operator.venv, tmp_path / "cache", env={**GUARDED, **env})
    try:
        process = cluster.start(
            "scheduler", operator.venv, "scheduler", "--host", "tcp://127.0.0.1:0", "--no-dashboard"
        )
        assert process.wait(60) != 0
        assert reason in cluster.log("scheduler")
    finally:
        cluster.stop()


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("env", "line"),
    [
        ({}, "guards this scheduler: mode sync, stock clients: judge"),
        ({"DASK_PKGSYNC__MODE": "warn"}, "guards this scheduler: mode warn (target scheduler, "),
        (
            {"DASK_PKGSYNC__MODE": "enforce", "DASK_PKGSYNC__TARGET": "a.txt", "DASK_PKGSYNC__STOCK_CLIENTS": "refuse"},
            "guards this scheduler: mode enforce (target a.txt, 5 packages), stock clients: refuse",
        ),
    ],
)
def test_a_scheduler_says_that_it_is_guarded_and_how(env: dict[str, str], line: str, tmp_path: Path) -> None:
    """The operator sees it in the scheduler's terminal, whatever else is configured for its log."""
    (tmp_path / "a.txt").write_text(_pins(scan(modules=False)))
    here = Venv(Path(sys.prefix))
    cluster = Cluster(tmp_path, here, tmp_path / "cache", env=env)
    try:
        cluster.start(
            "scheduler", here, "scheduler", "--no-dashboard", "--port", "0", "--preload", "dask_pkgsync.preload"
        )
        cluster.wait_for(lambda: line in cluster.log("scheduler"), line)
    finally:
        cluster.stop()


# -- without a cluster -----------------------------------------------------------------------------------------------


def test_every_option_is_described_and_its_default_allowed() -> None:
    """The defaults agree with the schema, key by key."""
    assert set(defaults()) == set(schema())
    with dask.config.set({"pkgsync": defaults()}):
        check_configuration()
    assert all(rule["description"].strip() for rule in schema().values())


def test_who_clears_the_configuration_gets_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests, and applications with several clusters, do; a scheduler that starts then is guarded all the same."""
    monkeypatch.setattr(dask.config, "config", {})
    assert setting("mode") == "sync"
    assert policy_from({}) == Policy.of()
    check_configuration()


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("drain-share", 1.5, "expected a number from 0 to 1"),
        ("ignoer", [], "there is no such option; did you mean ignore?"),
        ("ignore", "numpy", "expected array of strings, found 'numpy'"),
        ("ignore", [5], "expected array of strings"),
        ("strict", 1, "expected boolean, found 1"),
        ("install-timeout", True, "expected string or number, found True"),
        ("transport", "pigeon", "expected one of auto, index, client"),
        ("index-url", 5, "expected string or null, found a int"),
        (
            "levels",
            {"six": "critical", "pandas": "strict"},
            "pandas: expected one of critical, exact, version, compatible, ignore",
        ),
        ("install-timeout", "soon", "expected a time such as '600s' or 600, found 'soon'"),
        ("install-timeout", 0, "expected a time such as '600s' or 600, found 0"),
        ("release-after", "", "expected a time such as '600s' or 600, found ''"),
        ("drain-timeout", "-1s", "expected a time such as '600s' or 600, found '-1s'"),
        ("drain-timeout", float("nan"), "expected a time such as '600s' or 600, found nan"),
        ("cache-size", "much", "expected a size such as '50 MB' or a number of bytes, found 'much'"),
    ],
)
def test_what_is_wrong_is_named(key: str, value: object, reason: str) -> None:
    """Unknown keys and values of another type are errors that say what was expected."""
    with dask.config.set({f"pkgsync.{key}": value}), pytest.raises(PolicyError) as caught:
        check_configuration()
    assert f"pkgsync.{key}: {reason}" in str(caught.value)


def test_times_that_may_be_nothing_or_never_are_let_through() -> None:
    """A worker may be restarted without draining, and what nobody uses may stay for ever."""
    with dask.config.set({"pkgsync.drain-timeout": 0, "pkgsync.release-after": None, "pkgsync.cache-age": "2 days"}):
        check_configuration()


@pytest.mark.parametrize(
    ("key", "value", "make", "reason"),
    [
        ("levels", {"six": "strict"}, policy_from, "pkgsync.levels: six: expected one of critical, exact"),
        ("ignore", ["dask"], policy_from, "pkgsync.ignore: dask cannot be ignored"),
        ("install-timeout", "soon", install_timeout, "pkgsync.install-timeout: expected a time such as"),
        ("scheduler", "perhaps", scheduler_rule, "pkgsync.scheduler: expected one of warn, refuse"),
        ("modules", "mine", local_snapshot, "pkgsync.modules: expected true, false or a list, found 'mine'"),
        ("modules-limit", "much", local_snapshot, "pkgsync.modules-limit: expected a size such as"),
        ("cache-age", "old", lambda _: node_settings(), "pkgsync.cache-age: expected a time such as"),
        ("release-after", "0s", lambda _: release_after(), "pkgsync.release-after: expected a time"),
    ],
)
def test_a_wrong_value_is_told_with_its_key_and_its_variable(
    key: str, value: object, make: Any, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where no preload checks the configuration; what a function was given is told by the option's name alone."""
    variable = f"DASK_PKGSYNC__{key.upper().replace('-', '_')}"
    monkeypatch.setenv(variable, "whatever")
    with dask.config.set({f"pkgsync.{key}": value}), pytest.raises(PolicyError) as caught:
        make({})
    assert str(caught.value).startswith(reason)
    assert f"(in the environment variable {variable})" in str(caught.value)


def test_what_a_function_was_given_is_no_fault_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """The option is named as the person has written it."""
    monkeypatch.setenv("DASK_PKGSYNC__LEVELS__SIX", "exact")
    with pytest.raises(PolicyError) as caught:
        policy_from({"levels": {"six": "strict"}})
    assert str(caught.value).startswith("levels: six: expected one of")
    assert "variable" not in str(caught.value)
    with dask.config.set({"pkgsync.levels": {"six": "exact"}}), pytest.raises(PolicyError) as caught:
        policy_from({"ignore": ["six"]})
    where = "(in the environment variable DASK_PKGSYNC__LEVELS__SIX)"
    assert str(caught.value) == f"pkgsync.levels: six stands both in ignore and in levels {where}"


def test_the_file_of_a_wrong_key_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The person reads where to look."""
    (tmp_path / "ours.yaml").write_text("pkgsync:\n  stict: true\n")
    (tmp_path / "other.yaml").write_text("distributed: {}\n")
    (tmp_path / "broken.yaml").write_text("[")
    monkeypatch.setattr(dask.config, "paths", [str(tmp_path), str(tmp_path / "gone"), str(tmp_path / "ours.yaml")])
    with dask.config.set({"pkgsync.stict": True}), pytest.raises(PolicyError) as caught:
        check_configuration()
    assert f"(in {tmp_path / 'ours.yaml'}" in str(caught.value)
    assert "other.yaml" not in str(caught.value)
    with dask.config.set({"pkgsync": 5}), pytest.raises(PolicyError, match="expected a section with keys, found 5"):
        check_configuration()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("pkgsync: enforce", "pkgsync: expected a section with keys, found 'enforce'"),
        ("pkgsync: [mode, enforce]", "pkgsync: expected a section with keys, found ['mode', 'enforce']"),
        ("pkgsync: {levels: [pandas]}", "pkgsync.levels: expected object, found ['pandas']"),
        (
            "distributed: {pkgsync: {mode: enforce}}",
            "distributed.pkgsync: the section pkgsync stands beside distributed",
        ),
        ("pkgsync:", ""),
        ("[]", ""),
    ],
)
def test_what_dask_drops_without_a_word_is_named(
    text: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a file or variable has no section, Dask keeps the defaults: the cluster would not be what was meant."""
    (tmp_path / "ours.yaml").write_text(text)
    monkeypatch.setattr(dask.config, "paths", [str(tmp_path)])
    if not reason:
        check_configuration()
        return
    with pytest.raises(PolicyError) as caught:
        check_configuration()
    assert reason in str(caught.value)
    assert str(tmp_path / "ours.yaml") in str(caught.value)


def test_a_variable_that_is_no_section_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As DASK_PKGSYNC=enforce, where DASK_PKGSYNC__MODE=enforce was meant."""
    monkeypatch.setenv("DASK_PKGSYNC", "enforce")
    with pytest.raises(PolicyError, match=r"found 'enforce' \(in an environment variable\)"):
        check_configuration()


def _sdist(name: str, version: str) -> str:
    url = f"https://example.org/{name}-{version}.tar.gz"
    return f'version = "{version}"\nsdist = {{ url = "{url}", hashes = {{ sha256 = "{"0" * 64}" }} }}\n'


LOCKS = {
    "requirements.txt": "# pins\n-i https://example.org\nNumPy==2.1.0 \\\n    --hash=sha256:1 \\\n    --hash=sha256:2\n"
    "six==1.17.0 ; python_version >= '3'  # comment\nold==1.0 ; python_version < '3'\n",
    "pylock.toml": 'lock-version = "1.0"\ncreated-by = "test"\n'
    f'[[packages]]\nname = "numpy"\n{_sdist("numpy", "2.1.0")}[[packages]]\nname = "six"\n{_sdist("six", "1.17.0")}'
    f'[[packages]]\nname = "old"\nmarker = "python_version < \'3\'"\n{_sdist("old", "1")}',
    "uv.lock": 'version = 1\n[[package]]\nname = "mine"\nversion = "0.1"\nsource = { editable = "." }\n'
    '[[package]]\nname = "numpy"\nversion = "2.1.0"\n[[package]]\nname = "six"\nversion = "1.17.0"\n'
    '[[package]]\nname = "old"\nversion = "1"\nresolution-markers = ["python_version < \'3\'"]\n',
    "poetry.lock": '[[package]]\nname = "numpy"\nversion = "2.1.0"\n[[package]]\nname = "six"\nversion = "1.17.0"\n',
}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="reading TOML needs Python 3.11, or tomli")
@pytest.mark.parametrize("name", LOCKS)
def test_lock_files_are_read(name: str) -> None:
    """Whoever wrote it, the same pins come out, without those of other Pythons and without the project itself."""
    found = environment_from_lock(name, LOCKS[name], this_interpreter())
    assert {one.name: one.version for one in found.distributions.values()} == {"numpy": "2.1.0", "six": "1.17.0"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda pins: pins.replace("tornado==", "# ").replace("dask==", "# ", 1), "does not pin dask, tornado, which"),
        (lambda pins: pins.replace("tornado==", "tornado==0."), "pins tornado 0."),
    ],
)
def test_a_lock_file_that_nobody_could_match_is_told_at_the_start(change: Any, reason: str, tmp_path: Path) -> None:
    """One that leaves critical packages out, or has others than the scheduler: with the file, and which they are."""
    path = tmp_path / "requirements.txt"
    path.write_text(change(_pins(scan(modules=False))))

    async def start() -> None:
        async with Scheduler(port=0, dashboard_address=":0") as scheduler:
            with pytest.raises(PolicyError) as caught:
                await guard(scheduler)
            assert str(caught.value).startswith(f"pkgsync.target: {path} {reason}")

    with dask.config.set({"pkgsync.mode": "enforce", "pkgsync.target": str(path)}):
        asyncio.run(start())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, os.strerror(errno.ENOENT)),
        ("directory", os.strerror(errno.EISDIR)),
        (b"\xff", "it is no text in UTF-8; save it as UTF-8"),
        (b"\xff\xfea", "it is no text in UTF-16; save it as UTF-8"),
        (
            "six==1.0".encode("utf-16-le"),
            "it is a text in UTF-16 without a byte order mark, or no text; save it as UTF-8",
        ),
    ],
)
def test_a_lock_file_that_cannot_be_read_is_named_once(content: Any, reason: str, tmp_path: Path) -> None:
    """The path stands in the message once, with the reason."""
    path = tmp_path / "uv.lock"
    if content == "directory":
        path.mkdir()
    elif content:
        path.write_bytes(content)
    with pytest.raises(PolicyError) as caught:
        read_lock(str(path))
    assert str(caught.value) == f"{path} cannot be read: {reason}"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["requirements.txt", "environment.json"])
def test_a_byte_order_mark_tells_the_encoding(name: str, encoding: str, tmp_path: Path) -> None:
    """Editors write one, and PowerShell writes UTF-16 with it; `compare` reads such files, too."""
    here = scan(modules=False)
    path = tmp_path / name
    path.write_text(here.to_json() if name.endswith("json") else "click==8.0\r\n", encoding=encoding)
    assert "click" in read_lock(str(path)).distributions
    if name.endswith("json"):
        page = CliRunner().invoke(cli.pkgsync, ["compare", str(path), "-"], input=path.read_bytes())
        assert page.exit_code == 0, page.output


def test_requirements_of_other_files_are_read(tmp_path: Path) -> None:
    """Those that ``-r`` includes, from where the including file lies, and exact versions of constraints."""
    files = {
        "requirements.txt": "-r base/more.txt\n-c pins.txt\nnumpy\npandas>=2  # any\n--requirement=base/last.txt\n",
        "base/more.txt": "six==1.17.0\n-r last.txt\n",
        "base/last.txt": "toolz==1.0\nnumpy>=1\n",
        "pins.txt": "numpy==2.1.0\npandas==2.2.0\nunused==1.0\nscipy<2\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = read_lock(str(tmp_path / "requirements.txt")).distributions
    pins = {"numpy": "2.1.0", "pandas": "2.2.0", "six": "1.17.0", "toolz": "1.0"}
    assert {name: one.version for name, one in found.items()} == pins
    (tmp_path / "base/last.txt").write_text("-r more.txt\n-rmissing.txt\n-r https://example.org/r.txt\n")
    with pytest.raises(PolicyError) as caught:
        read_lock(str(tmp_path / "requirements.txt"))
    here, last = tmp_path / "base/last.txt", tmp_path / "base"
    for reason in (
        f"{here}: line 1: {last / 'more.txt'} includes itself",
        f"{here}: line 2: {last / 'missing.txt'} cannot be read: {os.strerror(errno.ENOENT)}",
        f"{here}: line 3: only files on this machine can be included",
    ):
        assert reason in str(caught.value)


def test_what_says_where_but_not_which_version_is_told_with_a_way_out() -> None:
    """All such lines of `pip freeze` at once, without passwords; a wheel tells its version by its name."""
    text = (
        "six==1.17.0\nmine @ file:///home/me/mine\n-e git+https://me:hunter2@example.org/two.git@abc#egg=two\n"
        "# Editable install with no version control (three==1.0)\n-e /home/me/three\n"
        "four @ git+https://token@example.org/four?key=hunter2\n./five\n"
        "toolz @ https://example.org/toolz-1.0.0-py3-none-any.whl#sha256=1\n"
    )
    with pytest.raises(PolicyError) as caught:
        environment_from_lock("r.txt", text, this_interpreter())
    said = str(caught.value)
    assert [line.partition(": expected")[0] for line in said.splitlines()[:-1]] == [
        f"r.txt: line {number}" for number in (2, 3, 5, 6, 7)
    ]
    assert "pip list --format=freeze" in said
    assert "hunter2" not in said
    assert "token" not in said
    read = environment_from_lock("r.txt", text.splitlines()[0] + "\n" + text.splitlines()[-1], this_interpreter())
    assert read.distributions["toolz"].version == "1.0.0"


def test_a_scan_is_a_lock_file_too() -> None:
    """What `scan --json` writes is read back."""
    here = scan(modules=False)
    assert environment_from_lock("a.json", here.to_json(), this_interpreter()).fingerprint == here.fingerprint


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("r.txt", "numpy>=2\n", "line 1: expected one exact version"),
        ("r.txt", "numpy==2.*\n", "line 1: expected one exact version"),
        ("r.txt", "six==1.0\n./local\n", "line 2: expected a pin such as numpy==2.1.0, found './local'"),
        ("r.txt", "# nothing\n", "pins nothing"),
        ("r.txt", "six==1.0\nsix==2.0\n", "pins six twice: 1.0 and 2.0"),
        ("a.toml", "x = 1", "holds no list of packages"),
        ("a.toml", "= nonsense", "is no TOML"),
        ("a.lock", "package = [5]", "an entry has no name"),
        (
            "pylock.toml",
            'lock-version="1.0"\ncreated-by="x"\npackages=[{name="a",version="1",marker="?"}]',
            "marker",
        ),
        ("a.json", "{}", "malformed message"),
    ],
)
@pytest.mark.skipif(sys.version_info < (3, 11), reason="reading TOML needs Python 3.11, or tomli")
def test_what_is_no_lock_file_is_told(name: str, text: str, reason: str) -> None:
    """With the file, the line, and what was expected."""
    with pytest.raises(PolicyError) as caught:
        environment_from_lock(name, text, this_interpreter())
    assert str(caught.value).startswith(f"{name}: ")
    assert reason in str(caught.value)


def test_this_environment_can_be_checked_against_a_lock_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit status says it to a pipeline, the table to people."""
    monkeypatch.chdir(tmp_path)
    here = scan(modules=False)
    Path("same.json").write_text(here.to_json())
    same = CliRunner().invoke(cli.pkgsync, ["check", "same.json", "--no-modules"])
    assert (same.exit_code, same.output) == (0, "same.json: would be let in.\n")
    Path("other.txt").write_text(f"click==0.1\n{_pins(here)}")
    other = CliRunner().invoke(cli.pkgsync, ["check", "other.txt", "--no-modules"])
    assert other.exit_code == 1
    assert "click" in other.output
    assert other.output.splitlines()[-1] == "other.txt: would be refused: it differs from what is enforced (click)."
    Path("short.txt").write_text(_pins(here).replace("tornado==", "# "))
    short = CliRunner().invoke(cli.pkgsync, ["check", "short.txt", "--no-modules"])
    assert short.exit_code == 1
    assert "short.txt does not pin tornado, which Dask needs" in short.output
    ignoring = CliRunner().invoke(cli.pkgsync, ["check", "other.txt", "--no-modules", "--ignore", "click"])
    assert ignoring.exit_code == 0
    gone = CliRunner().invoke(cli.pkgsync, ["check", "gone.lock"])
    assert gone.exit_code == 1
    (line,) = gone.stderr.splitlines()
    assert line.endswith(f"gone.lock cannot be read: {os.strerror(errno.ENOENT)}")
    Path("broken.txt").write_text("numpy")
    assert CliRunner().invoke(cli.pkgsync, ["check", "broken.txt"]).exit_code == 1


def _pins(environment: Any) -> str:
    return "".join(f"{name}=={environment.distributions[name].version}\n" for name in CRITICAL)
