"""The files that are made from the definitions: defaults in YAML, their schema, and tables of the reference."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Any

import yaml

from dask_pkgsync.options.definitions import OPTIONS
from dask_pkgsync.options.option import Whose

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dask_pkgsync.options.option import Option

_WIDTH = 118
_NOTE = "Made from dask_pkgsync/options/definitions by `python -m dask_pkgsync.options`; change it there."
_ADVICE = "To change a value, set it in a file of Dask's configuration, such as ~/.config/dask/pkgsync.yaml."
_SECTIONS = {
    Whose.KEYWORD: "Read on the client, for keywords that PackageSync() or sync() is called without.",
    Whose.CLIENT: "Read on each client.",
    Whose.SCHEDULER: "Read on the scheduler, if dask_pkgsync.preload is among its preloads.",
    Whose.NODE: "Read on each node.",
}
"""The headings of the parts of the YAML file."""


def schema() -> dict[str, dict[str, Any]]:
    """Return the JSON schema of each key in the ``pkgsync`` section of the configuration."""
    return {option.key: {**option.kind.rule, "description": _schema_description(option)} for option in OPTIONS}


def defaults_file() -> str:
    """Return the text of ``pkgsync.yaml``."""
    lines = [f"# {_NOTE}", f"# {_ADVICE}", "pkgsync:"]
    for whose, title in _SECTIONS.items():
        lines += ["", f"  # -- {title}"]
        for option in _of(whose):
            lines += ["", *_wrapped(_full_description(option), "  # "), f"  {option.key}: {_flow(option.default)}"]
    return "\n".join(lines) + "\n"


def schema_file() -> str:
    """Return the text of ``pkgsync-schema.yaml``."""
    head = ["properties:", "  pkgsync:", "    type: object", "    additionalProperties: false", "    properties:"]
    lines = [f"# {_NOTE}", *head]
    for key, rule in schema().items():
        lines.append(f"      {key}:")
        lines += [f"        {name}: {_flow(value)}" for name, value in rule.items() if name != "description"]
        lines += ["        description: >-", *_wrapped(rule["description"], " " * 10)]
    return "\n".join(lines) + "\n"


def reference_file(text: str) -> str:
    """Return the text of ``docs/reference.md`` with its tables of options replaced by newly made ones.

    Parameters
    ----------
    text : str
        The present text of the page, with a comment before and after each table.

    Raises
    ------
    ValueError
        If one of these comments is missing.
    """
    for name, table in (("person", _person_table()), ("scheduler", _scheduler_table()), ("node", _node_table())):
        begin, end = (
            f"<!-- options of a {name}: made by python -m dask_pkgsync.options -->",
            f"<!-- end of a {name} -->",
        )
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"expected one table between {begin!r} and {end!r}")
        text = pattern.sub(lambda _, new=f"{begin}\n\n{table}\n\n{end}": new, text)  # type: ignore[misc]
    return text


def _person_table() -> str:
    rows = [
        [
            f"`{option.name}`" if whose is Whose.KEYWORD else "",
            f"`pkgsync.{option.key}`",
            _default(option),
            _with_page(option, option.description),
        ]
        for whose in (Whose.KEYWORD, Whose.CLIENT)
        for option in _of(whose)
    ]
    return _table(["option", "configuration", "default", ""], rows)


def _scheduler_table() -> str:
    own = [(option, option.description) for option in _of(Whose.SCHEDULER)]
    shared = [(option, option.on_scheduler) for option in OPTIONS if option.on_scheduler]
    rows = [[f"`pkgsync.{option.key}`", _default(option), _with_page(option, text)] for option, text in (*own, *shared)]
    return _table(["configuration", "default", ""], rows)


def _node_table() -> str:
    own = [(option, option.description) for option in _of(Whose.NODE)]
    shared = [(option, option.on_node) for option in OPTIONS if option.on_node]
    rows = [
        [f"`pkgsync.{option.key}`", f"`{option.variable}`", _default(option), _with_page(option, text)]
        for option, text in (*own, *shared)
    ]
    return _table(["configuration", "environment variable", "default", ""], rows)


def _of(whose: Whose) -> list[Option[Any]]:
    return [option for option in OPTIONS if option.whose is whose]


def _full_description(option: Option[Any]) -> str:
    """Return the description of an option, followed by its meaning for the scheduler and the nodes that read it too."""
    parts = [option.description]
    if option.on_scheduler:
        parts.append(f"Read on the scheduler, too. {option.on_scheduler}")
    if option.on_node:
        parts.append(f"Read on each node, too. {option.on_node}")
    return " ".join(parts).replace("`", "")


def _schema_description(option: Option[Any]) -> str:
    """Return the description for the schema, which begins with where an operator's option is read."""
    where = {Whose.SCHEDULER: "Read on the scheduler. ", Whose.NODE: "Read on each node. "}
    return where.get(option.whose, "") + _full_description(option)


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _flow(value: object) -> str:
    """Return a value in YAML on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")


def _default(option: Option[Any]) -> str:
    if option.default is None:
        return option.default_text or "none"
    return f"`{_flow(option.default)}`"


def _with_page(option: Option[Any], text: str) -> str:
    return f"{text} ([more]({option.page}))" if option.page else text


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["".join(f"| {cell} " if cell else "| " for cell in line) + "|" for line in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])
