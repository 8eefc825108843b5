"""Reads which package indexes uv and pip are configured with on this machine.

As in these tools, environment variables precede files. If uv is configured with indexes, pip's configuration is not
read.
"""

from __future__ import annotations

import configparser
import importlib
import logging
import os
import re
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dask_pkgsync.model.indexes import OWN, Indexes
from dask_pkgsync.scanning.direct_url import without_credentials as bare

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

logger = logging.getLogger("dask_pkgsync")

_PIP_SETTINGS = ("index-url", "extra-index-url", "find-links", "no-index")
_TRUE = ("1", "true", "yes", "on", "y", "t")


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
    return uv if uv.configured else _from_pip(environ)


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
    sources = [_uv_environment(environ), *(_uv_table(table) for table in _uv_tables(directory, environ))]
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
        settings.no_index = environ["UV_NO_INDEX"].lower() in _TRUE
    return settings


def _url_of(entry: str, names: dict[str, str]) -> str:
    """Return the URL of an entry that is a URL or ``name=url``; add the name to ``names``."""
    name, equals, url = entry.partition("=")
    if equals and re.fullmatch(r"[A-Za-z0-9._-]+", name):
        names[name] = url
        return url
    return entry


def _uv_table(table: dict[str, Any]) -> _UvSettings:
    pip = table.get("pip")
    table = {**table, **pip} if isinstance(pip, dict) else table  # [tool.uv.pip] holds the settings of `uv pip`
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


def _uv_tables(directory: Path | None, environ: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the configuration of uv from its files, in the order of precedence."""
    if environ.get("UV_NO_CONFIG", "").lower() in _TRUE:
        return
    if chosen := environ.get("UV_CONFIG_FILE"):
        yield _toml(Path(chosen))
        return
    try:
        here = directory or Path.cwd()
    except OSError:  # the current directory was removed
        here = None
    for place in (here, *here.parents) if here else ():
        tools = _toml(place / "pyproject.toml").get("tool")
        project = tools.get("uv") if isinstance(tools, dict) else None
        if (place / "uv.toml").exists() or isinstance(project, dict):
            yield _toml(place / "uv.toml") if (place / "uv.toml").exists() else project or {}
            break
    yield _toml(_config_home(environ) / "uv" / "uv.toml")
    systems = [Path(system) / "uv" / "uv.toml" for system in environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")]
    yield _toml(next((path for path in systems if path.is_file()), Path("/etc/uv/uv.toml")))


def _config_home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or "~").expanduser() / ".config")


def _toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    except ImportError:
        logger.warning("the indexes in %s are ignored: to read TOML, use Python 3.11 or newer, or install tomli", path)
        return {}
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # the error is not shown: it may quote a secret in the file
        logger.warning("the indexes in %s are ignored: %s could not be read", path, path)
        return {}
    return table


# -- pip ---------------------------------------------------------------------------------------------------------------


def _from_pip(environ: Mapping[str, str]) -> Indexes:
    files = [_ini(path) for path in _pip_files(environ)]
    settings = {  # later files override earlier ones, and the section [install] overrides [global]
        name: value
        for section in ("global", "install")
        for sections in files
        for name, value in sections.get(section, {}).items()
        if name in _PIP_SETTINGS
    }
    for name in _PIP_SETTINGS:
        if value := environ.get(f"PIP_{name.upper().replace('-', '_')}"):
            settings[name] = value
    return Indexes(
        settings.get("index-url", "").strip(),
        tuple(settings.get("extra-index-url", "").split()),
        tuple(settings.get("find-links", "").split()),
        settings.get("no-index", "").lower() in _TRUE,
        equal=bool(settings),
    )


def _pip_files(environ: Mapping[str, str]) -> list[Path]:
    chosen = environ.get("PIP_CONFIG_FILE")
    if chosen == os.devnull:
        return []
    systems = [Path(place) / "pip" / "pip.conf" for place in environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")]
    home = Path(environ.get("HOME") or "~").expanduser()
    user = [home / ".pip" / "pip.conf", _config_home(environ) / "pip" / "pip.conf"]
    if chosen and Path(chosen).exists():
        user = []
    last = [Path(chosen)] if chosen else []
    return [*systems, Path("/etc/pip.conf"), *user, Path(sys.prefix) / "pip.conf", *last]


def _ini(path: Path) -> dict[str, dict[str, str]]:
    """Return the sections of a configuration file of pip."""
    if not path.is_file():
        return {}
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, configparser.Error):  # the error is not shown: it may quote a secret in the file
        logger.warning("the indexes in %s are ignored: %s could not be read", path, path)
        return {}
    return {
        section: {name.replace("_", "-"): value for name, value in parser.items(section)}
        for section in parser.sections()
    }
