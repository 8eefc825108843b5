"""What we rely on in Dask and Python without being promised it, under the newest Dask and under the oldest.

A release of Dask that breaks something fails here, in a test that is named after the law that Dask keeps no more; the
message says which of our functions to mend. `tests/contracts` has the laws.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from clusters import OLDEST, OLDEST_PINS, SOURCE, surroundings
from contracts.__main__ import ROOMS
from contracts.law import CONTRACTS, Contract

from dask_pkgsync.client import dask_internals as client_internals
from dask_pkgsync.node import dask_internals as node_internals
from dask_pkgsync.process import import_internals, multiprocessing_internals
from dask_pkgsync.scheduler import dask_internals as scheduler_internals

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

    from clusters import Venvs

OF_PYTHON = (multiprocessing_internals, import_internals)
INTERNALS = (client_internals, scheduler_internals, node_internals, *OF_PYTHON)
"""The only modules of ours that touch what is private to others."""

PACKAGE = SOURCE / "dask_pkgsync"


@pytest.mark.parametrize("name", CONTRACTS)
def test_this_dask_keeps_the_law(name: str) -> None:
    """Dask, as it is installed here, does what we rely on."""
    if said := CONTRACTS[name].broken():
        pytest.fail(said, pytrace=False)


@pytest.fixture(scope="module")
def under_the_oldest(venvs: Venvs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Check all contracts in one process with the oldest Dask that we support; return what is broken, by name."""
    root = tmp_path_factory.mktemp("contracts")
    argv = [venvs.make_or_skip(*OLDEST_PINS).python, "-m", "contracts"]
    env = surroundings(PYTHONPATH=os.pathsep.join(map(str, (SOURCE, SOURCE / "tests"))))
    with (
        (root / "found").open("w") as found,
        (root / "log").open("w") as log,
        contextlib.suppress(subprocess.TimeoutExpired),  # what was found till then counts
    ):
        subprocess.run(argv, stdout=found, stderr=log, cwd=root, env=env, timeout=200, check=False)
    lines = (root / "found").read_text().splitlines()
    assert lines, (root / "log").read_text()
    return dict(map(json.loads, lines))


@pytest.mark.cluster
@pytest.mark.parametrize("name", CONTRACTS)
def test_the_oldest_dask_keeps_the_law(under_the_oldest: dict[str, str], name: str) -> None:
    """The oldest Dask that we support does what we rely on, too."""
    if said := under_the_oldest.get(name, "This law was not looked at: those before it took too long."):
        pytest.fail(said, pytrace=False)


def test_a_broken_law_names_what_to_mend() -> None:
    """Whoever reads the message learns which Dask breaks which law, how, and which functions of ours rely on it."""

    async def check() -> None:
        raise AttributeError("'Client' object has no attribute '_pending_msg_buffer'")

    hold_messages = client_internals.hold_messages
    said = Contract("name", "A client holds its messages.", (hold_messages,), check).broken()
    assert "does not keep this law: A client holds its messages." in said
    assert "no attribute '_pending_msg_buffer'" in said
    assert "dask_pkgsync.client.dask_internals.hold_messages" in said


def functions(module: ModuleType) -> dict[str, Any]:
    """Return the public functions that a module defines."""
    found = inspect.getmembers(module, inspect.isfunction)
    return {name: one for name, one in found if one.__module__ == module.__name__ and not name.startswith("_")}


@pytest.mark.parametrize("module", INTERNALS, ids=lambda module: module.__name__)
def test_every_internal_thing_has_a_contract(module: ModuleType) -> None:
    """There is no function that touches what is private to others without a law that is checked."""
    assert ROOMS
    covered = {id(one) for contract in CONTRACTS.values() for one in contract.relied_on_by}
    assert functions(module)
    assert [name for name, one in functions(module).items() if id(one) not in covered] == []


@pytest.mark.parametrize("module", INTERNALS, ids=lambda module: module.__name__)
def test_every_internal_thing_says_where_it_was_read_and_what_to_do(module: ModuleType) -> None:
    """Each function names the versions in which it was read, and says what to do when that changes."""
    read_in = "Python 3.10 to 3.13" if module in OF_PYTHON else "2026.8.0"
    for name, one in functions(module).items():
        said = " ".join((one.__doc__ or "").split())
        assert read_in in said, name
        assert module in OF_PYTHON or OLDEST["distributed"] in said, name
        assert "If it changes:" in said, name


def test_nothing_else_touches_what_is_private_to_others() -> None:
    """Only these modules do, and the linter is told so nowhere else; one class may look into its own instances."""
    allowed = {inspect.getfile(module) for module in INTERNALS}
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if str(path) not in allowed:
            lines = path.read_text().splitlines()
            told = [one for one in lines if "noqa: SLF001" in one and "of this very class" not in one]
            found += [f"{path}: {one.strip()}" for one in (*told, *private_names(path))]
    assert found == []


def private_names(path: Path) -> Iterator[str]:
    """Return where a file gets hold of something private in a way that the linter does not see."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(func=ast.Name("getattr" | "setattr" | "hasattr" | "delattr"), args=[_, name, *_]):
                told = [name]
            case ast.Subscript(value=ast.Call(func=ast.Name("vars")), slice=name):
                told = [name]
            case ast.Call(func=ast.Attribute(value=ast.Call(func=ast.Name("vars"))), args=[name, *_]):
                told = [name]
            case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in ("distributed", "multiprocessing"):
                told = [ast.Constant(alias.name) for alias in node.names]
            case _:
                told = []
        for one in told:
            if isinstance(one, ast.Constant) and str(one.value).startswith("_") and not str(one.value).startswith("__"):
                yield f"line {node.lineno}: {one.value}"
