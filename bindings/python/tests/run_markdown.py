"""Runs the Python of Markdown files as it is printed: `run_markdown.py FILE...`.

The blocks of a file run one after another in one namespace. A block of `text` after one of `python` is what it prints. Where they
use a Redis server on its usual port, it is one of their own.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from redis_server import RedisServer  # noqa: E402

SERVER = "redis://127.0.0.1:6379"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(file: Path, server: str) -> int:
    """How many blocks it has run."""
    namespace = {"__name__": "__main__"}
    printed, blocks = None, 0
    source = file.read_text()
    for match in BLOCK.finditer(source):
        language, text = match.groups()
        if language == "python":
            blocks += 1
            line = source[: match.start(2)].count("\n")
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                exec(compile("\n" * line + text.replace(SERVER, server), str(file), "exec"), namespace)
            printed = output.getvalue()
        elif language == "text" and printed is not None:
            assert printed == text, f"{file}: it prints\n{printed}and the page says\n{text}"
            printed = None
    return blocks


if __name__ == "__main__":
    for name in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as directory, RedisServer(Path(directory)) as server:
            blocks = run(Path(name), server.url)
        assert blocks, f"{name} has no Python"
        print(f"{name}: {blocks} blocks")
