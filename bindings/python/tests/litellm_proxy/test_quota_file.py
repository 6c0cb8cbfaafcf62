"""Quotas in a file, under LiteLLM's real proxy: they outlive it, and where the disk fails a request is answered with 503."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tokenweir

pytestmark = pytest.mark.filterwarnings("ignore")

SCENE = """
import resource, signal, sys
from pathlib import Path
import httpx
from serving import Provider, model, proxy, serving
from waiting import until

POLICY = {"limit": [
    {"name": "tokens", "meter": "total", "algorithm": "quota", "amount": 1_000, "period": "never", "scope": ["key:key"]}
]}
body = {"model": "ok", "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder, provider = Path(sys.argv[1]), Provider()
with serving(provider.app, "/alive") as upstream:
    config = {
        "model_list": [model("ok", upstream)],
        "router_settings": {"num_retries": 0, "disable_cooldowns": True},
        "litellm_settings": {"callbacks": ["tokenweir.litellm.gate"]},
        "callback_settings": {"tokenweir": {"policy": POLICY, "quota_file": "quotas.redb"}},
    }
    with proxy(folder, config) as address, httpx.Client(base_url=address, timeout=60) as http:
        from tokenweir.litellm import gate

        def call():
            return http.post("/v1/chat/completions", json=body, headers={"authorization": "Bearer t.key"})

        assert call().status_code == 200
        before = provider.calls["ok"]
        # No lease can be had any more: the file may not be written.
        old, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, most))
        try:
            answer = call()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (old, most))
        assert answer.status_code == 503 and "retry-after" not in answer.headers, answer.text
        said = answer.json()["error"]
        assert said["code"] == "503" and "the store of quotas failed" in said["message"], answer.text
        assert "quotas.redb" not in answer.text, "where it is is nobody's business"
        assert provider.calls["ok"] == before and gate.limiter.stats().store_failures > 0
        # With the disk the service is back, and what was refused was charged nowhere.
        assert call().status_code == 200
        until(lambda: gate.limiter.stats().permits_open == 0, "nothing is held")
        assert [counter.used for counter in gate.limiter.usage()] == [34]
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a limit on the size of files makes the disk fail")
def test_quotas_outlive_the_proxy_and_a_disk_that_fails_is_503(tmp_path: Path) -> None:
    here = Path(__file__).parent
    path = os.pathsep.join(map(str, (here, here.parent)))
    done = subprocess.run(
        [sys.executable, "-c", SCENE, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with tokenweir.QuotaFile(tmp_path / "quotas.redb") as file:
        assert [(record.store, record.used) for record in file.records()] == [("litellm", 34)]


def test_a_worker_that_cannot_have_the_file_says_so_in_the_proxy_s_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It ends without a word otherwise, and is started again and again."""
    import litellm
    import tokenweir.litellm

    limit = {"name": "l", "meter": "total", "algorithm": "quota", "amount": 9, "period": "never"}
    settings = {"policy": {"limit": [limit]}, "quota_file": str(tmp_path / "quotas.redb")}
    monkeypatch.setattr(litellm, "callback_settings", {"tokenweir": settings})
    monkeypatch.setattr(tokenweir.litellm, "_gate", None)
    monkeypatch.setattr(logging.getLogger("LiteLLM Proxy"), "propagate", True)
    with tokenweir.QuotaFile(tmp_path / "quotas.redb"), pytest.raises(tokenweir.QuotaFileError) as raised:
        tokenweir.litellm.__getattr__("gate")
    assert raised.value.name == "QUOTA_FILE_IN_USE"
    (said,) = (record.getMessage() for record in caplog.records if "tokenweir" in record.getMessage())
    assert "quotas.redb is open already" in said and "run the proxy with one worker, --num_workers 1" in said
