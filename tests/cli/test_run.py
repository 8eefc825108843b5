"""``dask pkgsync run``: a command is executed in a whole environment, in the place of this process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from clusters import Cluster, Venv, Venvs, other_python, surroundings
from conda_channel import needed

import dask_pkgsync as pkgsync
from dask_pkgsync import Distribution, Environment
from dask_pkgsync.model.environments.origin import FromDirectory
from dask_pkgsync.scanning.installed import this_interpreter

OWN = this_interpreter()
PINS = "six==1.17.0\ntabulate==0.9.0\n"
LOOK = """
import json, os, sys, tabulate
print(json.dumps([os.getpid(), sys.prefix, os.environ["VIRTUAL_ENV"], os.environ["PATH"].split(os.pathsep)[0],
                  os.environ.get("PYTHONPATH"), sys.argv[1:]]))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a lock file, whose environment is made by the first test that runs in it."""
    home = tmp_path_factory.mktemp("home")
    (home / "lock.txt").write_text(PINS)
    return home


def surrounding(home: Path, **more: str) -> dict[str, str]:
    return surroundings(DASK_PKGSYNC__CACHE_DIRECTORY=str(home / "cache"), **more)


def run(
    home: Path, *arguments: str, python: tuple[str, ...] = (sys.executable,), **env: str
) -> subprocess.CompletedProcess[str]:
    """Call the command, as the console script does."""
    argv = [*python, "-m", "dask_pkgsync", "run", *arguments]
    return subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=200, env=surrounding(home, **env), cwd=home
    )


def test_the_command_takes_the_place_of_ours(home: Path) -> None:
    """With the same pid and its own arguments, in the environment, and without what leads elsewhere."""
    argv = [sys.executable, "-m", "dask_pkgsync", "run", "--environment", "lock.txt", "--"]
    with subprocess.Popen(
        [*argv, "python", "-c", LOOK, "--environment", "-x"],
        stdout=subprocess.PIPE, text=True, cwd=home, env=surrounding(home, PYTHONPATH=str(home)),
    ) as process:  # fmt: skip
        said, _ = process.communicate(timeout=200)
    pid, prefix, virtual_env, first, path, arguments = json.loads(said)
    assert process.returncode == 0
    assert pid == process.pid
    assert prefix == virtual_env
    assert first == f"{prefix}/bin"
    assert path is None
    assert arguments == ["--environment", "-x"]
    (lease,) = (home / "cache" / "leases" / Path(prefix).name).iterdir()
    assert json.loads(lease.read_text())["pid"] == pid


def test_the_second_start_looks_at_nothing_but_files(home: Path) -> None:
    """It imports neither the command line nor what finds interpreters; signals and status are the command's."""
    argv = (
        "--environment",
        "lock.txt",
        "--",
        "python",
        "-c",
        "import signal, sys; print(signal.getsignal(signal.SIGXFSZ)); sys.exit(7)",
    )
    first = run(home, *argv)
    second = run(home, *argv, python=(sys.executable, "-X", "importtime"))
    assert (first.returncode, second.returncode) == (7, 7)
    imported = second.stderr.partition("import time:")[2]
    assert "dask_pkgsync.process.recalled" in imported
    assert not [
        name
        for name in ("click", "distributed", "pathlib", "typing", "psutil", "packaging")
        if f" {name}\n" in imported
    ]


@pytest.mark.parametrize("name", ["tabulate", "sh"])
def test_scripts_and_programs_of_the_system_run(home: Path, name: str) -> None:
    """A script of the environment by its name; what is on PATH beside it."""
    done = run(
        home, "--environment", "lock.txt", "--", name, *(["-c", "command -v python"] if name == "sh" else ["-h"])
    )
    assert done.returncode == 0
    assert str(home / "cache") in done.stdout if name == "sh" else "tabulate" in done.stdout.lower()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--environment", "lock.txt", "--", "jupyter", "lab"], "jupyter: there is no such program in the environment"),
        (["--environment", "lock.txt", "--", "dask", "worker"], "does not pin cloudpickle, dask, distributed, msgpack"),
        (["--environment", "lock.txt", "--", "python3", "-m", "distributed.cli.dask_spec"], "does not pin cloudpickle"),
        (["--environment", "lock.txt", "--python", "3.99", "--", "python"], "--python: "),
        (["--environment", "pylock.toml", "--", "python"], "is for Python >=3.99"),
        (["--environment", "nothing.txt", "--", "python"], "nothing.txt cannot be read"),
        (["--environment", "lock.txt", "--python", "new", "--", "python"], "expected a version such as 3.12"),
        (["--environment", "local.json", "--python", "3.12", "--", "python"], "names a Python of its own"),
        (["--environment", "lock.txt"], "Missing argument 'COMMAND...'"),
        (["--environment", "local.json", "--", "python"], "no client is there to give them: mine 1.0"),
    ],
)
def test_what_cannot_be_run_is_told(home: Path, arguments: list[str], text: str) -> None:
    """In a sentence that says what is missing, and what to do; nothing is executed."""
    (home / "pylock.toml").write_text('lock-version = "1.0"\nrequires-python = ">=3.99"\n[[packages]]\nname = "six"\n')
    origin = FromDirectory("file:///mine", editable=True, digest="source=0")
    local = Environment.of(OWN, [Distribution("mine", "1.0", origin)])
    (home / "local.json").write_text(local.to_json())
    done = run(home, *arguments, UV_PYTHON_DOWNLOADS="never")
    assert done.returncode in (1, 2)
    assert text.removeprefix("--python: ") in done.stderr or "another release of 3.99 can be had" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.cluster
def test_dask_runs_in_an_image_of_another_python(tmp_path: Path, venvs: Venvs) -> None:
    """Scheduler and workers of this Python, where only our package and another Python are; and so does a person's job.

    The person's job gets the environment of the cluster, with its local code, from the scheduler.
    """
    image = venvs.make(str(pkgsync.__path__[0]).removesuffix("/dask_pkgsync"), python=other_python())
    pins = {name: one.version for name, one in needed("distributed").items()}
    (tmp_path / "lock.txt").write_text("".join(f"{name}=={version}\n" for name, version in pins.items()))
    how = [str(image.root / "bin" / "dask-pkgsync"), "run", "--environment", str(tmp_path / "lock.txt")]
    how += ["--python", OWN.version, "--"]
    cluster = Cluster(tmp_path, Venv(image.root), tmp_path / "cache")
    try:
        argv = ["dask", "scheduler", "--scheduler-file", str(cluster.scheduler_file), "--no-dashboard"]
        scheduler = cluster.spawn("scheduler", [*how, *argv, "--host", "tcp://127.0.0.1:0"])
        cluster.wait_for(cluster.has_address, "the scheduler's address", 120)
        argv = ["dask", "worker", "--scheduler-file", str(cluster.scheduler_file), "--nthreads", "1", "--no-dashboard"]
        cluster.spawn("worker", [*how, *argv, "--local-directory", str(tmp_path / "work"), "--host", "127.0.0.1"])
        with cluster.client(workers=1) as client:
            assert client.run_on_scheduler(lambda: (os.getpid(), sys.version)) == (scheduler.pid, sys.version)
            assert client.submit(lambda: sys.version).result(timeout=60) == sys.version
            more = {**pins, "six": "1.17.0"}
            target = Environment.of(OWN, [Distribution(*pair) for pair in more.items()])
            pkgsync.sync(client, environment=target, keep=True, modules=False)
        job = [
            "run",
            "--environment",
            cluster.address,
            "--",
            "python",
            "-c",
            "import six, sys; print(six.__version__, sys.version)",
        ]
        done = subprocess.run(
            [str(image.root / "bin" / "dask-pkgsync"), *job],
            capture_output=True, text=True, check=False, timeout=120, env=surrounding(tmp_path), cwd=tmp_path,
        )  # fmt: skip
        assert done.stdout.strip() == f"1.17.0 {sys.version}", done.stderr
    finally:
        cluster.stop()
