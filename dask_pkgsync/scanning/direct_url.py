"""Reads and writes ``direct_url.json`` (PEP 610), which records the origin of a distribution, without credentials."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from dask_pkgsync.model.environments.origin import FromArchive, FromDirectory, FromModules, FromVcs

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from dask_pkgsync.model.environments.origin import Origin

_SSH_USER = "git"
_KEY = "dask_pkgsync"
"""The key of dask-pkgsync's own facts in ``direct_url.json``: kind and digest of local code."""
_HARMLESS_FRAGMENTS = ("subdirectory=", "egg=", "sha256=", "sha384=", "sha512=")


def parse_direct_url(text: str) -> Origin:
    """Return the origin that the text of a ``direct_url.json`` describes.

    Raises
    ------
    ValueError
        If the text is not a document as PEP 610 defines it.
    """
    try:
        data = json.loads(text)
        url = without_credentials(data["url"])
        match data:
            case {"vcs_info": {"commit_id": str(commit), "vcs": str(vcs)}}:
                return FromVcs(url, _line(commit), _line(vcs), _line(data.get("subdirectory") or ""))
            case {"dir_info": dict(info)}:
                return _directory(url, info, _kind_and_digest(data))
            case {"archive_info": dict(info)}:
                return FromArchive(url, _digest(info) or _kind_and_digest(data)[1])
    except (KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise ValueError("not a direct URL (PEP 610)")


def source_directory(origin: FromDirectory) -> Path:
    """Return the directory of a ``file:`` URL."""
    return Path(unquote(urlsplit(origin.url).path))


def direct_url_of(origin: Origin) -> dict[str, Any] | None:
    """Return the ``direct_url.json`` that a node writes for a distribution from the client; None if it needs none.

    It records where the *client* installed the distribution from. In addition to PEP 610 it holds the kind and the
    digest of local code: an editable installation of the client is a regular one on the node.
    """
    match origin:
        case FromVcs(url, commit, vcs, subdirectory):
            inside = {"subdirectory": subdirectory} if subdirectory else {}
            return {"url": url, "vcs_info": {"vcs": vcs, "commit_id": commit}, **inside}
        case FromArchive(url, digest):
            algorithm, _, value = digest.partition("=")
            info = {} if algorithm == "record" else {"hashes": {algorithm: value}}
            return {"url": url, "archive_info": info, _KEY: {"kind": "archive", "digest": digest}}
        case FromDirectory(url, editable, digest):
            kind = "editable" if editable else "directory"
            return {"url": url, "dir_info": {}, _KEY: {"kind": kind, "digest": digest}}
        case FromModules(url, digest):
            return {"url": url, "dir_info": {}, _KEY: {"kind": "modules", "digest": digest}}
    return None


def _directory(url: str, info: dict[str, Any], kind_and_digest: tuple[str, str]) -> Origin:
    kind, digest = kind_and_digest
    if kind == "modules":
        return FromModules(url, digest)
    return FromDirectory(url, bool(info.get("editable", False)) or kind == "editable", digest)


def _kind_and_digest(data: dict[str, Any]) -> tuple[str, str]:
    facts = data.get(_KEY) or {}
    return _line(facts.get("kind") or ""), _line(facts.get("digest") or "")


def _digest(info: dict[str, Any]) -> str:
    hashes = info.get("hashes") or {}
    if "sha256" in hashes:
        return f"sha256={_line(hashes['sha256'])}"
    return _line(info.get("hash") or "")


def without_credentials(url: str) -> str:
    """Return a URL without user, password, query, and all fragments except known harmless ones.

    A query may hold a token, and so may a user. Only the user ``git`` of an SSH address (``git@host``) is kept.
    """
    url = _line(url)
    parts = urlsplit(url)
    if not _has_authority(parts):
        return _after_credentials(url)
    user, _, host = parts.netloc.rpartition("@")
    ssh = parts.scheme.endswith("ssh") and user == _SSH_USER
    fragments = (part for part in parts.fragment.split("&") if part.startswith(_HARMLESS_FRAGMENTS))
    return urlunsplit((parts.scheme, parts.netloc if ssh else host, parts.path, "", "&".join(fragments)))


def _has_authority(parts: SplitResult) -> bool:
    """Whether the URL was split correctly, with its host in the right place, so that no other part holds a password."""
    try:
        return parts.port is not None or bool(parts.hostname) or parts.scheme.endswith("file")
    except ValueError:  # the port is not a number: a / or # in the password ended the host too early
        return False


def _after_credentials(address: str) -> str:
    """Return the part after the last @ of an address that is no proper URL, such as ``git@host:path`` of ssh."""
    user, _, rest = address.rpartition("@")
    rest = re.split("[?#]", rest, maxsplit=1)[0]
    return f"{user}@{rest}" if user == _SSH_USER else rest


def _line(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)[:1000]
