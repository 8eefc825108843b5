"""What the nodes of another platform get is decided purely: critical packages exact, the rest within X.Y, all told."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_environments import names
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from dask_pkgsync.model.environments.conda import CondaPackage
from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.environments.interpreter import Interpreter
from dask_pkgsync.model.environments.origin import FromConda, FromDirectory
from dask_pkgsync.model.policy import CRITICAL, Level, Policy
from dask_pkgsync.model.reports.sync import NodeReport, SyncReport, sync_report_from_wire, sync_report_to_wire
from dask_pkgsync.model.resolutions.question import ABSENT, Pinned, Question, answer_of, is_near, question, wanting
from dask_pkgsync.model.resolutions.reading import resolution
from dask_pkgsync.model.resolutions.resolution import (
    Resolution,
    refusal,
    resolution_from_wire,
    resolution_to_wire,
)
from dask_pkgsync.model.resolutions.substitution import Substitution, table
from dask_pkgsync.model.target import Target, target_from_wire, target_to_wire

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

MAC = Interpreter("cpython", "3.11.7", "macosx-11.0-arm64", "cp311-cp311-macosx_11_0_arm64")
LINUX = Interpreter("cpython", "3.11.9", "linux-x86_64", "cp311-cp311-manylinux_2_36_x86_64")
OLDER_LIBC = replace(LINUX, tag="cp311-cp311-manylinux_2_28_x86_64")
critical = [Distribution(name, "1.0.1") for name in CRITICAL]

releases = st.from_regex(r"[0-3]\.[0-3](\.[0-3])?", fullmatch=True)
pure = st.builds(lambda name, version: Distribution(name, version, content="a" * 64, is_pure=True), names, releases)
compiled = st.builds(Distribution, names, st.one_of(releases, releases.map(lambda text: f"{text}+cpu")))
environments = st.lists(st.one_of(pure, compiled), max_size=8).map(
    lambda found: Environment.of(MAC, [*critical, *found])
)
levels = st.dictionaries(
    names.filter(lambda name: name not in CRITICAL), st.sampled_from(["exact", "version", "compatible"]), max_size=4
)
indexes = st.dictionaries(st.one_of(names, st.sampled_from(CRITICAL)), st.lists(releases, max_size=5), max_size=12)


def resolver(asked: Question, index: Mapping[str, Collection[str]]) -> dict[str, Pinned]:
    """Choose as uv does: a preference where it is there and within the bound, else the newest."""
    preferred = {pin.partition("==")[::2] for pin in asked.preferences}
    found = {}
    for name, bound in zip(asked.names, asked.bounds, strict=True):
        allowed = [
            version
            for version in {*index.get(name, ()), ABSENT}
            if SpecifierSet(bound.removeprefix(name)).contains(version, prereleases=True)
        ]
        liked = [version for version in allowed if (name, version) in preferred]
        found[name] = Pinned(max(liked or allowed, key=Version))
    return found


def resolved(environment: Environment, policy: Policy, index: Mapping[str, Collection[str]]) -> Resolution:
    """Resolve as a node does, with an index in place of uv."""
    answer = resolver(question(environment, policy), index)
    if widened := wanting(environment, policy, answer):
        answer = resolver(question(environment, policy, widened=widened), index)
    return resolution(environment, policy, LINUX, answer)


@given(environments, levels, indexes)
def test_everything_is_exact_or_told(
    environment: Environment, chosen: dict[str, str], index: dict[str, list[str]]
) -> None:
    """Each package is as the client has it, or a row says what there is in its place, and why."""
    found = resolved(environment, Policy.of(levels=chosen), index)
    rows = {row.name: row for row in found.substitutions}
    for name, asked in environment.distributions.items():
        got = found.environment.distributions.get(name)
        if got is None or not asked.same_version(got.version):
            assert (rows[name].asked, rows[name].got) == (asked.version, got.version if got else "")
            assert rows[name].why
        else:
            assert name not in rows


@given(environments, levels, indexes)
def test_a_critical_package_is_never_moved(
    environment: Environment, chosen: dict[str, str], index: dict[str, list[str]]
) -> None:
    """A critical package is in the client's version, or the resolution is refused, with all of them in one table."""
    policy = Policy.of(levels=chosen)
    found = resolved(environment, policy, index)
    exact = {*CRITICAL, *(name for name, level in chosen.items() if level != Level.COMPATIBLE.value)}
    for name in exact & environment.distributions.keys():
        got = found.environment.distributions.get(name)
        assert got is None or environment.distributions[name].same_version(got.version)
        assert (
            got is not None
            or policy.rule(name, same_platform=False).level is Level.IGNORE
            or name in refusal(found, policy)
        )


@given(environments, levels, indexes)
def test_nothing_leaves_its_feature_version_unless_told(
    environment: Environment, chosen: dict[str, str], index: dict[str, list[str]]
) -> None:
    """No package gets another X.Y, except a later compatible one where the levels allow that, and a row says so."""
    found = resolved(environment, Policy.of(levels=chosen), index)
    compatible = {row.name for row in found.substitutions if row.kind == "compatible"}
    assert compatible <= {name for name, level in chosen.items() if level == "compatible"}
    for name, got in found.environment.distributions.items():
        asked = environment.distributions[name].version
        assert is_near(asked, got.version) or (name in compatible and Version(got.version) > Version(asked))


@given(environments, levels, indexes)
def test_what_there_is_within_the_feature_version_is_taken(
    environment: Environment, chosen: dict[str, str], index: dict[str, list[str]]
) -> None:
    """Where the index has anything of X.Y, the nodes get the client's version, or the newest of it."""
    policy = Policy.of(levels=chosen)
    found = resolved(environment, policy, index)
    for name, asked in environment.distributions.items():
        near = [version for version in index.get(name, ()) if is_near(asked.version, version)]
        rule = policy.rule(name, same_platform=False)
        if not near or asked.is_pure or rule.level in (Level.IGNORE, Level.CRITICAL) or policy.has_chosen(name):
            continue
        got = found.environment.distributions[name].version
        public = asked.version.partition("+")[0]
        assert got == (public if public in near else max(near, key=Version)) or asked.same_version(got)


@given(environments, indexes)
def test_all_nodes_of_a_platform_get_the_same(environment: Environment, index: dict[str, list[str]]) -> None:
    """A node takes what was resolved for its platform, whichever node has resolved it; others are not served by it."""
    policy = Policy()
    found = resolved(environment, policy, index)
    target = Target(environment, policy)
    assert target.needs_resolution(LINUX)
    assert not target.needs_resolution(MAC)
    known = target_from_wire(json.loads(json.dumps(target_to_wire(replace(target, resolutions=(found,))))))
    parts = [known.at(replace(LINUX, version=version)) for version in ("3.11.0", "3.11.9")]
    assert parts[0] == parts[1]
    assert parts[0].environment == found.environment
    assert parts[0].id == known.id == target.id
    again = target_from_wire(json.loads(json.dumps(target_to_wire(parts[0]))))
    assert again.id == target.id
    assert not again.needs_resolution(LINUX)
    assert known.needs_resolution(OLDER_LIBC)
    assert known.at(OLDER_LIBC) is known


def test_another_python_cannot_be_resolved_for() -> None:
    """A node with another X.Y is left to the comparison, which refuses it."""
    target = Target(Environment.of(MAC, critical), Policy())
    assert not target.needs_resolution(replace(LINUX, version="3.12.1"))


def test_extra_requirements_are_resolved_on_the_clients_platform_too() -> None:
    """Where a scheduler of another platform could not resolve them, a node of the client's platform does."""
    target = Target(Environment.of(LINUX, critical), Policy.of(extra=["s3fs; python_version < '3'"]))
    assert target.needs_resolution(LINUX)
    assert not target.with_extra([]).needs_resolution(LINUX)
    assert "six" in target.with_extra(["six==1.17.0"]).environment.distributions


def test_strict_refuses_with_the_table() -> None:
    """Under strict, every package that is not exact stands in the reason at once; what policy ignores does not."""
    environment = Environment.of(
        MAC, [*critical, Distribution("a", "1.0.1"), Distribution("b", "2.0"), Distribution("appnope", "0.1")]
    )
    found = resolution(environment, Policy(), LINUX, _answer(a="1.0.2", b=ABSENT))
    assert refusal(found, Policy()) == ""
    text = refusal(found, Policy.of(strict=True))
    assert "a        1.0.1  1.0.2     no wheel of 1.0.1 for linux-x86_64" in text
    assert "b        2.0    left out  no release has a wheel for linux-x86_64" in text
    assert "appnope" not in text


def _answer(**more: str) -> dict[str, Pinned]:
    return {**{name: Pinned("1.0.1") for name in CRITICAL}, **{name: Pinned(version) for name, version in more.items()}}


def test_local_code_and_pure_packages_travel_as_they_are() -> None:
    """What only the client has is not looked for anywhere, and its pure wheels serve where an index has none."""
    local = Distribution("mine", "1.0", FromDirectory("file:///mine", editable=True, digest="source=1"))
    sdist_only = Distribution("docopt", "0.6.2", content="b" * 64, is_pure=True)
    environment = Environment.of(MAC, [*critical, local, sdist_only])
    asked = question(environment, Policy())
    assert "mine" in asked.settled
    assert not any(bound.startswith("mine") for bound in asked.bounds)
    found = resolution(environment, Policy(), LINUX, _answer(docopt=ABSENT))
    assert found.environment.distributions["mine"] == local
    assert found.environment.distributions["docopt"] == sdist_only
    assert found.substitutions == ()


def test_without_an_index_only_pure_packages_travel() -> None:
    """With transport client, compiled code of another platform is left out, with that reason."""
    environment = Environment.of(MAC, [*critical, Distribution("a", "1.0"), Distribution("b", "1.0", is_pure=True)])
    (*_, row) = resolution(environment, Policy(), LINUX, {}).substitutions
    assert (row.name, row.got) == ("tornado", "")
    assert "a" not in resolution(environment, Policy(), LINUX, {}).environment.distributions


def test_what_a_platform_needs_in_addition_is_added() -> None:
    """New dependencies of what is kept are added; those of a version that was not kept are not."""
    environment = Environment.of(MAC, [*critical, Distribution("keyring", "25.6.0"), Distribution("gone", "2.0")])
    answer = _answer(keyring="25.6.0", gone="1.0")
    answer |= {
        "secretstorage": Pinned("3.5.0", ("keyring",)),
        "jeepney": Pinned("0.9.0", ("secretstorage",)),
        "futures": Pinned("3.0", ("gone",)),
    }
    found = resolution(environment, Policy(), LINUX, answer)
    assert {"secretstorage", "jeepney"} <= found.environment.distributions.keys()
    assert found.environment.distributions.keys().isdisjoint({"futures", "gone"})
    assert [row.name for row in found.substitutions if row.kind == "added"] == ["jeepney", "secretstorage"]


def test_conda_packages_become_distributions() -> None:
    """Distributions of conda packages are looked for on the index; the other packages are one row."""
    numpy = Distribution("numpy", "2.1.0", FromConda("numpy"), "conda", "c" * 64, is_pure=False)
    conda = [CondaPackage(name, "1", "0", 0, "osx-arm64") for name in ("zlib", "openssl")]
    environment = Environment.of(MAC, [*critical, numpy], conda=conda)
    found = resolution(environment, Policy(), LINUX, _answer(numpy="2.1.0"))
    assert found.environment.distributions["numpy"] == Distribution("numpy", "2.1.0")
    assert not found.environment.conda
    (row,) = found.substitutions
    assert "zlib" in row.why


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("flask==3.0.3              # via --override over.txt, -r in.txt", ("flask", Pinned("3.0.3"))),
        ("numpy==2.1.1  # via pandas, -r in.txt", ("numpy", Pinned("2.1.1", ("pandas",)))),
        ("Zope.Interface==7.0", ("zope-interface", Pinned("7.0"))),
        ("uvicorn[standard]==0.30  # via x", ("uvicorn", Pinned("0.30", ("x",)))),
        ("pywin32==0+pkgsync  # via jupyter-core", ("pywin32", Pinned(ABSENT, ("jupyter-core",)))),
    ],
)
def test_the_lines_of_uv_are_read(line: str, expected: tuple[str, Pinned]) -> None:
    """A line holds a pin, and what needs it; requirement files are no packages."""
    assert list(answer_of(line).items()) == [expected]
    assert answer_of(f"# a comment\n--index-url x\nmine @ file:///x.whl\n{line}") == dict([expected])


@given(environments, indexes)
def test_a_resolution_and_its_table_survive_the_wire(environment: Environment, index: dict[str, list[str]]) -> None:
    """What is resolved is the same after JSON, and a report shows it as a table in terminals and notebooks."""
    found = resolved(environment, Policy(), index)
    assert resolution_from_wire(json.loads(json.dumps(resolution_to_wire(found)))) == found
    report = SyncReport("0" * 64, (NodeReport("tcp://x:1", "scheduler"),), substitutions=found.substitutions)
    again = sync_report_from_wire(json.loads(json.dumps(sync_report_to_wire(report))))
    assert again == report
    if found.substitutions:
        assert table(found.substitutions) in str(report)
        assert "<th style='text-align:left'>asked</th>" in report._repr_html_()
    assert report.ok == (not any(row.matters for row in found.substitutions))


def test_a_table_of_several_platforms_names_them() -> None:
    """Only where rows of several platforms stand together, a column says of which."""
    rows = [Substitution(platform, "a", "1.0", "1.0.1", "no wheel") for platform in ("linux-x86_64", "linux-aarch64")]
    assert "platform" in table(rows)
    assert "platform" not in table(rows[:1])
