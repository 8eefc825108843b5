"""Writes the texts of messages so that the checks of the receiving process (`wire.fields`) accept them.

Texts for people come from many places: errors of installers and of Dask, names of files, other processes. No such text
may make a message malformed, as the person would then read about the protocol, and not what the text says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_pkgsync.model.wire.fields import MAX_LONG_TEXT, MAX_TEXT

if TYPE_CHECKING:
    from typing import Any


def several_lines(text: str, limit: int = MAX_LONG_TEXT) -> str:
    """Return a text as `Field.long_text` accepts it: cut off at the limit, without halves of characters."""
    if len(text) > limit:
        text = f"{text[: limit - 1]}…"
    return text.encode("utf-8", "replace").decode()


def one_line(text: str, limit: int = MAX_TEXT) -> str:
    """Return a text as `Field.text` accepts it: its lines joined, without control characters, cut off at the limit."""
    lines = text.splitlines()
    if lines != [text]:
        text = " ".join(filter(None, map(str.strip, lines)))
    text = several_lines(text, limit)
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else " " if character == "\t" else "?" for character in text)


def sendable(value: Any) -> Any:
    """Return plain data in which each text is one that can be sent, for messages that nobody checks, such as events."""
    match value:
        case str():
            return several_lines(value)
        case dict():
            return {sendable(key): sendable(entry) for key, entry in value.items()}
        case list() | tuple():
            return [sendable(entry) for entry in value]
    return value
