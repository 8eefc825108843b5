"""Every option is defined once: whatever else names it is made of its definition, or agrees with it."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import re
import sys
import textwrap
from dataclasses import fields
from typing import Any, get_type_hints

import click
import dask
import pytest

from dask_pkgsync import Environment, PackageSync, PolicyError, sync
from dask_pkgsync.cli.arguments import keywords, take_modules
from dask_pkgsync.cli.group import COMMANDS, pkgsync
from dask_pkgsync.client.plugin import make_target
from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.operator_policy import OperatorPolicy
from dask_pkgsync.model.policy import CRITICAL
from dask_pkgsync.model.target import Target
from dask_pkgsync.options.__main__ import made_files
from dask_pkgsync.options.configuration import check_configuration
from dask_pkgsync.options.definitions import BY_KEY, KEYWORDS, OPTIONS
from dask_pkgsync.options.definitions.person import INSTALL_TIMEOUT, MODULES_LIMIT
from dask_pkgsync.options.documents import reference_file
from dask_pkgsync.options.keywords import Options
from dask_pkgsync.options.node import node_settings
from dask_pkgsync.options.option import Option, Whose
from dask_pkgsync.options.scheduler import operator_mode, stock_clients
from dask_pkgsync.options.values import read
from dask_pkgsync.process.node_settings import NodeSettings
from dask_pkgsync.scanning.installed import this_interpreter
from dask_pkgsync.scanning.snapshot import MODULES_LIMIT as LIMIT_OF_A_SCAN

ENVIRONMENT = Environment.of(this_interpreter(), [Distribution(name, "1.0") for name in CRITICAL])
FLAGGED = [(option, command) for option in OPTIONS if option.flag for command in option.flag.commands]
CHOICES = [(option, word) for option in KEYWORDS for word in option.kind.rule.get("enum", ())]


def named(value: object) -> str | None:
    """Name the parameters of a test by their option."""
    return value.key if isinstance(value, Option) else None


def command_called(name: str) -> click.Command:
    """Return a command of the command line."""
    found = pkgsync.get_command(click.Context(pkgsync), name)
    assert found is not None
    return found


def keywords_of(command: str, *arguments: str) -> dict[str, Any]:
    """Return the keywords that the flags of a command line stand for."""
    positional = {"compare": ["a", "b"], "scan": []}.get(command, ["a"])
    given = command_called(command).make_context(command, [*arguments, *positional]).params
    if "modules" in given:
        given["modules"] = take_modules(given)
    return {**keywords(given)}


# -- the files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pkgsync.yaml", "pkgsync-schema.yaml", "reference.md"])
def test_the_files_that_are_made_of_the_definitions_are_up_to_date(name: str) -> None:
    """What is in the checkout is what `python -m dask_pkgsync.options` would write."""
    ((path, text),) = ((path, text) for path, text in made_files().items() if path.name == name)
    assert path.read_text(encoding="utf-8") == text, "run python -m dask_pkgsync.options"


def test_a_reference_without_a_place_for_a_table_is_an_error() -> None:
    """Who removes a comment around a table is told, and no table is left as it was."""
    with pytest.raises(ValueError, match="expected one table between '<!-- options of a person"):
        reference_file("# Reference\n")


def test_the_reference_lists_every_flag_of_every_command() -> None:
    """Its table of commands, which people write, has the flags that the definitions give each command."""
    (reference,) = (text for path, text in made_files().items() if path.name == "reference.md")
    for option, command in FLAGGED:
        rows = [line for line in reference.splitlines() if line.startswith(f"| `dask pkgsync {command} ")]
        assert any(f"`--{option.key}`" in row for row in rows), (option.key, command)


# -- the definitions ---------------------------------------------------------------------------------------------------


def test_an_option_has_a_key_of_its_own() -> None:
    """No key stands for two options, and each is kebab-case."""
    assert len(BY_KEY) == len(OPTIONS)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", key) for key in BY_KEY)


@pytest.mark.parametrize("option", OPTIONS, ids=named)
def test_an_option_is_described_in_sentences(option: Option[Any]) -> None:
    """One says what it is; what is code in them stands between pairs of backticks."""
    for text in filter(None, (option.sentence, option.more, option.on_scheduler, option.on_node)):
        assert re.fullmatch(r"[A-Z`].*\.", text), text
        assert text.count("`") % 2 == 0, text


@pytest.mark.parametrize("option", OPTIONS, ids=named)
def test_each_value_of_a_choice_is_explained(option: Option[Any]) -> None:
    """Whoever reads the description of a choice reads what each of its values means."""
    assert all(f"`{word}`" in option.description for word in option.kind.rule.get("enum", ()))


@pytest.mark.parametrize("option", OPTIONS, ids=named)
def test_a_default_is_a_value_that_somebody_could_have_configured(option: Option[Any]) -> None:
    """It is of the option's kind, and passes the check of the configuration."""
    option.kind.read(option.default)
    with dask.config.set({f"pkgsync.{option.key}": option.default}):
        check_configuration()


@pytest.mark.parametrize("option", OPTIONS, ids=named)
def test_no_option_takes_what_is_not_of_its_kind(option: Option[Any]) -> None:
    """The error names the key, and repeats nothing that may be a password."""
    value = b"hunter2"  # no kind has bytes
    with dask.config.set({f"pkgsync.{option.key}": value}), pytest.raises(PolicyError) as caught:
        check_configuration()
    assert f"pkgsync.{option.key}: expected " in str(caught.value)
    assert ("hunter2" in str(caught.value)) is not option.is_secret


# -- keywords ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [sync, PackageSync])
def test_the_signature_shows_every_option(function: Any) -> None:
    """`help`, notebooks and editors that look at run time see each keyword, its type, and that it may be left out."""
    own, found = ("client", "environment", "progress", "dry_run"), inspect.signature(function).parameters
    assert [name for name in found if name not in own] == [o.name for o in KEYWORDS]
    for option in KEYWORDS:
        parameter = found[option.name]
        assert (parameter.kind, parameter.default) == (inspect.Parameter.KEYWORD_ONLY, None)
        assert parameter.annotation == f"{option.kind.annotation} | None"


def test_type_checkers_know_every_option() -> None:
    """`Options`, which is written by hand, has the keys and types of the definitions."""
    known = get_type_hints(Options)
    names = vars(inspect.getmodule(Options))
    assert list(known) == [option.name for option in KEYWORDS]
    for option in KEYWORDS:
        assert known[option.name] == eval(f"{option.kind.annotation} | None", names), option.key


@pytest.mark.parametrize("function", [sync, PackageSync])
def test_the_docstring_describes_every_option(function: Any) -> None:
    """As numpydoc has it: name, type, and all that the definition says, in the place of ``**options``."""
    docstring = inspect.getdoc(function) or ""
    section = re.search(r"Parameters\n-+\n(.*?)\n\n", docstring, re.DOTALL)
    assert section is not None
    assert "**options" not in docstring
    for option in KEYWORDS:
        entry = re.search(rf"^{option.name} : (.*)\n((?: +.*\n?)+)", section[1], re.MULTILINE)
        assert entry is not None, option.name
        assert entry[1] == f"{option.kind.text}, optional"
        assert " ".join(textwrap.dedent(entry[2]).split()) == option.description.replace("`", "``")


@pytest.mark.parametrize(
    ("function", "name", "reason"),
    [
        (sync, "ignroe", r"sync\(\) got an unexpected keyword argument 'ignroe'. Did you mean 'ignore'\?"),
        (sync, "progess", r"sync\(\) got an unexpected keyword argument 'progess'. Did you mean 'progress'\?"),
        (sync, "zzz", r"sync\(\) got an unexpected keyword argument 'zzz'$"),
        (sync, "modules_limit", r"unexpected keyword argument 'modules_limit'"),  # by configuration alone
        (PackageSync, "on_conflit", r"PackageSync.__init__\(\) got an unexpected .*. Did you mean 'on_conflict'\?"),
    ],
)
def test_a_keyword_that_is_no_option_is_refused(function: Any, name: str, reason: str) -> None:
    """In Python's own words, before anything else is looked at."""
    with pytest.raises(TypeError, match=reason):
        function(None, **{name: 1})


def test_what_is_given_counts_before_what_is_configured_and_that_before_the_default() -> None:
    """None is as good as nothing."""
    assert read(INSTALL_TIMEOUT) == 600
    with dask.config.set({"pkgsync.install-timeout": "2m"}):
        assert read(INSTALL_TIMEOUT) == 120
        assert read(INSTALL_TIMEOUT, {"install_timeout": None}) == 120
        assert read(INSTALL_TIMEOUT, {"install_timeout": 5}) == 5


@pytest.mark.parametrize(("option", "word"), CHOICES, ids=named)
def test_what_an_option_may_be_gets_to_the_scheduler(option: Option[Any], word: str) -> None:
    """The protocol's own bounds let every word of a choice through."""
    plugin = PackageSync(ENVIRONMENT, **{option.name: word})
    arrived = pickle.loads(pickle.dumps(plugin))
    asyncio.run(arrived.become())
    holder = arrived.target if hasattr(arrived.target, option.name) else arrived.target.policy
    assert getattr(holder, option.name) == word


def test_what_nobody_has_configured_is_what_the_classes_have_by_themselves() -> None:
    """The defaults of targets, nodes, operators and scans are those of the options."""
    own = {one.name: one.default for one in fields(Target) if one.name in {option.name for option in KEYWORDS}}
    made = make_target(ENVIRONMENT, {})
    assert own == {name: getattr(made, name) for name in own}
    assert node_settings() == NodeSettings()
    assert (OperatorPolicy().mode, OperatorPolicy().stock_clients) == (operator_mode(), stock_clients())
    assert read(MODULES_LIMIT) == LIMIT_OF_A_SCAN


# -- the command line --------------------------------------------------------------------------------------------------


def test_each_command_has_the_flags_of_its_options_and_of_no_others() -> None:
    """A flag is added to a command where the option is defined, and nowhere else."""
    for command in COMMANDS:
        expected = {option.name for option, one in FLAGGED if one == command}
        names = {str(parameter.name) for parameter in command_called(command).params}
        assert {name for name in names if name.replace("_", "-") in BY_KEY} == expected


@pytest.mark.parametrize(("option", "command"), FLAGGED, ids=named)
def test_a_flag_becomes_the_keyword_of_its_option(
    option: Option[Any], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the value that was said; every other option is left to the configuration."""
    monkeypatch.setattr(sys, "path", [*sys.path])  # which gets the current directory
    words: list[str] = option.kind.rule.get("enum", ["one", "two"])[-1:]
    match option.kind.rule:
        case {"enum": _}:
            arguments, expected = words, words[0]
        case {"type": "boolean"}:
            arguments, expected = [], True
        case _:
            arguments, expected = words, words
    found: Any = keywords_of(command, f"--{option.key}", *arguments)
    value = found.pop(option.name)
    assert (list(value) if isinstance(value, tuple) else value) == expected
    assert found == {}
    assert keywords_of(command) == {}


@pytest.mark.parametrize("command", [command for option, command in FLAGGED if option.key == "modules"])
def test_a_list_may_be_turned_off(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An option that is a list or false has a flag for each, and not both at once."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert keywords_of(command, "--no-modules") == {"modules": False}
    with pytest.raises(click.UsageError, match="exclude each other"):
        keywords_of(command, "--no-modules", "--modules", "one")


def test_only_keywords_have_flags() -> None:
    """What is an operator's, or a matter of configuration alone, is no flag of a command."""
    assert {option.whose for option, _ in FLAGGED} == {Whose.KEYWORD}
