"""The flags and arguments that several commands share, and the options that they set."""

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
    """Return a decorator that adds the flags of the options to a command; flags of more commands come first."""
    own = [(option, option.flag) for option in KEYWORDS if option.flag is not None and command in option.flag.commands]
    own.sort(key=lambda pair: -len(pair[1].commands))
    return _all(decorator for option, flag in own for decorator in _flags_of(option, flag))


def address_argument(command: Command) -> Command:
    """Add to a command the address of the scheduler, and the flags for TLS files that Dask's own commands have."""
    return click.argument("address")(tls_options(command))


def tls_options(command: Command) -> Command:
    """Add to a command the flags for TLS files that Dask's own commands have."""
    return _all(
        (
            click.option("--tls-ca-file", type=_PEM_FILE, help="CA certificates, in PEM format."),
            click.option("--tls-cert", type=_PEM_FILE, help="Certificate of this client, in PEM format."),
            click.option("--tls-key", type=_PEM_FILE, help="Private key of this client, in PEM format."),
        )
    )(command)


def _all(decorators: Iterable[Decorator]) -> Decorator:
    """Combine decorators into one; the flag of the first stands first in the help."""
    in_order = list(decorators)

    def decorate(command: Command) -> Command:
        for decorator in reversed(in_order):
            command = decorator(command)
        return command

    return decorate


def _flags_of(option: Option[Any], flag: CommandFlag) -> list[Decorator]:
    """Return the decorators that add the flags of an option, by the kind of its values."""
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
    """Return the options that the flags on the command line set, as keywords of `sync`.

    Options without a flag on the command line are left out: they have their values from Dask's configuration.
    """
    options: Options = {}
    for option in KEYWORDS:
        if (value := given.get(option.name)) not in (None, ()):
            options[option.name] = value  # type: ignore[literal-required]
    return options


def take_modules(given: dict[str, Any]) -> bool | list[str] | None:
    """Remove the flags ``--modules`` and ``--no-modules`` from the arguments, and return the value of the option.

    The value is None if neither was given, so that the configuration decides. The function adds the current directory
    to `sys.path`, where a script that runs in it would find its modules.
    """
    chosen, none = list(given.pop("modules")), given.pop("no_modules")
    if chosen and none:
        raise click.UsageError("--modules and --no-modules exclude each other.")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    return False if none else chosen or None


def take_tls_files(given: dict[str, Any]) -> dict[str, str | None]:
    """Remove the TLS files from the arguments of a command, and return them."""
    return {name: given.pop(f"tls_{name}") for name in ("ca_file", "cert", "key")}
