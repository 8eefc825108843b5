"""What commands are given: the flags that several share, and the keywords that they become."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dask_pkgsync.options.definitions import KEYWORDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dask_pkgsync.options.keywords import Options
    from dask_pkgsync.options.option import CommandFlag, Option

    Command = Callable[..., Any]
    Decorator = Callable[[Command], Command]

_PEM_FILE = click.Path(exists=True, dir_okay=False, resolve_path=True)


def flags(command: str) -> Decorator:
    """Add the flags that a command has of the options; those that more commands have come first."""
    own = [(option, option.flag) for option in KEYWORDS if option.flag is not None and command in option.flag.commands]
    own.sort(key=lambda one: -len(one[1].commands))
    return _all(added for option, flag in own for added in _flags_of(option, flag))


def address_argument(command: Command) -> Command:
    """Add the address of the scheduler, and the TLS files that Dask's own commands have."""
    return _all(
        (
            click.argument("address"),
            click.option("--tls-ca-file", type=_PEM_FILE, help="CA certificates, in PEM format."),
            click.option("--tls-cert", type=_PEM_FILE, help="Certificate of this client, in PEM format."),
            click.option("--tls-key", type=_PEM_FILE, help="Private key of this client, in PEM format."),
        )
    )(command)


def _all(decorators: Iterable[Decorator]) -> Decorator:
    """Return one decorator for several: the first stands first in the help."""
    found = list(decorators)

    def decorate(command: Command) -> Command:
        for decorator in reversed(found):
            command = decorator(command)
        return command

    return decorate


def _flags_of(option: Option[Any], flag: CommandFlag) -> list[Decorator]:
    """Return the flags of an option, by the kind of its values."""
    text = flag.help or option.description.replace("`", "")
    several = click.option(f"--{option.key}", multiple=True, metavar=flag.metavar, help=text)
    match option.kind.rule:
        case {"enum": words}:
            return [click.option(f"--{option.key}", type=click.Choice(words), help=text)]
        case {"type": "boolean"}:
            return [click.option(f"--{option.key}", is_flag=True, default=None, help=text)]
        case {"type": "array" | ["array", "null"]}:
            return [several]
        case {"type": ["boolean", "array"]}:
            return [several, click.option(f"--no-{option.key}", is_flag=True, help=flag.no_help)]
        case rule:
            raise TypeError(f"{option.key}: there is no flag for values of the kind {rule}")


def keywords(given: dict[str, Any]) -> Options:
    """Return the keywords that flags stand for; what is not on the command line is left to Dask's configuration."""
    found: Options = {}
    for option in KEYWORDS:
        if (value := given.get(option.name)) not in (None, ()):
            found[option.name] = value  # type: ignore[literal-required]
    return found


def take_modules(given: dict[str, Any]) -> bool | list[str] | None:
    """Take the two flags about loose modules out of the others, and return what they mean; None: as configured.

    The current directory is where a script would run: it gets on the path.
    """
    chosen, none = list(given.pop("modules")), given.pop("no_modules")
    if chosen and none:
        raise click.UsageError("--modules and --no-modules exclude each other.")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    return False if none else chosen or None


def take_tls_files(given: dict[str, Any]) -> dict[str, str | None]:
    """Take the TLS files out of the other arguments, and return them."""
    return {name: given.pop(f"tls_{name}") for name in ("ca_file", "cert", "key")}
