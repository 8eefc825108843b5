"""uv and pip are driven with exact arguments, and their failures are understood."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from clusters import Venv, base_python, uv
from uv import find_uv_bin

from dask_pkgsync import LayerError
from dask_pkgsync.cache.directory import open_cache
from dask_pkgsync.installers import find
from dask_pkgsync.installers.calls import blamed, call, explain, last_words
from dask_pkgsync.installers.pip import Pip
from dask_pkgsync.installers.uv import Uv
from dask_pkgsync.layers.environment import make_environment
from dask_pkgsync.model.indexes import Indexes
from dask_pkgsync.scanning.configured_indexes import configured_indexes
from dask_pkgsync.scanning.configured_trust import configured_trust
from dask_pkgsync.scanning.installed import this_interpreter

UV = Uv(Path("/bin/uv"), Path("/base/bin/python"), Path("/cache/uv"))
PIP = Pip(("/base/bin/python", "-m", "pip"), Path("/base/bin/python"), Path("/cache/pip"))
COMMON = ["/bin/uv", "--no-config", "--no-progress", "--color", "never", "--cache-dir", "/cache/uv"]


def test_uv_is_called_with_exactly_this() -> None:
    """The argument vectors of uv: no configuration of a directory, our cache, no dependencies."""
    environment = Path("/cache/building/x/layer")
    options = ["--no-deps", "--link-mode", "hardlink"]
    install = ["pip", "install", *options, "--python", f"{environment}/bin/python", "-r", "/r.txt"]
    assert UV.install_argv(environment, Path("/r.txt")) == [*COMMON, *install]
    install.insert(5, "--offline")
    assert UV.install_argv(environment, Path("/r.txt"), offline=True) == [*COMMON, *install]
    options = ["--python", "/base/bin/python", "--no-header", "--no-annotate", "--no-strip-markers", "--quiet"]
    resolve = ["pip", "compile", "/r.in", "-c", "/c.txt", *options]
    assert UV.resolve_argv(Path("/r.in"), Path("/c.txt")) == [*COMMON, *resolve]


def test_pip_is_called_with_exactly_this() -> None:
    """The argument vectors of pip: run by the base for an environment without pip, our cache, no dependencies."""
    environment = Path("/cache/building/x/layer")
    quiet = ["--disable-pip-version-check", "--no-input", "--cache-dir", "/cache/pip"]
    options = ["--no-deps", "--no-compile", "--quiet", "--no-warn-script-location"]
    start = ["/base/bin/python", "-m", "pip"]
    assert PIP.install_argv(environment, Path("/r.txt")) == [
        *start,
        *["--python", f"{environment}/bin/python", *quiet],
        *["install", *options, "-r", "/r.txt"],
    ]
    assert PIP.resolve_argv(Path("/r.in"), Path("/c.txt")) == [
        *start,
        *quiet,
        *["install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-", "-r", "/r.in", "-c", "/c.txt"],
    ]


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("error: No space left on device (os error 28)", "space"),
        ("OSError: [Errno 30] Read-only file system", "written"),
        ("Hash mismatch for `six==1.0`", "hash"),
        ("error sending request for url", "reached"),
        ("No solution found when resolving dependencies", "no such version"),
        ("ERROR: No matching distribution found for six==9", "no such version"),
        ("Failed to build `six`", "built"),
        ("something else", "exit status 7"),
    ],
)
def test_a_failure_is_told_by_its_cause(said: str, word: str) -> None:
    """What an installer says on failure is turned into one sentence, and advice."""
    problem, advice, _ = explain(7, said)
    assert word in problem
    assert advice
    assert "say why" not in advice


def test_a_signal_is_told_by_its_name() -> None:
    """An installer that was killed is told by the signal."""
    assert "SIGKILL" in explain(-9, "")[0]
    assert "-200" not in explain(-200, "")[0]


def test_last_words_hold_no_credentials() -> None:
    """The end of the output is kept, without users and passwords of URLs."""
    said = "\n".join([*map(str, range(100)), "failed at https://user:hunter2@host/simple"])
    words = last_words(said)
    assert len(words.splitlines()) == 30
    assert "hunter2" not in words
    assert "https://***@host/simple" in words


def test_the_pins_that_an_installer_names_are_blamed() -> None:
    """Pins are recognised in any spelling, and only whole names count."""
    pins = ("scikit-learn==1", "six==2", "numpy==3", "jaraco-classes==4")
    assert blamed(pins, "because scikit_learn and `six`==2; sixteen. Jaraco.Classes.") == (
        "scikit-learn==1",
        "six==2",
        "jaraco-classes==4",
    )


def test_what_cannot_be_started_is_told(tmp_path: Path) -> None:
    """An installer that is not there is a clear error."""
    with pytest.raises(LayerError, match="could not be started"):
        call([str(tmp_path / "nothing")], "install", (), timeout=5, temporary=tmp_path, env={})


def test_uv_resolves_in_agreement_with_constraints(tmp_path: Path) -> None:
    """Extra requirements become exact pins, with what they need, bounded by what is there."""
    installer = Uv(Path(find_uv_bin()), Path(sys.executable), tmp_path / "uv", configured_trust())
    pins = installer.resolve(["jaraco.classes==3.4.*"], ["more-itertools==10.5.0"], timeout=120)
    assert set(pins) == {"jaraco-classes==3.4.0", "more-itertools==10.5.0"}
    with pytest.raises(LayerError) as caught:
        installer.resolve(["six==1.17.0"], ["six==1.16.0"], timeout=120)
    assert caught.value.step == "resolve"
    assert caught.value.packages == ("six==1.17.0",)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Venv:
    """Return an environment without pip and uv."""
    venv = Venv(tmp_path_factory.mktemp("bare") / "venv")
    uv(["venv", "--python", base_python(), str(venv.root)])
    return venv


def test_pip_does_it_all_where_uv_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bare: Venv) -> None:
    """Without uv, the pip inside ensurepip installs and resolves; scripts work at their final place."""
    monkeypatch.setattr(find.util, "find_spec", without(find.util.find_spec, "pip", "uv"))
    pip = find.find_pip(Path(bare.python))
    assert pip is not None
    assert "ensurepip" in pip[1]
    installer, indexes = Pip(pip, Path(bare.python), tmp_path / "pip", configured_trust()), configured_indexes()
    aside = tmp_path / "aside"
    aside.mkdir()
    make_environment(aside / "layer", Path(bare.python), this_interpreter())
    pins = ["tabulate==0.9.0", "six==1.17.0"]
    installer.install(aside / "layer", pins, final=tmp_path / "final", timeout=300, indexes=indexes)
    (aside / "layer").rename(tmp_path / "final")
    script = tmp_path / "final" / "bin" / "tabulate"
    said = subprocess.run([str(script)], input="a b", capture_output=True, text=True, check=True).stdout
    assert "a  b" in said
    record = next((tmp_path / "final").glob("lib/python*/site-packages/tabulate-*/RECORD")).read_text()
    assert f"bin/tabulate,sha256={digest(script)},{script.stat().st_size}" in record
    assert installer.resolve(["six==1.17.*"], [], timeout=300, indexes=indexes) == ("six==1.17.0",)


def digest(file: Path) -> str:
    """Return a file's hash as RECORD writes it."""
    import base64
    import hashlib

    return base64.urlsafe_b64encode(hashlib.sha256(file.read_bytes()).digest()).rstrip(b"=").decode()


def without(find_spec: object, *names: str) -> object:
    """Return a `find_spec` for a node that lacks some modules."""
    return lambda name: None if name in names else find_spec(name)  # type: ignore[operator]


def test_the_node_s_own_uv_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uv beside the interpreter comes first, then an importable one, then the one on PATH."""
    beside = tmp_path / "bin" / "uv"
    beside.parent.mkdir()
    beside.write_text("")
    beside.chmod(0o755)
    assert find.own_uv(tmp_path / "bin" / "python") == beside
    assert find.own_uv(tmp_path / "python") == Path(find_uv_bin())
    monkeypatch.setattr(find.util, "find_spec", without(find.util.find_spec, "uv"))
    monkeypatch.setenv("PATH", str(beside.parent))
    assert find.own_uv(tmp_path / "python") == beside
    monkeypatch.setenv("PATH", "")
    assert find.own_uv(tmp_path / "python") is None


def test_uv_is_fetched_once_and_pip_takes_over_where_it_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bare: Venv
) -> None:
    """A node without uv fetches it into our cache once; without an index it uses pip; without pip it says so."""
    monkeypatch.setattr(find.util, "find_spec", without(find.util.find_spec, "uv", "pip"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    cache = open_cache(str(tmp_path / "cache"))
    indexes, trust = configured_indexes(), configured_trust()
    first = find.find_installer(cache, Path(bare.python), timeout=300, indexes=[indexes], trust=trust)
    assert first.name == "uv"
    fetched = cache.tools / "uv" / "bin" / "uv"
    before = fetched.stat().st_mtime_ns
    assert find.find_installer(cache, Path(bare.python), timeout=300).name == "uv"
    assert fetched.stat().st_mtime_ns == before
    unreachable = Indexes("http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    other = open_cache(str(tmp_path / "other"))
    assert find.find_installer(other, Path(bare.python), timeout=300, indexes=[unreachable]).name == "pip"
    assert not list(other.building.iterdir())
    monkeypatch.setattr(find.util, "find_spec", without(find.util.find_spec, "uv", "pip", "ensurepip"))
    with pytest.raises(LayerError, match="neither uv nor pip"):
        find.find_installer(other, Path(bare.python), timeout=300)
