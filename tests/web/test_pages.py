"""The page on a scheduler's HTTP server, as a browser gets it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import pytest
from distributed import Scheduler
from simulated_cluster import cluster
from tornado.httpclient import AsyncHTTPClient, HTTPClientError
from tornado.httpserver import HTTPServer
from tornado.web import Application

import dask_pkgsync.web
from dask_pkgsync.scheduler.extension import controller_of
from dask_pkgsync.web.pages import routes, text_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dask_pkgsync.web.state import ClusterState

FOLDER = Path(dask_pkgsync.web.__file__).parent
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Elements(HTMLParser):
    """Notes the tags of a page, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@contextlib.asynccontextmanager
async def served(state: ClusterState) -> AsyncIterator[str]:
    """Serve a state as a scheduler does; return the URL."""

    async def current() -> ClusterState:
        return state

    application = Application([(f"/{path}", handler, rest) for path, handler, rest in routes(current)])
    server = HTTPServer(application)
    server.listen(0, "127.0.0.1")
    try:
        port = next(iter(server._sockets.values())).getsockname()[1]
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.stop()
        await server.close_all_connections()


async def fetch(url: str) -> Any:
    return await AsyncHTTPClient(force_instance=True).fetch(url)


def test_the_page_needs_no_other_host():
    """No file of the page names another host, and its ids, labels and scripts fit together."""
    texts = {name: (FOLDER / name).read_text() for name in ("page.html", "page.css", "page.js")}
    assert not [name for name, text in texts.items() if re.search(r"https?://|@import|url\(|innerHTML|eval\(", text)]
    found = Elements(texts["page.html"]).found
    ids = [attributes["id"] for _, attributes in found if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'byId\("([^"]+)"\)', texts["page.js"])) <= set(ids)
    named = [attributes[name] for _, attributes in found for name in ("aria-labelledby",) if name in attributes]
    assert set(named) <= set(ids)
    assert all("aria-labelledby" in attributes for tag, attributes in found if tag == "section")
    assert all("scope" in attributes for tag, attributes in found if tag == "th")
    assert dict(found)["html"]["lang"] == "en"


def test_a_scheduler_serves_the_page_where_the_plugin_runs():
    """A real scheduler answers with the page and its state, below its prefix; nothing but GET is allowed."""

    async def main() -> None:
        settings = {"distributed.scheduler.preload": [], "distributed.client.preload": []}
        with dask.config.set(settings):
            async with Scheduler(host="127.0.0.1", port=0, dashboard_address=":0", http_prefix="/behind/") as scheduler:
                controller = controller_of(scheduler)
                await controller.pages.mount()
                await controller.pages.mount()  # a second client's plugin changes nothing
                url = f"http://127.0.0.1:{scheduler.http_server.port}/behind/"
                page = await fetch(url + "pkgsync")
                assert page.body.decode() == text_of("page.html")
                assert "default-src 'none'" in page.headers["Content-Security-Policy"]
                for file in ("page.css", "page.js"):
                    assert (await fetch(f"{url}pkgsync/{file}")).body.decode() == text_of(file)
                controller.log_event(
                    {
                        "action": "client-refused",
                        "client": "Client-1",
                        "person": "eve@host",
                        "address": "x",
                        "reason": "no",
                    }
                )
                data = json.loads((await fetch(url + "pkgsync/status.json?page=7&state=base&find=%22%3Cx")).body)
                assert data["schema"] == 1
                assert data["scheduler"] == scheduler.address
                assert data["target"] is None
                assert [one["person"] for one in data["refusals"]] == ["eve@host"]
                assert data["nodes"]["total"] == 1
                assert (await fetch(url + "health")).body == b"ok"
                for method in ("POST", "PUT", "DELETE"):
                    with pytest.raises(HTTPClientError, match="405"):
                        await AsyncHTTPClient(force_instance=True).fetch(
                            url + "pkgsync/status.json", method=method, body=None if method == "DELETE" else b""
                        )

    asyncio.run(main())


async def dom_of(url: str, *arguments: str) -> str:
    """Return the page as a browser has it after some seconds."""
    command = [
        str(BROWSER),
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=4000",
        "--dump-dom",
    ]
    process = await asyncio.create_subprocess_exec(
        *command, *arguments, url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, error = await process.communicate()
    assert "CONSOLE" not in error.decode(), error.decode()
    return out.decode()


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")
def test_a_browser_shows_a_thousand_nodes():
    """A browser shows the first page of a thousand nodes, those that failed first, and runs no script of a node."""

    async def main() -> None:
        async with served(cluster(1000)) as url:
            page = await dom_of(url + "pkgsync", "--enable-logging=stderr")
            assert "990 of 1000 nodes match the target." in page
            assert page.count('<th data-label="Node"') == 25
            assert "Page 1 of 40" in page
            assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
            assert "<script>alert" not in page
            assert "<b>bad</b>" not in page

    asyncio.run(main())


def test_the_files_travel_with_the_package():
    """A scheduler that gets the package from a client gets the files of the page, too."""
    import io
    import zipfile
    import zlib

    from dask_pkgsync.carry.archive import copy

    with zipfile.ZipFile(io.BytesIO(zlib.decompress(copy().compressed))) as bundle:
        assert {f"dask_pkgsync/web/page.{kind}" for kind in ("html", "css", "js")} <= set(bundle.namelist())
