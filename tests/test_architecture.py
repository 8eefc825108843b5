"""The rooms of the package: who may import whom, and that nothing goes round in a circle."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import dask_pkgsync

PACKAGE = Path(dask_pkgsync.__file__).parent
ROOMS = sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists())
FROM_BELOW = (
    *("model", "cache", "scanning", "installers", "wheels", "interpreters", "layers", "conda", "process"),
    *("display", "options", "carry", "web", "node", "scheduler", "client", "demo", "cli"),
)
"""A room imports none that stands after it."""


@functools.cache
def imports() -> dict[str, set[str]]:
    """Return the modules of the package that each of them imports anywhere, also for annotations alone."""
    modules = {_name(path): path for path in PACKAGE.rglob("*.py")}
    found: dict[str, set[str]] = {}
    for name, path in modules.items():
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("dask_pkgsync"):
                found[name] |= {
                    full if (full := f"{node.module}.{alias.name}") in modules else str(node.module)
                    for alias in node.names
                }
            elif isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names if alias.name.startswith("dask_pkgsync")}
        found[name].discard(name)
    return found


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """Return the room of a module; of those at the top their own name."""
    return module.split(".")[1] if "." in module else module


def test_every_room_has_its_place() -> None:
    """A new room is put into the order, and gets a file for the linter."""
    assert sorted(FROM_BELOW) == ROOMS
    assert all((PACKAGE / room / "ruff.toml").is_file() for room in ROOMS)


@pytest.mark.parametrize("room", FROM_BELOW)
def test_a_room_imports_only_rooms_below_it(room: str) -> None:
    """Imports go one way: from what people see to what decides."""
    below = {*FROM_BELOW[: FROM_BELOW.index(room) + 1], "dask_pkgsync", "version"}
    ours = {module: others for module, others in imports().items() if room_of(module) == room}
    above = {(module, other) for module, others in ours.items() for other in others if room_of(other) not in below}
    assert not above


def test_no_files_import_each_other_in_a_circle() -> None:
    """Of any two files one can be read first."""
    left = {module: set(others) for module, others in imports().items()}
    while True:
        free = {module for module, others in left.items() if not others & left.keys()}
        if not free:
            break
        left = {module: others for module, others in left.items() if module not in free}
    assert not left, f"these import each other: {sorted(left)}"


@pytest.mark.parametrize("room", ROOMS)
def test_the_linter_knows_what_a_room_may_not_import(room: str, tmp_path: Path) -> None:
    """Whatever is not imported today and stands above, beside or outside is refused by the room's own file."""
    allowed = {room_of(other) for module, others in imports().items() if room_of(module) == room for other in others}
    text = (PACKAGE / room / "ruff.toml").read_text()
    for other in {*ROOMS, "preload"} - allowed - {room}:
        assert f'"dask_pkgsync.{other}".msg' in text
    for other in allowed & set(ROOMS) - {room}:
        assert f'"dask_pkgsync.{other}".msg' not in text


STARTS_A_PROGRAM = ("run", "Popen", "call", "check_call", "check_output")


def test_every_program_that_we_start_gets_an_environment_of_ours() -> None:
    """A program that inherited the user's variables could be led into a repository or environment of the user's."""
    left = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and _starts_a_program(node.func):
                left += [] if any(keyword.arg == "env" for keyword in node.keywords) else [f"{path}:{node.lineno}"]
    assert not left


def _starts_a_program(function: ast.expr) -> bool:
    """Whether a function is one of `subprocess`, our own `run`, or one of `os` or `asyncio` that starts programs."""
    match function:
        case ast.Name(id="run"):
            return True
        case ast.Attribute(value=ast.Name(id="subprocess"), attr=name):
            return name in STARTS_A_PROGRAM
        case ast.Attribute(value=ast.Name(id="os"), attr=name):
            return name in ("system", "popen") or name.startswith(("exec", "spawn", "posix_spawn"))
        case ast.Attribute(attr=name):
            return name.startswith("create_subprocess")
    return False


def test_deciding_needs_no_dask_and_no_disk() -> None:
    """The model imports the standard library and packaging alone."""
    code = (
        "import sys, pkgutil, importlib, dask_pkgsync.model as model\n"
        "for one in pkgutil.walk_packages(model.__path__, model.__name__ + '.'): importlib.import_module(one.name)\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    third_party = {name for name in done.stdout.split() if not name.startswith(("_", "editable"))}
    assert third_party <= {"dask_pkgsync", "packaging"}
