"""Every difference between two environments under a policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dask_pkgsync.model.conda_comparison import conda_differences, owner_of
from dask_pkgsync.model.environments.origin import FromConda, FromDirectory, FromModules, FromVcs
from dask_pkgsync.model.errors import MessageError
from dask_pkgsync.model.policy import CRITICAL, Level, Policy
from dask_pkgsync.model.text import counted, html_table, text_table
from dask_pkgsync.model.versions import compatible, same_version
from dask_pkgsync.model.wire.fields import MAX_LONG_TEXT
from dask_pkgsync.model.wire.texts import one_line

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping
    from typing import Any

    from dask_pkgsync.model.environments.distribution import Distribution
    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.wire.fields import Field

MISSING = "not there"
OTHER_BUILD = "another build of the same version: its files have other contents"


@dataclass(frozen=True, slots=True)
class Difference:
    """One package (or ``python``, ``implementation``) that differs between two environments."""

    name: str
    """Canonical name of the package."""
    level: Level
    """How closely the policy wants the package to match."""
    expected: str
    """Version in the expected environment, or ``not there``."""
    found: str
    """Version in the environment that was found, or ``not there``."""
    reason: str = ""
    """Why the policy has this level, or what is wrong with the package; a text for people."""


@dataclass(frozen=True)
class Comparison:
    """All differences between an expected environment and one that was found; critical ones first.

    A comparison behaves as the collection of its differences: it has a length, can be iterated over, and is false when
    there are no differences. ``str(comparison)`` is a table.
    """

    differences: tuple[Difference, ...]
    expected_label: str = "expected"
    """Heading of the column of expected versions, for example ``cluster``."""
    found_label: str = "found"
    """Heading of the column of found versions, for example ``client``."""

    def __bool__(self) -> bool:
        """Whether there is any difference."""
        return bool(self.differences)

    def __len__(self) -> int:
        return len(self.differences)

    def __iter__(self) -> Iterator[Difference]:
        return iter(self.differences)

    @property
    def matches(self) -> bool:
        """Whether there is no difference."""
        return not self.differences

    @property
    def critical(self) -> Comparison:
        """A comparison that holds only the critical differences."""
        rows = tuple(row for row in self.differences if row.level is Level.CRITICAL)
        return Comparison(rows, self.expected_label, self.found_label)

    @property
    def only_critical(self) -> bool:
        """Whether all differences are critical."""
        return all(row.level is Level.CRITICAL for row in self.differences)

    @property
    def without_critical_builds(self) -> Comparison:
        """A comparison without the critical packages of which only the build differs: no sync replaces those."""
        rows = tuple(row for row in self.differences if row.name not in CRITICAL or row.level is Level.CRITICAL)
        return Comparison(rows, self.expected_label, self.found_label)

    def and_also(self, other: Comparison | None) -> Comparison:
        """Return the differences of both comparisons, each name once, with the labels of the other comparison."""
        if not other:
            return self
        known = {row.name for row in self.differences}
        more = (row for row in other.differences if row.name not in known)
        return Comparison((*self.differences, *more), other.expected_label, other.found_label)

    def _table(self) -> tuple[list[str], list[list[str]]]:
        head = ["package", self.expected_label, self.found_label, "level"]
        return head, [[row.name, row.expected, row.found, row.level.value] for row in self.differences]

    def __repr__(self) -> str:
        """Say in one line how many differences there are."""
        between = f"{self.expected_label} and {self.found_label}"
        return f"<Comparison of {between}: {counted(len(self), 'difference')}, {len(self.critical)} critical>"

    def __str__(self) -> str:
        """Lay the differences out as a table."""
        if not self.differences:
            return f"no differences between {self.expected_label} and {self.found_label}"
        return text_table(*self._table())

    def _repr_html_(self) -> str:
        if not self.differences:
            from html import escape

            return f"<p>{escape(str(self))}</p>"
        return html_table(*self._table())


def compare(
    expected: Environment,
    found: Environment,
    policy: Policy | None = None,
    *,
    expected_label: str = "expected",
    found_label: str = "found",
) -> Comparison:
    """List every difference between two environments.

    A package that only ``found`` has is a difference only under a strict policy: an additional package does not break
    code that runs in ``expected``.

    Parameters
    ----------
    expected : Environment
        The environment to match, for example the target of a cluster.
    found : Environment
        The environment that is compared with it.
    policy : Policy, optional
        How closely each package has to match. By default critical packages match exactly; all others match exactly on
        the same platform, and across platforms by a compatible version (``~=``).
    expected_label, found_label : str
        Headings of the two columns of versions in tables.

    Returns
    -------
    Comparison
        False if there is no difference.
    """
    policy = policy or Policy()
    same_platform = expected.interpreter.same_platform(found.interpreter)
    rows = list(_interpreter_differences(expected, found))
    rows += _conda_differences(expected, found, policy, without={row.name for row in rows})
    for name in sorted({*expected.distributions, *found.distributions, *CRITICAL}):
        rule = policy.rule(name, same_platform=same_platform)
        want, have = expected.distributions.get(name), found.distributions.get(name)
        if rule.level is Level.IGNORE:
            continue
        if want is None and not policy.strict and name not in CRITICAL:
            continue
        if (fault := found.faulty(name)) is not None:
            shown = f"{have.version if have else '?'} ({fault.kind})"
            rows.append(Difference(name, rule.level, want.version if want else MISSING, shown, fault.detail))
        elif name not in CRITICAL and owner_of(name, expected) is not None:
            continue  # its conda package has been compared
        elif want is None and have is None:
            rows.append(Difference(name, rule.level, MISSING, MISSING, rule.reason))
        elif want is None:
            reason = "strict" if policy.strict else rule.reason
            rows.append(Difference(name, rule.level, MISSING, have.label if have else MISSING, reason))
        elif have is None or not satisfied(want, have, rule.level):
            rows.append(Difference(name, rule.level, want.label, have.label if have else MISSING, rule.reason))
        elif rule.builds != "ignore" and is_other_build(want, have, same_platform=same_platform):
            level = Level.EXACT if name in CRITICAL else rule.level
            rows.append(Difference(name, level, want.build_label, have.build_label, OTHER_BUILD))
    rows.sort(key=lambda row: (row.level is not Level.CRITICAL, row.name))
    return Comparison(tuple(rows), expected_label, found_label)


def compare_critical(
    expected: Mapping[str, str | None], found: Mapping[str, str | None], *, expected_label: str, found_label: str
) -> Comparison:
    """Compare the critical packages, and Python's X.Y, by the versions that Dask's own handshake carries.

    Parameters
    ----------
    expected, found : mapping of str to str or None
        Package to version, None for a package that is not installed. The key ``python`` holds the version of the
        interpreter, of which only X.Y is compared. The key ``implementation`` holds its implementation, for example
        ``cpython``, which is compared if both mappings have it.
    expected_label, found_label : str
        Headings of the two columns of versions in tables.
    """
    rows = []
    if all(side.get("implementation") for side in (expected, found)):
        want, have = expected["implementation"], found["implementation"]
        if want != have:
            rows.append(Difference("implementation", Level.CRITICAL, str(want), str(have)))
    want, have = expected.get("python"), found.get("python")
    if want is None or have is None or _feature(want) != _feature(have):
        rows.append(Difference("python", Level.CRITICAL, want or MISSING, have or MISSING))
    for name in CRITICAL:
        want, have = expected.get(name), found.get(name)
        if want is None or have is None or not same_version(want, have):
            rows.append(Difference(name, Level.CRITICAL, want or MISSING, have or MISSING))
    rows.sort(key=lambda row: row.name)
    return Comparison(tuple(rows), expected_label, found_label)


def critical_versions(environment: Environment) -> dict[str, str | None]:
    """Return the versions of an environment in the form that `compare_critical` takes."""
    versions: dict[str, str | None] = {
        "implementation": environment.interpreter.implementation,
        "python": environment.interpreter.version,
    }
    for name in CRITICAL:
        distribution = environment.distributions.get(name)
        versions[name] = None if distribution is None or environment.faulty(name) else distribution.version
    return versions


def _interpreter_differences(expected: Environment, found: Environment) -> Iterator[Difference]:
    want, have = expected.interpreter, found.interpreter
    if (want.implementation, want.feature_version) != (have.implementation, have.feature_version):
        yield Difference(
            "python", Level.CRITICAL, f"{want.implementation} {want.version}", f"{have.implementation} {have.version}"
        )


def _conda_differences(
    expected: Environment, found: Environment, policy: Policy, without: Container[str]
) -> Iterator[Difference]:
    """Yield a difference for each conda package of the expected environment that is not found so."""
    for one in conda_differences(expected, found, policy):
        if one.package.name not in without:
            reason = OTHER_BUILD if one.only_build else one.rule.reason
            yield Difference(one.package.name, one.rule.level, one.package.label, one.found or MISSING, reason)


def satisfied(want: Distribution, have: Distribution, level: Level) -> bool:
    """Whether an installed distribution matches a wanted one at a level, apart from its build (see `is_other_build`).

    Of a critical package only the version is compared, because Dask's handshake says no more. Local code must be the
    same code on every platform. A wanted distribution from an index may have been installed from a file, but not from a
    checkout (version control, editable, loose modules), which can hold any code under that version. Equal contents are
    the same code, wherever they came from.
    """
    if want.name in CRITICAL or level is Level.VERSION or (want.content and want.content == have.content):
        return want.same_version(have.version)
    is_checkout = want.origin != have.origin and (want.identity or _is_checkout(want) or _is_checkout(have))
    if is_checkout or want.modified:
        return bool(want.identity) and want.identity == have.identity and want.same_version(have.version)
    return compatible(want.version, have.version) if level is Level.COMPATIBLE else want.same_version(have.version)


def is_other_build(want: Distribution, have: Distribution, *, same_platform: bool) -> bool:
    """Whether an installed distribution of the wanted version has other contents.

    Distributions of the same commit, or from the same archive, are the same build, even if their files differ: they
    were built of the same source. Distributions with compiled code have other contents on another platform, and in a
    conda package. Of two conda packages, the packages are compared (`model.conda_comparison`).

    Parameters
    ----------
    want, have : Distribution
    same_platform : bool
        Whether the two environments are on the same platform (`Interpreter.same_platform`).
    """
    if want.content == have.content or not want.same_version(have.version):
        return False
    if want.identity and want.identity == have.identity:
        return False
    if isinstance(have.origin, FromConda) and not isinstance(want.origin, FromConda):
        return same_platform and bool(want.content) and not want.is_pure  # linked against other libraries
    if not want.content or not have.content:
        return have.modified > 0
    return same_platform or want.is_pure


def _is_checkout(distribution: Distribution) -> bool:
    match distribution.origin:
        case FromVcs() | FromModules() | FromDirectory(editable=True):
            return True
    return False


def _feature(version: str) -> tuple[str, ...]:
    return tuple(version.split(".")[:2])


def comparison_to_wire(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as plain data."""
    rows = [
        {
            "name": one_line(row.name),
            "level": row.level.value,
            "expected": one_line(row.expected, MAX_LONG_TEXT),
            "found": one_line(row.found, MAX_LONG_TEXT),
            "reason": one_line(row.reason, MAX_LONG_TEXT),
        }
        for row in comparison
    ]
    labels = {"expected": one_line(comparison.expected_label, 200), "found": one_line(comparison.found_label, 200)}
    return {**labels, "rows": rows}


def comparison_from_wire(field: Field) -> Comparison:
    """Check and read what `comparison_to_wire` wrote."""
    rows = tuple(_difference(entry) for entry in field.key("rows").items())
    return Comparison(rows, field.key("expected").text(200), field.key("found").text(200))


def _difference(entry: Field) -> Difference:
    level = entry.key("level")
    try:
        known = Level(level.text(20))
    except ValueError:
        raise MessageError(level.place, " or ".join(choice.value for choice in Level), level.value) from None
    # Versions may be long texts: a version can stand there together with its URL.
    expected, found, reason = (entry.key(name).text(MAX_LONG_TEXT) for name in ("expected", "found", "reason"))
    return Difference(entry.key("name").text(), known, expected, found, reason)
