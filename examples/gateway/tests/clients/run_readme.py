"""Runs the lines that a page gives for the gateway, each as it stands but for the port, and looks at what they print.

run_readme.py PAGE [ARGUMENT...]: what is given besides is for the gateway.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import urllib.request

PAGE, *ARGUMENTS = sys.argv[1:]
README = pathlib.Path(PAGE).read_text()
COMMAND = "cargo run --release -p tokenweir-gateway\n"
SAMPLE = pathlib.Path(__file__).parents[2] / "gateway.toml"


def check(is_so, what, printed):
    if not is_so:
        sys.exit(f"{what}:\n{printed}")


def two_statuses(printed, second):
    statuses = re.findall(r"^HTTP/1.1 (\d+)", printed, re.MULTILINE)
    check(statuses == ["200", second], f"200, then {second}", printed)
    return printed[printed.rindex("HTTP/1.1") :]


def call(printed):
    check(json.loads(printed)["usage"]["total_tokens"] == 36, "36 tokens", printed)


def stream(printed):
    check(printed.count('"content":') == 25 and printed.rstrip().endswith("data: [DONE]"), "a whole stream", printed)


def rate(printed):
    refused = two_statuses(printed, "429")
    wait = int(re.search(r"^retry-after: (\d+)", refused, re.MULTILINE)[1])
    # 24 are left, 52 are asked for, one comes back each second.
    check(20 <= wait <= 28, "the wait", printed)


def quota(printed):
    check("insufficient_quota" in two_statuses(printed, "403"), "a quota", printed)


def usage(printed):
    limits = {counter["limit"]: counter for counter in json.loads(printed)["counters"]}
    counter = limits['project "search" on "gpt-4o": tokens per minute']
    check((counter["settled_total"], counter["held"]) == (72, 0), "72 tokens", printed)


def page(printed):
    check("<title>Gateway</title>" in printed, "the page", printed)


def limit(printed):
    check("5000 TPM" in json.loads(printed)["state"], "the limit", printed)


def blocked(printed):
    check("error" not in json.loads(printed), "it is done", printed)


def audit(printed):
    events = [entry["event"] for entry in json.loads(printed)["entries"]]
    check(events[-2:] == ["set_limit", "block_agent"], "what was done last", printed)


def tool(printed):
    check("result" in json.loads(printed), "the tool's answer", printed)


OPERATIONS = {
    "A limit is set": limit,
    "An agent is blocked": blocked,
    "Who did what.": audit,
    "A tool,": tool,
}
CALLS = {
    "A call.": call,
    "A stream.": stream,
    "60 tokens per minute": rate,
    "60 tokens per day": quota,
    "The usage": usage,
    "The page": page,
}

EXPECTED = OPERATIONS if "examples" in PAGE else CALLS
check(EXPECTED is OPERATIONS or COMMAND in README, "the README has the command", COMMAND)
blocks = re.findall(r"^```sh\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
[block] = [block for block in blocks if "127.0.0.1:8787" in block]
lines = dict(re.findall(r"^# (.*)\n((?:[^#].*\n)+)", block, re.MULTILINE))
check(len(lines) == len(EXPECTED), f"{len(EXPECTED)} things to try", block)

with tempfile.TemporaryDirectory() as directory:
    text = SAMPLE.read_text()
    check('listen = "127.0.0.1:8787"' in text, "the sample listens where the README says", text)
    file = pathlib.Path(directory, "gateway.toml")
    file.write_text('region = "region"\n' + text.replace("127.0.0.1:8787", "127.0.0.1:0"))
    program = [os.environ["TOKENWEIR_GATEWAY"], *ARGUMENTS, str(file)]
    gateway = subprocess.Popen(program, cwd=directory, stdout=subprocess.PIPE, text=True)
    try:
        address = re.search(r"http://(\S+);", gateway.stdout.readline())[1]
        for comment, line in lines.items():
            [expected] = [look for beginning, look in EXPECTED.items() if comment.startswith(beginning)]
            run = subprocess.run(
                ["bash", "-euc", line.replace("127.0.0.1:8787", address)], stdout=subprocess.PIPE, text=True, timeout=120
            )
            check(run.returncode == 0, "it runs", line)
            expected(run.stdout)
            print(f"as it says: {comment}")
        with urllib.request.urlopen(f"http://{address}/healthz", timeout=60) as response:
            check(response.read() == b"ok\n", "it is well", "")
    finally:
        gateway.terminate()
        check(gateway.wait(60) == 0, "it stops when it is told to", "")
