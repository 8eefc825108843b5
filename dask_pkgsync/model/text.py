"""Text for people: tables, sizes, durations, and texts of other processes made safe to print."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table with an underlined head, two spaces between the columns, and no trailing spaces."""
    table = [list(head), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    table.insert(1, ["-" * width for width in widths])
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table)
    return "\n".join(lines)


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an HTML table whose cells are escaped."""
    from html import escape

    first = "".join(f"<th style='text-align:left'>{escape(cell)}</th>" for cell in head)
    rest = "".join(
        "<tr>" + "".join(f"<td style='text-align:left'>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{first}</tr></thead><tbody>{rest}</tbody></table>"


def shown(value: object, limit: int = 120) -> str:
    """Return a value of another process as a text of at most ``limit`` characters, without formatting all of it."""
    text = value if isinstance(value, str) else _sketch(value, 3)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _sketch(value: object, depth: int) -> str:
    """Return the `repr` of a part of a value: the whole `repr` is slow for large values and fails for deep ones."""
    if isinstance(value, str | bytes):
        return repr(value[:120])
    if value is None or isinstance(value, float) or (isinstance(value, int) and value.bit_length() <= 64):  # noqa: PLR2004
        return repr(value)
    if depth and isinstance(value, dict):
        pairs = islice(value.items(), 10)
        return f"{{{', '.join(f'{_sketch(key, 0)}: {_sketch(entry, depth - 1)}' for key, entry in pairs)}}}"
    if depth and isinstance(value, list | tuple):
        return f"[{', '.join(_sketch(entry, depth - 1) for entry in islice(value, 10))}]"
    return f"a {type(value).__name__}"


def harmless(text: str) -> str:
    """Return a text of several lines with control characters replaced, so that it cannot control a terminal."""
    return "".join(character if character.isprintable() or character in "\n\t" else "?" for character in text)


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, for example ``1 node`` or ``3 nodes``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def human_bytes(count: int) -> str:
    """Write a number of bytes for people, for example ``12.3 MB``."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":  # noqa: PLR2004
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


def human_time(seconds: float) -> str:
    """Return a duration in its two largest units, for example ``3 min 20 s``."""
    whole = max(0, int(seconds))
    for size, unit, smaller_size, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def printable(text: str) -> str:
    """Return a text on one line, at most 1,000 characters, with control characters replaced."""
    if not text.isprintable():
        text = "".join(character if character.isprintable() else "?" for character in text)
    return text[:1000]
