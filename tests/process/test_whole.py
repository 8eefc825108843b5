"""Whole environments: of any Python that can be had, with all that the target has, and nothing else."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from clusters import base_python, other_python, surroundings

from dask_pkgsync import Distribution, Environment, LayerError
from dask_pkgsync.cache.directory import open_cache
from dask_pkgsync.interpreters.probing import Candidate, Working, probe
from dask_pkgsync.layers.publication import changes_in
from dask_pkgsync.layers.unchanged import is_unchanged
from dask_pkgsync.model.blobs import request_for_interpreter
from dask_pkgsync.model.policy import Policy
from dask_pkgsync.model.target import Target
from dask_pkgsync.process import foundations
from dask_pkgsync.process.command import argv_in
from dask_pkgsync.process.node_settings import NodeSettings
from dask_pkgsync.process.recalled import recall, remember
from dask_pkgsync.process.surroundings import variables_in
from dask_pkgsync.process.whole import Whole, failing_imports, whole_environment
from dask_pkgsync.scanning.installed import this_interpreter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_pkgsync.model.environments.interpreter import Interpreter

PACKAGES = {"six": "1.17.0", "tabulate": "0.9.0", "markupsafe": "3.0.2"}
LOOK = """
import json, sys, markupsafe._speedups, six
from importlib import metadata
print(json.dumps([sys.version.split()[0], sys.prefix, sorted(d.name.lower() for d in metadata.distributions()),
                  six.__file__]))
"""


def interpreter_of(python: str) -> Interpreter:
    found = probe(Candidate(Path(python), "here"))
    assert isinstance(found, Working)
    return found.interpreter


def target_of(interpreter: Interpreter, **policy: Any) -> Target:
    environment = Environment.of(interpreter, [Distribution(*pair) for pair in PACKAGES.items()])
    return Target(environment, Policy.of(**policy))


def nobody(requests: Sequence[Any]) -> Any:
    raise LayerError("receive", "there is no client")


def say(whole: Whole, code: str) -> Any:
    """Run code in a whole environment, and return what it prints, as JSON."""
    argv = [str(whole.python), "-c", code]
    env = whole.environ(surroundings())
    return json.loads(subprocess.run(argv, capture_output=True, text=True, check=True, env=env).stdout)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> NodeSettings:
    return NodeSettings(str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def whole(settings: NodeSettings) -> Whole:
    """Return a whole environment of another Python than that of this process."""
    return whole_environment(target_of(interpreter_of(other_python())), settings, nobody)


def test_it_has_another_python_and_nothing_else(whole: Whole, settings: NodeSettings) -> None:
    """Extension modules for that Python, and no package of the environment that has built it."""
    version, prefix, names, place = say(whole, LOOK)
    assert version == interpreter_of(other_python()).version
    assert Path(prefix) == whole.layer.root
    assert names == sorted(PACKAGES)
    assert Path(place).is_relative_to(whole.layer.root)
    assert open_cache(settings.cache_directory).is_leased(whole.layer.digest, 0)
    assert not changes_in(whole.layer)
    assert any("the interpreter is" in note for note in whole.notes)


def test_it_is_made_once(whole: Whole, settings: NodeSettings) -> None:
    """Also if a policy says that only some packages count: here, all that they need must be there."""
    again = whole_environment(target_of(interpreter_of(other_python()), only=["six"]), settings, nobody)
    assert again.layer.reused
    assert again.layer.root == whole.layer.root


def test_what_cannot_be_imported_in_it_is_found_before_anybody_needs_it(whole: Whole, tmp_path: Path) -> None:
    """Modules by name and preloads by path, each with the reason."""
    (tmp_path / "good.py").write_text("import six")
    (tmp_path / "bad.py").write_text("1 / 0")
    names = ["six", str(tmp_path / "good.py"), str(tmp_path / "bad.py"), "nowhere.at_all"]
    assert failing_imports(whole, names) == {
        "distributed": "ModuleNotFoundError: No module named 'distributed'",
        str(tmp_path / "bad.py"): "ZeroDivisionError: division by zero",
        "nowhere.at_all": "ModuleNotFoundError: No module named 'nowhere'",
    }
    (tmp_path / "ends.py").write_text("import os; os._exit(7)")
    (text,) = failing_imports(whole, [str(tmp_path / "ends.py")]).values()
    assert "the process ended: status 7" in text


def test_it_stands_on_the_interpreter_of_the_client(
    tmp_path: Path, packed_interpreter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the node has none of that Python; both are kept while they are used, and neither is written."""
    monkeypatch.setattr("dask_pkgsync.process.tools.on_this_machine", lambda _: [])
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    asked = []

    def client(requests: Sequence[Any]) -> Any:
        asked.append(list(requests))
        return dict.fromkeys(requests, (packed_interpreter, ""))

    settings, own = NodeSettings(str(tmp_path / "cache")), this_interpreter()
    found = whole_environment(target_of(own), settings, client)
    assert asked == [[request_for_interpreter(own)]]
    assert found.prefix is not None
    _, prefix, names, _ = say(found, LOOK)
    base = say(found, "import json, sys, ssl; print(json.dumps([sys.base_prefix, ssl.__file__]))")
    assert Path(prefix) == found.layer.root
    assert names == sorted(PACKAGES)
    assert all(Path(place).is_relative_to(found.prefix.root) for place in base)
    cache = open_cache(str(tmp_path / "cache"))
    assert all(cache.is_leased(layer.digest, 0) and not changes_in(layer) for layer in found.layers)
    assert whole_environment(target_of(own), settings, nobody).layer.reused


def test_it_finds_a_library_that_its_interpreter_does_not(
    tmp_path: Path, packed_interpreter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the path of the library could not be rewritten, a variable says it, to the installer as well."""
    archive, rewritten = tmp_path / packed_interpreter.name, 0
    with tarfile.open(packed_interpreter) as packed, tarfile.open(archive, "w:gz", compresslevel=1) as bundle:
        for entry in packed:
            data = packed.extractfile(entry).read() if entry.isreg() else b""  # type: ignore[union-attr]
            if entry.name.startswith("bin/"):
                rewritten += data.count(b"$ORIGIN/../lib")
                data = data.replace(b"$ORIGIN/../lib", b"/nowhere/there")
            bundle.addfile(entry, io.BytesIO(data))
    if not rewritten:
        pytest.skip("this interpreter needs no library of its own")
    monkeypatch.setattr("dask_pkgsync.process.tools.on_this_machine", lambda _: [])
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")

    def client(requests: Sequence[Any]) -> Any:
        return dict.fromkeys(requests, (archive, ""))

    found = whole_environment(target_of(this_interpreter()), NodeSettings(str(tmp_path / "cache")), client)
    assert found.prefix is not None
    assert found.variables["LD_LIBRARY_PATH"] == str(found.prefix.root / "lib")
    assert say(found, LOOK)[1] == str(found.layer.root)


def test_without_any_interpreter_everything_that_was_tried_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node's places, uv, and the client."""
    monkeypatch.setattr("dask_pkgsync.process.tools.on_this_machine", lambda _: [])
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    monkeypatch.setenv("PATH", "/nowhere")
    target = target_of(interpreter_of(base_python()))
    with pytest.raises(LayerError, match="the client: there is no client") as caught:
        foundations.interpreter_foundation(target, open_cache(str(tmp_path)), NodeSettings(str(tmp_path)), nobody)
    assert "Looked at: this node, uv python install, the client, uv python find" in str(caught.value)


def test_variables_of_the_old_environment_are_gone() -> None:
    """And what says nothing about an environment stays."""
    environ = {
        "PATH": "/env/bin:/usr/bin:/conda/bin:/bin",
        "VIRTUAL_ENV": "/env",
        "CONDA_PREFIX": "/conda",
        "CONDA_PREFIX_1": "/conda/base",
        "CONDA_EXE": "/opt/conda/bin/conda",
        "PYTHONPATH": "/old",
        "PYTHONHOME": "/old",
        "LD_LIBRARY_PATH": "/conda/lib:/driver/lib",
        "PYTHONUNBUFFERED": "1",
        "DASK_CONFIG": "/etc/dask",
    }
    assert variables_in(("/new/bin",), {"VIRTUAL_ENV": "/new"}, environ) == {
        "PATH": "/new/bin:/usr/bin:/bin",
        "VIRTUAL_ENV": "/new",
        "CONDA_EXE": "/opt/conda/bin/conda",
        "LD_LIBRARY_PATH": "/driver/lib",
        "PYTHONUNBUFFERED": "1",
        "DASK_CONFIG": "/etc/dask",
    }


def program(path: Path, first: str = "#!/bin/sh") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{first}\n")
    path.chmod(0o755)
    return path


def test_which_program_a_command_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the environment, or of the system; never a script of the environment that is left."""
    layer, prefix, old, system = (tmp_path / name for name in ("layer", "prefix", "old", "system"))
    path, environ = (str(layer), str(prefix)), {"PATH": f"{layer}:{prefix}:{old}:{system}"}
    monkeypatch.setattr(sys, "executable", str(program(old / "python")))
    mine, beneath = program(layer / "mine", f"#!{layer}/python"), program(prefix / "dask", f"#!{prefix}/bin/python3.12")
    compiled, tool = program(prefix / "tool", "\x7fELF"), program(system / "tini")
    program(old / "jupyter", f"#!{old}/python")
    assert argv_in(path, ["mine", "-x"], environ) == [str(mine), "-x"]
    assert argv_in(path, ["dask", "worker"], environ) == [f"{layer}/python", str(beneath), "worker"]
    assert argv_in(path, ["tool"], environ) == [str(compiled)]
    assert argv_in(path, ["tini"], environ) == [str(tool)]
    assert argv_in(path, [str(tool), "--"], environ) == [str(tool), "--"]
    assert argv_in(path, ["jupyter"], environ) is None
    assert argv_in(path, ["nothing"], environ) is None


@pytest.fixture
def remembered(whole: Whole, settings: NodeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a lock file whose environment is remembered."""
    monkeypatch.setenv("DASK_PKGSYNC__CACHE_DIRECTORY", str(tmp_path / "cache"))
    monkeypatch.setenv("DASK_CONFIG", str(tmp_path / "config"))
    (tmp_path / "config").mkdir()
    lock, more = tmp_path / "lock.txt", tmp_path / "more.txt"
    lock.write_text("-r more.txt")
    more.write_text("six==1.17.0")
    remember(str(lock), "3.12", [str(lock), str(more)], whole, settings, has_dask=False)
    return lock


def test_a_start_is_remembered(remembered: Path, whole: Whole) -> None:
    """By the content of all files, whatever their dates are, and for the Python that was asked for."""
    os.utime(remembered, (1, 1))
    assert recall(str(remembered), "3.12") == (whole.path, dict(whole.variables))
    assert recall(str(remembered), "") is None
    assert recall(str(remembered), "3.12", dask=True) is None
    assert recall(str(remembered.with_name("other.txt")), "3.12") is None


@pytest.mark.parametrize("changed", ["lock", "included", "variable", "configuration", "entry", "place"])
def test_a_start_is_not_remembered_after_a_change(
    remembered: Path, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the lock file, what it includes, the configuration; or if others can write what is remembered."""
    places = remembered.parent / "cache" / "recalled"
    match changed:
        case "lock":
            remembered.write_text("-r more.txt\n")
        case "included":
            (remembered.parent / "more.txt").write_text("six==1.16.0")
        case "variable":
            monkeypatch.setenv("DASK_PKGSYNC__BUILDS", "warn")
        case "configuration":
            (remembered.parent / "config" / "pkgsync.yaml").write_text("pkgsync: {}")
        case "entry":
            (entry,) = places.iterdir()
            entry.write_bytes(entry.read_bytes()[:-5])
        case "place":
            places.chmod(0o777)
    assert recall(str(remembered), "3.12") is None


def test_a_changed_layer_is_not_started_in(remembered: Path, whole: Whole) -> None:
    """Whether a file was edited, added or removed, or the layer was built anew."""
    root, built = str(whole.layer.root), whole.layer.built
    module = whole.layer.site_packages / "six.py"
    assert is_unchanged(root, built)
    assert not is_unchanged(root, "another")
    before = module.stat()
    os.utime(module, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert not is_unchanged(root, built)
    assert recall(str(remembered), "3.12") is None
    os.utime(module, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert recall(str(remembered), "3.12") is not None
    directory = module.parent
    facts = directory.stat()
    directory.chmod(0o755)
    (directory / "added.py").write_text("")
    assert not is_unchanged(root, built)
    (directory / "added.py").unlink()
    os.utime(directory, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    directory.chmod(facts.st_mode)
    assert is_unchanged(root, built)
