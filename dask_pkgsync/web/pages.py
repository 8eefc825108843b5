"""The handlers of ``/pkgsync`` for Dask's HTTP server: the page, its files, and ``status.json``. They only look."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tornado.web import RequestHandler

from dask_pkgsync.web.state import query_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from dask_pkgsync.web.state import ClusterState

_FILES = {
    "pkgsync": ("page.html", "text/html"),
    "pkgsync/page.css": ("page.css", "text/css"),
    "pkgsync/page.js": ("page.js", "text/javascript"),
}
"""The files of the page, by their paths on the server."""
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""No file comes from another host, and nothing on the page can be a script but ours."""


class Page(RequestHandler):
    """Answers with a file of the page."""

    def initialize(self, file: str, kind: str) -> None:
        """Take the name of the file, and its media type."""
        self.file, self.kind = file, kind

    def get(self) -> None:
        """Send the file."""
        for name, value in _HEADERS.items():
            self.set_header(name, value)
        self.set_header("Content-Type", f"{self.kind}; charset=utf-8")
        self.write(text_of(self.file))


class Status(RequestHandler):
    """Answers with the state of the cluster as JSON."""

    def initialize(self, state: Callable[[], Awaitable[ClusterState]]) -> None:
        """Take the function that returns the state."""
        self.state = state

    async def get(self) -> None:
        """Send the state, with one page of the nodes."""
        arguments = {name: self.get_query_argument(name, "") for name in ("page", "per-page", "state", "find")}
        state = await self.state()
        for name, value in _HEADERS.items():
            self.set_header(name, value)
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.write(json.dumps(state.page(query_of(arguments)), ensure_ascii=False, separators=(",", ":")))


@cache
def text_of(file: str) -> str:
    """Return a file of the page."""
    return Path(__file__).with_name(file).read_text(encoding="utf-8")


def routes(state: Callable[[], Awaitable[ClusterState]]) -> list[tuple[str, type, dict[str, Any]]]:
    """Return the handlers, as tornado takes them, with paths below that of the server. Blocks: it reads the files.

    Parameters
    ----------
    state : callable
        Returns the state of the cluster.
    """
    for file, _ in _FILES.values():
        text_of(file)
    pages: list[tuple[str, type, dict[str, Any]]] = [
        (path, Page, {"file": file, "kind": kind}) for path, (file, kind) in _FILES.items()
    ]
    return [*pages, ("pkgsync/status.json", Status, {"state": state})]
