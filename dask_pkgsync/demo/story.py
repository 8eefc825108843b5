"""``dask pkgsync demo``: a real cluster on this machine, in an environment of its own, is given the client's.

The client is the interpreter that runs this. All else lives in one temporary directory and in processes that are
started here, and both are gone when it ends, however it ends.
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
"""What the cluster's environment is made without; Dask does not need it."""
DIFFERENT = "pygments"
"""What the cluster's environment has in another version."""
OTHER_CRITICAL = "cloudpickle"
"""What the client that is turned away has in another version."""
A_FEW = 40
"""Up to so many differences, the whole environment is synced; above, only the packages that the demo speaks of."""


def run_demo() -> None:
    """Run all of it and narrate on standard output.

    Raises
    ------
    PkgsyncError
        If a step fails; everything is cleaned up by then.
    """
    from dask_pkgsync.scanning.snapshot import scan

    told, here = Narration(), scan()
    with signals_end_it(), temporary_directory() as directory:
        click.echo(f"A small cluster on this machine, all in {directory}. It is removed at the end.")
        uv = Uv(directory, here)
        with told.step("Make an environment for the cluster: your Dask, but no rich and another pygments"):
            base = uv.environment("cluster", [f"{DIFFERENT}!={version_of(here, DIFFERENT)}"], changed={DIFFERENT})
        with ExitStack() as running:
            with told.step("Start a scheduler and two workers in it"):
                address = running.enter_context(cluster(base, directory))
                client = running.enter_context(connect(address, workers=2))
                told.say(f"Client({address!r})")
            show_differences(told, client, here, "Compare: tasks on the workers look at what is there")
            synchronise(told, client, here)
            use_packages(told, client)
            show_differences(told, client, here, "Compare again")
            turn_away(told, uv, address)
    told.times()


def show_differences(told: Narration, client: Client, here: Environment, title: str) -> None:
    """Show how the workers' environments differ from this one."""
    with told.step(title):
        for comparison, addresses in differences(client, here, demo_policy(client, here)).items():
            told.say(f"{', '.join(addresses)}:")
            told.say(str(comparison))


def synchronise(told: Narration, client: Client, here: Environment) -> None:
    """Do what all this is about, in one line."""
    from dask_pkgsync import sync

    policy = demo_policy(client, here)
    options: dict[str, Any] = {} if policy.only is None else {"only": sorted(policy.only)}
    call = "sync(client)" if not options else "sync(client, only=[…])  # to keep the demo small"
    with told.step(f"Sync: {call}"):
        report = sync(client, **options)
        told.say(f"\n{report}")
    told.seconds.update({f"  of that: {name}": seconds for name, seconds in report.steps.items()})


def use_packages(told: Narration, client: Client) -> None:
    """Run a task on every worker that needs what was missing a moment ago."""
    with told.step("Use them: a task on each worker draws with rich and pygments"):
        for address, drawing in on_each_worker(client, draw).items():
            told.say(f"{address}:")
            told.say(drawing)


def turn_away(told: Narration, uv: Uv, address: str) -> None:
    """Let a client connect that has stock Dask and another critical package."""
    with told.step(f"Turn away: a client with stock Dask and another {OTHER_CRITICAL} connects"):
        here = version_of(uv.model, OTHER_CRITICAL)
        python = uv.environment("stranger", [f"{OTHER_CRITICAL}!={here}"], changed={OTHER_CRITICAL})
        told.say(refusal(python, address))


# --- what runs on the workers; these travel by value, because the workers do not have this module ---


def look_around() -> dict[str, Any]:
    """Return the interpreter and the installed versions, as the process that runs this sees them."""
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
    """Draw something with rich, which uses pygments, and say which versions did it."""
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


# --- asking the cluster ---


def on_each_worker(client: Client, function: Callable[[], Any]) -> dict[str, Any]:
    """Run a function as a task on every worker and return its results by address."""
    addresses = sorted(client.scheduler_info(n_workers=-1)["workers"])
    task = as_in_a_notebook(function)
    futures = [client.submit(task, workers=[address], pure=False) for address in addresses]
    return dict(zip(addresses, client.gather(futures), strict=True))


def as_in_a_notebook(function: Callable[[], Any]) -> Callable[[], Any]:
    """Return the function as if it had been typed into a notebook: Dask sends such functions by value."""
    copy = FunctionType(function.__code__, {"__builtins__": __builtins__}, function.__name__)
    copy.__module__ = "__main__"
    return copy


def differences(client: Client, here: Environment, policy: Policy) -> dict[Comparison, list[str]]:
    """Compare this environment with every worker's; workers with the same differences stand together."""
    found: dict[Comparison, list[str]] = {}
    for address, seen in on_each_worker(client, look_around).items():
        there = environment_from(seen)
        comparison = compare(here, there, policy, expected_label="client", found_label="worker")
        found.setdefault(comparison, []).append(address)
    return found


def environment_from(seen: dict[str, Any]) -> Environment:
    """Make an environment of what `look_around` returned."""
    from packaging.utils import canonicalize_name

    distributions = [Distribution(str(canonicalize_name(name)), version) for name, version in seen["versions"].items()]
    return Environment.of(Interpreter(*seen["interpreter"]), distributions)


def demo_policy(client: Client, here: Environment) -> Policy:
    """Take the whole environment, or the packages that the demo speaks of where that would take long."""
    whole = Policy.of()
    count = max(len(comparison) for comparison in differences(client, here, whole))
    return whole if count <= A_FEW else Policy.of(only=[*LACKING, DIFFERENT])


def refusal(python: Path, address: str) -> str:
    """Connect with another interpreter, and return the error that its user sees.

    Raises
    ------
    DemoError
        If it is not turned away.
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


# --- telling it ---


@dataclass
class Narration:
    """Numbers the steps, indents what they show, and keeps their times."""

    seconds: dict[str, float] = field(default_factory=dict)
    """Step, or part of one, to the seconds it took."""
    steps: int = 0
    """How many have begun."""

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Print the title and time what happens in the block."""
        self.steps += 1
        click.secho(f"\n{self.steps}. {title}", bold=True)
        began = time.monotonic()
        yield
        self.seconds[title.partition(":")[0]] = time.monotonic() - began

    def say(self, text: str) -> None:
        """Print some lines that belong to the current step."""
        click.echo("\n".join(f"   {line}".rstrip() for line in text.splitlines()))

    def times(self) -> None:
        """Print how long each step took."""
        rows = [[title, f"{seconds:.2f}"] for title, seconds in self.seconds.items()]
        click.secho("\nSeconds by step", bold=True)
        self.say(text_table(["step", "seconds"], rows))
        click.echo("\nEverything that was started or written for this demo is gone again.")
