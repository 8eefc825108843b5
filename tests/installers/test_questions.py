"""uv answers what there is of the client's packages for another platform, in one run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from clusters import CRITICAL
from package_index import Index, serving
from uv import find_uv_bin

from dask_pkgsync import Distribution, Environment, LayerError
from dask_pkgsync.installers.pip import Pip
from dask_pkgsync.installers.resolving import QuestionFiles
from dask_pkgsync.installers.uv import Uv
from dask_pkgsync.model.environments.interpreter import Interpreter
from dask_pkgsync.model.environments.origin import FromModules
from dask_pkgsync.model.indexes import Indexes
from dask_pkgsync.model.policy import Policy
from dask_pkgsync.model.resolutions.question import ABSENT, question
from dask_pkgsync.model.target import Target
from dask_pkgsync.process.resolving import resolve_with

if TYPE_CHECKING:
    from collections.abc import Iterator

WINDOWS = Interpreter("cpython", f"{sys.version_info[0]}.{sys.version_info[1]}.1", "win-amd64", "")
critical = [Distribution(name, "1.0") for name in CRITICAL]


class Watched(Index):
    """An index that knows what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.pages: set[str] = set()

    def has_page(self, parts: list[str]) -> bool:
        """Note the page, and whether there is one."""
        self.pages.update(parts)
        return super().has_page(parts)


@pytest.fixture
def index() -> Iterator[Watched]:
    """Return an index of packages of which some releases are for Windows only."""
    found = Watched()
    for name in CRITICAL:
        found.add(name, "1.0")
    for version in ("1.4.1", "1.4.3", "1.5.0"):
        found.add("patched", version)
    found.add("patched", "1.4.2", tag="py3-none-win_amd64")
    found.add("wide", "2.0.0", tag="py3-none-win_amd64")
    found.add("wide", "1.9.0")
    found.add("wide", "2.1.0")
    found.add("wide", "3.0.0")
    found.add("nowhere", "2.1.0", tag="py3-none-win_amd64")
    found.add("early", "1.1.0rc1")
    found.add("early", "1.0.9")
    found.add("exact", "7.2")
    found.add("exact", "7.2.5")
    with serving(found):
        yield found


def asked(**versions: str) -> Environment:
    """Return an environment of Windows with the critical packages, a loose module, and these."""
    local = Distribution("module-helpers", "0", FromModules("file:///x", "source=1"))
    more = [Distribution(name, version) for name, version in versions.items()]
    return Environment.of(WINDOWS, [*critical, local, *more])


def test_uv_answers_in_one_run(tmp_path: Path, index: Watched) -> None:
    """Exact, near, absent, prereleases: one run of a real uv finds all of them, and asks nobody for local code."""
    environment = asked(patched="1.4.2", wide="2.0.0", nowhere="2.1.0", early="1.1.0rc1", exact="7.2")
    uv = Uv(Path(find_uv_bin()), Path(sys.executable), tmp_path / "uv")
    answer = uv.answer(question(environment, Policy()), timeout=60, indexes=Indexes(index.url))
    assert {name: one.version for name, one in answer.items() if name not in CRITICAL} == {
        "patched": "1.4.3",
        "wide": "1.9.0",
        "nowhere": ABSENT,
        "early": "1.1.0rc1",
        "exact": "7.2",
    }
    assert "patched" in index.pages
    assert "module-helpers" not in index.pages
    assert not [path for path in tmp_path.iterdir() if path.name != "uv"]


def test_levels_allow_a_later_release(tmp_path: Path, index: Watched) -> None:
    """Only where levels say compatible, a later X.Y of the same X is taken, and told as such."""
    uv = Uv(Path(find_uv_bin()), Path(sys.executable), tmp_path / "uv")
    for levels, kind, got in (({}, "left out", ""), ({"wide": "compatible"}, "compatible", "2.1.0")):
        target = Target(asked(wide="2.0.0"), Policy.of(levels=levels))
        (row,) = resolve_with(uv, target, timeout=60, indexes=Indexes(index.url)).substitutions
        assert (row.kind, row.got) == (kind, got)


def test_uv_is_asked_with_exactly_this() -> None:
    """The argument vector of uv: overrides, preferences in the output file, no source distributions."""
    files = QuestionFiles(Path("/q/in"), Path("/q/over"), Path("/q/answer"), Path("/q/stand-ins"))
    common = ["/bin/uv", "--no-config", "--no-progress", "--color", "never", "--cache-dir", "/cache/uv"]
    assert Uv(Path("/bin/uv"), Path("/base/python"), Path("/cache/uv")).answer_argv(files) == [
        *common,
        *["pip", "compile", "/q/in", "--override", "/q/over", "--output-file", "/q/answer", "--python", "/base/python"],
        *["--only-binary", ":all:", "--no-header", "--annotation-style", "line", "--quiet"],
    ]


def test_pip_cannot_answer(tmp_path: Path) -> None:
    """A node that has only pip says that it needs uv."""
    pip = Pip((sys.executable, "-m", "pip"), Path(sys.executable), tmp_path)
    with pytest.raises(LayerError, match="has no uv"):
        pip.answer(question(asked(), Policy()), timeout=1)
