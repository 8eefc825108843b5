"""The steps of ``dask pkgsync demo``: a cluster on this machine with an environment of its own gets the client's.

The client is the interpreter that runs the demo. Everything else is in one temporary directory and in processes that
the demo starts; the demo removes both when it ends, also after an error.
"""

from __future__ import annotations

import subprocess
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import FunctionType
from typing import TYPE_CHECKING, Any

import click

from dask_pkgsync.demo.stage import (
    DemoError,
    Uv,
    clean_environment,
    cluster,
    connect,
    signals_end_it,
    temporary_directory,
    version_of,
)
from dask_pkgsync.model.comparison import Comparison, compare
from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.environments.interpreter import Interpreter
from dask_pkgsync.model.policy import Policy
from dask_pkgsync.model.text import text_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from distributed import Client

LACKING = ("rich", "markdown-it-py", "mdurl")
"""Packages that the cluster's environment lacks; Dask does not need them."""
DIFFERENT = "pygments"
"""The package that the cluster's environment has in another version."""
OTHER_CRITICAL = "cloudpickle"
"""The critical package that the refused client has in another version."""
A_FEW = 40
"""Up to this number of differences the demo syncs the whole environment, else only the packages that it shows."""


def run_demo() -> None:
    """Run all steps, and describe them on standard output.

    Raises
    ------
    PkgsyncError
        If a step fails; everything has been cleaned up then.
    """
    from dask_pkgsync.scanning.snapshot import scan

    narration, here = Narration(), scan()
    with signals_end_it(), temporary_directory() as directory:
        click.echo(f"A small cluster on this machine, all in {directory}. It is removed at the end.")
        uv = Uv(directory, here)
        with narration.step("Make an environment for the cluster: your Dask, but no rich and another pygments"):
            base = uv.environment("cluster", [f"{DIFFERENT}!={version_of(here, DIFFERENT)}"], changed={DIFFERENT})
        with ExitStack() as running:
            with narration.step("Start a scheduler and two workers in it"):
                address = running.enter_context(cluster(base, directory))
                client = running.enter_context(connect(address, workers=2))
                narration.say(f"Client({address!r})")
            show_differences(narration, client, here, "Compare: tasks on the workers list the packages there")
            synchronise(narration, client, here)
            use_packages(narration, client)
            show_differences(narration, client, here, "Compare again")
            turn_away(narration, uv, address)
    narration.times()


def show_differences(narration: Narration, client: Client, here: Environment, title: str) -> None:
    """Show how the workers' environments differ from this one."""
    with narration.step(title):
        for comparison, addresses in differences(client, here, demo_policy(client, here)).items():
            narration.say(f"{', '.join(addresses)}:")
            narration.say(str(comparison))


def synchronise(narration: Narration, client: Client, here: Environment) -> None:
    """Sync this environment to the cluster."""
    from dask_pkgsync import sync

    policy = demo_policy(client, here)
    options: dict[str, Any] = {} if policy.only is None else {"only": sorted(policy.only)}
    call = "sync(client)" if not options else "sync(client, only=[…])  # to keep the demo small"
    with narration.step(f"Sync: {call}"):
        report = sync(client, **options)
        narration.say(f"\n{report}")
    narration.seconds.update({f"  of that: {name}": seconds for name, seconds in report.steps.items()})


def use_packages(narration: Narration, client: Client) -> None:
    """Run a task on every worker that needs the packages that the cluster lacked before the sync."""
    with narration.step("Use them: a task on each worker draws with rich and pygments"):
        for address, drawing in on_each_worker(client, draw).items():
            narration.say(f"{address}:")
            narration.say(drawing)


def turn_away(narration: Narration, uv: Uv, address: str) -> None:
    """Let a client without dask-pkgsync and with another version of a critical package try to connect."""
    with narration.step(f"Turn away: a client with stock Dask and another {OTHER_CRITICAL} connects"):
        here = version_of(uv.model, OTHER_CRITICAL)
        python = uv.environment("stranger", [f"{OTHER_CRITICAL}!={here}"], changed={OTHER_CRITICAL})
        narration.say(refusal(python, address))


# --- functions of tasks; they are sent to the workers by value, because the workers do not have this module ---


def look_around() -> dict[str, Any]:
    """Return the interpreter and the installed versions of the process that runs the task."""
    import importlib.metadata
    import platform
    import sys
    import sysconfig

    versions: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        versions.setdefault(distribution.metadata["Name"], distribution.version)
    return {
        "interpreter": [sys.implementation.name, platform.python_version(), sysconfig.get_platform(), ""],
        "versions": versions,
    }


def draw() -> str:
    """Return a drawing by rich, which uses pygments, with the versions of both."""
    import importlib.metadata
    import io

    import pygments
    import rich.console
    import rich.panel
    import rich.syntax

    code = "client.submit(drawing_with_rich)"
    console = rich.console.Console(file=io.StringIO(), width=48)
    with console.capture() as captured:
        title = f"rich {importlib.metadata.version('rich')}, pygments {pygments.__version__}"
        console.print(rich.panel.Panel(rich.syntax.Syntax(code, "python"), title=title))
    return captured.get().rstrip()


# --- queries to the cluster ---


def on_each_worker(client: Client, function: Callable[[], Any]) -> dict[str, Any]:
    """Run a function as a task on every worker and return its results by address."""
    addresses = sorted(client.scheduler_info(n_workers=-1)["workers"])
    task = as_in_a_notebook(function)
    futures = [client.submit(task, workers=[address], pure=False) for address in addresses]
    return dict(zip(addresses, client.gather(futures), strict=True))


def as_in_a_notebook(function: Callable[[], Any]) -> Callable[[], Any]:
    """Return a copy of a function that seems to be defined in a notebook: Dask sends such functions by value."""
    copy = FunctionType(function.__code__, {"__builtins__": __builtins__}, function.__name__)
    copy.__module__ = "__main__"
    return copy


def differences(client: Client, here: Environment, policy: Policy) -> dict[Comparison, list[str]]:
    """Compare this environment with every worker's; return the workers' addresses by their differences."""
    groups: dict[Comparison, list[str]] = {}
    for address, facts in on_each_worker(client, look_around).items():
        there = environment_from(facts)
        comparison = compare(here, there, policy, expected_label="client", found_label="worker")
        groups.setdefault(comparison, []).append(address)
    return groups


def environment_from(facts: dict[str, Any]) -> Environment:
    """Make an environment from what `look_around` returned."""
    from packaging.utils import canonicalize_name

    distributions = [Distribution(str(canonicalize_name(name)), version) for name, version in facts["versions"].items()]
    return Environment.of(Interpreter(*facts["interpreter"]), distributions)


def demo_policy(client: Client, here: Environment) -> Policy:
    """Return the policy of the demo: the whole environment, or few packages if the whole would take long."""
    whole = Policy.of()
    count = max(len(comparison) for comparison in differences(client, here, whole))
    return whole if count <= A_FEW else Policy.of(only=[*LACKING, DIFFERENT])


def refusal(python: Path, address: str) -> str:
    """Connect a client in another interpreter, and return the error that it gets.

    Raises
    ------
    DemoError
        If the client is let in.
    """
    program = (
        "import sys\n"
        "from distributed import Client\n"
        "try:\n"
        "    Client(sys.argv[1])\n"
        "except ImportError as error:\n"
        "    print(f'{type(error).__name__}: {error}')\n"
        "else:\n"
        "    sys.exit('the client was let in')\n"
    )
    command = [str(python), "-c", program, address]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=clean_environment(python)
    )
    if done.returncode:
        raise DemoError("a client with another critical package connected", done.stdout + done.stderr)
    return done.stdout.strip()


# --- output ---


@dataclass
class Narration:
    """Prints the steps with numbers, indents their output, and measures their times."""

    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds that each step, or part of a step, took."""
    steps: int = 0
    """Number of the steps that have begun."""

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Print the title of a step, and measure the time of the block."""
        self.steps += 1
        click.secho(f"\n{self.steps}. {title}", bold=True)
        began = time.monotonic()
        yield
        self.seconds[title.partition(":")[0]] = time.monotonic() - began

    def say(self, text: str) -> None:
        """Print lines of the current step, indented."""
        click.echo("\n".join(f"   {line}".rstrip() for line in text.splitlines()))

    def times(self) -> None:
        """Print the seconds that each step took."""
        rows = [[title, f"{seconds:.2f}"] for title, seconds in self.seconds.items()]
        click.secho("\nSeconds by step", bold=True)
        self.say(text_table(["step", "seconds"], rows))
        click.echo("\nThe demo has removed everything that it started or wrote.")
