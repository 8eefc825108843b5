"""A package index on this machine that does what real ones do on bad days."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import TYPE_CHECKING

from dask_pkgsync.scanning.records import recorded

if TYPE_CHECKING:
    from collections.abc import Iterator


def wheel(name: str, version: str, payload: int = 0, more: dict[str, str] | None = None) -> tuple[str, bytes]:
    """Return the file name and content of a wheel with one module, and more files."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    files = {
        f"{module}.py": f"__version__ = {version!r}\n" + "#" * payload,
        **(more or {}),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{recorded(path, text.encode())}\n" for path, text in files.items())
    files[f"{info}/RECORD"] += f"{info}/RECORD,,\n"
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for path, text in files.items():
            bundle.writestr(path, text)
    return f"{module}-{version}-py3-none-any.whl", buffer.getvalue()


class Index:
    """A simple repository (PEP 503) over HTTP, with faults that can be switched."""

    def __init__(self) -> None:
        self.wheels: dict[str, dict[str, bytes]] = {}
        self.wrong_hashes = False
        self.delay = 0.0
        """Seconds before a wheel is sent."""
        self.hanging = threading.Event()
        """Set: wheels are announced and never sent."""
        self.may_send = threading.Event()
        """Not set: wheels are announced, and sent once it is."""
        self.may_send.set()
        self.closing = threading.Event()
        self.served: list[str] = []
        self.url = ""

    def add(self, name: str, version: str, payload: int = 0, more: dict[str, str] | None = None) -> None:
        """Offer a wheel."""
        filename, content = wheel(name, version, payload, more)
        self.wheels.setdefault(name, {})[filename] = content

    def page(self, name: str) -> bytes:
        """Return the page of a project."""
        links = []
        for filename, content in self.wheels[name].items():
            digest = hashlib.sha256(b"another" if self.wrong_hashes else content).hexdigest()
            links.append(f'<a href="/files/{name}/{filename}#sha256={digest}">{filename}</a>')
        return ("<!DOCTYPE html><html><body>" + "".join(links) + "</body></html>").encode()


@contextlib.contextmanager
def serving(index: Index) -> Iterator[Index]:
    """Serve an index on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(head=True)

        def do_GET(self) -> None:
            self.answer(head=False)

        def answer(self, *, head: bool) -> None:
            parts = self.path.strip("/").split("/")
            index.served.append(self.path)
            if parts[0] == "simple" and len(parts) == 2 and parts[1] in index.wheels:
                self.send(index.page(parts[1]), "text/html", head=head)
            elif parts[0] == "files":
                time.sleep(index.delay)
                index.may_send.wait()
                if index.hanging.is_set():
                    index.closing.wait()
                    return
                self.send(index.wheels[parts[1]][parts[2]], "application/octet-stream", head=head)
            else:
                self.send_error(404)

        def send(self, content: bytes, kind: str, *, head: bool) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if not head:
                with contextlib.suppress(OSError):
                    self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    index.url = f"http://127.0.0.1:{server.server_port}/simple"
    try:
        yield index
    finally:
        index.closing.set()
        index.may_send.set()
        server.shutdown()
        thread.join()
        server.server_close()
