"""How closely each package has to match, and which packages are ignored and why."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING

from dask_pkgsync.model.errors import MessageError, PolicyError
from dask_pkgsync.model.text import shown
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.model.wire.names import canonical, canonical_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from typing import Any


CRITICAL = ("cloudpickle", "dask", "distributed", "msgpack", "tornado")
"""Packages that both ends of a Dask connection must have in the same version, because they write and read its
messages."""
TOOLS = frozenset({"dask-pkgsync", "pip", "setuptools", "wheel"})
"""Packages that install packages. They are not shipped unless ``only``, ``extra`` or ``levels`` names them."""
PLATFORM_SPECIFIC = frozenset(
    {
        "appnope",
        "macholib",
        "pyobjc",
        "pyobjc-core",
        "pyreadline",
        "pyreadline3",
        "pywin32",
        "pywin32-ctypes",
        "pywinpty",
        "win-inet-pton",
        "win32-setctime",
        "wincertstore",
        "windows-curses",
        "wmi",
    }
)
"""Packages that exist for one operating system only. They are ignored between different platforms."""
BUILDS = ("replace", "warn", "ignore")
"""The values of ``builds``: what is done about a package that a node has in another build."""
MAX_LEVELS = 200
"""The most names and patterns in ``levels``: every package is compared with each of them."""
_PATTERN = re.compile(r"[A-Za-z0-9._*?\[\]!-]{1,200}")
"""The characters of a name (PEP 503) and of a pattern (`fnmatch`)."""

_MATCH_SPEC = re.compile(
    r"(?:(?P<channel>[A-Za-z0-9](?:[A-Za-z0-9._/-]|://|:\d){0,300})::(?P<name>[a-z0-9_][a-z0-9_.-]{0,199})|"
    r"(?P<bare>[a-z0-9_][a-z0-9_.-]{0,199})(?==[^=]))(?P<versions>[ =<>!~][A-Za-z0-9 =<>!~.,|*_+-]{0,300})?"
)
"""Matches the match spec of a conda package, which a requirement (PEP 508) cannot be taken for; a channel in it has no
user and password, which would need other characters."""


class Level(enum.Enum):
    """How closely a package has to match."""

    CRITICAL = "critical"
    """The same version everywhere; a client that differs is refused."""
    EXACT = "exact"
    """The same version and, if it is known, the same build: files with the same contents (but see `Policy.builds`)."""
    VERSION = "version"
    """The same version, in any build."""
    COMPATIBLE = "compatible"
    """A compatible release (``~=``, PEP 440)."""
    IGNORE = "ignore"
    """Neither compared nor shipped."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The level of one package."""

    level: Level
    reason: str
    """Why the package has this level, for people."""
    builds: str = "replace"
    """What is done about another build of the same version: one of `BUILDS`."""


def canonical_names(names: Iterable[str], option: str) -> frozenset[str]:
    """Return package names in their canonical spelling (PEP 503).

    Parameters
    ----------
    names : iterable of str
    option : str
        The option that holds the names, for messages.

    Raises
    ------
    PolicyError
        If an entry is not the name of a package, or ``names`` is a single string.
    """
    if isinstance(names, str):
        raise PolicyError(f"{option}: expected a list of package names, found the string {names!r}; write [{names!r}]")
    return frozenset(_canonical(name, option) for name in names)


def _canonical(name: str, option: str) -> str:
    try:
        return canonical_name(name)
    except ValueError:
        raise PolicyError(f"{option}: {name!r} is not the name of a package") from None


@dataclass(frozen=True, slots=True)
class Policy:
    """How closely each package has to match between client and cluster, and which packages are shipped.

    Make a policy with `Policy.of`, which accepts any spelling of a name and checks that the options do not contradict
    each other.
    """

    ignore: frozenset[str] = frozenset()
    """Canonical names of packages that are neither compared nor shipped."""
    only: frozenset[str] | None = None
    """Canonical names of the only packages that are compared and shipped; None for all. Critical packages are compared
    in any case."""
    extra: tuple[str, ...] = ()
    """Requirements (PEP 508), for example ``s3fs>=2024.6``, and match specs of conda packages, for example
    ``conda-forge::cuda-nvcc=12.4``, that the cluster gets although the client lacks them."""
    strict: bool = False
    """Whether only the client's packages are importable on the workers."""
    platform_specific: frozenset[str] = field(default=PLATFORM_SPECIFIC)
    """Canonical names of packages that exist for one operating system only."""
    levels: tuple[tuple[str, Level], ...] = ()
    """Names and patterns (`fnmatch`) with the level that the user or operator has chosen; names come before patterns,
    and the first that fits a package decides."""
    builds: str = "replace"
    """What is done about a package that a node has in another build of the same version: ``replace``: it gets the
    client's build. ``warn``: it keeps its own, and reports say so. ``ignore``: builds are not compared."""

    @classmethod
    def of(
        cls,
        *,
        ignore: Iterable[str] = (),
        only: Iterable[str] | None = None,
        extra: Iterable[str] = (),
        strict: bool | None = None,
        platform_specific: Iterable[str] = (),
        levels: Mapping[str, str] | None = None,
        builds: str = "replace",
    ) -> Policy:
        """Check options and make a policy of them.

        Parameters
        ----------
        ignore : iterable of str
            Packages that are neither compared nor shipped.
        only : iterable of str, optional
            The only packages that are compared and shipped; by default all.
        extra : iterable of str
            Requirements (PEP 508), and match specs of conda packages, that the cluster gets although the client lacks
            them. A match spec names a channel (``channel::name``), or has a single ``=`` behind the name.
        strict : bool, optional
            Whether only the client's packages are importable on the workers; by default False.
        platform_specific : iterable of str
            Packages that exist for one operating system only, in addition to `PLATFORM_SPECIFIC`.
        levels : mapping of str to str
            Names, or patterns such as ``*-stubs``, to ``critical``, ``exact``, ``version``, ``compatible`` or
            ``ignore``.
        builds : str
            ``replace``, ``warn`` or ``ignore``: what is done about another build of the same version.

        Raises
        ------
        PolicyError
            If an entry is not the name of a package or not a requirement, or if options contradict each other.
        """
        ignored = canonical_names(ignore, "ignore")
        chosen = None if only is None else canonical_names(only, "only")
        if both := ignored.intersection(CRITICAL):
            raise PolicyError(
                f"ignore: {', '.join(sorted(both))} cannot be ignored: Dask itself breaks when they differ"
            )
        if chosen is not None and (both := ignored & chosen):
            raise PolicyError(f"ignore: {', '.join(sorted(both))} stands both in ignore and in only")
        if isinstance(extra, str):
            raise PolicyError(f"extra: expected a list of requirements, found the string {extra!r}; write [{extra!r}]")
        requirements = tuple(sorted(_requirement(text) for text in extra))
        named = _names_of(requirements)
        if both := named & ignored.union(CRITICAL):
            raise PolicyError(f"extra: {', '.join(sorted(both))} is critical or ignored and cannot be an extra")
        more = canonical_names(platform_specific, "platform-specific")
        rules = _levels(levels or {})
        if both := ignored & {name for name, level in rules if level is not Level.IGNORE}:
            raise PolicyError(f"levels: {', '.join(sorted(both))} stands both in ignore and in levels")
        named = frozenset(name for name, level in rules if level is not Level.IGNORE and not _is_pattern(name))
        if chosen is not None and (both := named - chosen.union(CRITICAL)):
            raise PolicyError(f"levels: {', '.join(sorted(both))} stands in levels, and not in only")
        if builds not in BUILDS:
            raise PolicyError(f"builds: expected one of {', '.join(BUILDS)}, found {builds!r}")
        return cls(ignored, chosen, requirements, bool(strict), PLATFORM_SPECIFIC | more, rules, builds)

    def __repr__(self) -> str:
        """Return the options that differ from their defaults, on one line."""
        parts = [f"ignore {', '.join(sorted(self.ignore))}"] if self.ignore else []
        parts += [f"only {', '.join(sorted(self.only))}"] if self.only is not None else []
        parts += [f"extra {', '.join(self.extra)}"] if self.extra else []
        parts += [f"{pattern} {level.value}" for pattern, level in self.levels]
        parts += ["strict"] if self.strict else []
        parts += [f"builds {self.builds}"] if self.builds != "replace" else []
        return f"<Policy: {shown('; '.join(parts) or 'by default', 200)}>"

    @property
    def extra_names(self) -> frozenset[str]:
        """Canonical names of the extra requirements and conda packages."""
        return _names_of(self.extra)

    @property
    def extra_requirements(self) -> tuple[str, ...]:
        """Those of ``extra`` that are requirements (PEP 508), for an installer of distributions."""
        return tuple(text for text in self.extra if not _MATCH_SPEC.fullmatch(text))

    @property
    def extra_conda(self) -> tuple[str, ...]:
        """Those of ``extra`` that are match specs of conda packages."""
        return tuple(text for text in self.extra if _MATCH_SPEC.fullmatch(text))

    def rule(self, name: str, *, same_platform: bool = True) -> Rule:
        """Return how closely a package has to match, and why.

        Parameters
        ----------
        name : str
            Canonical name of the package.
        same_platform : bool
            Whether the two environments are on the same platform (`Interpreter.same_platform`).
        """
        if name in CRITICAL:
            return Rule(Level.CRITICAL, "Dask needs the same version everywhere", self.builds)
        if (reason := self._why_ignored(name, same_platform=same_platform)) is not None:
            return Rule(Level.IGNORE, reason)
        for pattern, level in self.levels:
            if fnmatchcase(name, pattern):
                builds = "ignore" if level is Level.VERSION else self.builds
                return Rule(level, f"levels: {pattern} is {level.value}", builds)
        if name not in self.extra_names and not same_platform:
            return Rule(Level.COMPATIBLE, "the platforms differ", self.builds)
        return Rule(Level.EXACT, "same platform" if same_platform else "named in extra", self.builds)

    def has_chosen(self, name: str) -> bool:
        """Whether ``levels`` name a package, or a pattern that fits it."""
        return any(fnmatchcase(name, pattern) for pattern, _ in self.levels)

    def refuse_unknown_only(self, known: Collection[str]) -> None:
        """Raise `PolicyError` if ``only`` names packages that are nowhere: for these, nothing would be shipped.

        Parameters
        ----------
        known : collection of str
            Canonical names of the packages that there are.
        """
        unknown = sorted((self.only or frozenset()).difference(known, CRITICAL, self.extra_names))
        if not unknown:
            return
        listed = "; ".join(_with_nearest(name, known) for name in unknown)
        raise PolicyError(f"only: expected names of packages that are installed here, found {listed}")

    def ignores(self, name: str) -> bool:
        """Whether a package is neither compared nor shipped, on nodes of the same platform."""
        return self.rule(name).level is Level.IGNORE

    def _why_ignored(self, name: str, *, same_platform: bool) -> str | None:
        if name in self.ignore:
            return "named in ignore"
        if name in self.extra_names:
            return None
        if self.only is not None and name not in self.only:
            return "not named in only"
        if self.only is None and name in TOOLS and name not in dict(self.levels):
            return "a packaging tool; name it in only or extra to ship it"
        if name in self.platform_specific and not same_platform:
            return "exists for one operating system only"
        return None


@lru_cache(maxsize=16)
def _names_of(requirements: tuple[str, ...]) -> frozenset[str]:
    """Return the canonical names in requirements, cached because `Policy.rule` needs them for every package."""
    if not requirements:
        return frozenset()
    from packaging.requirements import Requirement  # imported here because it is rarely needed and slow to import

    specs = {text: found["name"] or found["bare"] for text in requirements if (found := _MATCH_SPEC.fullmatch(text))}
    return frozenset(canonical(specs.get(text) or Requirement(text).name) for text in requirements)


def _levels(levels: Mapping[str, str]) -> tuple[tuple[str, Level], ...]:
    """Check names and patterns with their levels; return names before patterns."""
    if not isinstance(levels, Mapping):
        raise PolicyError(f"levels: expected names or patterns with a level each, found {levels!r}")
    if len(levels) > MAX_LEVELS:
        raise PolicyError(f"levels: expected at most {MAX_LEVELS} names and patterns, found {len(levels)}")
    checked = []
    for given, value in levels.items():
        if not isinstance(given, str) or not _PATTERN.fullmatch(given):
            raise PolicyError(f"levels: {given!r} is neither the name of a package nor a pattern such as '*-stubs'")
        pattern = re.sub(r"[-_.]+", "-", given).lower()
        try:
            level = Level(value)
        except ValueError:
            names = ", ".join(choice.value for choice in Level)
            raise PolicyError(f"levels: {given}: expected one of {names}, found {value!r}") from None
        if pattern in CRITICAL and level is not Level.CRITICAL:
            raise PolicyError(f"levels: {pattern} is always critical: Dask itself breaks when it differs")
        checked.append((pattern, level))
    return tuple(sorted(checked, key=lambda entry: _is_pattern(entry[0])))  # sorted() keeps the order of patterns


def _is_pattern(name: str) -> bool:
    return any(character in name for character in "*?[")


def _with_nearest(name: str, known: Collection[str]) -> str:
    """Return a name with the known ones that are most like it."""
    nearest = get_close_matches(name, known)
    return f"{name} (did you mean {' or '.join(nearest)}?)" if nearest else name


def _requirement(text: str) -> str:
    """Check an extra requirement and return its normal form."""
    if not isinstance(text, str) or any(ord(character) < ord(" ") for character in text):
        raise PolicyError(f"extra: {text!r} is not a requirement")
    if _MATCH_SPEC.fullmatch(text):
        if "/t/" in text:  # conda's place for the token of a channel; the error must not show it
            raise PolicyError(
                "extra: a channel has a token in its URL, which would be sent to every node: name the channel without "
                "it, and configure the token on the nodes"
            )
        return text
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(text)
    except RecursionError:  # packaging reads nested markers recursively
        raise PolicyError(f"extra: {text[:50]!r}… is nested too deeply for a requirement") from None
    except InvalidRequirement as error:
        raise PolicyError(f"extra: {text!r} is not a requirement: {str(error).splitlines()[0]}") from None
    if requirement.url is not None:
        raise PolicyError(f"extra: {text!r}: expected a name and versions, found a URL")
    return str(requirement)


def policy_to_wire(policy: Policy) -> dict[str, Any]:
    """Return a policy as plain data."""
    return {
        "ignore": sorted(policy.ignore),
        "only": None if policy.only is None else sorted(policy.only),
        "extra": list(policy.extra),
        "strict": policy.strict,
        "platform-specific": sorted(policy.platform_specific),
        "levels": [{"pattern": pattern, "level": level.value} for pattern, level in policy.levels],
        "builds": policy.builds,
    }


def policy_from_wire(data: object, place: str = "policy") -> Policy:
    """Check and read what `policy_to_wire` wrote."""
    field = Field(data, place)
    only = field.key("only")
    try:
        return Policy.of(
            ignore=[entry.name() for entry in field.key("ignore").items()],
            only=None if only.value is None else [entry.name() for entry in only.items()],
            extra=[entry.text() for entry in field.key("extra").items()],
            strict=field.key("strict").flag(),
            platform_specific=[entry.name() for entry in field.key("platform-specific").items()],
            levels=dict(_level(entry) for entry in field.key("levels").items()),
            builds=field.optional("builds", "replace").text(20),
        )
    except PolicyError as error:
        raise MessageError(place, "options that agree", str(error)) from None


def _level(entry: Field) -> tuple[str, str]:
    return entry.key("pattern").text(200), entry.key("level").text(20)
