"""An SSH server that runs commands as this user: a host for `SSHCluster`. Needs asyncssh.

Its argument is a directory, where it writes a key for the client (``id``), and at last its port (``port``).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import asyncssh


async def run(process: asyncssh.SSHServerProcess[bytes]) -> None:
    """Run one command until it ends; when the client sends a signal or goes away, end it."""
    child = await asyncio.create_subprocess_shell(
        process.command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    await process.redirect(stdout=child.stdout, stderr=child.stderr)
    ended = asyncio.create_task(child.wait())
    told = asyncio.create_task(process.stdin.read())  # raises for a signal, and where the connection is lost
    await asyncio.wait([ended, told], return_when=asyncio.FIRST_COMPLETED)
    if told.done() and told.exception() is not None:
        os.killpg(child.pid, signal.SIGTERM)
    process.exit(await ended)
    told.cancel()


async def serve(home: Path) -> None:
    """Listen on a free port of this host."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(home / "id")
    (home / "authorized").write_bytes(key.export_public_key())
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        authorized_client_keys=str(home / "authorized"),
        process_factory=run,
        encoding=None,
    )
    (home / "port.new").write_text(str(server.get_port()))
    (home / "port.new").rename(home / "port")
    await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
