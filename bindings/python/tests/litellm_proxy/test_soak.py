"""A quarter of a minute of the random traffic that benches/python/soak.py keeps up for as long as it is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SOAK = Path(__file__).resolve().parents[4] / "benches" / "python" / "soak.py"


def test_random_traffic_leaves_nothing_behind() -> None:
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, SOAK, "--seconds", "15"],
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(map(str, [here, here.parent, SOAK.parent])), "PYTHONFAULTHANDLER": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "lost records: 0" in done.stdout
