"""The checkout of distributed, the virtual environment its tests run in, and one run of pytest there."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from outcomes import FILE, Outcome, Outcomes, read_junit
from uv import find_uv_bin

if TYPE_CHECKING:
    from collections.abc import Sequence

REPOSITORY = "https://github.com/dask/distributed"
OURS = Path(__file__).parents[2]
OTHERS = ("client", "worker", "nanny")

REQUIREMENTS = ("pytest", "pytest-repeat", "pytest-rerunfailures", "pytest-timeout")
OPTIONAL = (
    "aiohttp",
    "bokeh",
    "crick",
    "cryptography",
    "ipykernel",
    "ipywidgets",
    "lz4",
    "numpy",
    "pandas",
    "prometheus_client",
    "pyarrow",
    "requests",
    "setproctitle",
    "setuptools",
    "zstandard",
)
"""From distributed's pixi.toml: without these, tests of the files that are run here are skipped.

Not gilknocker: its thread aborts every second short process at its end, without the plugin too.
"""

PROBE = """
import asyncio
from distributed import Scheduler

async def main():
    async with Scheduler(port=0, dashboard_address=":0") as scheduler:
        print("pkgsync" in scheduler.extensions)

asyncio.run(main())
"""
PORTS = (8786, 8787)
"""Some tests want Dask's own ports, and fail where another cluster has them."""
INTERRUPTED = 60
"""Seconds that pytest has to write down what it found, once it was interrupted."""


class CannotRunError(Exception):
    """The tests cannot be run, or would show nothing."""


def clone(tag: str, directory: Path) -> Path:
    """Get distributed's source at a tag, unless it is there."""
    if not directory.exists():
        _call(["git", "clone", "-q", "--depth", "1", "--branch", tag, REPOSITORY, str(directory)])
    return directory


@dataclass(frozen=True)
class Surroundings:
    """Where the tests run."""

    checkout: Path
    """distributed's source."""
    work: Path
    """For the virtual environment, caches, what pytest wrote; outside of the checkout."""
    limit: float
    """Seconds that one run of a file may take."""
    arguments: Sequence[str]
    """More of them for pytest."""
    also: Sequence[str] = ()
    """Which of the `OTHERS` preload the plugin, beside the scheduler, where it is plugged."""

    @property
    def python(self) -> str:
        """Return the interpreter."""
        return str(self.work / "venv" / "bin" / "python")

    def install(self, tag: str, python: str) -> None:
        """Make the virtual environment, with the checkout in place of the distributed that an index has.

        A wheel of this repository is installed, not the repository: nobody's edits change what an hour's run tests.
        """
        uv = [find_uv_bin(), "-q"]
        if not Path(self.python).exists():
            _call([*uv, "venv", "--python", python, str(self.work / "venv")])
        install = [*uv, "pip", "install", "--python", self.python]
        again = ("--reinstall-package", "dask-pkgsync", "--reinstall-package", "distributed")
        _call([*install, *again, f"dask=={tag}", f"distributed=={tag}", str(OURS), *REQUIREMENTS, *OPTIONAL])
        # Files without their history say no version.
        _call([*install, "--no-deps", "--editable", str(self.checkout)], SETUPTOOLS_SCM_PRETEND_VERSION=tag)

    def check(self) -> None:
        """Raise unless a scheduler has the plugin with the variable and none without, and Dask's own ports are free."""
        for port in PORTS:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    raise CannotRunError(f"port {port} is taken on this machine: upstream's tests want it themselves")
        for plugged in (False, True):
            told = _call([self.python, "-c", PROBE], **self.environment(plugged=plugged)).strip()
            if told != str(plugged):
                raise CannotRunError(f"plugged: {plugged}; is the plugin on a scheduler: {told or 'it says nothing'}")

    def environment(self, *, plugged: bool) -> dict[str, str]:
        """Return variables for pytest: nothing of the person's own configuration."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DASK_", "PYTHON", "PYTEST"))}
        kept.pop("VIRTUAL_ENV", None)
        path = f"{Path(self.python).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"  # tests call `dask`
        ours = {"DASK_CONFIG": str(self.work / "config"), "DASK_PKGSYNC__CACHE_DIRECTORY": str(self.work / "cache")}
        roles = ("scheduler", *self.also)
        preloads = {f"DASK_DISTRIBUTED__{role.upper()}__PRELOAD": '["dask_pkgsync.preload"]' for role in roles}
        return {**kept, "PATH": path, **ours, **(preloads if plugged else {})}

    def run(self, file: str, names: Sequence[str], *, plugged: bool, number: int = 0) -> tuple[Outcomes, float]:
        """Run a file, or some tests of it, in a pytest of its own; return what it found, and the seconds.

        Parameters
        ----------
        file : str
            Relative to the checkout.
        names : sequence of str
            The tests; `FILE` stands for all.
        plugged : bool
        number : int
            Of the run, for the names of what is written.
        """
        stem = f"{file.removesuffix('.py').replace('/', '.')}.{'plugged' if plugged else 'unplugged'}.{number}"
        xml, log = self.work / f"{stem}.xml", self.work / f"{stem}.log"
        xml.unlink(missing_ok=True)
        node_ids = [file] if FILE in names else [f"{file}::{name}" for name in names]
        argv = [self.python, "-m", "pytest", "-p", "no:cacheprovider", "--timeout-method=signal", f"--junit-xml={xml}"]
        began = perf_counter()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*argv, *self.arguments, *node_ids],
                cwd=self.checkout,
                env=self.environment(plugged=plugged),
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
            status = _wait(process, self.limit)
        seconds = perf_counter() - began
        found = read_junit(xml.read_text(), file.removesuffix(".py").replace("/", ".")) if xml.exists() else {}
        # 0: all passed, 1: some failed, 5: there are none
        found[FILE] = Outcome.PASSED if xml.exists() and status in (0, 1, 5) else Outcome.FAILED
        return found, seconds


def _wait(process: subprocess.Popen[bytes], limit: float) -> int | None:
    """Wait for pytest; interrupt it when its time is over, and end whatever it leaves behind."""
    status = None
    try:
        status = process.wait(limit)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(INTERRUPTED)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return status


def _call(argv: Sequence[str], **env: str) -> str:
    finished = subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ, **env})
    if finished.returncode != 0:
        raise CannotRunError(f"{' '.join(argv)[:200]}\nended with {finished.returncode}:\n{finished.stderr[-2000:]}")
    return finished.stdout
