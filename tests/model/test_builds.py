"""Builds of one version: how they are compared, what a node does about them, and what the operator may demand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dask_pkgsync import Distribution, Environment, compare
from dask_pkgsync.model.blobs import BlobRequest
from dask_pkgsync.model.claims import conflict
from dask_pkgsync.model.comparison import is_other_build
from dask_pkgsync.model.environments.interpreter import Interpreter
from dask_pkgsync.model.environments.origin import FromArchive, FromVcs
from dask_pkgsync.model.errors import MessageError, PolicyError
from dask_pkgsync.model.operator_policy import OperatorPolicy
from dask_pkgsync.model.plan import Install, Keep, Replace, Skip, make_plan
from dask_pkgsync.model.policy import CRITICAL, Level, Policy, policy_from_wire, policy_to_wire
from dask_pkgsync.model.target import Target

A, B = "a" * 64, "b" * 64
HERE = Interpreter("cpython", "3.11.7", "linux-x86_64", "cp311-cp311-manylinux_2_36_x86_64")
ELSEWHERE = replace(HERE, platform="macosx-11.0-arm64")
DASKS = tuple(Distribution(name, "1.0", content=A) for name in CRITICAL)


def environment(*distributions: Distribution, dasks: tuple[Distribution, ...] = DASKS) -> Environment:
    """Return an environment with Dask and some more."""
    return Environment.of(HERE, [*distributions, *dasks])


def twin(content: str = A, **rest: object) -> Distribution:
    """Return a distribution."""
    return Distribution("twin", "1.0", content=content, **rest)  # type: ignore[arg-type]


def step(have: Distribution | None, want: Distribution, policy: Policy | None = None, **where: object) -> object:
    """Return what a node does about a distribution."""
    base = environment(*([have] if have else []))
    base = replace(base, **where) if where else base  # type: ignore[arg-type]
    (found,) = (one for one in make_plan(base, environment(want), policy).steps if one.name == "twin")
    return found


def test_another_build_is_a_difference_and_is_replaced() -> None:
    """The table shows both digests, and the node is to get the very content."""
    (row,) = compare(environment(twin(A)), environment(twin(B)))
    assert (row.name, row.level) == ("twin", Level.EXACT)
    assert (row.expected, row.found) == ("1.0 (build aaaaaaaa)", "1.0 (build bbbbbbbb)")
    assert "another build" in row.reason
    assert step(twin(B), twin(A)) == Replace("twin", "1.0", "1.0 (build bbbbbbbb)", content=A)
    assert step(None, twin(A)) == Install("twin", "1.0", content=A)
    assert step(twin(A), twin(A)) == Keep("twin", "1.0", content=A)
    assert environment(twin(A)).fingerprint != environment(twin(B)).fingerprint


def test_equal_contents_are_the_same_wherever_they_came_from() -> None:
    """A wheel from a file and the same wheel from an index are one build."""
    from_file = twin(A, origin=FromArchive("file:///twin.whl", "sha256=" + B))
    assert isinstance(step(twin(A), from_file), Keep)
    assert isinstance(step(from_file, twin(A)), Keep)
    assert environment(from_file).fingerprint == environment(twin(A)).fingerprint


def test_of_one_commit_all_builds_are_the_same() -> None:
    """Its files may differ from machine to machine; the source is what counts."""
    one, other = (twin(content, origin=FromVcs("https://host/x", "c" * 40)) for content in (A, B))
    assert not compare(environment(one), environment(other))
    assert environment(one).fingerprint == environment(other).fingerprint


def test_what_is_not_known_is_no_difference() -> None:
    """A lock file names versions alone."""
    assert not compare(environment(twin("")), environment(twin(A)))
    assert not compare(environment(twin(A)), environment(twin("")))
    assert step(twin(B), twin("")) == Keep("twin", "1.0")


def test_a_modified_base_is_another_build_whatever_is_wanted() -> None:
    """Also if the target, from a lock file, does not know its content."""
    assert isinstance(step(twin(B, modified=2), twin(A)), Replace)
    assert step(twin(B, modified=2), twin("")) == Replace("twin", "1.0", "1.0 (build bbbbbbbb, 2 files modified)")


def test_what_is_modified_on_the_client_comes_from_it() -> None:
    """Its digest is its identity, and no index can have it; a node with the same files needs nothing."""
    wanted = twin(A, modified=1)
    assert step(twin(B), wanted) == Replace("twin", "1.0", "1.0", f"content={A}")
    assert isinstance(step(twin(A), wanted), Keep)
    assert isinstance(step(twin(A, modified=1), wanted), Keep)


@pytest.mark.parametrize(
    ("policy", "outcome"),
    [
        (Policy.of(), Replace),
        (Policy.of(builds="warn"), Skip),
        (Policy.of(builds="ignore"), Keep),
        (Policy.of(levels={"twin": "version"}), Keep),
        (Policy.of(levels={"twin": "exact"}, builds="warn"), Skip),
        (Policy.of(levels={"t*": "compatible"}), Replace),
    ],
)
def test_the_policy_decides_about_builds(policy: Policy, outcome: type) -> None:
    """By the option, and by name through levels; what only warns is a difference all the same."""
    assert isinstance(step(twin(B), twin(A), policy), outcome)
    assert bool(compare(environment(twin(A)), environment(twin(B)), policy)) is (outcome is not Keep)
    assert policy_from_wire(policy_to_wire(policy)) == policy


def test_a_policy_of_an_older_release_has_no_builds() -> None:
    """It is read as by default: environments of that release have no contents to compare."""
    data = policy_to_wire(Policy())
    del data["builds"]
    assert policy_from_wire(data) == Policy()
    with pytest.raises(MessageError, match="builds"):
        policy_from_wire({**data, "builds": "perhaps"})
    with pytest.raises(PolicyError, match="expected one of replace, warn, ignore, found 'perhaps'"):
        Policy.of(builds="perhaps")


def test_across_platforms_only_pure_wheels_are_held_to_their_build() -> None:
    """Compiled code has other bytes there."""
    assert isinstance(step(twin(B), twin(A, is_pure=True), interpreter=ELSEWHERE), Replace)
    assert step(twin(B), twin(A), interpreter=ELSEWHERE) == Keep("twin", "1.0")
    assert is_other_build(twin(A, is_pure=True), twin(B), same_platform=False)
    assert not is_other_build(twin(A), twin(B), same_platform=False)


def test_another_build_of_a_critical_package_is_told_and_never_replaced() -> None:
    """It does not keep two clients apart, and no node can replace what Dask has imported."""
    others = tuple(replace(one, content=B) for one in DASKS)
    here, there = environment(), environment(dasks=others)
    rows = list(compare(here, there))
    assert {row.name for row in rows} == set(CRITICAL)
    assert all(row.level is Level.EXACT for row in rows)
    assert all(isinstance(one, Skip) and "Dask has imported it" in one.reason for one in make_plan(there, here).steps)
    assert not conflict(Target(here, Policy()), Target(there, Policy()))


def test_the_operator_may_refuse_other_builds_of_critical_packages() -> None:
    """By default they are let in, also where the operator's environment is enforced."""
    here = environment()
    there = environment(dasks=(*DASKS[1:], replace(DASKS[0], content=B)))
    for policy in (OperatorPolicy(own=here), OperatorPolicy(mode="enforce", expected=Target(here, Policy()))):
        assert policy.differing_from(there) is None
        policy.critical_builds, policy.own = "refuse", here
        (row,) = policy.differing_from(there) or ()
        assert (row.name, row.level) == (DASKS[0].name, Level.CRITICAL)
        assert policy.differing_from(here) is None


def test_clients_with_other_builds_of_one_package_conflict() -> None:
    """A cluster has one build of each package at a time; with builds ignored they share it."""
    one, other = environment(twin(A)), environment(twin(B))
    (row,) = conflict(Target(one, Policy()), Target(other, Policy()))
    assert row.name == "twin"
    ignoring = Policy.of(builds="ignore")
    assert not conflict(Target(one, ignoring), Target(other, ignoring))


def test_a_request_names_the_build() -> None:
    """Only a client with this content can meet it; a request without any build takes what is there."""
    assert BlobRequest("twin", "1.0", f"content={A}").is_met_by(twin(A))
    assert not BlobRequest("twin", "1.0", f"content={A}").is_met_by(twin(B))
    assert BlobRequest("twin", "1.0").is_met_by(twin(A))
    assert BlobRequest("twin", "1.0", f"content={A}").is_met_by(twin(A, modified=1))
    assert not BlobRequest("twin", "2.0").is_met_by(twin(A))


@pytest.mark.parametrize(
    "change", [{"content": "xyz"}, {"content": 7}, {"pure": "yes"}, {"modified": -1}, {"modified": "1"}]
)
def test_malformed_contents_are_refused(change: dict[str, object]) -> None:
    """Where they are, and what was expected."""
    import json

    data = json.loads(environment(twin(A)).to_json())
    assert Environment.from_json(json.dumps(data)) == environment(twin(A))
    data["distributions"]["twin"].update(change)
    with pytest.raises(MessageError, match=f"twin.*{next(iter(change))}|{next(iter(change))}"):
        Environment.from_json(json.dumps(data))


def test_all_of_it_comes_back_from_json() -> None:
    """Content, purity and the number of modified files."""
    made = environment(twin(A, is_pure=True), Distribution("patched", "2.0", content=B, modified=3))
    again = Environment.from_json(made.to_json())
    assert again == made
    assert again.distributions["patched"].modified == 3
    assert again.with_any_build({"twin"}).distributions["twin"].content == ""
