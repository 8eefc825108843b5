"""What the demo plays on: environments, the processes of a cluster, a temporary directory, and their end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.model.environments.origin import FromIndex
from dask_pkgsync.model.errors import PkgsyncError
from dask_pkgsync.model.policy import CRITICAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import psutil
    from distributed import Client

    from dask_pkgsync.model.environments.environment import Environment


class DemoError(PkgsyncError):
    """The demo could not go on.

    Attributes
    ----------
    doing : str
        What was being done.
    last_words : str
        The end of what the process in question wrote.
    """

    def __init__(self, doing: str, last_words: str) -> None:
        super().__init__(doing, last_words)
        self.doing, self.last_words = doing, last_words

    def __str__(self) -> str:
        """Say what went wrong and show the last words."""
        return f"The demo stopped while {self.doing}:\n{self.last_words.strip() or '(no output)'}"


class Uv:
    """Makes virtual environments beside each other.

    Parameters
    ----------
    directory : Path
        Where they go.
    model : Environment
        What they are to have the same versions as, as far as they have the package at all.
    """

    def __init__(self, directory: Path, model: Environment) -> None:
        self._directory = directory
        self.model = model
        self._uv = find_uv()

    def environment(self, name: str, requirements: list[str], *, changed: set[str]) -> Path:
        """Make an environment with Dask and return its interpreter.

        Parameters
        ----------
        name : str
            Name of its directory.
        requirements : list of str
            What it is to have besides the model's critical packages.
        changed : set of str
            The packages that may have other versions than the model's.
        """
        place = self._directory / name
        constraints = self._directory / f"{name}.txt"
        constraints.write_text("".join(f"{pin}\n" for pin in pins(self.model, without=changed)))
        python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        self._run("venv", "--python", sys.executable, str(place))
        dask = [f"{one}=={version_of(self.model, one)}" for one in CRITICAL if one not in changed]
        self._run("pip", "install", "--python", str(python), "--constraint", str(constraints), *dask, *requirements)
        return python

    def _run(self, *arguments: str) -> None:
        command = [self._uv, *arguments, "--no-config", "--quiet"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DemoError("making an environment with uv", done.stderr)


def find_uv() -> str:
    """Return uv's path: the one this package depends on, or the one on PATH."""
    try:
        from uv import find_uv_bin

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if found is None:
        raise DemoError("looking for uv", "uv is not installed here; `pip install uv` brings it")
    return found


def pins(model: Environment, without: Iterable[str]) -> list[str]:
    """Pin what the model has from an index, so that the other environments get the same."""
    left_out = set(without)
    return [
        f"{one.name}=={one.version}"
        for one in model.distributions.values()
        if isinstance(one.origin, FromIndex) and one.name not in left_out and not model.faulty(one.name)
    ]


def version_of(environment: Environment, name: str) -> str:
    """Return the version of a package that has to be there."""
    if name not in environment.distributions:
        raise DemoError("looking at this environment", f"{name} is not installed here; `pip install {name}` brings it")
    return environment.distributions[name].version


@contextmanager
def cluster(python: Path, directory: Path) -> Iterator[str]:
    """Start a scheduler and two workers with nannies, give the scheduler's address, and end them."""
    contact = directory / "scheduler.json"
    common = ["--scheduler-file", str(contact), "--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        # Should this process be killed without a chance to clean up, the scheduler ends by itself, and then they all.
        idle = ["--host", "127.0.0.1", "--port", "0", "--idle-timeout", "15 minutes"]
        processes.append(start(python, ["scheduler", *common, *idle], directory))
        address = wait_for_address(contact, processes[0], directory / "scheduler.log")
        workers = ["--host", "127.0.0.1", "--nworkers", "2", "--nthreads", "1", "--death-timeout", "60"]
        scratch = ["--local-directory", str(directory / "scratch")]
        processes.append(start(python, ["worker", *common, *workers, *scratch], directory))
        yield address
    finally:
        stop(processes)


def start(python: Path, arguments: list[str], directory: Path) -> subprocess.Popen[bytes]:
    """Start one of Dask's commands in a process group of its own, with its output in a log file."""
    environment = clean_environment(python)
    environment["TMPDIR"] = str(directory)
    environment.setdefault("DASK_PKGSYNC__CACHE_DIRECTORY", str(directory / "cache"))
    with (directory / f"{arguments[0]}.log").open("wb") as log:
        return subprocess.Popen(
            [str(python), "-m", "dask", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=environment,
            start_new_session=True,
        )


def clean_environment(python: Path) -> dict[str, str]:
    """Return this process's environment variables without what would lead another interpreter back to ours."""
    ours = ("PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV", "CONDA_PREFIX")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ours and (not name.startswith("DASK_") or name.startswith("DASK_PKGSYNC__CACHE"))
    }
    kept["PATH"] = os.pathsep.join([str(python.parent), kept.get("PATH", os.defpath)])
    return kept


def wait_for_address(contact: Path, scheduler: subprocess.Popen[bytes], log: Path, seconds: float = 60) -> str:
    """Wait until the scheduler has written where it listens."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and scheduler.poll() is None:
        with suppress(OSError, ValueError):  # not there yet, or half written
            return str(json.loads(contact.read_text())["address"])
        time.sleep(0.05)
    raise DemoError("starting the scheduler", log.read_text(errors="replace")[-2000:])


@contextmanager
def connect(address: str, workers: int) -> Iterator[Client]:
    """Connect, and wait for the workers."""
    import warnings

    from distributed import Client
    from distributed.versions import VersionMismatchWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VersionMismatchWarning)  # the demo shows its own table
        with Client(address, set_as_default=False) as client:
            try:
                client.wait_for_workers(workers, timeout=60)
            except TimeoutError as error:
                raise DemoError("waiting for the workers", str(error)) from None
            yield client


def stop(processes: list[subprocess.Popen[bytes]], patience: float = 2) -> None:
    """End processes and all that they have started: politely, and after some seconds for good."""
    import psutil

    family = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            family += [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for process in reversed(processes):  # the workers before the scheduler
        process.terminate()
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and any(_lives(member) for member in family):
        time.sleep(0.02)
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    for process in processes:
        _end_group(process.pid)
        process.wait()


def _lives(process: psutil.Process) -> bool:
    """Whether a process does anything yet: one that nobody has waited for has ended all the same."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def _end_group(leader: int) -> None:
    """Kill what may be left of a process group: children that began after the list was made."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except (OSError, AttributeError):  # nobody left, or a system without process groups
        return


@contextmanager
def temporary_directory() -> Iterator[Path]:
    """Make a directory and remove it, with all that is in it, at the end."""
    directory = Path(tempfile.mkdtemp(prefix="dask-pkgsync-demo-")).resolve()
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def signals_end_it() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does: with everything cleaned up."""
    if threading.current_thread() is not threading.main_thread():  # only that one may handle signals
        yield
        return
    wanted = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

    def end(number: int, frame: object) -> None:  # noqa: ARG001
        for one in wanted:  # once is enough: what follows is the cleaning up
            signal.signal(one, signal.SIG_IGN)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    before = {one: signal.signal(one, end) for one in wanted}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
