"""How a running sync is shown."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import threading
import time

import pytest

from dask_pkgsync.display import reporters as display
from dask_pkgsync.display import rollout_progress as board_module
from dask_pkgsync.display.rollout_progress import RolloutProgress, duration
from dask_pkgsync.model.reports.discrepancies import Discrepancy
from dask_pkgsync.model.reports.failure import NodeFailure, SyncError
from dask_pkgsync.model.reports.progress import OnlyIfNeeded, Progress, Reporter, progress_in
from dask_pkgsync.model.reports.sync import NodeReport, SyncReport

TARGET = "ab" * 32
REPORT = SyncReport(
    TARGET, (NodeReport("tcp://10.0.0.1:1", "worker", "restarted"), NodeReport("tcp://10.0.0.2:2", "scheduler", "live"))
)
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


class Clock:
    """A clock that goes only when told to."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Page:
    """A notebook display that keeps what it was last told to show."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.threads: set[str] = set()

    def update(self, obj: str) -> None:
        self.shown.append(obj)
        self.threads.add(threading.current_thread().name)


def step(node: str, name: str, state: str, detail: str = "") -> Progress:
    return Progress(node, "worker", name, state, detail)  # type: ignore[arg-type]


def failure(*addresses: str) -> SyncError:
    return SyncError({one: NodeFailure(one, "prepare", "no such version") for one in addresses})


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "24")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def test_nothing_is_shown_when_not_wanted():
    """With progress=False the reporter is the one that does nothing."""
    assert type(display.make_reporter(False)) is Reporter


def test_a_pipe_gets_plain_lines():
    """What is no terminal gets one line for each step that ended and one for the end, without control characters."""
    file = io.StringIO()
    reporter = display.make_reporter(file=file)
    reporter.started(TARGET)
    reporter.progressed(step("tcp://10.0.0.1:1", "prepare", "started"))
    reporter.progressed(step("tcp://10.0.0.1:1", "prepare", "finished", "2 to install"))
    reporter.progressed(step("tcp://10.0.0.2:2", "prepare", "failed", "no such version"))
    reporter.finished(REPORT)
    lines = file.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[0] == "pkgsync: syncing to environment abababababab"
    assert re.match(r"pkgsync: worker tcp://10\.0\.0\.1:1 prepared in \d+\.\d s: 2 to install", lines[1])
    assert "prepare failed" in lines[2]
    assert re.match(r"pkgsync: 2 nodes match your environment after \d+\.\d s: 1 live, 1 restarted", lines[3])
    assert "\x1b" not in file.getvalue()


def test_a_dumb_terminal_gets_plain_lines(monkeypatch, terminal):
    """A terminal that cannot move its cursor is written to line by line."""
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(display.make_reporter(file=terminal), display.PlainReporter)


def test_without_rich_there_are_plain_lines(monkeypatch, terminal):
    """A terminal on a machine without rich is written to line by line."""
    monkeypatch.setattr(display, "find_spec", lambda name: None)
    assert isinstance(display.make_reporter(file=terminal), display.PlainReporter)


def test_no_standard_error_is_no_fault(monkeypatch):
    """A process without a standard error stream (pythonw) can sync all the same."""
    monkeypatch.setattr(sys, "stderr", None)
    reporter = display.make_reporter()
    reporter.started(TARGET)
    reporter.finished(REPORT)


def test_the_module_needs_neither_rich_nor_ipython():
    """Importing the display, as nodes do, imports no library that a node may lack."""
    program = (
        "import sys, dask_pkgsync.display.reporters; "
        "sys.exit(any(name.partition('.')[0] in ('rich', 'IPython', 'distributed') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_what_differs_stands_in_the_headline(terminal):
    """Whoever watches a sync reads at its end what the nodes have otherwise, and what to do, wherever it is shown."""
    report = SyncReport(TARGET, REPORT.nodes, here=(Discrepancy("helpers", "it is <gone>", "Restart."),))
    page, file = Page(), io.StringIO()
    for reporter in (
        display.make_reporter(file=terminal),
        display.make_reporter(file=file),
        display.NotebookReporter(page, str, interval=0.01),
    ):
        reporter.started(TARGET)
        reporter.finished(report)
    *_, headline, line = file.getvalue().splitlines()
    assert re.search(r"2 nodes match your environment after .*, except for helpers: 1 live, 1 restarted", headline)
    assert line == "pkgsync: helpers: it is <gone>. What to do: Restart."
    assert "except for helpers" in page.shown[-1]
    assert "<li>helpers: it is &lt;gone&gt;. What to do: Restart.</li>" in page.shown[-1]
    assert "helpers: it is <gone>" in terminal.getvalue()


def test_a_terminal_gets_a_live_table(terminal):
    """In a terminal the table ends with every node and the summary, and the cursor comes back."""
    reporter = display.make_reporter(file=terminal)
    reporter.started(TARGET)
    reporter.progressed(step("tcp://10.0.0.1:1", "prepare", "started"))
    reporter.progressed(step("tcp://10.0.0.1:1", "activate", "finished", "restarted"))
    reporter.finished(REPORT)
    text = terminal.getvalue()
    assert "2 nodes match your environment" in text
    assert "tcp://10.0.0.1:1" in text
    assert text.count(HIDE_CURSOR) == text.count(SHOW_CURSOR) == 1


def test_a_failure_gives_the_terminal_back(terminal):
    """After an error the cursor is visible, standard output is the real one, and the failed node is on the screen."""
    before, threads = (sys.stdout, sys.stderr), set(threading.enumerate())
    reporter = display.make_reporter(file=terminal)
    reporter.started(TARGET)
    reporter.progressed(step("tcp://10.0.0.1:1", "prepare", "failed", "no such version\nsecond line"))
    reporter.failed(failure("tcp://10.0.0.1:1"))
    text = terminal.getvalue()
    assert "Sync failed on 1 node" in text
    assert "prepare failed" in text
    assert "second line" not in text
    assert text.rindex(SHOW_CURSOR) > text.rindex(HIDE_CURSOR)
    assert (sys.stdout, sys.stderr) == before
    deadline = time.monotonic() + 60
    while set(threading.enumerate()) - threads:  # rich's ends some time after it was told to
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_exit_in_the_middle_gives_the_terminal_back(terminal):
    """An interpreter that ends during a sync, as by Ctrl-C, shows the cursor again."""
    program = (
        "import sys; from dask_pkgsync.display import reporters as display\n"
        "sys.stderr.isatty = lambda: True\n"
        "display.make_reporter().started('ab' * 32); raise KeyboardInterrupt"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert HIDE_CURSOR in done.stderr
    assert done.stderr.rindex(SHOW_CURSOR) > done.stderr.rindex(HIDE_CURSOR)


def test_the_end_is_told_once(terminal):
    """A sync that was interrupted and then ends in the background says only the first."""
    reporter = display.make_reporter(file=terminal)
    reporter.started(TARGET)
    reporter.failed(KeyboardInterrupt())
    reporter.finished(REPORT)
    assert "Interrupted after" in terminal.getvalue()
    assert "match your environment" not in terminal.getvalue()


def test_hundreds_of_nodes_fit_a_small_window(monkeypatch, terminal):
    """With 500 nodes in a window of 12 lines, no frame is taller than the window, and failed nodes are shown."""
    monkeypatch.setenv("LINES", "12")
    reporter = display.TerminalReporter(terminal)
    for number in range(500):
        reporter.progressed(step(f"tcp://10.0.0.1:{number}", "prepare", "failed" if number == 444 else "started"))
    reporter.failed(failure("tcp://10.0.0.1:444"))
    lines = terminal.getvalue().splitlines()
    assert len(lines) <= 12
    assert next(line for line in lines if "prepare failed" in line).split()[0] == "tcp://10.0.0.1:444"
    assert "493 nodes more; in all 1 prepare failed, 499 preparing" in lines[-1]


def test_a_notebook_gets_the_table_in_place():
    """In a notebook one display is drawn again and again, escaped, and its thread ends with the sync."""
    page = Page()
    reporter = display.NotebookReporter(page, str, interval=0.01)
    reporter.started(TARGET)
    reporter.progressed(step("tcp://<b>:1", "activate", "finished", "<script>"))
    reporter.finished(REPORT)
    assert "2 nodes match your environment" in page.shown[-1]
    assert "tcp://&lt;b&gt;:1" in page.shown[-1]
    assert "<script>" not in page.shown[-1]
    assert not reporter._thread.is_alive()


def test_a_notebook_is_told_what_is_left_out():
    """A notebook shows at most twenty nodes and says how many more there are."""
    page = Page()
    reporter = display.NotebookReporter(page, str)
    for number in range(50):
        reporter.progressed(step(f"tcp://10.0.0.1:{number}", "prepare", "started"))
    reporter.failed(failure("tcp://10.0.0.1:4"))
    assert page.shown[-1].count("<tr>") == 21
    assert "30 nodes more" in page.shown[-1]


def test_a_kernel_is_recognised(monkeypatch):
    """IPython with a kernel is a notebook; IPython in a terminal is not; without IPython nothing is imported."""

    class IPython:
        def __init__(self, **attributes: object) -> None:
            self.attributes = attributes

        def get_ipython(self) -> object:
            return type("Shell", (), self.attributes)()

    monkeypatch.setitem(sys.modules, "IPython", IPython(kernel=object()))
    assert display._in_notebook()
    monkeypatch.setitem(sys.modules, "IPython", IPython())
    assert not display._in_notebook()
    monkeypatch.delitem(sys.modules, "IPython")
    assert not display._in_notebook()


def test_what_is_no_step_is_not_shown():
    """Anybody on a cluster can log events; what a terminal would obey does not get there."""
    event = {"node": "n", "role": "worker", "step": "prepare", "state": "started", "detail": "\x1b[2J"}
    assert progress_in(event) == Progress("n", "worker", "prepare", "started", "?[2J")
    assert progress_in({**event, "state": "gone"}) is None
    assert progress_in({**event, "detail": 5}) is None
    assert progress_in({}) is None


def test_who_waits_reads_for_whom(terminal):
    """In each kind of output, until a node's step is heard of."""
    for reporter in (plain := display.PlainReporter(io.StringIO()), OnlyIfNeeded(plain)):
        reporter.started(TARGET)
        reporter.waits("ann@laptop", ["six"])
    assert plain._file.getvalue().splitlines() == [
        f"pkgsync: syncing to environment {TARGET[:12]}",
        "pkgsync: waiting until ann@laptop has disconnected: six conflicts",
        f"pkgsync: syncing to environment {TARGET[:12]}",
        "pkgsync: waiting until ann@laptop has disconnected: six conflicts",
    ]
    drawn = display.TerminalReporter(terminal)
    drawn.started(TARGET)
    drawn.waits("ann@laptop", [f"p{number}" for number in range(7)])
    drawn._live.refresh()
    drawn.finished(REPORT)
    assert "waiting until ann@laptop has disconnected: p0, p1, p2, p3, p4 and 2 more conflict" in terminal.getvalue()
    page = Page()
    notebook = display.NotebookReporter(page, str, interval=0.01)
    notebook.waits("ann@laptop", ["six"])
    assert "waiting until ann@laptop" in notebook._page()
    notebook.progressed(step("tcp://10.0.0.1:1", "prepare", "started"))
    assert "waiting until" not in notebook._page()
    assert board_module.NodeProgress("tcp://x:1", "nanny", "activate", "waiting", "", 0.0, 1.0).label == "waiting"
    Reporter().waits("ann@laptop", ["six"])


def test_a_step_is_timed_from_its_own_beginning():
    """A step takes the time from its own start to its end, whatever the node did before."""
    clock = Clock()
    board = RolloutProgress(clock)
    board.update(step("a", "prepare", "started"))
    clock.seconds += 5
    assert board.update(step("a", "prepare", "finished")).took == 5
    board.update(step("a", "activate", "started"))
    clock.seconds += 2
    assert board.rows(1)[0][0].elapsed(clock()) == 2
    assert board.update(step("a", "activate", "finished")).took == 2


def test_stopping_stops_all_clocks():
    """After the end of a sync no node's time goes on."""
    clock = Clock()
    board = RolloutProgress(clock)
    board.update(step("a", "prepare", "started"))
    clock.seconds += 3
    board.stop()
    clock.seconds += 100
    assert board.rows(1)[0][0].elapsed(clock()) == 3


def test_failed_nodes_come_first_and_finished_ones_give_way():
    """Where not all nodes fit, the failed and the longest-running are shown, and no finished one."""
    clock = Clock()
    board = RolloutProgress(clock)
    for node, state in (("done", "finished"), ("new", "started"), ("bad", "failed")):
        board.update(step(node, "prepare", state))
        clock.seconds += 1
    board.update(step("later", "prepare", "started"))
    rows, left_out = board.rows(2)
    assert [row.node for row in rows] == ["bad", "new"]
    assert left_out == 2


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (42.4, "42 s"), (185.2, "3 min 05 s"), (60, "1 min 00 s")]
)
def test_durations_are_for_people(seconds, text):
    """A duration has as many digits as a person wants."""
    assert duration(seconds) == text


def test_an_unknown_step_is_shown_as_it_is():
    """A step that a newer scheduler invents is shown by its own name."""
    assert RolloutProgress().update(step("a", "polish", "started")).label == "polish started"
    assert board_module.nodes(1) == "1 node"
