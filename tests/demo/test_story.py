"""``dask pkgsync demo``, for real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from package_index import Index, authority, serving

from dask_pkgsync.demo import stage as demo_stage
from dask_pkgsync.demo import story as demo
from dask_pkgsync.model.environments.distribution import Distribution, Fault
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.environments.interpreter import Interpreter
from dask_pkgsync.model.environments.origin import FromVcs

pytestmark = pytest.mark.cluster
COMMAND = [sys.executable, "-m", "dask", "pkgsync", "demo"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Give the demo a temporary directory of its own, which must be empty at the end."""
    directory = tmp_path / "tmp"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    return directory


def processes_of(place) -> list[psutil.Process]:
    """Every process that was started from, or works in, the demo's directory."""
    found = []
    for process in filter(demo_stage._lives, psutil.process_iter()):
        try:
            if str(place) in " ".join([*process.cmdline(), process.cwd()]):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def until(condition, seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_the_demo_shows_the_main_job(place):
    """The demo shows differences, syncs, uses the packages on both workers, shows no differences, refuses a client."""
    done = subprocess.run(COMMAND, capture_output=True, text=True, check=False, timeout=240)
    text = done.stdout
    assert done.returncode == 0, text + done.stderr
    before, after = text.index("Compare: "), text.index("Compare again")
    assert "not there" in text[before:after]
    assert text[after:].count("no differences between client and worker") == 1
    assert text.count("rich ") >= 2
    refused = text[text.index("Turn away") :]
    assert "ImportError" in refused
    assert "cloudpickle" in refused
    assert "Seconds by step" in text
    assert "pkgsync: " in done.stderr
    assert list(place.iterdir()) == []
    assert processes_of(place) == []


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGINT, "Sync: "),
        *(
            pytest.param(number, moment, marks=pytest.mark.slow)
            for number, moment in (
                (signal.SIGTERM, "Sync: "),
                (signal.SIGINT, "Make an environment"),
                (signal.SIGTERM, "Make an environment"),
            )
        ),
    ],
)
def test_an_interrupted_demo_leaves_nothing(place, number, moment):
    """Interrupted in any step, the demo ends at once and leaves no process and no directory behind."""
    log = place.parent / "out.txt"
    with log.open("wb") as out:
        process = subprocess.Popen(
            COMMAND,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    try:
        until(lambda: moment in log.read_text() or process.poll() is not None, 120, "the demo did not get there")
        process.send_signal(number)
        assert process.wait(timeout=60) != 0, log.read_text()
    finally:
        process.kill()
        process.wait()
    until(lambda: not processes_of(place), 60, f"left behind: {processes_of(place)}")
    assert list(place.iterdir()) == []


def test_processes_that_ignore_a_polite_end_are_killed(tmp_path):
    """A process that ignores SIGTERM, and the child it started, are gone after the patience is over."""
    program = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True); "
        "print('up', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    process.stdout.readline()
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children()]
    demo_stage.stop([process], patience=0.2)
    process.stdout.close()
    assert len(family) == 2
    until(lambda: not any(demo_stage._lives(member) for member in family), 60, "somebody is left")


def test_a_scheduler_that_does_not_start_is_told_with_its_last_words(tmp_path):
    """When the scheduler ends before it listens, the demo says so and shows what it wrote."""
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    (tmp_path / "scheduler.log").write_text("no such option")
    with pytest.raises(demo_stage.DemoError, match=r"(?s)starting the scheduler.*no such option"):
        demo_stage.wait_for_address(tmp_path / "none.json", process, tmp_path / "scheduler.log", seconds=60)
    process.wait()


def test_the_clusters_environment_follows_the_clients_versions():
    """Packages from an index are pinned as here; others, faulty ones and those meant to differ are not."""
    interpreter = Interpreter("cpython", "3.11.7", "linux-x86_64", "cp311-cp311-linux_x86_64")
    model = Environment.of(
        interpreter,
        [
            Distribution("toolz", "1.0"),
            Distribution("pygments", "2.0"),
            Distribution("mine", "0.1", FromVcs("https://example.org/mine.git", "abc")),
            Distribution("twice", "1.0"),
        ],
        [Fault("duplicate", "/site", "twice is there twice", "twice")],
    )
    assert demo_stage.pins(model, without={"pygments"}) == ["toolz==1.0"]


def test_a_package_that_the_demo_needs_is_asked_for():
    """Where the client lacks what the demo speaks of, the error says how to get it."""
    nothing = Environment.of(Interpreter("cpython", "3.11.7", "linux-x86_64", ""), [])
    with pytest.raises(demo_stage.DemoError, match="pip install pygments"):
        demo_stage.version_of(nothing, demo.DIFFERENT)


def test_the_demo_trusts_whom_pip_is_configured_to_trust(tmp_path, monkeypatch):
    """An index whose authority only pip's configuration names serves the demo's environments; nodes trust it too."""
    ca, server = authority(tmp_path / "authority")
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_", "SSL_", "REQUESTS_", "CURL_"))]:
        monkeypatch.delenv(name)
    index = Index()
    index.add("sample", "1.0")
    nothing = Environment.of(Interpreter("cpython", "3.11.7", "linux-x86_64", ""), [])
    with serving(index, server):
        (tmp_path / "pip.conf").write_text(f"[global]\ncert = {ca}\nindex-url = {index.url}\n")
        monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
        uv = demo_stage.Uv(tmp_path, nothing)
        python = uv.environment("cluster", ["sample"], changed=set(demo_stage.CRITICAL))
    assert list(python.parents[1].glob("lib/python*/site-packages/sample.py"))
    assert demo_stage.clean_environment(python)["PIP_CERT"] == str(ca)


def test_nodes_do_not_find_the_way_back_to_the_client(monkeypatch, tmp_path):
    """Nothing in a node's environment variables leads to the client's packages or configuration."""
    for name in ("PYTHONPATH", "VIRTUAL_ENV", "DASK_SCHEDULER_ADDRESS", "PYTHONDONTWRITEBYTECODE"):
        monkeypatch.setenv(name, "something")
    monkeypatch.setenv("DASK_PKGSYNC__CACHE_DIRECTORY", "/somewhere")
    seen = demo_stage.clean_environment(tmp_path / "bin" / "python")
    assert not {"PYTHONPATH", "VIRTUAL_ENV", "DASK_SCHEDULER_ADDRESS", "PYTHONDONTWRITEBYTECODE"} & set(seen)
    assert seen["DASK_PKGSYNC__CACHE_DIRECTORY"] == "/somewhere"
    assert seen["PATH"].startswith(str(tmp_path / "bin"))
