"""A virtual environment that is made without a process is what uv makes, to all who look at it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from clusters import Venv, base_python, surroundings, uv
from uv import find_uv_bin

from dask_pkgsync import LayerError
from dask_pkgsync.installers.uv import Uv
from dask_pkgsync.layers.environment import interpreter_below, make_environment
from dask_pkgsync.layers.layout import SITE_PACKAGES
from dask_pkgsync.scanning.configured_indexes import configured_indexes
from dask_pkgsync.scanning.configured_trust import configured_trust
from dask_pkgsync.scanning.installed import this_interpreter

if TYPE_CHECKING:
    from collections.abc import Callable

BASE = Path(base_python())

LOOK = """
import json, os, platform, site, sys, sysconfig
import ctypes, sqlite3, ssl
print(json.dumps({
    "path": sys.path[1:], "prefixes": [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix],
    "executable": sys.executable, "below": os.path.realpath(sys._base_executable), "version": platform.python_version(),
    "paths": sysconfig.get_paths(), "site": [site.getsitepackages(), site.ENABLE_USER_SITE],
}))
"""


def seen_in(python: Path) -> dict[str, object]:
    """Return what an interpreter says of itself."""
    env = surroundings()
    finished = subprocess.run([python, "-c", LOOK], capture_output=True, text=True, check=True, env=env)
    found: dict[str, object] = json.loads(finished.stdout)
    return found


def of_the_base(directory: Path) -> Path:
    """Return the interpreter below everything."""
    del directory
    return BASE


def of_an_environment(directory: Path) -> Path:
    """Return the interpreter of a virtual environment that venv made."""
    subprocess.run([BASE, "-m", "venv", "--without-pip", str(directory / "venv")], check=True)
    return directory / "venv" / "bin" / "python"


def of_a_copy(directory: Path) -> Path:
    """Return the copied interpreter of a virtual environment."""
    subprocess.run([BASE, "-m", "venv", "--copies", "--without-pip", str(directory / "venv")], check=True)
    assert not (directory / "venv" / "bin" / "python3").is_symlink()
    return directory / "venv" / "bin" / "python3"


def of_an_environment_of_uv(directory: Path) -> Path:
    """Return the interpreter of a virtual environment that uv made from another one."""
    inner = of_an_environment(directory)
    uv(["venv", "--python", str(inner), str(directory / "outer")])
    return directory / "outer" / "bin" / "python3"


def of_a_link_to_an_environment(directory: Path) -> Path:
    """Return the interpreter of a virtual environment by a link to its directory."""
    of_an_environment(directory)
    (directory / "link").symlink_to("venv")
    return directory / "link" / "bin" / "python"


def of_a_made_environment(directory: Path) -> Path:
    """Return the interpreter of an environment that was made in the same way."""
    make_environment(directory / "made", of_an_environment(directory), this_interpreter())
    return directory / "made" / "bin" / "python3"


@pytest.mark.parametrize(
    "python_of",
    [
        of_the_base,
        of_an_environment,
        of_a_copy,
        of_an_environment_of_uv,
        of_a_link_to_an_environment,
        of_a_made_environment,
    ],
)
def test_it_is_what_uv_makes(tmp_path: Path, python_of: Callable[[Path], Path]) -> None:
    """Search path, prefixes, install locations and interpreter are the same, from each kind of interpreter."""
    python = python_of(tmp_path)
    uv(["venv", "--no-project", "--relocatable", "--python", str(python), str(tmp_path / "environment")])
    expected = seen_in(tmp_path / "environment" / "bin" / "python")
    shutil.rmtree(tmp_path / "environment")
    make_environment(tmp_path / "environment", python, this_interpreter())
    for name in ("python", "python3", f"python{sys.version_info[0]}.{sys.version_info[1]}"):
        found = seen_in(tmp_path / "environment" / "bin" / name)
        assert found.pop("executable") == str(tmp_path / "environment" / "bin" / name)
        unlike = {"executable", "below"} if python_of is of_a_copy and sys.version_info < (3, 11) else {"executable"}
        assert all(found[key] == value for key, value in expected.items() if key not in unlike), (found, expected)
    assert interpreter_below(python).samefile(BASE)
    assert (tmp_path / "environment" / SITE_PACKAGES).is_dir()
    assert (tmp_path / "environment" / "lib64").is_symlink() == (sys.platform == "linux" and sys.maxsize > 2**32)


def test_scripts_work_after_it_was_renamed(tmp_path: Path) -> None:
    """Uv writes scripts that find their interpreter beside themselves."""
    make_environment(tmp_path / "aside" / "layer", BASE, this_interpreter())
    installer = Uv(Path(find_uv_bin()), BASE, tmp_path / "cache", configured_trust())
    environment, indexes = tmp_path / "aside" / "layer", configured_indexes()
    assert not installer.install_cached(environment, ["tabulate==0.9.0"], final=tmp_path, timeout=120, indexes=indexes)
    installer.install(environment, ["tabulate==0.9.0"], final=tmp_path, timeout=120, indexes=indexes)
    (tmp_path / "aside" / "layer").rename(tmp_path / "final")
    script = tmp_path / "final" / "bin" / "tabulate"
    said = subprocess.run([script], input="a b", capture_output=True, text=True, check=True, env=surroundings()).stdout
    assert "a  b" in said
    finished = subprocess.run(
        [tmp_path / "final" / "bin" / "python", "-c", "import sys, tabulate; print(tabulate.__file__, sys.prefix)"],
        capture_output=True, text=True, check=True, env=surroundings(),
    )  # fmt: skip
    assert finished.stdout.split() == [
        str(tmp_path / "final" / SITE_PACKAGES / "tabulate" / "__init__.py"),
        str(tmp_path / "final"),
    ]


def test_an_interpreter_that_is_not_there_is_told(tmp_path: Path) -> None:
    """A removed base, links in a circle, and environments in a circle."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "pyvenv.cfg").write_text(f"home = {tmp_path / 'gone'}\n")
    (venv / "bin" / "python").symlink_to(tmp_path / "gone" / "python")
    (venv / "bin" / "circle").symlink_to("circle")
    (venv / "bin" / "copy").write_text("")
    for name in ("python", "circle", "copy"):
        with pytest.raises(LayerError, match="cannot be found"):
            interpreter_below(venv / "bin" / name)
    (venv / "pyvenv.cfg").write_text(f"home = {venv / 'bin'}\n")
    with pytest.raises(LayerError, match="leads to itself"):
        interpreter_below(venv / "bin" / "copy")


def test_links_outside_of_environments_stay(tmp_path: Path) -> None:
    """A package manager replaces what they point to, so an environment is made for the link."""
    prefix = tmp_path / "prefix" / "bin"
    prefix.mkdir(parents=True)
    (prefix / "python").symlink_to(BASE)
    (tmp_path / "relative").symlink_to(os.path.relpath(prefix / "python", tmp_path))
    assert interpreter_below(prefix / "python") == prefix / "python"
    assert interpreter_below(tmp_path / "relative") == tmp_path / "relative"
    venv = Venv(tmp_path / "venv")
    venv.root.joinpath("bin").mkdir(parents=True)
    (venv.root / "pyvenv.cfg").write_text(f"home = {prefix}\n")
    (venv.root / "bin" / "python").symlink_to("../../relative")
    assert interpreter_below(Path(venv.python)) == tmp_path / "relative"
