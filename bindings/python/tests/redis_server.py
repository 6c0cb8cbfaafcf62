"""A real redis-server on a spare port of this machine. (On Debian `scripts/redis-server` installs it.)"""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from pathlib import Path


class RedisServer:
    """Use it as a context manager: it is stopped at the end."""

    def __init__(self, directory: Path, *more: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(directory)]
        self._command += ["--save", "", "--appendonly", "no", *more]
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it, empty."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                if self.command("PING") == b"+PONG\r\n":
                    return
            except OSError:
                time.sleep(0.01)
        self.kill()
        raise AssertionError(f"it does not start: {' '.join(self._command)}")

    def command(self, *words: str) -> bytes:
        """One command; the beginning of what it answers."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall((" ".join(words) + "\r\n").encode())
            return connection.recv(65536)

    def pause(self) -> None:
        """It neither answers nor closes anything."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(20)

    def __enter__(self) -> RedisServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
