"""``dask pkgsync scan``: lists the packages of an environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from dask_pkgsync.cli.arguments import flags, take_modules
from dask_pkgsync.cli.environments import environment_of, this_snapshot
from dask_pkgsync.model.lockfiles.writing import FORMATS

if TYPE_CHECKING:
    from dask_pkgsync.model.environments.environment import Environment


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="Print the environment as a file of another tool, or as JSON, which `compare` and `sync --environment` read.",
)
@click.option(
    "--files",
    is_flag=True,
    help="List the files of local code that would be shipped, and those that would not, and why.",
)
@click.option("--verify", is_flag=True, help="Look at the files of every package, and list those that were modified.")
@click.option(
    "--for",
    "platform",
    metavar="PLATFORM",
    help="Show what nodes of this platform would get, for example linux-x86_64, with uv and the indexes here.",
)
@flags("scan")
@click.argument("python", required=False, type=click.Path(exists=True, dir_okay=False))
def scan(
    python: str | None,
    *,
    as_json: bool,
    form: str | None,
    files: bool,
    verify: bool,
    platform: str | None,
    **given: Any,
) -> None:
    """List the packages of this Python environment, or of that of another interpreter with the path PYTHON."""
    if files and python:
        raise click.UsageError("--files works for this environment only: leave PYTHON out.")
    if verify and python:
        raise click.UsageError("--verify works for this environment only: leave PYTHON out.")
    modules = take_modules(given)
    from dask_pkgsync.cli.pages import files_page, scan_page

    if files:
        from dask_pkgsync.options.person import policy_from

        click.echo(files_page(this_snapshot(modules=modules, unlimited=True), policy_from({})))
        return
    environment = environment_of(python) if python else this_snapshot(modules=modules, verify=verify).environment
    if platform:
        from dask_pkgsync.cli.pages import foreseen_page
        from dask_pkgsync.client.foresight import foreseen

        found = foreseen(environment, platform, {})
        click.echo(found.environment.to_json() if as_json else foreseen_page(found))
        return
    if form is not None and not as_json:
        _print(environment, form)
        return
    click.echo(environment.to_json() if as_json else scan_page(environment))


def _print(environment: Environment, form: str) -> None:
    """Print an environment in a format, and on standard error what the format cannot hold."""
    from dask_pkgsync.options.lock_file import written

    found = written(environment, form)
    click.echo(found.text, nl=False)
    for line in found.left_out:
        click.echo(f"not in it: {line}", err=True)
