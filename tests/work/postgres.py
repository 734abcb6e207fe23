"""A real PostgreSQL server of its own for tests and benchmarks, and a small TCP proxy that can cut connections."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

NAME = "asymrnr"
OTHER_USER = "nobody"  # the server refuses to run as root


def binaries() -> Path | None:
    """Where PostgreSQL's programs are; None where it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    return None if on_path is None else Path(on_path).resolve().parent


def why_not() -> str | None:
    """Why no server can be started here; None where one can be."""
    if binaries() is None:
        return "PostgreSQL is not installed (Debian: apt-get install postgresql)"
    if os.getuid() == 0 and shutil.which("setpriv") is None:
        return "PostgreSQL refuses to run as root, and there is no setpriv to run it as somebody else"
    return None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Postgres:
    """A server in a folder of its own, which `stop` removes."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="asymrnr-pg-"))
        self.port = free_port()
        self._server: subprocess.Popen[bytes] | None = None
        self._as: list[str] = []
        if os.getuid() == 0:
            other = pwd.getpwnam(OTHER_USER)
            os.chown(self.folder, other.pw_uid, other.pw_gid)
            self._as = ["setpriv", f"--reuid={other.pw_uid}", f"--regid={other.pw_gid}", "--clear-groups", "--"]
        self._run("initdb", "-D", "data", "-U", NAME, "-A", "trust", "-E", "UTF8", "--no-sync")
        self.start()
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", NAME, NAME)

    @property
    def url(self) -> str:
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        """Of a proxy, for example."""
        return f"postgresql://{NAME}@127.0.0.1:{port}/{NAME}"

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        options = ["-D", "data", "-p", str(self.port), "-k", str(self.folder), "-c", "listen_addresses=127.0.0.1"]
        command = [*self._as, str(self._program("postgres")), *options, "-c", "shared_buffers=16MB"]
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True)
        for _ in range(600):
            if self._ready():
                return
            time.sleep(0.1)
        raise TimeoutError((self.folder / "log").read_text()[-2000:])

    def shut(self, how: int = signal.SIGINT) -> None:
        """Shut the server: at once and cleanly, or as a crash with SIGQUIT."""
        if self._server is not None:
            self._server.send_signal(how)
            self._server.wait(60)
            self._server = None

    def restart(self, how: int = signal.SIGINT) -> None:
        self.shut(how)
        self.start()

    def stop(self) -> None:
        """Shut the server and remove all that it had."""
        with suppress(ProcessLookupError):
            self.shut()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _ready(self) -> bool:
        command = [str(self._program("pg_isready")), "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", NAME]
        return subprocess.run(command, check=False).returncode == 0

    def _run(self, name: str, *arguments: str) -> None:
        command = [*self._as, str(self._program(name)), *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{name}: {done.stderr}")

    def _program(self, name: str) -> Path:
        folder = binaries()
        assert folder is not None
        return folder / name


class Proxy:
    """Passes bytes on to a server, and cuts the connections after so many when it is told to."""

    def __init__(self, port: int) -> None:
        """
        Args:
            port: of the server, on this machine.
        """
        self._to = port
        self.cut_after: int | None = None  # bytes from clients, counted anew whenever it is set
        self.cuts = 0
        self._passed = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, after: int) -> None:
        """Cut the connection that passes the so-manieth byte from now on."""
        self._passed, self.cut_after = 0, after

    def close(self) -> None:
        self._socket.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._to), 5)
                except OSError:
                    client.close()
                    continue
                server.settimeout(None)
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=(*ends, ends[0] is client), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while data := source.recv(4096):
                if counted and self.cut_after is not None:
                    self._passed += len(data)
                    if self._passed > self.cut_after:
                        self.cut_after = None
                        self.cuts += 1
                        break
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
