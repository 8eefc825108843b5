"""``dask pkgsync compare``: the differences between two environments."""

from __future__ import annotations

import sys
from typing import Any

import click

from dask_pkgsync.cli.arguments import flags, keywords
from dask_pkgsync.cli.environments import label, read_environment


@click.command()
@click.argument("expected")
@click.argument("found")
@flags("compare")
def compare(expected: str, found: str, **given: Any) -> None:
    """List the differences between two environments.

    EXPECTED and FOUND are files that `scan --json` wrote, "." for this environment, or "-" for standard input.
    The exit status is 1 if there are differences.
    """
    from dask_pkgsync.model.comparison import compare as compare_environments
    from dask_pkgsync.model.policy import Policy

    if expected == found == "-":
        raise click.UsageError("Only one of EXPECTED and FOUND can be read from standard input.")
    options: Any = keywords(given)  # the flags of this command are those of Policy.of
    policy, one, other = Policy.of(**options), read_environment(expected), read_environment(found)
    policy.refuse_unknown_only({*one.distributions, *other.distributions})
    comparison = compare_environments(
        one,
        other,
        policy,
        expected_label=label(expected),
        found_label=label(found),
    )
    click.echo(str(comparison))
    if comparison:
        sys.exit(1)
