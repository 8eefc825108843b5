"""Which commands can be executed anew in another interpreter."""

from __future__ import annotations

import pytest

from dask_pkgsync.process.commands import Command, NoDaskCommandError, command_of

WORKER = ("worker", "tcp://10.0.0.1:8786", "--nworkers", "2")


@pytest.mark.parametrize(
    ("argv", "command", "entry"),
    [
        (["python", "-m", "dask", *WORKER], Command((), "dask", WORKER), "distributed.cli.dask_worker"),
        (["python", "-mdask", *WORKER], Command((), "dask", WORKER), "distributed.cli.dask_worker"),
        (
            ["/opt/old/bin/python3.11", "/opt/old/bin/dask", *WORKER],
            Command((), "dask", WORKER, is_script=True),
            "distributed.cli.dask_worker",
        ),
        (
            ["python", "-u", "-W", "ignore", "-Xdev", "-m", "dask", "scheduler"],
            Command(("-u", "-W", "ignore", "-Xdev"), "dask", ("scheduler",)),
            "distributed.cli.dask_scheduler",
        ),
        (
            ["python", "-um", "distributed.cli.dask_spec", "--spec", "{}"],
            Command(("-u",), "distributed.cli.dask_spec", ("--spec", "{}")),
            "distributed.cli.dask_spec",
        ),
        (
            ["python", "bin/dask-worker", "tcp://10.0.0.1:8786"],
            Command((), "distributed.cli.dask_worker", ("tcp://10.0.0.1:8786",), is_script=True),
            "distributed.cli.dask_worker",
        ),
        (
            ["python", "bin/dask-scheduler"],
            Command((), "distributed.cli.dask_scheduler", (), is_script=True),
            "distributed.cli.dask_scheduler",
        ),
    ],
)
def test_each_launcher_of_dask_is_known(argv: list[str], command: Command, entry: str) -> None:
    """A command is known by its script or module, with the options of its interpreter."""
    assert command_of(argv) == command
    assert command_of(argv).entry == entry


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["python", "job.py", "worker"], "python job.py"),
        (["python", "-c", "from dask.distributed import LocalCluster; LocalCluster()"], "python -c"),
        (["python", "-m", "ipykernel_launcher", "-f", "secret.json"], "python -m ipykernel_launcher"),
        (["python", "-m", "dask", "docs"], "python -m dask"),
        (["python", "/opt/bin/dask"], "python /opt/bin/dask"),
        (["python"], "python"),
    ],
)
def test_any_other_program_is_named_and_refused(argv: list[str], shown: str) -> None:
    """Scripts, notebooks and interactive interpreters are not executed anew; their arguments are not told."""
    with pytest.raises(NoDaskCommandError, match="is no command of Dask's") as raised:
        command_of(argv)
    assert raised.value.shown == shown
