"""Some seconds of the random traffic that benches/python/soak_asgi.py keeps up for as long as TOKENWEIR_SOAK_SECONDS says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SOAK = Path(__file__).resolve().parents[3] / "benches" / "python" / "soak_asgi.py"


def test_random_traffic_leaves_nothing_behind() -> None:
    seconds = os.environ.get("TOKENWEIR_SOAK_SECONDS", "10")
    here = Path(__file__).parent
    path = os.pathsep.join(map(str, [here, here / "litellm_proxy", SOAK.parent]))
    done = subprocess.run(
        [sys.executable, SOAK, "--seconds", seconds],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300 + float(seconds),
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "lost records: 0" in done.stdout
