"""Lock files are read with their hashes, groups and extras, and say what they do not cover."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest
from packaging.tags import Tag

from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.environments.interpreter import Interpreter
from dask_pkgsync.model.environments.origin import FromVcs
from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.model.lockfiles.lockfile import environment_from_lock
from dask_pkgsync.model.lockfiles.pin import Choice
from dask_pkgsync.model.plan import Install, Keep, make_plan
from dask_pkgsync.model.policy import Policy
from dask_pkgsync.model.resolutions.question import ABSENT, Pinned
from dask_pkgsync.model.resolutions.reading import resolution
from dask_pkgsync.model.resolutions.resolution import refusal

if TYPE_CHECKING:
    from collections.abc import Collection

HERE = Interpreter("cpython", "3.11.7", "linux-x86_64", "")
LINUX = frozenset({Tag("cp311", "cp311", "manylinux_2_17_x86_64"), Tag("py3", "none", "any")})
A, B = "a" * 64, "b" * 64

needs_toml = pytest.mark.skipif(sys.version_info < (3, 11), reason="reading TOML needs Python 3.11, or tomli")

REQUIREMENTS = f"one==1.0 \\\n    --hash=sha256:{B} \\\n    --hash=sha256:{A}\ntwo==2.0  # via one\n"
POETRY = f"""
[[package]]
name = "one"
version = "1.0"
optional = false
groups = ["main"]
files = [{{file = "one-1.0-py3-none-any.whl", hash = "sha256:{A}"}}, {{file = "one-1.0.tar.gz", hash = "sha256:{B}"}}]
[[package]]
name = "tester"
version = "2.0"
optional = false
groups = ["dev"]
files = []
[[package]]
name = "both"
version = "2.0"
optional = false
groups = ["main", "dev"]
markers = {{main = "sys_platform == 'nowhere'", dev = "python_version > '3'"}}
[[package]]
name = "cuda"
version = "3.0"
optional = true
groups = ["main"]
files = [{{file = "cuda-3.0-cp311-cp311-win_amd64.whl", hash = "sha256:{A}"}}]
[[package]]
name = "forked"
version = "0.1"
optional = false
groups = ["main"]
[package.source]
type = "git"
url = "https://example.org/forked.git"
reference = "main"
resolved_reference = "c0ffee"
[extras]
gpu = ["cuda (>=3)"]
none = []
[metadata]
lock-version = "2.1"
"""
PIPFILE = json.dumps(
    {
        "_meta": {"pipfile-spec": 6},
        "default": {
            "One": {"version": "==1.0", "hashes": [f"sha256:{A}"]},
            "old": {"version": "==1", "markers": "python_version < '3'"},
            "forked": {"git": "https://example.org/forked.git", "ref": "c0ffee"},
        },
        "develop": {"tester": {"version": "==2.0", "hashes": []}},
    }
)
PYLOCK = f"""
lock-version = "1.0"
created-by = "test"
extras = ["gpu"]
dependency-groups = ["dev"]
default-groups = []
[[packages]]
name = "one"
version = "1.0"
wheels = [{{url = "https://example.org/one-1.0-py3-none-any.whl", hashes = {{sha256 = "{A}"}}}}]
[[packages]]
name = "tester"
version = "2.0"
marker = "'dev' in dependency_groups"
wheels = [{{url = "https://example.org/tester-2.0-py3-none-any.whl", hashes = {{sha256 = "{B}"}}}}]
[[packages]]
name = "cuda"
version = "3.0"
marker = "'gpu' in extras"
wheels = [{{url = "https://example.org/cuda-3.0-py3-none-win_amd64.whl", hashes = {{sha256 = "{B}"}}}}]
[[packages]]
name = "forked"
vcs = {{type = "git", url = "https://example.org/forked.git", commit-id = "c0ffee"}}
"""


def read(
    name: str, text: str, groups: Collection[str] = (), extras: Collection[str] = (), tags: Collection[Tag] = ()
) -> Environment:
    """Read a lock file."""
    return environment_from_lock(name, text, HERE, choice=Choice(tuple(groups), tuple(extras)), tags=tags)


@needs_toml
@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("requirements.txt", REQUIREMENTS, (A, B)),
        ("poetry.lock", POETRY, (A, B)),
        ("Pipfile.lock", PIPFILE, (A,)),
        ("pylock.toml", PYLOCK, (A,)),
    ],
)
def test_hashes_are_read(name: str, text: str, expected: tuple[str, ...]) -> None:
    """Of every format, each in the order of the digests; and what has none has none."""
    found = read(name, text).distributions
    assert found["one"] == Distribution("one", "1.0", hashes=expected)
    assert Environment.from_json(read(name, text).to_json()) == read(name, text)


@needs_toml
@pytest.mark.parametrize(
    ("name", "text", "groups", "extras", "expected"),
    [
        ("poetry.lock", POETRY, (), (), {"one", "tester", "both", "cuda", "forked"}),
        ("poetry.lock", POETRY, ("main",), ("none",), {"one", "forked"}),
        ("poetry.lock", POETRY, ("dev",), ("gpu",), {"one", "tester", "both", "cuda", "forked"}),
        ("Pipfile.lock", PIPFILE, (), (), {"one", "forked"}),
        ("Pipfile.lock", PIPFILE, ("develop",), (), {"one", "forked", "tester"}),
        ("pylock.toml", PYLOCK, (), (), {"one", "forked"}),
        ("pylock.toml", PYLOCK, ("dev",), (), {"one", "forked", "tester"}),
    ],
)
def test_groups_and_extras_are_chosen(
    name: str, text: str, groups: tuple[str, ...], extras: tuple[str, ...], expected: set[str]
) -> None:
    """What was chosen is read with what is always installed; by default what the tool installs by default."""
    found = read(name, text, groups, extras).distributions
    assert found.keys() == expected
    assert found["forked"].origin == FromVcs("https://example.org/forked.git", "c0ffee")


@needs_toml
@pytest.mark.parametrize(
    ("name", "text", "choice", "reason"),
    [
        ("poetry.lock", POETRY, (("nope",), ()), "has no group nope; its groups are dev, main"),
        ("poetry.lock", POETRY, ((), ("nope",)), "has no extra nope; its extras are gpu, none"),
        ("Pipfile.lock", PIPFILE, (("nope",), ()), "has no group nope; its groups are default, develop"),
        ("Pipfile.lock", PIPFILE, ((), ("gpu",)), "a Pipfile.lock has no extras"),
        ("pylock.toml", PYLOCK, (("nope",), ()), "nope"),
        ("r.txt", REQUIREMENTS, (("dev",), ()), "neither groups nor extras"),
        ("Pipfile.lock", "{", ((), ()), "is no JSON"),
        ("Pipfile.lock", "{}", ((), ()), "no section default"),
        ("Pipfile.lock", '{"default": {"a": {"version": "*"}}}', ((), ()), "a: expected one exact version"),
        ("Pipfile.lock", '{"default": {"a": {"version": "==1", "markers": "?"}}}', ((), ()), "no environment marker"),
    ],
)
def test_what_cannot_be_chosen_is_told(
    name: str, text: str, choice: tuple[tuple[str, ...], tuple[str, ...]], reason: str
) -> None:
    """With the file, and what there is to choose from."""
    with pytest.raises(PolicyError) as caught:
        read(name, text, *choice)
    assert str(caught.value).startswith(name)
    assert reason in str(caught.value)


@needs_toml
def test_a_lock_that_does_not_cover_the_platform_says_so() -> None:
    """Where a lock file lists the wheels of a package, one of them is for this platform, or it has the source."""
    with pytest.raises(PolicyError, match=r"does not cover this platform.*cuda 3.0 \(only for win_amd64\)"):
        read("poetry.lock", POETRY, tags=LINUX)
    assert "one" in read("poetry.lock", POETRY, extras=("none",), tags=LINUX).distributions
    with pytest.raises(PolicyError, match=r"does not cover this platform.*cuda"):
        read("pylock.toml", PYLOCK, extras=("gpu",))


def test_hashes_are_part_of_what_is_asked() -> None:
    """They are in the fingerprint and in the steps of a plan; what a node has already is not installed again."""
    bare, hashed = read("r.txt", "one==1.0\n"), read("r.txt", REQUIREMENTS.partition("two")[0])
    assert bare.fingerprint != hashed.fingerprint
    nothing = Environment.of(HERE, [])
    assert make_plan(nothing, hashed).changes == (Install("one", "1.0", hashes=(A, B)),)
    assert make_plan(bare, hashed).steps == (Keep("one", "1.0", hashes=(A, B)),)


def test_hashes_allow_no_other_release_on_another_platform() -> None:
    """A package of which a lock file names the files is exact on every platform, or the target is refused."""
    asked = read("r.txt", f"one==1.0 --hash=sha256:{A}\nabsent==1.0 --hash=sha256:{B}\n")
    answer = {"one": Pinned("1.0"), "absent": Pinned(ABSENT)}
    found = resolution(asked, Policy(), Interpreter("cpython", "3.11.7", "linux-aarch64", ""), answer)
    assert found.environment.distributions["one"].hashes == (A,)
    assert "the lock file has hashes of it" in refusal(found, Policy())
