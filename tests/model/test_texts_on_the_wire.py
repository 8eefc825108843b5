"""No text of ours breaks our own messages: whatever text is put into one, it is readable at the other end."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_pkgsync import (
    Comparison,
    ConflictError,
    EnvironmentMismatchError,
    NodeFailure,
    PkgsyncError,
    PolicyError,
    SyncError,
    WheelError,
)
from dask_pkgsync.model.blobs import (
    Blob,
    BlobRequest,
    blob_from_wire,
    blob_to_wire,
    wheel_error_from_wire,
    wheel_error_to_wire,
)
from dask_pkgsync.model.clash import MAX_CLASHES, Clash
from dask_pkgsync.model.comparison import Difference, comparison_from_wire, comparison_to_wire
from dask_pkgsync.model.environments.distribution import Fault, fault_from_wire, fault_to_wire
from dask_pkgsync.model.policy import Level
from dask_pkgsync.model.reports.answer import error_from_wire, error_to_wire
from dask_pkgsync.model.reports.failure import failure_from_wire, failure_to_wire
from dask_pkgsync.model.reports.progress import STATES, Progress, progress_event, progress_in
from dask_pkgsync.model.reports.status import (
    ClientStatus,
    ClusterStatus,
    NodeStatus,
    status_from_wire,
    status_to_wire,
)
from dask_pkgsync.model.reports.sync import (
    OUTCOMES,
    NodeReport,
    SyncReport,
    report_from_wire,
    report_to_wire,
    sync_report_from_wire,
    sync_report_to_wire,
)
from dask_pkgsync.model.reports.verdict import OUTCOMES as VERDICTS
from dask_pkgsync.model.reports.verdict import Verdict, verdict_from_wire, verdict_to_wire
from dask_pkgsync.model.resolutions.substitution import KINDS as SUBSTITUTIONS
from dask_pkgsync.model.resolutions.substitution import Substitution
from dask_pkgsync.model.wire.fields import MAX_LONG_TEXT, MAX_TEXT, Field
from dask_pkgsync.model.wire.texts import one_line, sendable, several_lines

if TYPE_CHECKING:
    from collections.abc import Callable

characters = st.one_of(
    st.characters(exclude_categories=()),  # with halves of characters (surrogates)
    st.sampled_from("\n\r\t\v\0\x1b\x85\u2028\u202e\ud800 a…"),
)
any_text = st.builds(lambda text, times: text * times, st.text(characters, max_size=20), st.sampled_from([1, 1, 3_000]))
numbers = st.floats(0, 1e6)
clashes = st.builds(Clash, st.just("six"), st.just("seven"), any_text, st.integers(0, 10))
substitutions = st.builds(
    Substitution, any_text, any_text, any_text, any_text, any_text, st.sampled_from(SUBSTITUTIONS)
)
rows = st.builds(Difference, any_text, st.sampled_from(Level), any_text, any_text, any_text)
comparisons = st.builds(Comparison, st.lists(rows, max_size=2).map(tuple), any_text, any_text)

BY_ANNOTATION: dict[str, st.SearchStrategy[Any]] = {
    "str": any_text,
    "tuple[str, ...]": st.lists(any_text, max_size=2).map(tuple),
    "float": numbers,
    "int": st.integers(0, 2**60),
    "dict[str, float]": st.dictionaries(any_text, numbers, max_size=2),
    "Outcome": st.sampled_from(OUTCOMES),
    "StepState": st.sampled_from(STATES),
    "Comparison": comparisons,
    "tuple[Clash, ...]": st.lists(clashes, max_size=2).map(tuple),
    "tuple[Substitution, ...]": st.lists(substitutions, max_size=2).map(tuple),
}


def any_of(cls: type, **known: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return instances with any text in every field that takes one, also in fields that come later."""
    others = {one.name: BY_ANNOTATION[one.type] for one in fields(cls) if one.name not in known}
    return st.builds(cls, **others, **known)


reports = any_of(NodeReport)
failures = any_of(NodeFailure)
statuses = any_of(
    ClusterStatus,
    nodes=st.lists(any_of(NodeStatus), max_size=2).map(tuple),
    clients=st.lists(any_of(ClientStatus), max_size=2).map(tuple),
    comparison=st.none(),  # it is made on the client
)
errors = st.one_of(
    st.builds(EnvironmentMismatchError, comparisons),
    st.builds(ConflictError, any_text, comparisons),
    st.lists(failures, max_size=2).map(lambda found: SyncError({failure.node: failure for failure in found})),
    st.builds(PolicyError, any_text),
    st.builds(PkgsyncError, any_text),
)
wheel_errors = st.builds(
    lambda *texts: WheelError(*texts[:2], advice=texts[2], last_words=texts[3]), any_text, any_text, any_text, any_text
)
request = BlobRequest("six", "1.0")
blobs = st.builds(Blob, st.just(request), st.just("six-1.0-py3-none-any.whl"), st.just("0" * 64), st.just(1), any_text)

MESSAGES: list[tuple[st.SearchStrategy[Any], Callable[[Any], object], Callable[[object], object]]] = [
    (reports, report_to_wire, report_from_wire),
    (
        any_of(SyncReport, nodes=st.lists(reports, max_size=2).map(tuple), here=st.just(())),  # which is not sent
        sync_report_to_wire,
        sync_report_from_wire,
    ),
    (failures, failure_to_wire, failure_from_wire),
    (statuses, status_to_wire, status_from_wire),
    (any_of(Verdict, outcome=st.sampled_from(VERDICTS)), verdict_to_wire, verdict_from_wire),
    (comparisons, comparison_to_wire, lambda data: comparison_from_wire(Field(data, "comparison"))),
    (errors, error_to_wire, error_from_wire),
    (wheel_errors, wheel_error_to_wire, wheel_error_from_wire),
    (blobs, blob_to_wire, blob_from_wire),
    (any_of(Fault), fault_to_wire, lambda data: fault_from_wire(Field(data, "fault"))),
    (any_of(Progress), lambda progress: sendable(progress_event(progress)), progress_in),
]


@pytest.mark.parametrize(
    ("messages", "write", "read"),
    MESSAGES,
    ids=[
        "report",
        "sync report",
        "failure",
        "status",
        "verdict",
        "comparison",
        "error",
        "wheel error",
        "blob",
        "fault",
        "event",
    ],
)
@given(data=st.data())
def test_any_text_is_readable_at_the_other_end(
    messages: st.SearchStrategy[Any],
    write: Callable[[Any], object],
    read: Callable[[object], Any],
    data: st.DataObject,
) -> None:
    """Whatever the texts of a message are, it can be packed, is well-formed, and can be shown."""
    message = data.draw(messages)
    again = read(msgpack.unpackb(msgpack.packb(write(message))))
    assert type(again) is type(message)
    str(again).encode()


@given(st.text(st.characters(categories=("L", "N", "P", "S", "Zs")).filter(str.isprintable), max_size=50))
def test_a_printable_text_is_sent_as_it_is(text: str) -> None:
    """What is one line of printable text already is not changed; nor is what is sent as several lines."""
    assert one_line(text) == several_lines(text) == text
    assert several_lines(f"{text}\n\t{text}") == f"{text}\n\t{text}"


def test_lines_that_must_be_one_are_joined_and_what_is_too_long_is_cut() -> None:
    """A person can still read the words, and sees where some are missing."""
    assert one_line("no such version\n  what to do:\r\n\n\tsync again\x1b[2J\n") == (
        "no such version what to do: sync again?[2J"
    )
    assert one_line("x" * (MAX_TEXT + 1)) == "x" * (MAX_TEXT - 1) + "…"
    assert several_lines("x" * (MAX_LONG_TEXT + 1)) == "x" * (MAX_LONG_TEXT - 1) + "…"
    assert one_line("x" * MAX_TEXT) == "x" * MAX_TEXT


def test_of_too_many_notes_and_clashes_the_first_are_sent() -> None:
    """A list that is longer than the other end accepts is cut off."""
    verdict = Verdict("let in", notes=tuple(map(str, range(1_000))))
    assert verdict_from_wire(verdict_to_wire(verdict)).notes == tuple(map(str, range(100)))
    report = NodeReport("n", "nanny", clashes=(Clash("six", "seven", "x.py"),) * (MAX_CLASHES + 1))
    assert len(report_from_wire(report_to_wire(report)).clashes) == MAX_CLASHES


def test_an_event_keeps_what_is_no_text() -> None:
    """Numbers, truth values and nothing are sent as they are, lists as lists, at any depth."""
    event = {"action": "x", "failed": ["a\ud800", ("b", 1, None)], "more": {"k\ud800": True, "n": 1.5}}
    assert sendable(event) == {"action": "x", "failed": ["a?", ["b", 1, None]], "more": {"k?": True, "n": 1.5}}
