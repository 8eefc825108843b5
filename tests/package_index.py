"""A package index on this machine that does what real ones do on bad days."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import ssl
import subprocess
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import TYPE_CHECKING

import psutil

from dask_pkgsync.model.record import recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def wheel(
    name: str, version: str, payload: int = 0, more: dict[str, str] | None = None, tag: str = "py3-none-any"
) -> tuple[str, bytes]:
    """Return the file name and content of a wheel with one module, and more files, for a platform (PEP 425)."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    files = {
        f"{module}.py": f"__version__ = {version!r}\n" + "#" * payload,
        **(more or {}),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{recorded(path, text.encode())}\n" for path, text in files.items())
    files[f"{info}/RECORD"] += f"{info}/RECORD,,\n"
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for path, text in files.items():
            bundle.writestr(path, text)
    return f"{module}-{version}-{tag}.whl", buffer.getvalue()


def command_lines() -> list[str]:
    """Return the command line of each process of this machine, which all its users can read."""
    return [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]


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
        self.asked: Callable[[], None] = lambda: None
        """Called at each request, while the program that asks is waiting for the answer."""
        self.served: list[str] = []
        self.user = ""
        """``user:password`` without which nothing is answered; empty: everybody is answered."""
        self.url = ""

    def add(
        self, name: str, version: str, payload: int = 0, more: dict[str, str] | None = None, tag: str = "py3-none-any"
    ) -> None:
        """Offer a wheel."""
        filename, content = wheel(name, version, payload, more, tag)
        self.wheels.setdefault(name, {})[filename] = content

    def comes_to_send(self) -> bool:
        """Wait as long as this index does before it sends a wheel; return whether it sends it."""
        time.sleep(self.delay)
        self.may_send.wait()
        if self.hanging.is_set():
            self.closing.wait()
            return False
        return True

    def lets_in(self, authorization: str) -> bool:
        """Whether a request with this header is answered."""
        self.asked()
        return not self.user or authorization == f"Basic {base64.b64encode(self.user.encode()).decode()}"

    def has_page(self, parts: list[str]) -> bool:
        """Whether the parts of a path are those of the page of a project."""
        return parts[0] == "simple" and len(parts) == 2 and parts[1] in self.wheels

    def page(self, name: str) -> bytes:
        """Return the page of a project."""
        links = []
        for filename, content in self.wheels[name].items():
            digest = hashlib.sha256(b"another" if self.wrong_hashes else content).hexdigest()
            links.append(f'<a href="/files/{name}/{filename}#sha256={digest}">{filename}</a>')
        return ("<!DOCTYPE html><html><body>" + "".join(links) + "</body></html>").encode()


def authority(directory: Path) -> tuple[Path, Path]:
    """Make an authority that nobody trusts; return its certificate, and the file of a server's key and certificate."""
    directory.mkdir()
    files = {name: directory / f"{name}.pem" for name in ("ca", "ca-key", "key", "request", "cert", "server")}
    new = ["openssl", "req", "-newkey", "rsa:2048", "-nodes"]
    signed = ["openssl", "x509", "-req", "-CA", files["ca"], "-CAkey", files["ca-key"], "-CAcreateserial", "-days", "2"]
    names = directory / "names"
    names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for argv in (
        [*new, "-x509", "-days", "2", "-subj", "/CN=authority", "-keyout", files["ca-key"], "-out", files["ca"]],
        [*new, "-subj", "/CN=localhost", "-keyout", files["key"], "-out", files["request"]],
        [*signed, "-in", files["request"], "-extfile", names, "-out", files["cert"]],
    ):
        subprocess.run([str(part) for part in argv], check=True, capture_output=True)
    files["server"].write_text(files["key"].read_text() + files["cert"].read_text())
    return files["ca"], files["server"]


def speak_tls(server: ThreadingHTTPServer, certificate: Path | None) -> None:
    """Let a server speak TLS, if there is a certificate."""
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)


def handler_of(index: Index) -> type[BaseHTTPRequestHandler]:
    """Return what answers requests from an index."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = self.path.strip("/").split("/")
            if not index.lets_in(self.headers.get("Authorization", "")):
                self.send_response(401)
                self.send_header("WWW-Authenticate", "Basic")
                self.end_headers()
                return
            index.served.append(self.path)
            if index.has_page(parts):
                self.send(index.page(parts[1]), "text/html")
            elif parts[0] == "files":
                if index.comes_to_send():
                    self.send(index.wheels[parts[1]][parts[2]], "application/octet-stream")
            else:
                self.send_error(404)

        def do_HEAD(self) -> None:
            self.do_GET()

        def send(self, content: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                with contextlib.suppress(OSError):
                    self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextlib.contextmanager
def serving(index: Index, certificate: Path | None = None) -> Iterator[Index]:
    """Serve an index on a free port of this machine, over TLS if there is a certificate (with its key)."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(index))
    server.daemon_threads = True
    speak_tls(server, certificate)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    index.url = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}/simple"
    try:
        yield index
    finally:
        index.closing.set()
        index.may_send.set()
        server.shutdown()
        thread.join()
        server.server_close()
