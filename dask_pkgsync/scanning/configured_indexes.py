"""Reads which package indexes uv and pip are configured with on this machine.

As in these tools, environment variables precede files. If uv is configured with indexes, pip's configuration is not
read.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dask_pkgsync.model.indexes import OWN, Indexes
from dask_pkgsync.scanning.direct_url import without_credentials as bare
from dask_pkgsync.scanning.pip_configuration import pip_settings
from dask_pkgsync.scanning.uv_configuration import TRUE, uv_tables

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_PIP_SETTINGS = ("index-url", "extra-index-url", "find-links", "no-index")


def configured_indexes(directory: Path | None = None, environ: Mapping[str, str] | None = None) -> Indexes:
    """Return the indexes that uv, or else pip, is configured with, including credentials.

    Parameters
    ----------
    directory : Path, optional
        Where uv starts to look for a project's configuration, upwards; by default the current directory.
    environ : mapping, optional
        Environment variables; by default this process's.
    """
    environ = os.environ if environ is None else environ
    uv = _from_uv(directory, environ)
    return uv if uv.configured else pip_indexes(environ)


def for_nodes(indexes: Indexes, *, with_credentials: bool = False) -> Indexes:
    """Return those of a client's indexes that nodes can use.

    Parameters
    ----------
    indexes : Indexes
        The client's indexes. Directories on the client's disk are left out.
    with_credentials : bool
        Whether URLs with credentials are kept; by default they are left out.
    """

    def is_usable(url: str) -> bool:
        return url.startswith(("http://", "https://")) and (with_credentials or not _has_credentials(url))

    usable = replace(
        indexes,
        default=indexes.default if is_usable(indexes.default) else "",
        extra=tuple(filter(is_usable, indexes.extra)),
        find_links=tuple(filter(is_usable, indexes.find_links)),
    )
    return usable if usable.default or usable.extra or usable.find_links or usable.no_index else OWN


def _has_credentials(url: str) -> bool:
    """Whether a part of a URL could be a secret.

    It does not parse the URL to find an @: a parser does not find the @ behind a password that contains a slash.
    """
    return "@" in url or "#" in url or bare(url) != url


# -- uv ----------------------------------------------------------------------------------------------------------------


@dataclass
class _UvSettings:
    """The settings of uv in one file, or in the environment variables; None for a setting that is not there."""

    default: str | None = None
    extra: list[str] = field(default_factory=list)
    find_links: list[str] = field(default_factory=list)
    no_index: bool | None = None
    named: dict[str, str] = field(default_factory=dict)
    """URLs of indexes by their names, to find their credentials in environment variables."""


def _from_uv(directory: Path | None, environ: Mapping[str, str]) -> Indexes:
    sources = [_uv_environment(environ), *(_uv_table(table) for table in uv_tables(directory, environ))]
    names = {name: url for source in sources for name, url in source.named.items()}
    merged = _merged(sources)
    credentials = {url: _with_user(name, url, environ) for name, url in names.items()}
    return replace(
        merged,
        default=credentials.get(merged.default, merged.default),
        extra=tuple(credentials.get(url, url) for url in merged.extra),
    )


def _merged(sources: list[_UvSettings]) -> Indexes:
    """Take each setting from the first source that has it, and join lists."""

    def first(name: str, otherwise: Any) -> Any:
        return next((value for source in sources if (value := getattr(source, name)) is not None), otherwise)

    def joined(name: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(url for source in sources for url in getattr(source, name)))

    return Indexes(first("default", ""), joined("extra"), joined("find_links"), first("no_index", otherwise=False))


def _uv_environment(environ: Mapping[str, str]) -> _UvSettings:
    settings = _UvSettings(default=environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL") or None)
    extra = [*environ.get("UV_INDEX", "").split(), *environ.get("UV_EXTRA_INDEX_URL", "").split()]
    if settings.default is not None:
        settings.default = _url_of(settings.default, settings.named)
    settings.extra = [_url_of(entry, settings.named) for entry in extra]
    settings.find_links = [link.strip() for link in environ.get("UV_FIND_LINKS", "").split(",") if link.strip()]
    if "UV_NO_INDEX" in environ:
        settings.no_index = environ["UV_NO_INDEX"].lower() in TRUE
    return settings


def _url_of(entry: str, names: dict[str, str]) -> str:
    """Return the URL of an entry that is a URL or ``name=url``; add the name to ``names``."""
    name, equals, url = entry.partition("=")
    if equals and re.fullmatch(r"[A-Za-z0-9._-]+", name):
        names[name] = url
        return url
    return entry


def _uv_table(table: dict[str, Any]) -> _UvSettings:
    default, no_index = table.get("index-url"), table.get("no-index")
    settings = _UvSettings(
        default=default if isinstance(default, str) else None,
        extra=_texts(table.get("extra-index-url")),
        find_links=_texts(table.get("find-links")),
        no_index=no_index if isinstance(no_index, bool) else None,
    )
    entries = table.get("index")
    entries = entries if isinstance(entries, list) else []
    listed = [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("url"), str)]
    settings.named = {str(entry["name"]): str(entry["url"]) for entry in listed if entry.get("name")}
    usual = [entry for entry in listed if not entry.get("explicit")]
    defaults = [str(entry["url"]) for entry in usual if entry.get("default")]
    others = [str(entry["url"]) for entry in usual if not entry.get("default")]
    settings.default = defaults[0] if defaults else settings.default
    settings.extra = [*others, *settings.extra]
    return settings


def _texts(value: object) -> list[str]:
    """Return the texts in a list; an empty list for any other value."""
    return [entry for entry in value if isinstance(entry, str)] if isinstance(value, list) else []


def _with_user(name: str, url: str, environ: Mapping[str, str]) -> str:
    """Add the credentials in ``UV_INDEX_<NAME>_USERNAME`` and ``…_PASSWORD`` to the URL of a named index."""
    key = re.sub(r"[^A-Z0-9]", "_", name.upper())
    user, password = (environ.get(f"UV_INDEX_{key}_{part}", "") for part in ("USERNAME", "PASSWORD"))
    if not (user or password) or "://" not in url or "@" in url:
        return url
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{rest}"


# -- pip ---------------------------------------------------------------------------------------------------------------


def pip_indexes(environ: Mapping[str, str] | None = None) -> Indexes:
    """Return the indexes that pip is configured with, including credentials (see `configured_indexes`)."""
    settings = pip_settings(_PIP_SETTINGS, os.environ if environ is None else environ)
    return Indexes(
        settings.get("index-url", ""),
        tuple(settings.get("extra-index-url", "").split()),
        tuple(settings.get("find-links", "").split()),
        settings.get("no-index", "").lower() in TRUE,
        equal=bool(settings),
    )
