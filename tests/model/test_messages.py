"""What crosses the wire is checked in full before anything looks at it."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_environments import environments, junk, policies, texts
from packaging.requirements import InvalidRequirement, Requirement

from dask_pkgsync.model.blobs import (
    CHUNK,
    MAX_FAILED,
    Blob,
    BlobRequest,
    ChunkRequest,
    blob_from_wire,
    blob_to_wire,
    chunk_request_from_wire,
    chunk_request_to_wire,
    request_for_conda,
    requests_from_wire,
    requests_to_wire,
)
from dask_pkgsync.model.environments.conda import CondaPackage
from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.environments.environment import Environment, environment_from_wire, environment_to_wire
from dask_pkgsync.model.environments.interpreter import Interpreter
from dask_pkgsync.model.environments.origin import FromModules
from dask_pkgsync.model.errors import MessageError, PolicyError
from dask_pkgsync.model.policy import Policy, policy_from_wire, policy_to_wire
from dask_pkgsync.model.reports.failure import NodeFailure, failure_from_wire, failure_to_wire
from dask_pkgsync.model.resolutions.resolution import resolution_from_wire
from dask_pkgsync.model.target import Target, target_from_wire, target_to_wire
from dask_pkgsync.model.text import printable
from dask_pkgsync.model.wire import fields
from dask_pkgsync.model.wire.fields import MAX_LONG_TEXT, Field
from dask_pkgsync.model.wire.protocol import OLDEST, SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable

targets = st.builds(
    Target, environments(), policies, st.sampled_from(["warn", "refuse"]), st.floats(0, 1e6), st.just("token")
)

LARGE = Blob(BlobRequest("large", "1.0"), "large-1.0-py3-none-any.whl", "0" * 64, 20 * CHUNK + 1)
chunks = st.integers(0, (1 << 21) - 1)
addresses = st.from_regex(r"(tcp|tls)://[a-z0-9.]{1,20}:[0-9]{1,5}", fullmatch=True)
chunk_requests = st.builds(
    ChunkRequest,
    st.just(LARGE),
    addresses,
    chunks,
    chunks,
    st.lists(addresses, max_size=MAX_FAILED).map(tuple),
    st.booleans(),
)
conda_texts = st.from_regex(r"[A-Za-z0-9_.!+-]{1,12}", fullmatch=True)
conda_requests = st.builds(
    BlobRequest,
    st.from_regex(r"[a-z0-9_][a-z0-9_.-]{0,12}", fullmatch=True),
    conda_texts,
    st.sampled_from(["", "0123456789abcdef" * 4, "0123456789abcdef" * 2]),
    conda_texts,
)
READERS: list[Callable[[object], object]] = [
    lambda data: chunk_request_from_wire(LARGE, data),
    environment_from_wire,
    policy_from_wire,
    target_from_wire,
    resolution_from_wire,
    failure_from_wire,
    blob_from_wire,
]


def over_the_wire(data: object) -> object:
    """Pack and unpack, as Dask does."""
    return msgpack.unpackb(msgpack.packb(data))


@given(environments())
def test_an_environment_survives_the_wire(environment: Environment) -> None:
    """An environment, with its faults, is the same after msgpack and after JSON."""
    for again in (
        environment_from_wire(over_the_wire(environment_to_wire(environment))),
        Environment.from_json(environment.to_json()),
    ):
        assert again == environment
        assert again.faults == environment.faults
        assert again.fingerprint == environment.fingerprint


@given(chunk_requests)
def test_a_chunk_request_survives_the_wire(request: ChunkRequest) -> None:
    """What a host has and lacks of a blob is the same after msgpack, and release 0.2 reads its beginning."""
    data: Any = over_the_wire(chunk_request_to_wire(request))
    assert chunk_request_from_wire(blob_from_wire(data["blob"]), data) == request
    first = data["offset"] // CHUNK
    assert data["offset"] == LARGE.size or (data["offset"] % CHUNK == 0 and request.missing >> first & 1)


@pytest.mark.parametrize(
    "change",
    [
        {"have": b""},
        {"have": b"\xff" * 3},
        {"have": b"\0" * 4},
        {"pending": 7},
        {"node": "two\nlines"},
        {"node": "x" * 501},
        {"failed": ["tcp://x:1"] * (MAX_FAILED + 1)},
        {"failed": "tcp://x:1"},
        {"may-wait": 1},
    ],
)
def test_a_chunk_request_is_checked(change: dict[str, object]) -> None:
    """Sets of chunks have one bit for each chunk of the blob; texts and lists are bounded."""
    data = chunk_request_to_wire(ChunkRequest(LARGE, "tcp://x:1", 1))
    with pytest.raises(MessageError):
        chunk_request_from_wire(LARGE, {**data, **change})


@given(st.lists(conda_requests, max_size=3))
def test_a_request_for_a_conda_package_survives_the_wire(requests: list[BlobRequest]) -> None:
    """With conda's own spelling of name and version, which a distribution need not be able to have."""
    assert requests_from_wire(over_the_wire(requests_to_wire(requests))) == tuple(requests)


def test_a_request_for_a_wheel_is_as_in_release_0_2() -> None:
    """Earlier releases know no build."""
    assert requests_to_wire([BlobRequest("six", "1.0", "abc")]) == [
        {"name": "six", "version": "1.0", "identity": "abc"}
    ]


@given(conda_requests, st.sampled_from([".conda", ".tar.bz2"]))
def test_an_archive_of_a_conda_package_survives_the_wire(request: BlobRequest, suffix: str) -> None:
    """Its file name is made of the request: whatever that is, it is the name of a file, and no path."""
    filename = f"{request.name}-{request.version}-{request.build}{suffix}"
    blob = Blob(request, filename, "0" * 64, 1, "note")
    assert blob_from_wire(over_the_wire(blob_to_wire(blob))) == blob
    assert "/" not in filename
    assert filename not in (".", "..")


ARCHIVE = Blob(BlobRequest("libfoo", "2.1", "", "h1_0"), "libfoo-2.1-h1_0.conda", "0" * 64, 1)


@pytest.mark.parametrize(
    "filename",
    [
        "libfoo-2.1-h1_0",
        "libfoo-2.1-h1_0.zip",
        "libfoo-2.1-h1_0.conda/",
        "../libfoo-2.1-h1_0.conda",
        "/libfoo-2.1-h1_0.conda",
        "x\\libfoo-2.1-h1_0.conda",
        "libfoo-2.1-h1_1.conda",
        "libfoo-2.2-h1_0.conda",
        "libbar-2.1-h1_0.conda",
        "LIBFOO-2.1-h1_0.conda",
        "libfoo-2.1-h1_0.conda\0",
        "libfoo-2.1-h1_0.conda\n",
        "libfoo-2.1-py3-none-any.whl",
        "",
        None,
    ],
)
def test_the_file_name_of_an_archive_is_that_of_the_package(filename: object) -> None:
    """Any other name is refused, above all what could be a path."""
    with pytest.raises(MessageError) as caught:
        blob_from_wire({**blob_to_wire(ARCHIVE), "filename": filename})
    assert caught.value.place == "blob.filename"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(
            (key, value)
            for key in ("name", "version", "build")
            for value in ("../x", "a/b", "a b", "a\0", "ä", "x" * 201, 1)
        ),
        ("name", ""),
        ("name", "LibFoo"),
        ("name", "-r"),
        ("name", ".."),
        ("version", ""),
        ("identity", "content=" + "0" * 64),
        ("identity", "0" * 40),
        ("identity", "../x"),
        ("identity", None),
    ],
)
def test_a_request_for_a_conda_package_is_checked(key: str, value: object) -> None:
    """Names, versions and builds have the characters that conda's have, and an identity is a digest."""
    wire = {**requests_to_wire([ARCHIVE.request])[0], key: value}
    with pytest.raises(MessageError):
        requests_from_wire([wire])


def test_a_file_name_that_no_file_system_takes_is_refused() -> None:
    """Name, version and build may each be long, but not all of them."""
    request = BlobRequest("n" * 100, "1" * 100, "", "b" * 100)
    with pytest.raises(MessageError, match="at most 255 characters"):
        blob_from_wire(
            blob_to_wire(Blob(request, f"{request.name}-{request.version}-{request.build}.conda", "0" * 64, 1))
        )


def test_a_request_is_met_by_the_package_that_it_asks_for() -> None:
    """A conda package by build and digest, with edited files by their content alone; never a distribution by it."""
    package = CondaPackage("libfoo", "2.1", "h1_0", sha256="a" * 64, md5="b" * 32)
    edited = replace(package, modified=1, content="c" * 64)
    asked = request_for_conda(package)
    assert (asked.identity, request_for_conda(edited).identity) == ("a" * 64, "c" * 64)
    assert asked.label == "libfoo 2.1 h1_0"
    for identity, met in (("a" * 64, True), ("b" * 32, True), ("", True), ("c" * 64, False)):
        assert replace(asked, identity=identity).is_met_by(package) is met
    assert [request_for_conda(one).is_met_by(edited) for one in (package, edited)] == [False, True]
    for other in ({"name": "libbar"}, {"version": "2.2"}, {"build": "h1_1"}):
        assert not replace(asked, **other).is_met_by(package)
    assert not asked.is_met_by(None)
    assert not asked.is_met_by(Distribution("libfoo", "2.1"))
    assert not BlobRequest("libfoo", "2.1").is_met_by(package)
    interpreter = Interpreter("cpython", "3.11.7", "linux-x86_64", "cp311-cp311-linux_x86_64")
    both = Environment.of(interpreter, [Distribution("libfoo", "3.0")], conda=[package])
    assert asked.is_met_in(both)
    assert BlobRequest("libfoo", "3.0").is_met_in(both)
    assert not BlobRequest("libfoo", "2.1").is_met_in(both)


@given(targets)
def test_a_target_survives_the_wire(target: Target) -> None:
    """A target is the same after msgpack, and has the same name."""
    again = target_from_wire(over_the_wire(target_to_wire(target)))
    assert again == target
    assert again.id == target.id


@given(texts, st.text(max_size=50), st.lists(texts, max_size=3))
def test_a_failure_survives_the_wire(node: str, words: str, packages: list[str]) -> None:
    """A failure is the same after msgpack."""
    failure = NodeFailure(node, "install", words, words, words, tuple(packages))
    assert failure_from_wire(over_the_wire(failure_to_wire(failure))) == failure


@given(junk)
def test_junk_is_only_ever_a_message_error(data: object) -> None:
    """Whatever is sent, reading it raises MessageError and nothing else."""
    for reader in READERS:
        with pytest.raises(MessageError):
            reader(data)


@given(targets, st.data())
def test_a_damaged_target_is_a_message_error_or_a_target(target: Target, data: st.DataObject) -> None:
    """Any part of a target replaced by junk is refused, or happens to be well-formed; nothing else is raised."""
    wire = json.loads(json.dumps(target_to_wire(target)))
    place = wire
    while isinstance(place, dict | list) and place:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if data.draw(st.booleans()) or not isinstance(place[key], dict | list) or not place[key]:
            place[key] = data.draw(junk)
            break
        place = place[key]
    with contextlib.suppress(MessageError):
        assert isinstance(target_from_wire(wire), Target)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-r/etc/passwd",
        "--index-url",
        "../x",
        "a/b",
        "Six",
        "six six",
        "six==1",
        "six\n--pre",
        "si\x00x",
        "é",
        "\u017fix",
        "six\n",
        "six\u2028",
        "six@https://x",
        "x" * 201,
        7,
        None,
    ],
)
def test_a_name_that_is_none_is_refused(name: object) -> None:
    """Options, paths, other spellings and lines are no names."""
    with pytest.raises(MessageError):
        Field(name, "name").name()


@pytest.mark.parametrize(
    "version",
    [
        "",
        "1.0\n--index-url http://x",
        "1.0 ",
        " 1.0",
        "latest",
        "../1",
        "-1",
        "1.0;x",
        "1.0\n",
        "1.0\r\n-r/etc/passwd",
        "9" * 201,
        "1.0 --hash=x",
        "\u0661",
        1,
        None,
    ],
)
def test_a_version_that_is_none_is_refused(version: object) -> None:
    """Options, lines, spaces and other scripts' digits are no versions."""
    with pytest.raises(MessageError):
        Field(version, "version").version()


def test_limits_hold() -> None:
    """Texts and lists have bounds, and the error says where and what."""
    with pytest.raises(MessageError, match="at most 10 characters"):
        Field("x" * 11, "here").text(10)
    with pytest.raises(MessageError, match=r"here: expected at most 20000 entries, found '20001 entries'"):
        Field([0] * (fields.MAX_ITEMS + 1), "here").items()
    with pytest.raises(MessageError, match="finite number"):
        Field(float("inf"), "here").number()
    with pytest.raises(MessageError, match="finite number"):
        Field(10**400, "here").number()
    with pytest.raises(MessageError, match="not negative"):
        Field(float("nan"), "here").number()
    with pytest.raises(MessageError, match="a number"):
        Field(True, "here").number()
    with pytest.raises(MessageError, match="true or false"):
        Field(1, "here").flag()
    with pytest.raises(MessageError, match=r"here: expected at most 3 entries, found '4 entries'"):
        Field(dict.fromkeys("abcd"), "here").entries(3)
    with pytest.raises(MessageError, match="a list of 2"):
        Field([1], "here").row(2)


def test_another_schema_says_what_to_do() -> None:
    """A message of another version names the version that is understood."""
    with pytest.raises(MessageError, match="same dask-pkgsync on both sides"):
        environment_from_wire({"schema": SCHEMA + 1})
    with pytest.raises(MessageError, match="same dask-pkgsync on both sides"):
        environment_from_wire({"schema": OLDEST - 1})
    with pytest.raises(MessageError, match="schema"):
        environment_from_wire({"schema": True})


def test_text_that_is_no_json_is_refused() -> None:
    """A file that is no environment is told so."""
    for text in ("{", "", "[" * 100_000):
        with pytest.raises(MessageError, match="JSON"):
            Environment.from_json(text)


def test_what_is_nested_without_end_is_refused() -> None:
    """A value nested deeper than Python can print is a message error like any other."""
    nested: list[object] = []
    for _ in range(10_000):
        nested = [nested]
    for reader in READERS:
        with pytest.raises(MessageError) as caught:
            reader(nested)
        assert len(str(caught.value)) < 300


def test_contradicting_options_are_refused_on_the_wire_too() -> None:
    """A policy that the client could not have made is malformed."""
    wire = {"ignore": ["dask"], "only": None, "extra": [], "strict": False, "platform-specific": [], "levels": []}
    with pytest.raises(MessageError, match="options that agree"):
        policy_from_wire(wire)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("scheduler", "warn or refuse"),
        ("transport", "auto or index or client"),
        ("on-conflict", "refuse or wait or replace"),
        ("restart", "drained or now"),
    ],
)
def test_an_unknown_word_is_refused(key: str, expected: str) -> None:
    """What is one of a few words is nothing else."""
    interpreter = Interpreter("cpython", "3.11.7", "linux-x86_64", "cp311-cp311-linux_x86_64")
    wire = target_to_wire(Target(Environment.of(interpreter, []), Policy()))
    assert target_from_wire(wire)
    with pytest.raises(MessageError, match=f"target.{key}: expected {expected}, found 'maybe'"):
        target_from_wire({**wire, key: "maybe"})


def test_what_is_no_dictionary_or_origin_is_refused() -> None:
    """A field that is asked for in the wrong shape says what was expected."""
    with pytest.raises(MessageError, match="a dictionary"):
        Field([1], "here").key("a")
    with pytest.raises(MessageError, match="a dictionary"):
        Field([1], "here").optional("a", 1)
    wrong = {"six": {"version": "1.0", "origin": {"kind": "moon"}}}
    with pytest.raises(MessageError, match="the kind of an origin"):
        environment_from_wire({**WIRE, "distributions": wrong})


WIRE: dict[str, object] = {
    "schema": SCHEMA,
    "interpreter": {
        "implementation": "cpython",
        "version": "3.11.7",
        "platform": "linux-x86_64",
        "tag": "cp311-cp311-linux_x86_64",
    },
    "distributions": {"six": {"version": "1.0", "installer": "uv"}},
    "faults": [],
}


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("-r/etc/passwd", {"version": "1.0", "installer": ""}),
        ("../x", {"version": "1.0", "installer": ""}),
        ("Six", {"version": "1.0", "installer": ""}),
        (7, {"version": "1.0", "installer": ""}),
        ("six", {"version": "1.0\n--index-url http://x", "installer": ""}),
        ("six", {"version": "1.0", "installer": "uv\x1b[2J"}),
        ("six", {"version": "1.0", "origin": {"kind": "archive", "url": "https://x\n--pre", "digest": ""}}),
        ("six", {"version": "1.0", "origin": {"kind": "directory", "url": "file:///x", "editable": "yes"}}),
        ("six", {"version": "1.0", "origin": {"kind": "vcs", "url": "https://x", "vcs": "git"}}),
        ("six", {"version": "1.0", "origin": {}}),
        ("six", {"version": "1.0", "origin": ["index"]}),
        ("six", {"installer": "uv"}),
        ("six", ["1.0", "uv"]),
    ],
)
def test_no_option_path_or_line_gets_into_an_environment(name: object, entry: object) -> None:
    """A distribution that an installer could misread is refused, wherever in it the trick is, with its place."""
    assert environment_from_wire(WIRE).distributions["six"].version == "1.0"
    with pytest.raises(MessageError) as caught:
        environment_from_wire({**WIRE, "distributions": {name: entry}})
    assert caught.value.place.startswith("environment.distributions[")


def test_what_another_release_adds_is_passed_over() -> None:
    """Keys that this release does not know change nothing, at any depth; those that it can do without may miss."""
    more = {"later": {"nested": [1, 2]}}
    interpreter = {**WIRE["interpreter"], **more}  # type: ignore[dict-item]
    distributions = {
        "six": {"version": "1.0", "installer": "uv", **more},
        "own": {"version": "2.0", "origin": {"kind": "modules", "url": "file:///x", "digest": "source=1", **more}},
    }
    known = environment_from_wire({**WIRE, **more, "interpreter": interpreter, "distributions": distributions})
    assert known.distributions["six"] == Distribution("six", "1.0", installer="uv")
    assert known.distributions["own"] == Distribution("own", "2.0", FromModules("file:///x", "source=1"))
    bare = {key: value for key, value in WIRE.items() if key != "faults"}
    assert environment_from_wire({**bare, "distributions": {"six": {"version": "1.0"}}}).distributions["six"]
    target = Target(known, Policy.of(levels={"six": "exact"}))
    wire = target_to_wire(target)
    policy = {**wire["policy"], "levels": [{**level, **more} for level in wire["policy"]["levels"]], **more}
    assert target_from_wire({**wire, "policy": policy, **more}) == target


@pytest.mark.parametrize("extra", ["-r/etc/passwd", "six\n--pre", "six @ https://x", "../x", "--index-url=http://x"])
def test_no_option_path_or_line_gets_in_as_an_extra(extra: str) -> None:
    """An extra requirement from the wire is a name with versions, and nothing else."""
    wire = {**policy_to_wire(Policy()), "extra": [extra]}
    with pytest.raises(MessageError):
        policy_from_wire(wire)


@pytest.mark.parametrize("place", ["/a\x1b[2Jb", "/a\nb", "/a\u202eb", "/a\udcffb"])
def test_the_place_of_a_fault_is_one_printable_line(place: str) -> None:
    """A fault whose place a terminal would obey is refused; what a scan tells never has one."""
    fault = {"kind": "broken", "place": place, "detail": "odd", "name": "six"}
    with pytest.raises(MessageError, match=r"faults\[0\]\.place"):
        environment_from_wire({**WIRE, "faults": [fault]})
    assert environment_from_wire({**WIRE, "faults": [{**fault, "place": printable(place)}]}).faults


@given(targets, environments())
def test_a_target_with_another_environment_keeps_the_rest(target: Target, other: Environment) -> None:
    """Exchanging the environment of a target leaves policy, rule and limits; the name follows the fingerprint."""
    changed = target.with_environment(other)
    assert changed.environment == other
    assert changed.with_environment(target.environment) == target
    assert (changed.id == target.id) == (other.fingerprint == target.environment.fingerprint)


def nested(depth: int) -> object:
    """Return lists in lists, deeper than Python's own repr can follow."""
    value: object = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("data", [nested(5_000), {"schema": nested(5_000)}, {(("k",),): nested(5_000)}])
def test_what_is_nested_without_end_is_a_message_error(data: object) -> None:
    """Depth cannot make a reader fail in another way than any other junk."""
    for reader in READERS:
        with pytest.raises(MessageError) as caught:
            reader(data)
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["\u017fix", "si\u212a", "\u0131six", "six\n"])
def test_letters_that_only_look_like_names_are_refused(name: str) -> None:
    """Letters that a case-insensitive match takes for ASCII ones are no part of a name, whatever packaging says."""
    with pytest.raises(MessageError):
        Field(name, "name").name()


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (None, "is nested too deeply for a requirement|is not a requirement: "),
        (RecursionError("in some words"), "is nested too deeply for a requirement"),
        (InvalidRequirement("in some words"), "is not a requirement: in some words"),
    ],
    ids=["this packaging", "one that exhausts the stack", "one that gives up before"],
)
def test_a_requirement_that_is_nested_without_end_is_refused(
    raised: Exception | None, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A marker cannot exhaust the stack of who reads it, whatever packaging makes of it; the answer is short."""
    extra = "six; " + "(" * 900 + "python_version>'3'" + ")" * 900

    def broken(_: Requirement, text: str) -> None:
        assert text == extra
        assert raised is not None
        raise raised

    if raised is not None:
        monkeypatch.setattr(Requirement, "__init__", broken)
    with pytest.raises(PolicyError, match=f"^extra: .*({told})"):
        Policy.of(extra=[extra])
    wire = {"ignore": [], "only": None, "extra": [extra], "strict": False, "platform-specific": [], "levels": []}
    with pytest.raises(MessageError, match="options that agree") as caught:
        policy_from_wire(wire)
    assert caught.value.place == "policy"
    assert len(str(caught.value)) < 300


def test_of_very_long_last_words_the_end_is_sent() -> None:
    """What an installer says last is what matters: the beginning is cut off, and the rest is taken."""
    failure = NodeFailure("n", "install", "broke", last_words="x" * MAX_LONG_TEXT + "the end")
    again = failure_from_wire(failure_to_wire(failure))
    assert again.last_words == failure.last_words[-MAX_LONG_TEXT:]
    assert again.last_words.endswith("the end")


def test_half_a_character_is_refused() -> None:
    """A lone surrogate comes in by pickle only, and could not be sent on: nobody would see a status any more."""
    wire = {**failure_to_wire(NodeFailure("n", "install", "half")), "problem": "half \ud800"}
    with pytest.raises(MessageError, match="surrogates") as caught:
        failure_from_wire(wire)
    str(caught.value).encode()
