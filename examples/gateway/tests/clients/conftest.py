"""A gateway of its own for each test, on a spare port, with the sample model behind it."""

import hashlib
import json
import os
import pathlib
import subprocess
import time
import urllib.request

import pytest

KEY, OTHER, ADMIN, LOOK = "key-of-search", "key-of-support", "key-of-admin", "key-to-look"


def digest(key):
    return hashlib.sha256(key.encode()).hexdigest()


CONFIG = f"""
listen = "127.0.0.1:0"
[admin]
key_sha256 = "{digest(ADMIN)}"
read_key_sha256 = "{digest(LOOK)}"
[upstream.sample]
base_url = "http://sample.internal/v1"
[deployment.gpt-4o]
upstream = "sample"
[deployment.embedder]
upstream = "sample"
[deployment.claude-sonnet]
upstream = "sample"
[project.search.keys]
laptop = "{digest(KEY)}"
[project.support.keys]
desk = "{digest(OTHER)}"
"""


class Gateway:
    def __init__(self, directory, limits):
        path = pathlib.Path(directory, "gateway.toml")
        path.write_text(f"region = {json.dumps(str(pathlib.Path(directory, 'region')))}\n{CONFIG}{limits}")
        arguments = os.environ.get("TOKENWEIR_GATEWAY_ARGUMENTS", "").split()
        self.process = subprocess.Popen(
            [os.environ["TOKENWEIR_GATEWAY"], *arguments, str(path)], stdout=subprocess.PIPE, text=True
        )
        first = self.process.stdout.readline()
        assert first.startswith("the gateway is at http://"), first
        self.url = first.split()[4].rstrip(";")

    def stop(self):
        self.process.terminate()
        assert self.process.wait(60) == 0
        self.process.stdout.close()

    def look(self, view):
        request = urllib.request.Request(f"{self.url}/admin/{view}", headers={"api-key": LOOK})
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)

    def calls(self):
        return {outcome: calls for outcome, calls in self.look("usage")["calls"].items() if calls}

    def has_had(self, calls):
        """These, by what came of them: another process may have told of them after it answered."""
        eventually(lambda: self.calls() == calls, lambda: self.calls())

    def settled(self):
        """What each limit has settled, once nothing is held."""
        eventually(lambda: self.look("usage")["open"] == 0)
        return {counter["limit"]: counter["settled_total"] for counter in self.look("usage")["counters"]}


def eventually(is_so, instead=lambda: "it does not come about within a minute"):
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline, instead()
        time.sleep(0.02)


@pytest.fixture
def start(tmp_path):
    started = []

    def start(limits=""):
        started.append(Gateway(tmp_path, limits))
        return started[-1]

    yield start
    for gateway in started:
        gateway.stop()


def limit(deployment, **fields):
    lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in fields.items())
    return f"[project.search.limits.{deployment}]\n{lines}\n"
