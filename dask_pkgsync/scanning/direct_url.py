"""Where a distribution came from (PEP 610), without anybody's credentials."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from dask_pkgsync.model.environments.origin import FromArchive, FromDirectory, FromModules, FromVcs

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from dask_pkgsync.model.environments.origin import Origin

_SSH_USER = "git"
_KEY = "dask_pkgsync"
_HARMLESS_FRAGMENTS = ("subdirectory=", "egg=", "sha256=", "sha384=", "sha512=")


def parse_direct_url(text: str) -> Origin:
    """Read a ``direct_url.json``.

    Raises
    ------
    ValueError
        If it is no PEP 610 document.
    """
    try:
        data = json.loads(text)
        url = without_credentials(data["url"])
        match data:
            case {"vcs_info": {"commit_id": str(commit), "vcs": str(vcs)}}:
                return FromVcs(url, _line(commit), _line(vcs), _line(data.get("subdirectory") or ""))
            case {"dir_info": dict(info)}:
                return _directory(url, info, _ours(data))
            case {"archive_info": dict(info)}:
                return FromArchive(url, _digest(info) or _ours(data)[1])
    except (KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise ValueError("not a direct URL (PEP 610)")


def direct_url_of(origin: Origin) -> dict[str, Any] | None:
    """Return the ``direct_url.json`` of an origin, which a node writes for what came from the client; None for none.

    It says where the *client* has it from. Beyond PEP 610 it holds the digest that tells local code apart; what is
    editable on the client is not so on the node.
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


def _directory(url: str, info: dict[str, Any], ours: tuple[str, str]) -> Origin:
    kind, digest = ours
    if kind == "modules":
        return FromModules(url, digest)
    return FromDirectory(url, bool(info.get("editable", False)) or kind == "editable", digest)


def _ours(data: dict[str, Any]) -> tuple[str, str]:
    ours = data.get(_KEY) or {}
    return _line(ours.get("kind") or ""), _line(ours.get("digest") or "")


def _digest(info: dict[str, Any]) -> str:
    hashes = info.get("hashes") or {}
    if "sha256" in hashes:
        return f"sha256={_line(hashes['sha256'])}"
    return _line(info.get("hash") or "")


def without_credentials(url: str) -> str:
    """Return a URL without user, password, query (where tokens are), and fragments that are not known to be harmless.

    The user ``git`` of an SSH address (``git@host``) is no secret and stays; any other may be a token.
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
    """Whether the host is where a URL has it, so that nothing after it can be a part of a password."""
    try:
        return parts.port is not None or bool(parts.hostname) or parts.scheme.endswith("file")
    except ValueError:  # a port that is no number: the password holds a / or #
        return False


def _after_credentials(address: str) -> str:
    """Keep what follows the last @ of what is no proper URL (``git@host:path``, as ssh has it)."""
    user, _, rest = address.rpartition("@")
    rest = re.split("[?#]", rest, maxsplit=1)[0]
    return f"{user}@{rest}" if user == _SSH_USER else rest


def _line(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)[:1000]
