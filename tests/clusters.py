"""Real clusters for tests: `dask scheduler` and `dask worker` processes in virtual environments of their own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from distributed import Client
from distributed.versions import VersionMismatchWarning
from uv import find_uv_bin

import dask_pkgsync
from dask_pkgsync import Distribution, Environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from distributed.security import Security

SOURCE = Path(dask_pkgsync.__file__).parents[1]

OLDEST = dict(re.findall(r'"(dask|distributed)>=([\d.]+)"', (SOURCE / "pyproject.toml").read_text()))
"""The oldest Dask that the project promises to work with: the lower bounds of its requirements."""
OLDEST_PINS = tuple(f"{name}=={oldest}" for name, oldest in OLDEST.items())

CRITICAL = ("cloudpickle", "dask", "distributed", "msgpack", "tornado")
CRITICAL_PINS = tuple(f"{name}=={version(name)}" for name in CRITICAL)

BASE_PACKAGES = (*CRITICAL_PINS, "six==1.15.0", "inflection==0.5.1", "jaraco.context==5.3.0", "numpy==2.1.3")
"""What the nodes have: an older and a newer package than the target, one half of a namespace, compiled code."""

TARGET_PACKAGES = {
    "six": "1.17.0",
    "inflection": "0.5.0",
    "jaraco-classes": "3.4.0",
    "numpy": "2.2.6",
    "tabulate": "0.9.0",
}
"""What the tests' usual target has otherwise; all of it is imported by nothing in Dask itself, except numpy."""

LIGHT = {name: version for name, version in TARGET_PACKAGES.items() if name != "numpy"}
"""The same without numpy: nothing of it is imported by a fresh worker."""


def surroundings(**more: str) -> dict[str, str]:
    """Return an environment for cluster processes that shows them nothing of this interpreter's."""
    hidden = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV", "PYTEST_CURRENT_TEST", "PYTHONWARNINGS")
    return {**{name: value for name, value in os.environ.items() if name not in hidden}, **more}


@dataclass(frozen=True)
class Venv:
    """A virtual environment."""

    root: Path

    @property
    def python(self) -> str:
        return str(self.root / "bin" / "python")

    def run(self, code: str, *argv: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a script in it."""
        return subprocess.run(
            [self.python, "-c", code, *argv],
            capture_output=True,
            text=True,
            check=check,
            env=surroundings(**env),
            cwd=self.root,
            timeout=120,
        )

    def environment(self) -> Environment:
        """Scan it from inside, with our source on its path."""
        code = "import dask_pkgsync, sys; sys.path.pop(1); print(dask_pkgsync.scan(sys.path[1:]).to_json())"
        return Environment.from_json(self.run(code, PYTHONPATH=str(SOURCE)).stdout)

    def listing(self) -> dict[str, tuple[int, int]]:
        """Return every file with size and time, except bytecode: to show that nothing was written."""
        files = (path for path in self.root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


class Venvs:
    """Makes virtual environments, each once per test run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.made: dict[tuple[Any, ...], Venv] = {}

    def make(self, *packages: str, python: str | None = None) -> Venv:
        """Return an environment with these packages."""
        key = (packages, python)
        if key not in self.made:
            venv = Venv(self.root / f"venv{len(list(self.root.iterdir()))}")
            uv(["venv", "--python", python or base_python(), str(venv.root)])
            uv(["pip", "install", "--python", venv.python, *packages])
            self.made[key] = venv
        return self.made[key]

    def make_or_skip(self, *packages: str) -> Venv:
        """Return an environment with these packages; skips the test where they cannot be installed."""
        try:
            return self.make(*packages)
        except AssertionError as error:
            pytest.skip(f"{' '.join(packages)} cannot be installed here: {error}")

    def base(self) -> Venv:
        """Return what nodes usually have."""
        return self.make(*BASE_PACKAGES)


def base_python() -> str:
    """Return the interpreter below this virtual environment."""
    return str(getattr(sys, "_base_executable", sys.executable))


def other_python() -> str:
    """Return a Python of another minor version, from PATH or pyenv; skips the test where there is none."""
    others = [f"3.{minor}" for minor in (12, 13, 11, 10) if minor != sys.version_info.minor]
    for name in others:
        if (found := shutil.which(f"python{name}")) and _runs(found):
            return found
    if shutil.which("pyenv"):
        listed = subprocess.run(["pyenv", "versions", "--bare"], capture_output=True, text=True, check=False).stdout
        for name in others:
            for full in listed.split():
                if full.startswith(f"{name}."):
                    argv = ["pyenv", "prefix", full]
                    prefix = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
                    return f"{prefix}/bin/python"
    pytest.skip(f"no Python but {sys.version_info[0]}.{sys.version_info[1]} on this machine")


def _runs(python: str) -> bool:
    """Whether it is an interpreter, and not a shim for one that is not chosen."""
    return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0


def uv(argv: Sequence[str]) -> None:
    """Call uv."""
    finished = subprocess.run([find_uv_bin(), "--no-config", "-q", *argv], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


def environment_with(environment: Environment, changes: Mapping[str, str | None]) -> Environment:
    """Return an environment with some distributions in other versions, or (None) without them."""
    distributions = dict(environment.distributions)
    for name, wanted in changes.items():
        if wanted is None:
            distributions.pop(name, None)
        else:
            distributions[name] = Distribution(name, wanted)
    return Environment.of(environment.interpreter, distributions.values())


CLIENT_PACKAGES = (*BASE_PACKAGES, str(SOURCE))
PREAMBLE = """
import json, os, sys
import dask
from dask.distributed import Client
import dask_pkgsync as pkgsync

def everywhere(function, *args):
    futures = [client.submit(function, *args, workers=[worker], pure=False)
               for worker in client.scheduler_info(n_workers=-1)["workers"]]
    return [future.result(timeout=60) for future in futures]

def call(text):
    names = {}
    exec(text, names)
    return names["answer"]
"""


class Person:
    """Somebody with a virtual environment, projects in a directory, and a client."""

    def __init__(self, root: Path, *packages: str) -> None:
        self.home = root / "home"
        self.home.mkdir(parents=True)
        self.venv = Venv(root / "venv")
        uv(["venv", "--python", base_python(), str(self.venv.root)])
        self.install(*(packages or CLIENT_PACKAGES))

    def install(self, *packages: str) -> None:
        """Install into the person's environment."""
        uv(["pip", "install", "--python", self.venv.python, *packages])

    def uninstall(self, *packages: str) -> None:
        """Remove from the person's environment."""
        uv(["pip", "uninstall", "--python", self.venv.python, *packages])

    def write(self, files: dict[str, str], where: str = "") -> Path:
        """Write files below the person's home."""
        for name, text in files.items():
            path = self.home / where / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text).lstrip("\n"))
        return self.home / where

    def run(self, cluster: Cluster, script: str, *, check: bool = True, **env: str) -> Any:
        """Run a script of the person's with a connected client, and return what it printed last, as JSON."""
        path = self.home / "job" / "job.py"
        path.parent.mkdir(exist_ok=True)
        connected = f"with Client({cluster.address!r}) as client:\n"
        body = textwrap.indent(textwrap.dedent(script), "        ")
        main = f"if __name__ == '__main__':\n    {connected}{body}"
        path.write_text(PREAMBLE + main.replace("    with", "    with", 1))
        settings = {"DASK_PKGSYNC__CACHE_DIRECTORY": str(self.home / "cache"), "HOME": str(self.home), **env}
        done = subprocess.run(
            [self.venv.python, str(path)],
            capture_output=True,
            text=True,
            check=False,
            env=surroundings(**settings),
            cwd=self.home,
            timeout=200,
        )
        if not check:
            return done
        assert done.returncode == 0, done.stderr + cluster.logs()
        return json.loads(done.stdout.strip().splitlines()[-1])


@dataclass
class Cluster:
    """A scheduler and workers, each a process (group) of its own."""

    root: Path
    scheduler_venv: Venv
    cache: Path | None
    """None: whatever the processes' own configuration says."""
    env: dict[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    """For both commands, for example TLS files."""
    security: Security | None = None
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)

    @property
    def scheduler_file(self) -> Path:
        return self.root / "scheduler.json"

    @property
    def address(self) -> str:
        return str(json.loads(self.scheduler_file.read_text())["address"])

    def start(self, name: str, venv: Venv, *argv: str, **env: str) -> subprocess.Popen[bytes]:
        """Start a dask command."""
        return self.spawn(name, [venv.python, "-m", "dask", *argv, *self.options], **env)

    def spawn(self, name: str, argv: Sequence[str], **env: str) -> subprocess.Popen[bytes]:
        """Start any program as a part of the cluster."""
        cache = {"DASK_PKGSYNC__CACHE_DIRECTORY": str(self.cache)} if self.cache else {}
        settings = {**cache, **self.env, **env}
        with (self.root / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=surroundings(**settings),
                cwd=self.root,
                start_new_session=True,
            )
        self.processes[name] = process
        return process

    def start_scheduler(self, address: str | None = None) -> None:
        """Start a scheduler, at any address or at that of one that has gone."""
        host = address or f"{'tls' if self.security else 'tcp'}://127.0.0.1:0"
        argv = ["--scheduler-file", str(self.scheduler_file), "--no-dashboard"]
        self.start("scheduler", self.scheduler_venv, "scheduler", *argv, "--host", host)
        self.wait_for(self.has_address, "the scheduler's address")

    def has_address(self) -> bool:
        """Whether the scheduler's file is there and filled: Dask makes it and writes to it in two steps."""
        return self.scheduler_file.exists() and self.scheduler_file.stat().st_size > 0

    def add_worker(
        self, *argv: str, name: str | None = None, venv: Venv | None = None, nanny: bool = True, **env: str
    ) -> subprocess.Popen[bytes]:
        """Start a `dask worker` command; does not wait for it."""
        name = name or f"worker{len(self.processes)}"
        options = ["--scheduler-file", str(self.scheduler_file), "--nthreads", "1", "--no-dashboard"]
        options += ["--local-directory", str(self.root / name), "--death-timeout", "60", "--host", "127.0.0.1"]
        options += ["--nanny" if nanny else "--no-nanny"]
        return self.start(name, venv or self.scheduler_venv, "worker", *options, *argv, **env)

    def wait_for(self, condition: Any, what: str, timeout: float = 60) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {timeout} s for {what}\n{self.logs()}")
            time.sleep(0.05)

    @contextlib.contextmanager
    def client(self, workers: int | None = None) -> Iterator[Client]:
        """Connect, and wait for workers."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VersionMismatchWarning)  # numpy differs between here and there
            client = Client(self.address, security=self.security, set_as_default=False, timeout=60)
        with client:
            if workers is not None:
                client.wait_for_workers(workers, timeout=60)
            yield client

    def log(self, name: str) -> str:
        return (self.root / f"{name}.log").read_text(errors="replace")

    def warnings_of_us(self, name: str) -> list[str]:
        """Return what warnings say in a log about ours, as Dask does of a plugin that is there twice."""
        said = (line.partition("Warning: ")[2] for line in self.log(name).splitlines())
        return [text for text in said if "pkgsync" in text]

    def logs(self) -> str:
        return "\n".join(f"--- {name}\n{self.log(name)[-6000:]}" for name in self.processes)

    def stop(self) -> None:
        """End everything, whatever state it is in, and look that nothing is left."""
        left: list[psutil.Process] = []
        for process in self.processes.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                parent = psutil.Process(process.pid)
                left += [parent, *parent.children(recursive=True)]
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for one in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        for process in self.processes.values():
            process.wait(60)
        _, alive = psutil.wait_procs(left, timeout=60)
        assert not alive


@contextlib.contextmanager
def running(
    root: Path,
    venv: Venv,
    cache: Path,
    *worker_argv: str,
    workers: int = 1,
    nanny: bool = True,
    worker_venv: Venv | None = None,
    **rest: Any,
) -> Iterator[Cluster]:
    """Run a cluster with one `dask worker` command of so many workers."""
    cluster = Cluster(root, venv, cache, **rest)
    try:
        cluster.start_scheduler()
        if workers:
            cluster.add_worker("--nworkers", str(workers), *worker_argv, nanny=nanny, venv=worker_venv)
        yield cluster
    except BaseException:
        sys.stderr.write(cluster.logs())
        raise
    finally:
        cluster.stop()


# What tasks look at: these functions travel to the workers by value.


def versions_here(names: Sequence[str]) -> dict[str, str | None]:
    """Return the versions that the import system of this process finds."""
    import importlib.metadata

    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def pid_here() -> int:
    """Return the number of this process."""
    return os.getpid()


def imported_version(module: str) -> str:
    """Import a module and return its own idea of its version."""
    import importlib

    return str(importlib.import_module(module).__version__)


def on_workers(client: Client, function: Any, *args: Any) -> dict[str, Any]:
    """Run a function as a task on each worker."""
    workers = list(client.nthreads())  # (Dask itself overwrites scheduler_info every 2 s, without workers)
    futures = {worker: client.submit(function, *args, workers=[worker], pure=False) for worker in workers}
    return {worker: future.result(timeout=60) for worker, future in futures.items()}


def nannies_prepare(client: Client) -> bool:
    """Whether a sync is so far, or was, that a nanny prepares what it has to have."""
    events = [event for _, event in client.get_events("pkgsync")]
    return any((one.get("role"), one.get("step")) == ("nanny", "prepare") for one in events)
