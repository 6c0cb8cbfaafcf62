"""A real redis-server on a spare port of this machine. (On Debian `scripts/redis-server` installs it.)"""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from pathlib import Path


def spare_port() -> int:
    """One that leaves room for that of a cluster's node, 10000 above."""
    while True:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
        if port < 55_000:
            return port


class RedisServer:
    """Use it as a context manager: it is stopped at the end."""

    def __init__(self, directory: Path, *more: str, config: Path | None = None) -> None:
        self.port = spare_port()
        self._command = ["redis-server", *([str(config)] if config else []), "--bind", "127.0.0.1"]
        self._command += ["--port", str(self.port), "--dir", str(directory), "--save", "", "--appendonly", "no", *more]
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

    @classmethod
    def sentinel(cls, directory: Path, primary: RedisServer) -> RedisServer:
        """Who knows that server as `main`."""
        config = directory / "sentinel.conf"
        config.write_text(f"sentinel monitor main 127.0.0.1 {primary.port} 1\n")
        return cls(directory, "--sentinel", config=config)

    def __enter__(self) -> RedisServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
