"""Comparing and planning are pure, and agree with each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_environments import critical, environments, from_index, names, one_interpreter, policies

from dask_pkgsync.model.comparison import (
    Comparison,
    Difference,
    compare,
    compare_critical,
    critical_versions,
)
from dask_pkgsync.model.environments.distribution import Distribution, Fault
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.environments.interpreter import Interpreter
from dask_pkgsync.model.environments.origin import (
    FromArchive,
    FromDirectory,
    FromIndex,
    FromModules,
    FromVcs,
    Origin,
    Unrecorded,
)
from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.model.plan import Hide, Install, Keep, Plan, Replace, Skip, make_plan
from dask_pkgsync.model.policy import CRITICAL, Level, Policy
from dask_pkgsync.model.versions import compatible

HERE = Interpreter("cpython", "3.11.7", "linux-x86_64", "cp311-cp311-linux_x86_64")
MAC = Interpreter("cpython", "3.11.7", "macosx-11.0-arm64", "cp311-cp311-macosx_11_0_arm64")


def env(interpreter: Interpreter = HERE, faults: tuple[Fault, ...] = (), **versions: str) -> Environment:
    """Return an environment with the critical packages and these."""
    more = [Distribution(name.replace("_", "-"), version) for name, version in versions.items()]
    return Environment.of(interpreter, [*more, *critical], faults)


def apply(plan: Plan, base: Environment, target: Environment) -> Environment:
    """Return what a node has after it has carried out a plan."""
    there = dict(base.distributions)
    for step in plan.steps:
        match step:
            case Install(name, version) | Replace(name, version):
                there[name] = replace(target.distributions[name], version=version)
            case Hide(name):
                there.pop(name)
    return Environment.of(target.interpreter, there.values())


@given(environments(), policies)
def test_an_environment_matches_itself(environment: Environment, policy: Policy) -> None:
    """Nothing differs from itself, under any policy."""
    assert compare(environment, environment, policy).matches
    assert make_plan(environment, environment, policy).empty


@given(environments(one_interpreter, from_index), environments(one_interpreter, from_index), policies)
def test_a_plan_takes_a_base_to_the_target(base: Environment, target: Environment, policy: Policy) -> None:
    """After a plan's changes the comparison finds nothing, and planning again finds nothing to do."""
    plan = make_plan(base, target, policy)
    after = apply(plan, base, target)
    assert not compare(target, after, policy)
    assert make_plan(after, target, policy).empty


@given(environments(one_interpreter, from_index), environments(one_interpreter, from_index), policies)
def test_what_is_kept_is_not_moved(base: Environment, target: Environment, policy: Policy) -> None:
    """A delta holds only what differs, each name once; every step has its place in the order of names."""
    plan = make_plan(base, target, policy)
    kept = {step.name for step in plan.steps if isinstance(step, Keep)}
    held = [pin.partition("==")[0] for pin in plan.pins]
    if not plan.complete:
        assert not kept & set(held)
    assert len(held) == len(set(held))
    assert [step.name for step in plan.steps] == sorted({*base.distributions, *target.distributions})


@given(environments(), environments(), st.frozensets(names, max_size=3))
def test_what_is_ignored_is_not_spoken_of(one: Environment, other: Environment, ignored: frozenset[str]) -> None:
    """No ignored package is in a comparison, nor in what a plan changes."""
    policy = Policy.of(ignore=ignored - set(CRITICAL))
    assert not {row.name for row in compare(one, other, policy)} & policy.ignore
    assert not {step.name for step in make_plan(other, one, policy).changes} & policy.ignore


@given(environments(), environments())
def test_both_directions_name_the_same_shared_differences(one: Environment, other: Environment) -> None:
    """On one platform a package that both have differs in both directions or in none; files may stand for an index."""
    if not one.interpreter.same_platform(other.interpreter):
        return
    shared = set(one.distributions) & set(other.distributions)
    shared -= {name for name in shared if one.distributions[name].identity != other.distributions[name].identity}
    there = {row.name for row in compare(one, other)} & shared
    assert there == {row.name for row in compare(other, one)} & shared


ANY_FAULT = ("broken", "duplicate", "stray")


@given(environments(kinds=ANY_FAULT), environments(), policies)
def test_after_a_plan_only_what_was_skipped_differs(base: Environment, target: Environment, policy: Policy) -> None:
    """Whatever the platforms, the origins and the faults of the base, only skipped packages differ afterwards."""
    plan = make_plan(base, target, policy)
    after = apply(plan, base, Environment(base.interpreter, target.distributions))
    left = {row.name for row in compare(target, after, policy)} - {"python"}
    assert left <= {step.name for step in plan.skipped}
    assert all(step.reason for step in plan.skipped)


@given(environments(kinds=ANY_FAULT), environments(), policies)
def test_a_plan_is_sound_and_complete(base: Environment, target: Environment, policy: Policy) -> None:
    """Everything that differs is changed, hidden or skipped, and nothing is changed or hidden that matches."""
    plan = make_plan(base, target, policy)
    differing = {row.name for row in compare(target, base, policy)} - {"python"}
    touched = {step.name for step in (*plan.changes, *plan.hidden)}
    assert touched <= differing
    assert differing <= touched | {step.name for step in plan.skipped}
    assert plan.complete is bool(plan.hidden)


@given(environments(), environments(), policies, st.frozensets(names, max_size=4))
def test_what_is_taken_out_of_a_plan_is_skipped(
    base: Environment, target: Environment, policy: Policy, late: frozenset[str]
) -> None:
    """Leaving changes out turns exactly those into skips; the others, and the completeness, stay."""
    plan = make_plan(base, target, policy)
    less = plan.without(late, "late")
    assert less.changes == tuple(step for step in plan.changes if step.name not in late)
    assert [step.name for step in less.steps] == [step.name for step in plan.steps]
    assert less.complete == plan.complete
    assert set(plan.completed().pins) >= set(plan.pins)


@given(environments(), st.sampled_from(CRITICAL), policies)
def test_nothing_makes_a_critical_package_unimportant(environment: Environment, name: str, policy: Policy) -> None:
    """A critical package in another version, or broken, is a critical difference under every policy there can be."""
    changed = {**environment.distributions, name: Distribution(name, "99")}
    other = Environment(environment.interpreter, changed)
    broken = Environment(environment.interpreter, environment.distributions, (Fault("broken", "/x", "odd", name),))
    forced = Policy(ignore=frozenset(CRITICAL), only=frozenset(), strict=policy.strict)
    for held in (policy, forced):
        for found in (other, broken):
            assert [row.name for row in compare(environment, found, held).critical] == [name]
        assert held.rule(name, same_platform=False).level is Level.CRITICAL
    with pytest.raises(PolicyError, match="cannot be ignored"):
        Policy.of(ignore=[name.upper()])


def test_every_kind_of_step_has_its_reason() -> None:
    """Install, replace, keep, hide and skip are told apart, each with versions and reasons."""
    base = env(six="1.0", numpy="1.0", old="3", pip="1")
    target = env(six="1.0.0", numpy="2.0", new="1", pip="2")
    assert [step for step in make_plan(base, target).steps if step.name not in CRITICAL] == [
        Install("new", "1"),
        Replace("numpy", "2.0", "1.0"),
        Keep("old", "3"),
        Skip("pip", "2", "a packaging tool; name it in only or extra to ship it", ignored=True),
        Keep("six", "1.0"),
    ]
    strict = make_plan(base, target, Policy.of(strict=True))
    assert strict.complete
    assert strict.hidden == (Hide("old", "3"),)
    assert "six==1.0" in strict.pins
    assert "old==3" not in strict.pins


def test_a_package_that_matches_is_kept_whatever_the_policy() -> None:
    """A packaging tool in the same version is no news."""
    both = env(pip="24.0")
    assert Keep("pip", "24.0") in make_plan(both, both).steps


def test_a_complete_plan_holds_what_is_kept() -> None:
    """A layer that stands alone holds what only the base had as well."""
    plan = make_plan(env(old="3"), env(new="1")).completed()
    assert {"old==3", "new==1"} <= set(plan.pins)


def test_what_comes_too_late_is_skipped_with_the_reason() -> None:
    """Changes that a running process cannot take become skips."""
    plan = make_plan(env(six="1.0", numpy="1.0"), env(six="2.0", numpy="2.0")).without({"six"}, "imported")
    assert Skip("six", "2.0", "imported") in plan.steps
    assert [step.name for step in plan.changes] == ["numpy"]
    assert plan.skipped == (Skip("six", "2.0", "imported"),)


def test_levels_are_chosen_by_name_and_pattern() -> None:
    """Names come before patterns, patterns in their order; what Dask needs stays critical whatever they say."""
    policy = Policy.of(
        levels={"*-stubs": "ignore", "Pan*": "compatible", "*": "exact", "pandas": "critical", "pandas_stubs": "exact"}
    )
    found = {name: policy.rule(name).level.value for name in ("pandas-stubs", "x-stubs", "pandas", "pango", "six")}
    assert found == {
        "pandas-stubs": "exact",
        "x-stubs": "ignore",
        "pandas": "critical",
        "pango": "compatible",
        "six": "exact",
    }
    assert Policy.of(levels={"*": "ignore"}).rule("dask").level is Level.CRITICAL
    assert policy.rule("x-stubs").reason == "levels: *-stubs is ignore"


@pytest.mark.parametrize(
    ("levels", "problem"),
    [
        ({"dask": "exact"}, "dask is always critical"),
        ({"pandas": "important"}, "pandas: expected one of critical, exact, version, compatible, ignore"),
        ({"no name": "exact"}, "neither the name of a package nor a pattern"),
        (["pandas"], "names or patterns with a level each"),
    ],
)
def test_levels_that_make_no_sense_are_refused(levels: Any, problem: str) -> None:
    """The error says what was expected."""
    with pytest.raises(PolicyError, match=problem):
        Policy.of(levels=levels)
    with pytest.raises(PolicyError, match="six stands both in ignore and in levels"):
        Policy.of(ignore=["six"], levels={"six": "exact"})
    with pytest.raises(PolicyError, match="six stands in levels, and not in only"):
        Policy.of(only=["rich"], levels={"six": "critical", "r*": "exact", "rich": "exact"})
    assert Policy.of(levels={"setuptools": "critical"}).rule("setuptools").level is Level.CRITICAL


def test_a_package_that_somebody_made_critical_is_installed_like_others() -> None:
    """It keeps clients out; nodes get it. Its origin counts, as of every other package, and its absence does not."""
    policy = Policy.of(levels={"pandas": "critical"})
    assert compare(env(pandas="2.0"), env(pandas="2.1"), policy)
    assert not compare(env(), env(pandas="2.1"), policy)
    plan = make_plan(env(pandas="2.0"), env(pandas="2.1"), policy)
    assert [step.name for step in plan.changes] == ["pandas"]


def test_what_nothing_records_is_skipped_with_the_reason() -> None:
    """What cannot travel at all is skipped, and the person reads why and what to do."""
    target = Environment.of(HERE, [*critical, Distribution("mine", "1.0", Unrecorded())])
    (step,) = make_plan(env(), target).skipped
    assert step.name == "mine"
    assert "nothing records its files" in step.reason
    assert "install it with pip or uv" in step.reason
    found = Distribution("mine", "1.0", Unrecorded(("mine.py",)))
    target = Environment.of(HERE, [*critical, found])
    assert make_plan(env(), target).changes == (Install("mine", "1.0"),)  # from an index, or else from the client
    assert make_plan(env(mine="1.0"), target).empty


LOCAL = [
    FromDirectory("file:///x", editable=True, digest="source=1"),
    FromDirectory("file:///x", digest="record=1"),
    FromVcs("https://x", "c0ffee"),
    FromArchive("https://x", "sha256=1"),
    FromModules("file:///x", "source=1"),
]


@pytest.mark.parametrize("origin", LOCAL)
def test_local_code_is_told_apart_by_its_content(origin: Origin) -> None:
    """Code of one version is the same only if its commit or digest is; where it lies does not matter."""

    def having(origin: Origin) -> Environment:
        return Environment.of(HERE, [*critical, Distribution("mine", "1.0", origin)])

    target = having(origin)
    (step,) = make_plan(env(), target).changes
    assert (step.name, step.identity) == ("mine", target.distributions["mine"].identity)
    assert make_plan(target, target).empty
    elsewhere = having(replace(origin, url="file:///elsewhere"))
    assert make_plan(elsewhere, target).empty
    assert elsewhere.fingerprint == target.fingerprint
    changes = {"commit": "deadbeef"} if isinstance(origin, FromVcs) else {"digest": "sha256=2"}
    changed = having(replace(origin, **changes))  # type: ignore[arg-type]
    assert changed.fingerprint != target.fingerprint
    (step,) = make_plan(changed, target).changes
    assert isinstance(step, Replace)
    (row,) = compare(target, changed)
    assert row.expected != row.found or isinstance(origin, FromModules)
    assert make_plan(having(FromIndex()), target).changes


@pytest.mark.parametrize("origin", LOCAL)
def test_what_an_index_has_may_come_from_a_file_but_not_from_a_checkout(origin: Origin) -> None:
    """A node whose image was made of wheels matches; one that has a checkout of the same version does not."""
    base = Environment.of(HERE, [*critical, Distribution("six", "1.0", origin)])
    is_file = isinstance(origin, FromArchive) or (isinstance(origin, FromDirectory) and not origin.editable)
    assert make_plan(base, env(six="1.0")).empty is is_file
    assert compare(env(six="1.0"), base).matches is is_file


def test_a_faulty_distribution_never_matches() -> None:
    """What is broken or there twice is a difference, and is replaced."""
    fault = Fault("duplicate", "/site", "there twice", "six")
    base = env(faults=(fault,), six="1.0")
    (row,) = compare(env(six="1.0"), base)
    assert (row.name, row.found) == ("six", "1.0 (duplicate)")
    assert make_plan(base, env(six="1.0")).changes == (Replace("six", "1.0", "1.0"),)
    missing = env(faults=(Fault("broken", "/site", "no METADATA", "six"),))
    (row,) = compare(env(six="1.0"), missing)
    assert row.found == "? (broken)"
    stray = env(faults=(Fault("stray", "/cwd", "source tree", "six"),), six="1.0")
    assert compare(env(six="1.0"), stray).matches


def test_a_fault_of_what_is_not_expected_counts_under_strict_alone() -> None:
    """What only the node has cannot break the target's code, sound or not, and no plan would mend it."""
    fault = Fault("duplicate", "/site", "there twice", "old")
    base = env(faults=(fault,), old="1.0")
    assert compare(env(), base).matches
    assert make_plan(base, env()).empty
    assert [row.name for row in compare(env(), base, Policy(strict=True))] == ["old"]
    assert make_plan(base, env(), Policy(strict=True)).hidden == (Hide("old", "1.0"),)


def test_across_platforms_compatible_versions_do() -> None:
    """On another platform a compatible release matches, and packages of one system are skipped."""
    here, there = env(six="1.4.2", pywin32="300"), env(MAC, six="1.4")
    assert compare(there, here).matches
    assert [row.name for row in compare(env(MAC, six="2.0"), here)] == ["six"]
    reasons = {step.name: step.reason for step in make_plan(there, here).skipped}
    assert reasons == {"pywin32": "exists for one operating system only"}
    assert [step.name for step in make_plan(there, here).changes] == ["six"]


@pytest.mark.parametrize(
    ("want", "have", "answer"),
    [
        ("x", "1.4", False),
        ("1.4", "1.5", True),
        ("1.4.1", "1.5", False),
        ("1", "1.0", True),
        ("1", "2", False),
        ("1.4", "x", False),
    ],
)
def test_compatible_is_the_compatible_release_of_pep_440(want: str, have: str, answer: bool) -> None:
    """Compatible means ``~=``, or the same; a version of one number has no compatible releases."""
    assert compatible(want, have) is answer


def test_python_and_its_implementation_are_critical() -> None:
    """Another X.Y or implementation is a critical difference; another patch release is none."""
    other = Interpreter("cpython", "3.12.1", "linux-x86_64", "cp312")
    (row,) = compare(env(), env(other)).critical
    assert (row.name, row.expected, row.found) == ("python", "cpython 3.11.7", "cpython 3.12.1")
    assert not compare(env(), env(Interpreter("cpython", "3.11.2", "linux-x86_64", "cp311")))


def test_a_critical_package_that_nobody_has_is_a_difference() -> None:
    """Critical packages must exist: missing on both sides is no match."""
    bare = Environment.of(HERE, [])
    rows = compare(bare, bare)
    assert [row.name for row in rows] == list(CRITICAL)
    assert compare(bare, env()).critical


def test_the_handshake_is_compared_by_what_it_says() -> None:
    """Of a handshake Python's X.Y and the critical packages count, and what is missing is a difference."""
    ours = {**critical_versions(env())}
    assert not compare_critical(ours, {**ours, "python": "3.11.2.final.0"}, expected_label="a", found_label="b")
    rows = compare_critical(
        ours,
        {**ours, "python": "3.12.1", "dask": None, "tornado": "junk", "implementation": "pypy"},
        expected_label="scheduler",
        found_label="client",
    )
    assert [row.name for row in rows] == ["dask", "implementation", "python", "tornado"]
    assert "scheduler" in str(rows)
    without = {name: version for name, version in ours.items() if name != "implementation"}
    assert not compare_critical(without, ours, expected_label="a", found_label="b")
    broken = env(faults=(Fault("broken", "/x", "bad", "dask"),))
    assert critical_versions(broken)["dask"] is None


def test_a_comparison_prints_as_a_table() -> None:
    """The table names both sides, and HTML is escaped."""
    rows = compare(env(six="1.0"), env(), expected_label="client", found_label="<node>")
    assert str(rows).splitlines()[0].split() == ["package", "client", "<node>", "level"]
    assert "six" in str(rows)
    assert "&lt;node&gt;" in rows._repr_html_()
    same = compare(env(), env())
    assert "no differences" in str(same)
    assert "no differences" in same._repr_html_()
    assert len(same) == 0
    listed = Comparison((Difference("a", Level.EXACT, "1", "2"),))
    assert next(iter(listed)).name == "a"
    assert not listed.matches


def test_policies_say_why() -> None:
    """Every rule has its level and its reason."""
    policy = Policy.of(ignore=["Foo_Bar"], extra=["cupy==13.*", "pip"], platform_specific=["only.mac"])
    assert policy.rule("foo-bar").reason == "named in ignore"
    assert policy.rule("dask").level is Level.CRITICAL
    assert policy.rule("pip").level is Level.EXACT
    assert policy.rule("cupy", same_platform=False).reason == "named in extra"
    assert policy.rule("setuptools").level is Level.IGNORE
    assert policy.rule("only-mac", same_platform=False).level is Level.IGNORE
    assert policy.rule("only-mac").level is Level.EXACT
    only = Policy.of(only=["pip"])
    assert only.rule("pip").level is Level.EXACT
    assert only.rule("six").reason == "not named in only"
    assert only.rule("tornado").level is Level.CRITICAL


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ignore": ["distributed"]}, "cannot be ignored"),
        ({"ignore": ["no name"]}, "not the name of a package"),
        ({"ignore": ["six\n"]}, "not the name of a package"),
        ({"ignore": ["../x"]}, "not the name of a package"),
        ({"platform_specific": ["-r x"]}, "platform-specific: '-r x' is not"),
        ({"extra": ["six\n--pre"]}, "not a requirement"),
        ({"ignore": [7]}, "not the name of a package"),
        ({"only": "six"}, "list of package names"),
        ({"ignore": ["six"], "only": ["SIX"]}, "both in ignore and in only"),
        ({"extra": "six"}, "list of requirements"),
        ({"extra": ["six @ https://x"]}, "found a URL"),
        ({"extra": ["-e ."]}, "not a requirement"),
        ({"extra": [7]}, "not a requirement"),
        ({"extra": ["dask==1"]}, "critical or ignored"),
        ({"extra": ["six"], "ignore": ["six"]}, "critical or ignored"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, object], words: str) -> None:
    """Options that are wrong, or contradict each other, say which and why."""
    with pytest.raises(PolicyError, match=words):
        Policy.of(**options)  # type: ignore[arg-type]


def test_a_fault_of_what_nobody_wants_is_no_difference() -> None:
    """What only the base has and is broken there stands in nobody's way, unless the policy is strict."""
    base = env(faults=(Fault("duplicate", "/site", "there twice", "junk"),), junk="1.0")
    assert compare(env(), base).matches
    assert make_plan(base, env()).empty
    (row,) = compare(env(), base, Policy.of(strict=True))
    assert (row.name, row.found) == ("junk", "1.0 (duplicate)")
    assert make_plan(base, env(), Policy.of(strict=True)).hidden == (Hide("junk", "1.0"),)


def test_levels_are_bounded() -> None:
    """Each package is held against each of them, also on a scheduler that somebody sent them to."""
    Policy.of(levels={f"p{number}": "exact" for number in range(200)})
    with pytest.raises(PolicyError, match="at most 200 names and patterns, found 201"):
        Policy.of(levels={f"p{number}": "exact" for number in range(201)})


def test_a_critical_package_that_only_one_side_has_differs_for_that_reason() -> None:
    """The reason of a critical difference is that it is critical; ``strict`` is named where it is the reason."""
    (row,) = compare(Environment.of(HERE, critical[1:]), env())
    assert (row.name, row.expected, row.found) == (critical[0].name, "not there", "1.0")
    assert row.reason == Policy().rule(critical[0].name).reason
    (row,) = compare(env(), env(six="1.0"), Policy.of(strict=True))
    assert row.reason == "strict"


@given(environments(one_interpreter, from_index), environments(one_interpreter, from_index), st.data())
def test_what_is_faulty_never_matches_what_is_wanted(
    expected: Environment, found: Environment, data: st.DataObject
) -> None:
    """A package that is wanted and faulty is a difference, whatever its version, and is never kept."""
    name = data.draw(st.sampled_from(sorted(expected.distributions)))
    fault = Fault(data.draw(st.sampled_from(["duplicate", "broken", "unreadable"])), "/site", "bad", name)
    faulty = Environment.of(found.interpreter, found.distributions.values(), [*found.faults, fault])
    if Policy().rule(name).level is not Level.IGNORE:
        assert name in {row.name for row in compare(expected, faulty)}
        assert name in {step.name for step in make_plan(faulty, expected).changes}


@given(environments(), environments(), policies)
def test_no_policy_hides_a_critical_difference(one: Environment, other: Environment, policy: Policy) -> None:
    """What is critical without a policy is so under every policy, which can only add to it; all of it stands first."""

    def rows(comparison: Comparison) -> list[tuple[str, str, str]]:
        return [(row.name, row.expected, row.found) for row in comparison.critical]

    whole = compare(one, other, policy)
    everything = {*one.distributions, *other.distributions}
    chosen = {name for name in everything if policy.rule(name).level is Level.CRITICAL} - set(CRITICAL)
    assert [row for row in rows(whole) if row[0] not in chosen] == rows(compare(one, other))
    levels = [row.level is Level.CRITICAL for row in whole]
    assert levels == sorted(levels, reverse=True)


@pytest.mark.parametrize(
    "tag", ["cp311-cp311t-linux_x86_64", "cp311-cp311d-linux_x86_64", "cp311-cp311-musllinux_1_2_x86_64"]
)
def test_other_wheels_are_another_platform(tag: str) -> None:
    """Free-threaded, debug and musl builds of one Python take other wheels, whatever else they share."""
    other = Interpreter("cpython", "3.11.7", "linux-x86_64", tag)
    assert not HERE.same_platform(other)
    assert other.same_platform(other)
    assert other.same_platform(Interpreter("cpython", "3.11.7", "linux-x86_64", ""))
    newer = Interpreter("cpython", "3.11.9", "linux-x86_64", "cp311-cp311-manylinux_2_39_x86_64")
    assert HERE.same_platform(newer)
