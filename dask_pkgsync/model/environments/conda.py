"""A conda package that is installed in the prefix of an interpreter: Python, libraries, compilers, and distributions.

The fields are those of its record in ``conda-meta`` (the format is that of conda's ``PrefixRecord``). The digest of its
archive identifies a package: the same archive from a mirror is the same package.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dask_pkgsync.model.errors import MessageError
from dask_pkgsync.model.wire.names import SHA256, canonical

if TYPE_CHECKING:
    from dask_pkgsync.model.wire.fields import Field


_NAME = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,199}")
"""Matches the name of a conda package (CEP 26)."""
_VERSION = re.compile(r"[A-Za-z0-9_.!+-]{1,200}")
"""Matches a version and a build as conda writes them."""
_MD5 = re.compile(r"[0-9a-f]{32}")
_FILENAME = re.compile(r"[A-Za-z0-9_.!+=-]{1,300}(?:\.conda|\.tar\.bz2)")
_NOARCH = ("", "generic", "python")
_MAX_REQUIREMENTS = 2_000


@dataclass(frozen=True, slots=True)
class CondaPackage:
    """A conda package in a prefix."""

    name: str
    """For example ``msgpack-python``. Conda names may have dots and underscores."""
    version: str
    """For example ``2.1.0``; not always a version as PEP 440 has them."""
    build: str
    """For example ``py312h1103770_0``."""
    build_number: int = 0
    subdir: str = "noarch"
    """The platform that it is built for, as channels name it, for example ``linux-64``."""
    channel: str = ""
    """Name or URL of its channel, without credentials."""
    url: str = ""
    """URL of its archive, without credentials; a ``file:`` URL if it came from a local file."""
    sha256: str = ""
    """SHA-256 of its archive, 64 hexadecimal digits; empty if it is not recorded."""
    md5: str = ""
    """MD5 of its archive, 32 hexadecimal digits; empty if it is not recorded."""
    size: int = 0
    """Bytes of its archive; 0 if it is not recorded."""
    noarch: str = ""
    """``python`` if its modules fit every Python, ``generic`` if its files fit every platform, else empty."""
    depends: tuple[str, ...] = ()
    """Match specs of what it needs, also virtual packages, for example ``__glibc >=2.17``."""
    constrains: tuple[str, ...] = ()
    """Match specs of what it cannot be together with, unless they are met."""
    python_site_packages: str = ""
    """Of the package ``python``: its directory of distributions, relative to the prefix, where the record says it."""
    distributions: tuple[str, ...] = ()
    """Canonical names of the distributions in it, sorted; empty if it holds none."""
    installed_size: int = field(default=0, compare=False)
    """Bytes of its files in the prefix; 0 if they were not counted."""
    placeholder: int = 0
    """Length in bytes of the shortest prefix that its programs and libraries leave room for: the path of a prefix that
    is longer cannot be written into them. 0 if there is no limit."""
    modified: int = 0
    """Number of its files that are not as they were installed. Then ``content`` is the digest of the files as they are,
    and only the client can provide them. 0 if its files were not looked at."""
    content: str = ""
    """SHA-256 over its files as they are; empty unless some of them are modified."""

    @property
    def identity(self) -> str:
        """What tells it from other builds of its name, version and build string; empty if nothing is recorded."""
        return self.content or self.sha256 or self.md5

    @property
    def label(self) -> str:
        """Version and build, for tables, for example ``2.1.0 py312h1103770_0``."""
        modified = f" ({self.modified} modified)" if self.modified else ""
        return f"{self.version} {self.build}{modified}"

    @property
    def filename(self) -> str:
        """The name of its archive, for example ``numpy-2.1.0-py312h1103770_0.conda``."""
        last = self.url.rpartition("/")[2]
        return last if _FILENAME.fullmatch(last) else f"{self.name}-{self.version}-{self.build}.conda"

    @property
    def names(self) -> frozenset[str]:
        """Canonical names (PEP 503) under which policies speak of it: its own, and those of its distributions."""
        return frozenset({canonical(self.name), *self.distributions})

    def is_same_build(self, other: CondaPackage) -> bool:
        """Whether another package has the same files: the same build, and the same archive where that is recorded."""
        if self.key != other.key or self.content != other.content:
            return False
        pairs = ((self.sha256, other.sha256), (self.md5, other.md5))
        return next((one == two for one, two in pairs if one and two), True)

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Name, version, build and platform."""
        return self.name, self.version, self.build, self.subdir


def conda_package_to_wire(package: CondaPackage) -> dict[str, Any]:
    """Return a conda package as plain data, without its name: the name is the key of the entry."""
    entry: dict[str, Any] = {"version": package.version, "build": package.build, "subdir": package.subdir}
    rest = {
        "build-number": package.build_number,
        "channel": package.channel,
        "url": package.url,
        "sha256": package.sha256,
        "md5": package.md5,
        "size": package.size,
        "noarch": package.noarch,
        "depends": list(package.depends),
        "constrains": list(package.constrains),
        "python-site-packages": package.python_site_packages,
        "distributions": list(package.distributions),
        "installed-size": package.installed_size,
        "placeholder": package.placeholder,
        "modified": package.modified,
        "content": package.content,
    }
    return {**entry, **{key: value for key, value in rest.items() if value}}


def conda_package_from_wire(name: object, entry: Field) -> CondaPackage:
    """Check and read what `conda_package_to_wire` wrote."""
    return CondaPackage(
        name=_matched(type(entry)(name, f"{entry.place} (a name)"), _NAME, "the name of a conda package"),
        version=_matched(entry.key("version"), _VERSION, "the version of a conda package"),
        build=_matched(entry.key("build"), _VERSION, "the build of a conda package"),
        build_number=entry.optional("build-number", 0).count(),
        subdir=_matched(entry.key("subdir"), _NAME, "a platform of conda, for example linux-64"),
        channel=_without_credentials(entry.optional("channel", "")),
        url=_without_credentials(entry.optional("url", "")),
        sha256=_digest(entry.optional("sha256", ""), SHA256),
        md5=_digest(entry.optional("md5", ""), _MD5),
        size=entry.optional("size", 0).count(),
        noarch=_noarch(entry.optional("noarch", "")),
        depends=_requirements(entry.optional("depends", [])),
        constrains=_requirements(entry.optional("constrains", [])),
        python_site_packages=_below_prefix(entry.optional("python-site-packages", "")),
        distributions=tuple(one.name() for one in entry.optional("distributions", []).items(_MAX_REQUIREMENTS)),
        installed_size=entry.optional("installed-size", 0).count(),
        placeholder=entry.optional("placeholder", 0).count(),
        modified=entry.optional("modified", 0).count(),
        content=_digest(entry.optional("content", ""), SHA256),
    )


def is_conda_name(text: str) -> bool:
    """Whether a text can be the name of a conda package."""
    return _NAME.fullmatch(text) is not None


def is_conda_version(text: str) -> bool:
    """Whether a text can be the version, or the build, of a conda package."""
    return _VERSION.fullmatch(text) is not None


def _matched(field: Field, pattern: re.Pattern[str], expected: str) -> str:
    text = field.text(200)
    if not pattern.fullmatch(text):
        raise MessageError(field.place, expected, text)
    return text


def _digest(field: Field, pattern: re.Pattern[str]) -> str:
    digest = field.text(64)
    if digest and not pattern.fullmatch(digest):
        raise MessageError(field.place, "a digest in hexadecimal digits", digest)
    return digest


def _without_credentials(field: Field) -> str:
    """Return a channel or URL; a password in it must never have been sent (`model.indexes`)."""
    text = field.text()
    if re.match(r"[A-Za-z0-9+.-]+://[^/]*@", text) or "/t/" in text:
        raise MessageError(field.place, "a channel without credentials", "one with credentials")
    return text


def _noarch(field: Field) -> str:
    kind = field.text(20)
    if kind not in _NOARCH:
        raise MessageError(field.place, "python or generic", kind)
    return kind


def _requirements(field: Field) -> tuple[str, ...]:
    return tuple(one.text(500) for one in field.items(_MAX_REQUIREMENTS))


def _below_prefix(field: Field) -> str:
    path = field.text(500)
    if path.startswith("/") or ".." in path.split("/") or "\\" in path:
        raise MessageError(field.place, "a path below the prefix", path)
    return path
