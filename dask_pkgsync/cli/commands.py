"""The command line: ``dask pkgsync …``.

Dask imports this file whenever any of its commands runs, so it imports next to nothing; commands import what they use.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from distributed import Client

    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.policy import Policy
    from dask_pkgsync.model.reports.verdict import Verdict
    from dask_pkgsync.scanning.snapshot import Snapshot

    Command = TypeVar("Command", bound=Callable[..., Any])

LOCK_SUFFIXES = (".json", ".lock", ".toml", ".txt")
"""Of what is no address: a lock file that is not there is told as such."""
PEM_FILE = click.Path(exists=True, dir_okay=False, resolve_path=True)


@click.group(name="pkgsync", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dask-pkgsync")
def pkgsync() -> None:
    """Make a Dask cluster run your Python environment."""


def policy_options(command: Command) -> Command:
    """Add the options that say which packages count."""
    for option in reversed(
        (
            click.option(
                "--ignore", multiple=True, metavar="NAME", help="Leave this package alone. May be given several times."
            ),
            click.option(
                "--only",
                multiple=True,
                metavar="NAME",
                help="Leave all but this package alone. May be given several times.",
            ),
            click.option(
                "--extra",
                multiple=True,
                metavar="REQUIREMENT",
                help="The cluster is to have this too, though it is not installed here: 'cupy-cuda12x==13.*'.",
            ),
            click.option(
                "--strict",
                is_flag=True,
                default=None,
                help="Nothing but the packages of this environment may be importable.",
            ),
        )
    ):
        command = option(command)
    return command


def cluster_options(command: Command) -> Command:
    """Add the address of the scheduler, and the TLS options that Dask's own commands have."""
    for option in reversed(
        (
            click.argument("address"),
            click.option("--tls-ca-file", type=PEM_FILE, help="CA certificates, in PEM format."),
            click.option("--tls-cert", type=PEM_FILE, help="Certificate of this client, in PEM format."),
            click.option("--tls-key", type=PEM_FILE, help="Private key of this client, in PEM format."),
        )
    ):
        command = option(command)
    return command


def modules_options(command: Command) -> Command:
    """Add the options that say which loose modules count."""
    for option in reversed(
        (
            click.option(
                "--modules",
                multiple=True,
                metavar="NAME|PATH",
                help="A loose module, package or directory that travels. May be given several times. Without it: what "
                "can be imported from the current directory and from PYTHONPATH.",
            ),
            click.option("--no-modules", is_flag=True, help="No loose modules."),
        )
    ):
        command = option(command)
    return command


@pkgsync.command()
@click.option("--json", "as_json", is_flag=True, help="Print what `compare` reads.")
@click.option("--files", is_flag=True, help="List the files of local code that would travel, and what stays, and why.")
@modules_options
@click.argument("python", required=False, type=click.Path(exists=True, dir_okay=False))
def scan(as_json: bool, files: bool, python: str | None, **options: Any) -> None:  # noqa: FBT001
    """List the packages of this Python environment, or of another PYTHON (a path of an interpreter)."""
    if files and python:
        raise click.UsageError("--files is for this environment only.")
    chosen = _modules(options)
    from dask_pkgsync.cli.pages import files_page, scan_page

    with sentences():
        if files:
            from dask_pkgsync.options.person import policy_from

            click.echo(files_page(_snapshot(chosen, modules_limit=sys.maxsize), policy_from({})))
            return
        environment = _scan(python, chosen)
        click.echo(environment.to_json() if as_json else scan_page(environment))


@pkgsync.command()
@click.argument("expected")
@click.argument("found")
@policy_options
def compare(expected: str, found: str, **options: Any) -> None:
    """List the differences between two environments.

    EXPECTED and FOUND are files that `scan --json` wrote, "." for this environment, or "-" for standard input.
    The exit status is 1 if there are differences.
    """
    from dask_pkgsync.model.comparison import compare as compare_environments

    if expected == found == "-":
        raise click.UsageError("Only one of the two can come from standard input.")
    with sentences():
        comparison = compare_environments(
            _read(expected),
            _read(found),
            _policy(**options),
            expected_label=_label(expected),
            found_label=_label(found),
        )
        click.echo(str(comparison))
    if comparison:
        sys.exit(1)


@pkgsync.command()
@cluster_options
@policy_options
@modules_options
@click.option(
    "--transport",
    type=click.Choice(["auto", "index", "client"]),
    help="Where nodes get packages from: the index, this machine, or this machine what the index does not give.",
)
@click.option(
    "--on-conflict",
    type=click.Choice(["refuse", "wait", "replace"]),
    help="Where the environment of somebody who is connected conflicts with this one.",
)
@click.option(
    "--restart",
    type=click.Choice(["drained", "now"]),
    help="What happens to workers that cannot be emptied: they wait, or are restarted and lose what they have.",
)
@click.option("--progress/--no-progress", default=True, help="Show each node's steps while they happen.")
def sync(address: str, **options: Any) -> None:
    """Make the cluster at ADDRESS run this environment."""
    from dask_pkgsync import sync as sync_cluster

    options["modules"] = _modules(options)
    with connected(address, options, modules=options["modules"], only_looks=False) as client:
        progress = None if options.pop("progress") else False
        click.echo(str(sync_cluster(client, progress=progress, keep=True, **_given(options))))


@pkgsync.command()
@cluster_options
@policy_options
@modules_options
def check(address: str, **options: Any) -> None:
    """Say whether this environment would be let in, for pipelines: exit status 0 if so, 1 if not.

    ADDRESS is that of a scheduler, or the path of a lock file: requirements.txt with pins, pylock.toml, uv.lock,
    poetry.lock, or what `scan --json` writes. The last line is the verdict; what it is about stands above.
    """
    chosen = _modules(options)
    if Path(address).is_file() or Path(address).suffix in LOCK_SUFFIXES:
        for name in ("tls_ca_file", "tls_cert", "tls_key"):
            options.pop(name)
        verdict = _check_lock(address, chosen, options)
    else:
        verdict = _check_cluster(address, chosen, options)
    click.echo(verdict.page(address))
    if not verdict.is_let_in:
        sys.exit(1)


def _check_cluster(address: str, modules: Any, options: dict[str, Any]) -> Verdict:
    from dask_pkgsync.client.api import check as check_cluster
    from dask_pkgsync.client.connection import RefusedError
    from dask_pkgsync.client.handshake import take_presented

    policy = _configured_policy(options)
    try:
        with connected(address, options, modules=modules) as client:
            return check_cluster(client, take_presented().environment, policy)
    except click.ClickException as error:
        if isinstance(error.__cause__, RefusedError):
            click.echo(f"{error.message}\n")
            click.echo(f"{address}: would be refused, for the reason above.")
            sys.exit(1)
        raise


def _check_lock(path: str, modules: Any, options: dict[str, Any]) -> Verdict:
    from dask_pkgsync.model.comparison import compare as compare_environments
    from dask_pkgsync.model.lockfiles.lockfile import unpinned
    from dask_pkgsync.model.reports.verdict import LET_IN, Verdict, refused
    from dask_pkgsync.scanning.lock_file import read_lock

    labels = {"expected_label": path, "found_label": "this environment"}
    policy = _configured_policy(options)
    with sentences():
        expected = read_lock(path)
        comparison = compare_environments(expected, _scan(None, modules), policy, **labels)
    if not comparison:
        return Verdict(LET_IN)
    missing = ", ".join(unpinned(expected))
    note = f"{path} does not pin {missing}, which Dask needs: a scheduler that is to enforce it does not start"
    return replace(refused(comparison, enforced=True), notes=(note,) if missing else ())


@pkgsync.command()
@cluster_options
def status(address: str, **options: Any) -> None:
    """Show how every node of the cluster at ADDRESS stands to the environment it is to have."""
    from dask_pkgsync import status as cluster_status

    with connected(address, options, presents=False) as client:
        click.echo(str(cluster_status(client)))


@pkgsync.command()
@cluster_options
def release(address: str, **options: Any) -> None:
    """Give the cluster at ADDRESS the environment back that it had before any sync."""
    from dask_pkgsync import release as release_cluster

    with connected(address, options, presents=False) as client:
        click.echo(str(release_cluster(client)))


@pkgsync.command()
def demo() -> None:
    """Watch it work: a small cluster on this machine gets this environment.

    Makes two virtual environments in a temporary directory (this downloads Dask), starts a scheduler and two workers
    in one of them, and removes everything at the end.
    """
    from dask_pkgsync.demo.story import run_demo

    with sentences():
        run_demo()


@contextmanager
def sentences() -> Iterator[None]:
    """Turn errors that are meant for people into their sentence and exit status 1; others keep their traceback."""
    from dask_pkgsync.model.errors import PkgsyncError

    try:
        yield
    except PkgsyncError as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def connected(address: str, options: dict[str, Any], **how: Any) -> Iterator[Client]:
    """Connect to a cluster with the TLS options, which are taken out of the options, and close at the end.

    Parameters
    ----------
    address : str
    options : dict
    **how
        As for `client.connection.connected`.
    """
    from dask_pkgsync.client import connection as terminal

    files = {name: options.pop(f"tls_{name}") for name in ("ca_file", "cert", "key")}
    with sentences(), terminal.connected(address, terminal.security(**files), **how) as client:
        yield client


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """Leave out what was not said on the command line, so that Dask's configuration decides it."""
    return {name: value for name, value in options.items() if value not in (None, ())}


def _policy(**options: Any) -> Policy:
    from dask_pkgsync.model.policy import Policy

    return Policy.of(**_given(options))


def _configured_policy(options: dict[str, Any]) -> Policy:
    """Return the policy of the options, and for what is not given that of the configuration, as a sync has it."""
    from dask_pkgsync.options.person import policy_from

    given = _given(options)
    with sentences():
        return policy_from(
            {
                "ignore": given.get("ignore"),
                "only": given.get("only"),
                "extra": given.get("extra"),
                "strict": given.get("strict"),
            }
        )


def _modules(options: dict[str, Any]) -> Any:
    """Return what the two options about loose modules mean; the current directory is where a script would run."""
    chosen, none = list(options.pop("modules")), options.pop("no_modules")
    if chosen and none:
        raise click.UsageError("--modules and --no-modules exclude each other.")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    return False if none else chosen or None


def _snapshot(modules: Any, **rest: Any) -> Snapshot:
    from dask_pkgsync.options.person import local_snapshot

    return local_snapshot({"modules": modules}, **rest)


def _scan(python: str | None, modules: Any = None) -> Environment:
    if python is None:
        return _snapshot(modules).environment
    from dask_pkgsync.scanning.other_interpreter import scan_other_interpreter
    from dask_pkgsync.scanning.snapshot import with_digests

    return with_digests(scan_other_interpreter(python))


def _read(source: str) -> Environment:
    """Read an environment from a file, from standard input (``-``), or from this interpreter (``.``)."""
    from dask_pkgsync.model.environments.environment import Environment

    if source == ".":
        return _scan(None)
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error  # (without the path again)
        raise click.ClickException(f"cannot read {source}: {reason}") from error
    return Environment.from_json(text)


def _label(source: str) -> str:
    return {".": "this environment", "-": "standard input"}.get(source, source)
