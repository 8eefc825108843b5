"""Which indexes uv and pip are configured with on this machine, as these tools define it.

The environment comes before files; what configures uv comes before what configures pip.
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

_SETTINGS = ("index-url", "extra-index-url", "find-links", "no-index")
_TRUE = ("1", "true", "yes", "on", "y", "t")


def configured_indexes(directory: Path | None = None, environ: Mapping[str, str] | None = None) -> Indexes:
    """Return what uv, or else pip, is told about indexes; with credentials, if there are any.

    Parameters
    ----------
    directory : Path, optional
        Where uv looks for a project's configuration, there and above; by default the current directory.
    environ : mapping, optional
        Environment variables; by default this process's.
    """
    environ = os.environ if environ is None else environ
    uv = _from_uv(directory, environ)
    return uv if uv.configured else _from_pip(environ)


def for_nodes(indexes: Indexes, *, with_credentials: bool = False) -> Indexes:
    """Return what nodes can use of a client's indexes.

    Left out is what lies on the client's own disk, and what nobody can use without the credentials in its URL, unless
    these are to travel.
    """

    def travels(url: str) -> bool:
        return url.startswith(("http://", "https://")) and (with_credentials or not _has_credentials(url))

    found = replace(
        indexes,
        default=indexes.default if travels(indexes.default) else "",
        extra=tuple(filter(travels, indexes.extra)),
        find_links=tuple(filter(travels, indexes.find_links)),
    )
    return found if found.default or found.extra or found.find_links or found.no_index else OWN


def _has_credentials(url: str) -> bool:
    """Whether anything in a URL could be a secret; a password with a slash in it hides its @ from what reads URLs."""
    return "@" in url or "#" in url or bare(url) != url


# -- uv ----------------------------------------------------------------------------------------------------------------


@dataclass
class _Found:
    """What one source of configuration says; None: nothing."""

    default: str | None = None
    extra: list[str] = field(default_factory=list)
    find_links: list[str] = field(default_factory=list)
    no_index: bool | None = None
    named: dict[str, str] = field(default_factory=dict)
    """Name to URL, for credentials in variables."""


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


def _merged(sources: list[_Found]) -> Indexes:
    """Take each setting from the first source that has it; lists are joined."""

    def first(name: str, otherwise: Any) -> Any:
        return next((value for source in sources if (value := getattr(source, name)) is not None), otherwise)

    def joined(name: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(url for source in sources for url in getattr(source, name)))

    return Indexes(first("default", ""), joined("extra"), joined("find_links"), first("no_index", otherwise=False))


def _uv_environment(environ: Mapping[str, str]) -> _Found:
    found = _Found(default=environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL") or None)
    extra = [*environ.get("UV_INDEX", "").split(), *environ.get("UV_EXTRA_INDEX_URL", "").split()]
    if found.default is not None:
        found.default = _named(found.default, found.named)
    found.extra = [_named(entry, found.named) for entry in extra]
    found.find_links = [link.strip() for link in environ.get("UV_FIND_LINKS", "").split(",") if link.strip()]
    if "UV_NO_INDEX" in environ:
        found.no_index = environ["UV_NO_INDEX"].lower() in _TRUE
    return found


def _named(entry: str, names: dict[str, str]) -> str:
    """Read ``name=url``."""
    name, equals, url = entry.partition("=")
    if equals and re.fullmatch(r"[A-Za-z0-9._-]+", name):
        names[name] = url
        return url
    return entry


def _uv_table(table: dict[str, Any]) -> _Found:
    pip = table.get("pip")
    table = {**table, **pip} if isinstance(pip, dict) else table  # what `uv pip` is told beyond the rest
    default, no_index = table.get("index-url"), table.get("no-index")
    found = _Found(
        default=default if isinstance(default, str) else None,
        extra=_texts(table.get("extra-index-url")),
        find_links=_texts(table.get("find-links")),
        no_index=no_index if isinstance(no_index, bool) else None,
    )
    entries = table.get("index")
    entries = entries if isinstance(entries, list) else []
    listed = [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("url"), str)]
    found.named = {str(entry["name"]): str(entry["url"]) for entry in listed if entry.get("name")}
    usual = [entry for entry in listed if not entry.get("explicit")]
    defaults = [str(entry["url"]) for entry in usual if entry.get("default")]
    others = [str(entry["url"]) for entry in usual if not entry.get("default")]
    found.default = defaults[0] if defaults else found.default
    found.extra = [*others, *found.extra]
    return found


def _texts(value: object) -> list[str]:
    """Return the texts of a list; nothing of what is none."""
    return [entry for entry in value if isinstance(entry, str)] if isinstance(value, list) else []


def _with_user(name: str, url: str, environ: Mapping[str, str]) -> str:
    key = re.sub(r"[^A-Z0-9]", "_", name.upper())
    user, password = (environ.get(f"UV_INDEX_{key}_{part}", "") for part in ("USERNAME", "PASSWORD"))
    if not (user or password) or "://" not in url or "@" in url:
        return url
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{rest}"


def _uv_tables(directory: Path | None, environ: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the tables that configure uv, the strongest first."""
    if environ.get("UV_NO_CONFIG", "").lower() in _TRUE:
        return
    if chosen := environ.get("UV_CONFIG_FILE"):
        yield _toml(Path(chosen))
        return
    try:
        here = directory or Path.cwd()
    except OSError:  # it was removed
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
        logger.warning("%s is not read: that needs Python 3.11, or tomli", path)
        return {}
    try:
        found: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # its content may be secret
        logger.warning("%s could not be read", path)
        return {}
    return found


# -- pip ---------------------------------------------------------------------------------------------------------------


def _from_pip(environ: Mapping[str, str]) -> Indexes:
    files = [_ini(path) for path in _pip_files(environ)]
    settings = {  # later files are stronger, and what is for installing stronger than what is for all
        name: value
        for section in ("global", "install")
        for sections in files
        for name, value in sections.get(section, {}).items()
        if name in _SETTINGS
    }
    for name in _SETTINGS:
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
    """Return the sections of a file of pip."""
    if not path.is_file():
        return {}
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, configparser.Error):  # its content may be secret
        logger.warning("%s could not be read", path)
        return {}
    return {
        section: {name.replace("_", "-"): value for name, value in parser.items(section)}
        for section in parser.sections()
    }
