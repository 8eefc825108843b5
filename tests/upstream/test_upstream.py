"""What ``python tests/upstream`` concludes from two runs of distributed's tests; the runs themselves take an hour."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from upstream import outcomes
from upstream.outcomes import FILE, Outcome, Suspect, Verdict, compare, read_junit

if TYPE_CHECKING:
    from pathlib import Path

SKIPPED, PASSED, FAILED = Outcome

TESTS = """
import pytest

@pytest.fixture
def broken():
    yield
    raise ValueError

@pytest.mark.parametrize("x", [1, "a.b::c"])
def test_fine(x): pass
def test_wrong(): raise ValueError
def test_wrong_afterwards(broken): pass
def test_not_here(): pytest.skip("not here")
@pytest.mark.xfail
def test_known(): raise ValueError
class TestMany:
    def test_one(self): pass
"""


def test_what_pytest_writes_is_read(tmp_path: Path) -> None:
    """Each test has one outcome, under the name by which pytest runs it again; an error in a fixture is a failure."""
    folder = tmp_path / "some" / "tests"
    folder.mkdir(parents=True)
    (folder / "test_it.py").write_text(TESTS)
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=.", "--junit-xml=it.xml"]
    argv.append("some/tests/test_it.py")
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}  # of this pytest
    finished = subprocess.run(argv, cwd=tmp_path, capture_output=True, check=False, env=env)
    assert finished.returncode == 1
    found = read_junit((tmp_path / "it.xml").read_text(), "some.tests.test_it")
    assert found == {
        "test_fine[1]": PASSED,
        "test_fine[a.b::c]": PASSED,
        "test_wrong": FAILED,
        "test_wrong_afterwards": FAILED,
        "test_not_here": SKIPPED,
        "test_known": SKIPPED,
        "TestMany::test_one": PASSED,
    }


@pytest.mark.parametrize(
    ("unplugged", "plugged", "column"),
    [
        (PASSED, PASSED, "passed"),
        (SKIPPED, PASSED, "passed"),
        (SKIPPED, SKIPPED, "skipped"),
        (FAILED, FAILED, "both"),
        (FAILED, PASSED, "unplugged"),
        (FAILED, None, "unplugged"),
        (PASSED, FAILED, "plugged"),
        (PASSED, SKIPPED, "plugged"),
        (PASSED, None, "plugged"),
        (SKIPPED, FAILED, "plugged"),
        (None, FAILED, "plugged"),
    ],
)
def test_whatever_passes_without_the_plugin_passes_with_it(
    unplugged: Outcome | None, plugged: Outcome | None, column: str
) -> None:
    """And nothing fails with it alone; a test that is skipped or vanishes with the plugin has not passed."""
    before, after = ({"t": one} if one else {} for one in (unplugged, plugged))
    found = compare({**before, FILE: PASSED}, {**after, FILE: PASSED})
    assert found.counts == {column: 1}
    assert (found.suspects == ["t"]) is (column == "plugged")
    assert (found.both == ["t"]) is (column == "both")


def test_a_pytest_that_dies_is_a_failure() -> None:
    """A scheduler that ends its process ends pytest: then nothing was shown, not even of tests that had passed."""
    assert compare({FILE: PASSED}, {FILE: FAILED}).suspects == [FILE]


@pytest.mark.parametrize(
    ("unplugged", "plugged", "verdict"),
    [
        ([PASSED, PASSED], [FAILED, FAILED], Verdict.OURS),
        ([PASSED, PASSED], [PASSED, FAILED], Verdict.OURS),
        ([PASSED, PASSED], [PASSED, None], Verdict.OURS),
        ([PASSED, PASSED], [PASSED, PASSED], Verdict.ONCE),
        ([PASSED, FAILED], [FAILED, FAILED], Verdict.FLAKY),
        ([], [], Verdict.OURS),
    ],
)
def test_a_failure_that_comes_again_only_with_the_plugin_is_ours(
    unplugged: list[Outcome | None],
    plugged: list[Outcome | None],
    verdict: Verdict,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that comes without it as well is upstream's; exceptions stay exceptions, and say why."""
    suspect = Suspect("test_a.py::t", unplugged, plugged)
    assert suspect.verdict is verdict
    monkeypatch.setitem(outcomes.KNOWN_EXCEPTIONS, "test_a.py::t", "it counts plugins")
    assert suspect.verdict is Verdict.KNOWN
    assert str(suspect) == "known exception: test_a.py::t: it counts plugins"
