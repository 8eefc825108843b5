"""The command line, in this process and as a real one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from click.testing import CliRunner

from dask_pkgsync import scan
from dask_pkgsync.cli import group as cli
from dask_pkgsync.cli.pages import scan_page
from dask_pkgsync.client.connection import security
from dask_pkgsync.demo import stage as demo_stage
from dask_pkgsync.model.environments.distribution import Distribution, Fault
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.environments.interpreter import Interpreter
from dask_pkgsync.model.environments.origin import FromArchive, FromDirectory, FromIndex, FromVcs, Unrecorded

PYTHON = Interpreter("cpython", "3.11.7", "linux-x86_64", "cp311-cp311-manylinux_2_36_x86_64")
CRITICAL = {"cloudpickle": "3.1", "dask": "2026.8.0", "distributed": "2026.8.0", "msgpack": "1.1", "tornado": "6.5"}


def environment(**versions: str) -> Environment:
    return Environment.of(PYTHON, [Distribution(name, version) for name, version in {**CRITICAL, **versions}.items()])


def invoke(*arguments: str, stdin: str = ""):
    return CliRunner().invoke(cli.pkgsync, arguments, input=stdin)


def dask(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dask", "pkgsync", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Two environments as files in the current directory: ``a.json`` and ``b.json``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.json").write_text(environment(numpy="2.1", rich="15.0").to_json())
    (tmp_path / "b.json").write_text(environment(numpy="2.0").to_json())
    return tmp_path


def test_dask_knows_the_command():
    """``dask pkgsync`` is found through the entry point and lists its commands."""
    done = dask("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in ("scan", "compare", "sync", "status", "release", "demo"))


def test_the_command_line_starts_quickly():
    """Importing the command line, which every ``dask`` command does, imports click and nothing else."""
    program = (
        "import sys, click; before = set(sys.modules); import dask_pkgsync.cli.group; "
        "new = {name for name in sys.modules.keys() - before if name.split('.')[0] not in sys.stdlib_module_names}; "
        "ours = {'dask_pkgsync', 'dask_pkgsync.version', 'dask_pkgsync.cli', 'dask_pkgsync.cli.group'}; "
        "sys.exit(str(new) if new != ours else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def unconfigured(home: Path, **variables: str) -> dict[str, str]:
    """Return the environment variables of a user without configuration, and some more."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("DASK_")}
    return {**own, "HOME": str(home), "DASK_ROOT_CONFIG": str(home / "root"), **variables}


def imported_by(program: str, home: Path) -> set[str]:
    """Return the packages outside of the standard library that a program imports in a new process."""
    program += "; import sys; print(*{name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names)"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=unconfigured(home))
    return set(done.stdout.splitlines()[-1].split())


def test_what_needs_no_cluster_needs_no_dask(files):
    """Help, versions, scans and comparisons of files import neither Dask nor what only Dask needs."""
    run = "from dask_pkgsync.cli.group import pkgsync; pkgsync({arguments}, standalone_mode=False)"
    for arguments in (["--help"], ["--version"], ["scan"], ["scan", "--help"], ["compare", "a.json", "a.json"]):
        imported = imported_by(run.format(arguments=arguments), files / "home")
        assert imported.isdisjoint({"dask", "distributed", "tornado", "msgpack", "cloudpickle", "yaml", "psutil"})


def test_a_scan_imports_what_it_needs():
    """A scan in a new process does without the slow modules that only rare cases need."""
    program = "import dask_pkgsync, sys; dask_pkgsync.scan(modules=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    slow = {"urllib.request", "email.parser", "ssl", "zipfile", "subprocess", "logging", "click", "packaging.tags"}
    assert slow.isdisjoint(done.stdout.split())


def test_the_program_has_the_commands_of_dask(tmp_path):
    """``dask-pkgsync`` and ``python -m dask_pkgsync`` do what ``dask pkgsync`` does."""
    script = str(Path(sys.executable).with_name("dask-pkgsync"))
    expected = dask("scan", "--json", "--no-modules")
    for command in ([script], [sys.executable, "-m", "dask_pkgsync"]):
        done = subprocess.run(
            [*command, "scan", "--json", "--no-modules"], capture_output=True, text=True, check=False, timeout=120
        )
        assert (done.returncode, done.stdout) == (0, expected.stdout)
        wrong = subprocess.run([*command, "status"], capture_output=True, text=True, check=False, timeout=120)
        assert wrong.returncode == 2
        assert "Missing argument 'ADDRESS'" in wrong.stderr


def test_options_that_are_configured_hold_without_dask(files):
    """A scan reads Dask's configuration if a variable or a file of it may set an option."""
    (files / "mine.py").touch()
    home = files / "home"
    (home / "root").mkdir(parents=True)
    command = [sys.executable, "-m", "dask_pkgsync", "scan", "--json"]

    def names(**variables: str) -> set[str]:
        environ = unconfigured(home, **variables)
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environ)
        return set(Environment.from_json(done.stdout).distributions)

    assert "module-mine" in names()
    assert "module-mine" not in names(DASK_PKGSYNC__MODULES="false")
    (home / "root" / "other.yaml").write_text("distributed: {}\n")
    assert "module-mine" in names()
    (home / "root" / "mine.yml").write_text("pkgsync:\n  modules: false\n")
    assert "module-mine" not in names()
    (home / "root" / "mine.yml").unlink()
    (files / "chosen.yaml").write_text("pkgsync:\n  modules: false\n")
    assert "module-mine" not in names(DASK_CONFIG=str(files / "chosen.yaml"))


def test_defaults_are_those_of_the_options(tmp_path):
    """A scan without Dask takes the same values that Dask's configuration has by default."""
    (tmp_path / "mine.py").touch()
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from dask_pkgsync.cli.environments import this_snapshot; "
        "given = ({}, {'modules': ['mine']}, {'modules': False, 'unlimited': True}, {'verify': True}); "
        "without_dask = [this_snapshot(**one) for one in given]; assert 'dask' not in sys.modules; "
        "from dask_pkgsync.options.person import local_snapshot; "
        "assert without_dask == [local_snapshot({'modules': one.pop('modules', None)}, **one) for one in given]; "
        "assert 'module-mine' in without_dask[0].environment.distributions"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=unconfigured(tmp_path / "home"))
    assert (done.returncode, done.stderr) == (0, "")


def test_scan_lists_this_environment():
    """The table of a scan holds what is installed here, the interpreter and the fingerprint."""
    result = invoke("scan")
    assert result.exit_code == 0
    assert "distributed" in result.stdout
    assert "interpreter  cpython" in result.stdout
    assert "fingerprint" in result.stdout


def test_scan_writes_what_compare_reads(tmp_path):
    """An environment written as JSON compares equal to the one it was made from."""
    (tmp_path / "here.json").write_text(invoke("scan", "--json").stdout)
    result = invoke("compare", str(tmp_path / "here.json"), ".")
    assert result.exit_code == 0
    assert "no differences" in result.stdout


def test_another_interpreter_is_scanned_from_outside(tmp_path):
    """A scan of another interpreter lists its packages and none of ours, though it has nothing of ours."""
    venv.create(tmp_path / "other", with_pip=False, symlinks=True)
    site = next((tmp_path / "other" / "lib").iterdir()) / "site-packages"
    (site / "lonely-1.5.dist-info").mkdir()
    (site / "lonely-1.5.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: lonely\nVersion: 1.5\n")
    result = invoke("scan", "--json", str(tmp_path / "other" / "bin" / "python"))
    assert result.exit_code == 0, result.output
    found = Environment.from_json(result.stdout)
    assert {name: one.version for name, one in found.distributions.items()} == {"lonely": "1.5"}


def test_what_is_no_python_is_told_so(tmp_path):
    """A program that is no Python interpreter gives one sentence with its last words."""
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho 'I am a shell script' >&2\nexit 3\n")
    program.chmod(0o755)
    result = invoke("scan", str(program))
    assert result.exit_code == 1
    assert "could not be scanned" in result.stderr
    assert "I am a shell script" in result.stderr


def test_differences_are_a_table_and_exit_status_1(files):
    """Differences are printed with both versions, and the exit status is 1."""
    result = invoke("compare", "a.json", "b.json")
    assert result.exit_code == 1
    rows = [line.split() for line in result.stdout.splitlines()]
    assert rows[0] == ["package", "a.json", "b.json", "level"]
    assert ["numpy", "2.1", "2.0", "exact"] in rows
    assert ["rich", "15.0", "not", "there", "exact"] in rows


def test_options_decide_what_differs(files):
    """Packages that are ignored, or not among the only ones, are no differences."""
    assert invoke("compare", "a.json", "b.json", "--ignore", "NumPy", "--ignore", "rich").exit_code == 0
    assert invoke("compare", "a.json", "b.json", "--only", "dask").exit_code == 0
    assert invoke("compare", "b.json", "a.json", "--ignore", "numpy").exit_code == 0
    assert invoke("compare", "b.json", "a.json", "--ignore", "numpy", "--strict").exit_code == 1


def test_an_environment_may_come_from_standard_input(files):
    """A dash reads standard input, for one of the two."""
    assert invoke("compare", "a.json", "-", stdin=(files / "a.json").read_text()).exit_code == 0
    assert invoke("compare", "-", "-").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("compare", "missing.json", "a.json"), "cannot read missing.json"),
        (("compare", "broken.json", "a.json"), "malformed message"),
        (("compare", "a.json", "b.json", "--ignore", "dask"), "dask cannot be ignored"),
        (("compare", "a.json", "b.json", "--extra", "-r /etc/passwd"), "is not a requirement"),
        (("status", "tcp://127.0.0.1:1"), "cannot connect to tcp://127.0.0.1:1"),
        (("sync", "nonsense://here"), "cannot connect to nonsense://here"),
    ],
)
def test_mistakes_are_told_in_a_sentence(files, monkeypatch, arguments, sentence):
    """What goes wrong for reasons a person can mend is one sentence and exit status 1, without a traceback."""
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT", "1s")
    (files / "broken.json").write_text("{")
    done = dask(*arguments)
    assert done.returncode == 1, done
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_usage_is_exit_status_2():
    """A missing argument and an unknown option are wrong usage."""
    assert invoke("sync").exit_code == 2
    assert invoke("scan", "--nonsense").exit_code == 2


def test_tls_files_become_dasks_settings():
    """The three TLS options become those of a client that insists on encryption; without any, Dask's own count."""
    found = security("ca.pem", "cert.pem", "key.pem")
    assert found.require_encryption
    assert (found.tls_ca_file, found.tls_client_cert, found.tls_client_key) == ("ca.pem", "cert.pem", "key.pem")
    assert security() is None


def test_the_page_of_an_environment_shows_origins_and_faults():
    """Where packages came from, and what cannot be trusted, stand on the page."""
    origins = [
        FromIndex(),
        FromArchive("https://example.org/a.whl"),
        FromVcs("https://example.org/b.git", "0123456789abcdef"),
        FromDirectory("file:///home/me/c", editable=True),
        Unrecorded(),
    ]
    distributions = [Distribution(f"p{number}", "1.0", origin) for number, origin in enumerate(origins)]
    fault = Fault("duplicate", "/site/p0-2.0.dist-info", "p0 is there twice", "p0")
    page = scan_page(Environment.of(PYTHON, distributions, [fault]))
    for text in (
        "https://example.org/a.whl",
        "git+https://example.org/b.git@0123456789ab",
        "editable file:///home/me/c",
        "unknown",
        "duplicate: p0 is there twice (/site/p0-2.0.dist-info)",
    ):
        assert text in page


def test_json_is_what_other_programs_can_read():
    """The JSON of a scan is one object with a schema version."""
    assert json.loads(invoke("scan", "--json").stdout)["schema"] == 2


@pytest.mark.cluster
def test_a_cluster_is_synced_shown_and_released(tmp_path):
    """From the command line: no target the cluster; sync; every node matches; release; nobody has again."""
    here = scan()
    with demo_stage.temporary_directory() as directory:
        other = f"pygments!={here.distributions['pygments'].version}"
        python = demo_stage.Uv(directory, here).environment("cluster", [other], changed={"pygments"})
        with demo_stage.cluster(python, directory) as address, demo_stage.connect(address, workers=2):
            before = dask("status", address)
            assert before.returncode == 0
            assert "no target" in before.stdout.splitlines()[0]
            assert "scheduler, 2 workers" in before.stdout
            assert "nobody has synced this cluster" in dask("release", address).stderr
            planned = dask("sync", address, "--only", "pygments", "--dry-run")
            assert planned.returncode == 0
            assert "A sync would change 3 nodes" in planned.stdout

            synced = dask("sync", address, "--only", "pygments")
            assert synced.returncode == 0, synced.stderr
            assert "replaced: pygments" in synced.stdout
            assert "pkgsync: 3 nodes match your environment" in synced.stderr.splitlines()[-1]

            after = dask("status", address)
            assert after.returncode == 0
            assert after.stdout.count("matches") == 3

            failed = dask("sync", address, "--extra", "pygments-that-nobody-made==1", "--no-progress")
            assert failed.returncode == 1
            assert "pygments-that-nobody-made" in failed.stderr
            assert "Traceback" not in failed.stderr

            assert dask("release", address).returncode == 0
            assert "no target" in dask("status", address).stdout
