"""``dask pkgsync run``: executes a command in a whole environment."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dask_pkgsync.cli.arguments import tls_options
from dask_pkgsync.cli.start import start_again
from dask_pkgsync.model.errors import PkgsyncError
from dask_pkgsync.options.configured import is_configured

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from dask_pkgsync.model.environments.interpreter import Interpreter
    from dask_pkgsync.model.target import Target
    from dask_pkgsync.process.node_settings import NodeSettings
    from dask_pkgsync.process.whole import Whole

_PYTHON = re.compile(r"(\d+)\.(\d+)(?:\.\d+[a-z0-9]*)?(t?)")


class CommandError(PkgsyncError):
    """A command cannot be executed in an environment."""


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option(
    "--environment", "what", required=True, metavar="WHAT", help="Lock file, environment as JSON, or address."
)
@click.option(
    "--python",
    default="",
    metavar="X.Y",
    help="Python of a lock file's environment, for example 3.12; by default that of this command.",
)
@tls_options
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(what: str, python: str, command: tuple[str, ...], **given: Any) -> None:
    """Execute COMMAND in the environment WHAT, which is made on this machine first, with an interpreter of its own.

    WHAT is a lock file (requirements.txt with pins, pylock.toml, uv.lock, poetry.lock), an environment that `scan
    --json` wrote, or the address of a scheduler, for the environment that its cluster has.
    """
    from dask_pkgsync.cli.check import LOCK_SUFFIXES

    if Path(what).is_file() or Path(what).suffix in LOCK_SUFFIXES:
        if python and what.endswith(".json"):
            raise click.UsageError("--python is for lock files: a .json file names a Python of its own.")
        start_again(what, python, command)
        whole = _of_file(what, python, command)
    elif python:
        raise click.UsageError("--python is for lock files: the environment of a cluster has a Python of its own.")
    else:
        whole = _of_cluster(what, command, given)
    _execute(whole, command, what)


def _of_file(path: str, python: str, command: Sequence[str]) -> Whole:
    """Make the environment that a file says, and remember where it is."""
    from dask_pkgsync.model.lockfiles.lockfile import unpinned
    from dask_pkgsync.model.target import Target
    from dask_pkgsync.options.lock_file import locked_environment_for
    from dask_pkgsync.process.recalled import remember

    environment, files = locked_environment_for(path, _interpreter(python))
    target, settings = Target(environment, _policy()), _settings()
    whole = _made(target, settings, _no_client, command, path)
    remember(path, python, files, whole, settings, has_dask=not unpinned(environment))
    return whole


def _of_cluster(address: str, command: Sequence[str], given: dict[str, Any]) -> Whole:
    """Make the environment of a cluster, whose scheduler is asked without a client, which it may refuse."""
    from dask_pkgsync.cli.arguments import take_tls_files
    from dask_pkgsync.client.cluster_target import connected_to_target
    from dask_pkgsync.client.connection import security

    settings = _settings()
    with connected_to_target(address, security(**take_tls_files(given)), settings) as (target, fetch):
        return _made(target, settings, fetch, command, address)


def _made(
    target: Target, settings: NodeSettings, fetch: Callable[..., Any], command: Sequence[str], what: str
) -> Whole:
    from dask_pkgsync.process.whole import whole_environment

    _refuse_without_dask(target, command, what)
    whole = whole_environment(target, settings, fetch)
    for note in whole.notes:
        click.echo(f"dask-pkgsync: {note}", err=True)
    return whole


def _execute(whole: Whole, command: Sequence[str], what: str) -> NoReturn:
    from dask_pkgsync.process.command import argv_in, execute

    environ = whole.environ()
    if (argv := argv_in(whole.path, command, environ)) is None:
        programs = ", ".join(sorted(path.name for path in whole.layer.bin.iterdir())[:_SHOWN])
        raise CommandError(
            f"{command[0]}: there is no such program in the environment of {what}, nor on PATH outside of the "
            f"environment that this command runs in. Add the package that brings it to {what}. It has: {programs}"
        )
    try:
        execute(argv, environ)
    except OSError as error:
        raise CommandError(f"{argv[0]} cannot be executed: {error.strerror or error}") from None


_SHOWN = 20
"""The most programs of an environment that an error names."""


def _refuse_without_dask(target: Target, command: Sequence[str], what: str) -> None:
    """Raise if a command needs Dask, and the environment does not have all of it."""
    from dask_pkgsync.model.lockfiles.lockfile import unpinned
    from dask_pkgsync.process.command import needs_dask

    if needs_dask(command) and (missing := unpinned(target.environment)):
        raise CommandError(
            f"{what} does not pin {', '.join(missing)}, which `{' '.join(command)}` needs: add them to it"
        )


def _interpreter(python: str) -> Interpreter:
    """Return the interpreter that was asked for; by default that of this process."""
    from dataclasses import replace

    from dask_pkgsync.scanning.installed import this_interpreter

    own = this_interpreter()
    if not python:
        return own
    if (match := _PYTHON.fullmatch(python)) is None:
        raise click.UsageError(f"--python: expected a version such as 3.12, 3.12.4 or 3.13t, found {python!r}.")
    major, minor, threads = match.groups()
    tag = f"cp{major}{minor}-cp{major}{minor}{threads}-{own.tag.split('-', 2)[2]}"
    return replace(own, implementation="cpython", version=python.removesuffix("t"), tag=tag)


def _policy() -> Any:
    if is_configured():
        from dask_pkgsync.options.person import policy_from

        return policy_from({})
    from dask_pkgsync.model.policy import Policy

    return Policy.of()


def _settings() -> NodeSettings:
    if is_configured():
        from dask_pkgsync.options.node import node_settings

        return node_settings()
    from dask_pkgsync.process.node_settings import NodeSettings

    return NodeSettings()


def _no_client(requests: Sequence[Any]) -> Any:
    from dask_pkgsync.model.reports.failure import LayerError

    names = ", ".join(f"{request.name} {request.version}" for request in requests)
    raise LayerError(
        "receive",
        f"no index has just these builds, and no client is there to give them: {names}",
        advice="Give the address of a cluster that has this environment; or accept other builds from the index "
        "(pkgsync.builds: warn), or name the packages in pkgsync.ignore.",
    )
