"""Reads Dask's configuration, once, at the edge."""

from __future__ import annotations

import getpass
import pkgutil
import platform
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypedDict

import dask
import yaml

from dask_pkgsync.model.errors import MessageError, PolicyError
from dask_pkgsync.model.indexes import indexes_from_wire
from dask_pkgsync.model.policy import Policy
from dask_pkgsync.model.target import ON_CONFLICT, RESTARTS, TRANSPORTS
from dask_pkgsync.model.text import printable
from dask_pkgsync.options.configuration import DURATION, SIZE, bytes_in, place, seconds_in
from dask_pkgsync.scanning.configured_indexes import configured_indexes, for_nodes
from dask_pkgsync.scanning.snapshot import snapshot
from dask_pkgsync.wheels.fsspec_store import check_store

if TYPE_CHECKING:
    from dask_pkgsync.model.indexes import Indexes
    from dask_pkgsync.process.preparation import NodeSettings
    from dask_pkgsync.scanning.snapshot import Snapshot
    from dask_pkgsync.wheels.pack import Packer


class Options(TypedDict, total=False):
    """What `PackageSync`, `sync` and the configuration have in common; None or absent: as configured."""

    ignore: Iterable[str] | None
    only: Iterable[str] | None
    extra: Iterable[str] | None
    strict: bool | None
    scheduler: str | None
    install_timeout: float | str | None
    transport: str | None
    modules: bool | Iterable[str] | None
    store: str | None
    on_conflict: str | None
    levels: Mapping[str, str] | None
    restart: str | None
    keep: bool | None


@cache
def defaults() -> dict[str, Any]:
    """Return the shipped defaults, by key."""
    text = pkgutil.get_data("dask_pkgsync", "pkgsync.yaml")  # works from a zip as well
    found: dict[str, Any] = yaml.safe_load(text or b"")["pkgsync"]
    return found


def load_defaults() -> None:
    """Make the shipped defaults known to Dask, below whatever is configured."""
    dask.config.update_defaults({"pkgsync": defaults()})


def setting(key: str) -> Any:
    """Return what is configured; the default also where somebody has cleared Dask's configuration, as tests do."""
    return dask.config.get(f"pkgsync.{key}", default=defaults()[key])


def _option(options: Options, name: str) -> Any:
    given = options.get(name)
    return setting(name.replace("_", "-")) if given is None else given


def policy_from(options: Options) -> Policy:
    """Make the policy that the options and the configuration ask for."""
    try:
        return Policy.of(
            ignore=_option(options, "ignore"),
            only=_option(options, "only"),
            extra=_option(options, "extra"),
            strict=_option(options, "strict"),
            platform_specific=setting("platform-specific"),
            levels=_option(options, "levels"),
        )
    except PolicyError as error:
        raise _told(error, options) from None


_POLICY = ("ignore", "only", "extra", "platform-specific", "levels")


def _told(error: PolicyError, options: Options) -> PolicyError:
    """Return an error about a policy that names the keys, and their files, of what was not given but configured."""
    text = str(error)
    configured = [key for key in _POLICY if options.get(key) is None and re.search(rf"\b{key}\b", text)]
    head = "pkgsync." if text.partition(":")[0] in configured else ""
    return PolicyError(f"{head}{text}{''.join(dict.fromkeys(map(place, configured)))}")


def _named(options: Options, name: str) -> tuple[str, str]:
    """Return how messages call an option, and where it stands if it is not given but configured."""
    key = name.replace("_", "-")
    return (key, "") if options.get(name) is not None else (f"pkgsync.{key}", place(key))


def scheduler_rule(options: Options) -> str:
    """Return what is to happen when the scheduler has imported another version already."""
    return _choice(options, "scheduler", ("warn", "refuse"))


def transport(options: Options) -> str:
    """Return where nodes get packages from."""
    return _choice(options, "transport", TRANSPORTS)


def on_conflict(options: Options) -> str:
    """Return what is to happen where another client has set another environment."""
    return _choice(options, "on_conflict", ON_CONFLICT)


def restart(options: Options) -> str:
    """Return what is to happen to workers that hold what no peer can take."""
    return _choice(options, "restart", RESTARTS)


def _choice(options: Options, name: str, choices: tuple[str, ...]) -> str:
    chosen = _option(options, name)
    if chosen not in choices:
        called, where = _named(options, name)
        raise PolicyError(f"{called}: expected one of {', '.join(choices)}, found {chosen!r}{where}")
    return str(chosen)


def keep(options: Options) -> bool:
    """Return whether the cluster is to keep the environment when its last client has gone."""
    chosen = _option(options, "keep")
    if not isinstance(chosen, bool):
        called, where = _named(options, "keep")
        raise PolicyError(f"{called}: expected true or false, found {chosen!r}{where}")
    return chosen


def this_person() -> str:
    """Return who this is, for others: the user's name and the machine's."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's number without a name
        user = "somebody"
    return printable(f"{user}@{platform.node()}")[:200]


def store(options: Options) -> str:
    """Return the URL of the store; empty for the scheduler's disk."""
    return check_store(_option(options, "store") or "")


def client_indexes() -> Indexes:
    """Return the indexes of this client that nodes may use; those that need credentials only if it is configured so."""
    send = setting("send-credentials")
    if not isinstance(send, bool):
        where = place("send-credentials")
        raise PolicyError(f"pkgsync.send-credentials: expected true or false, found {send!r}{where}")
    own = own_indexes()
    return for_nodes(own if own.configured else configured_indexes(), with_credentials=send)


def own_indexes() -> Indexes:
    """Return the indexes in our own configuration, which come before those of uv and pip."""
    try:
        return indexes_from_wire(
            {
                "default": setting("index-url") or "",
                "extra": setting("extra-index-urls"),
                "find-links": setting("find-links"),
                "no-index": setting("no-index"),
                "equal": False,
            },
            "pkgsync",
        )
    except MessageError as error:
        raise PolicyError(f"{error.place}: expected {error.expected}, found {error.found!r}") from None


def local_snapshot(options: Options, *, modules_limit: int | None = None) -> Snapshot:
    """Scan this environment, with the loose modules that the options ask for."""
    chosen = _option(options, "modules")
    if isinstance(chosen, str) or not isinstance(chosen, Iterable | bool):
        called, where = _named(options, "modules")
        hint = f"; write [{chosen!r}]" if isinstance(chosen, str) else ""
        raise PolicyError(f"{called}: expected true, false or a list, found {chosen!r}{where}{hint}")
    limit = _bytes("modules-limit") if modules_limit is None else modules_limit
    return snapshot(modules=chosen if isinstance(chosen, bool) else list(chosen), modules_limit=limit)


def packer(found: Snapshot) -> Packer:
    """Return what makes wheels of this environment."""
    from dask_pkgsync.cache.directory import open_cache
    from dask_pkgsync.wheels.pack import Packer

    cache = open_cache(setting("cache-directory"))
    return Packer(found, cache, _seconds({}, "build_timeout"))


def install_timeout(options: Options) -> float:
    """Return the seconds that one installer may take."""
    return _seconds(options, "install_timeout")


def _seconds(options: Options, name: str, *, zero: bool = False) -> float:
    given = _option(options, name)
    try:
        seconds = seconds_in(given)
    except ValueError:
        seconds = -1.0
    if seconds > 0 or (zero and seconds == 0):
        return seconds
    called, where = _named(options, name)
    raise PolicyError(f"{called}: expected {DURATION}, found {given!r}{where}")


def _bytes(key: str) -> int:
    try:
        size = bytes_in(setting(key))
    except ValueError:
        size = -1
    if size < 0:
        raise PolicyError(f"pkgsync.{key}: expected {SIZE}, found {setting(key)!r}{place(key)}")
    return size


def seconds_or_never(name: str) -> float | None:
    """Return a configured time in seconds, or None for never."""
    return None if setting(name) is None else _seconds({}, name)


def drain_timeout() -> float:
    """Return the seconds in which a worker may be emptied before a restart."""
    return _seconds({}, "drain_timeout", zero=True)


def drain_share() -> float:
    """Return which share of the workers may be emptied and restarted at once."""
    share = setting("drain-share")
    if isinstance(share, int | float) and 0 <= share <= 1:
        return float(share)
    raise PolicyError(f"pkgsync.drain-share: expected a number from 0 to 1, found {share!r}{place('drain-share')}")


def node_settings() -> NodeSettings:
    """Return what the operator of this node has configured."""
    from dask_pkgsync.process.preparation import NodeSettings  # clients need nothing of it

    return NodeSettings(
        setting("cache-directory"),
        _seconds({}, "cache_age", zero=True),
        _bytes("cache-size"),
        _bytes("store-size"),
        own_indexes(),
    )


load_defaults()
