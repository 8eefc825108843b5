"""The surroundings of the demo: its environments, the processes of its cluster, its directory, and their removal."""

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

from dask_pkgsync.installers.calls import last_words
from dask_pkgsync.installers.find import own_uv
from dask_pkgsync.installers.programs import DeadlineExceededError, run
from dask_pkgsync.installers.settings import installer_environment
from dask_pkgsync.installers.uv import index_options, index_variables
from dask_pkgsync.model.child_environment import child_environment
from dask_pkgsync.model.environments.origin import FromIndex
from dask_pkgsync.model.errors import PkgsyncError
from dask_pkgsync.model.policy import CRITICAL
from dask_pkgsync.scanning.configured_indexes import configured_indexes
from dask_pkgsync.scanning.configured_trust import configured_trust

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import psutil
    from distributed import Client

    from dask_pkgsync.model.environments.environment import Environment


UV_TIMEOUT = 600.0
"""Seconds that one run of uv may take."""


class DemoError(PkgsyncError):
    """A step of the demo failed.

    Attributes
    ----------
    doing : str
        The step, for example ``starting the scheduler``.
    last_words : str
        The end of the output of the process that failed.
    """

    def __init__(self, doing: str, last_words: str) -> None:
        super().__init__(doing, last_words)
        self.doing, self.last_words = doing, last_words

    def __str__(self) -> str:
        """Name the step and show the end of the output."""
        return f"The demo stopped while {self.doing}:\n{self.last_words.strip() or '(no output)'}"


class Uv:
    """Makes virtual environments with uv.

    Parameters
    ----------
    directory : Path
        Directory of the environments.
    model : Environment
        The environment whose versions they get, for the packages that they have.
    """

    def __init__(self, directory: Path, model: Environment) -> None:
        self._directory = directory
        self.model = model
        self._uv = find_uv()
        self._indexes = configured_indexes()

    def environment(self, name: str, requirements: list[str], *, changed: set[str]) -> Path:
        """Make an environment with Dask and return its interpreter.

        Parameters
        ----------
        name : str
            Name of the environment's directory.
        requirements : list of str
            Packages that it gets in addition to the model's critical packages.
        changed : set of str
            The packages that may have other versions than in the model.
        """
        place = self._directory / name
        constraints = self._directory / f"{name}.txt"
        constraints.write_text("".join(f"{pin}\n" for pin in pins(self.model, without=changed)))
        python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        self._run("venv", "--python", sys.executable, str(place))
        dask = [f"{name}=={version_of(self.model, name)}" for name in CRITICAL if name not in changed]
        options = ["--python", str(python), "--constraint", str(constraints), *index_options(self._indexes)]
        self._run("pip", "install", *options, *dask, *requirements)
        return python

    def _run(self, *arguments: str) -> None:
        """Run uv with the indexes that are configured here, and the certificates, whether for uv or for pip."""
        cache = {name: value for name, value in os.environ.items() if name == "UV_CACHE_DIR"}
        settings = {**configured_trust(), **index_variables(self._indexes), **cache}
        env = installer_environment(self._directory, settings, self._indexes)
        command = [self._uv, *arguments, "--no-config", "--quiet"]
        try:
            done = run(command, timeout=UV_TIMEOUT, env=env, cwd=self._directory)
        except DeadlineExceededError as error:
            raise DemoError("making an environment with uv", f"{error}\n{error.stderr}") from None
        if done.returncode:
            raise DemoError("making an environment with uv", last_words(done.stderr))


def find_uv() -> str:
    """Return the path of uv; raise `DemoError` if it is not here."""
    path = own_uv(Path(sys.executable))
    if path is None:
        raise DemoError("looking for uv", "uv is not installed here; install it with `pip install uv`")
    return str(path)


def pins(model: Environment, without: Iterable[str]) -> list[str]:
    """Return pins of the model's distributions from an index, so that other environments get the same versions."""
    left_out = set(without)
    return [
        f"{distribution.name}=={distribution.version}"
        for name, distribution in model.distributions.items()
        if isinstance(distribution.origin, FromIndex) and name not in left_out and not model.faulty(name)
    ]


def version_of(environment: Environment, name: str) -> str:
    """Return the version of a package; raise `DemoError` if it is not installed."""
    if name not in environment.distributions:
        problem = f"{name} is not installed here; install it with `pip install {name}`"
        raise DemoError("looking at this environment", problem)
    return environment.distributions[name].version


@contextmanager
def cluster(python: Path, directory: Path) -> Iterator[str]:
    """Start a scheduler and two workers with nannies, yield the scheduler's address, and end them after the block."""
    contact = directory / "scheduler.json"
    common = ["--scheduler-file", str(contact), "--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        # If this process is killed and cannot clean up, the idle scheduler ends by itself, and the workers with it.
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
    """Start a command of Dask in a process group of its own; its output goes to a log file in the directory."""
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
    """Return environment variables for processes of the demo's cluster.

    They are this process's without those that point to this environment or configure Dask; and the certificates that
    pip is configured with here, because a configuration file of this environment is none of the cluster's.
    """
    kept = {
        name: value
        for name, value in child_environment(os.environ).items()
        if name.startswith("DASK_PKGSYNC__CACHE") or not name.startswith(("DASK_", "PYTHONDONTWRITEBYTECODE"))
    }
    kept |= configured_trust()
    kept["PATH"] = os.pathsep.join([str(python.parent), kept.get("PATH", os.defpath)])
    return kept


def wait_for_address(contact: Path, scheduler: subprocess.Popen[bytes], log: Path, seconds: float = 60) -> str:
    """Wait until the scheduler has written its address to its contact file, and return the address."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and scheduler.poll() is None:
        with suppress(OSError, ValueError):  # the file does not exist yet, or is not complete
            return str(json.loads(contact.read_text())["address"])
        time.sleep(0.05)
    raise DemoError("starting the scheduler", log.read_text(errors="replace")[-2000:])


@contextmanager
def connect(address: str, workers: int) -> Iterator[Client]:
    """Connect a client to the cluster, and wait for its workers."""
    import warnings

    from distributed import Client
    from distributed.versions import VersionMismatchWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VersionMismatchWarning)  # the demo shows a table of the differences itself
        with Client(address, set_as_default=False) as client:
            try:
                client.wait_for_workers(workers, timeout=60)
            except TimeoutError as error:
                raise DemoError("waiting for the workers", str(error)) from None
            yield client


def stop(processes: list[subprocess.Popen[bytes]], patience: float = 2) -> None:
    """End processes and their children: ask them to terminate, and kill them if they still run some seconds later."""
    import psutil

    family = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            family += [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for process in reversed(processes):  # end the workers before the scheduler
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
    """Whether a process still runs; a zombie, which its parent has not waited for, does not."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def _end_group(leader: int) -> None:
    """Kill the rest of a process group: children that started after `stop` had listed the processes."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except (OSError, AttributeError):  # the group is empty, or the system has no process groups
        return


@contextmanager
def temporary_directory() -> Iterator[Path]:
    """Make a temporary directory, and remove it with its content after the block."""
    directory = Path(tempfile.mkdtemp(prefix="dask-pkgsync-demo-")).resolve()
    try:
        yield directory
    finally:
        # An installer that was interrupted may have left a process that still writes there for a moment.
        deadline = time.monotonic() + 10
        while directory.exists() and time.monotonic() < deadline:
            _make_writable(directory)
            shutil.rmtree(directory, ignore_errors=True)
            time.sleep(0.02)


def _make_writable(directory: Path) -> None:
    """Let the directories of a tree be removed: those of layers are read-only."""
    for parent, directories, _ in os.walk(directory):
        for name in directories:
            path = Path(parent, name)
            if not path.is_symlink():
                with suppress(OSError):
                    path.chmod(0o700)


@contextmanager
def signals_end_it() -> Iterator[None]:
    """Make SIGTERM and SIGHUP end the block with an exception, as Ctrl-C does, so that everything is cleaned up."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield
        return
    signals = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

    def end(number: int, frame: object) -> None:  # noqa: ARG001
        for handled in signals:  # a second signal must not interrupt the cleaning up
            signal.signal(handled, signal.SIG_IGN)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    previous = {handled: signal.signal(handled, end) for handled in signals}
    try:
        yield
    finally:
        for handled, handler in previous.items():
            signal.signal(handled, handler)
