"""The gateway of a Foundry resource, driven as its console is: the walk-through of the vendor's page, and its wrong orders."""

from __future__ import annotations

import pickle
import threading
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from tokenweir import GatewayError, ManualClock, Now
from tokenweir.gateway import Console

# An hour before the end of a month, so that a monthly quota comes round soon.
BEGAN = datetime(2026, 11, 30, 23, tzinfo=timezone.utc)
OPTIONS = {"time": "given", "provider": {"ready_after": 480, "delete_after": 60}}


def at(seconds: int) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


class Admin:
    """Ada, who may do everything, at the console of the resource `contoso`."""

    def __init__(self, **options: Any) -> None:
        self.console = Console(OPTIONS | options)
        site = {"tenant": "t", "subscription": "s", "resource_group": "g", "region": "swedencentral"}
        declare = self.console.declare
        declare("resource", name="contoso", public_network_access=True, site=site, now=at(0))
        declare("deployment", resource="contoso", name="d", model="gpt-4o")
        for project in ("search", "chat"):
            declare("project", resource="contoso", name=project, created="2026-01-01T00:00:00Z")
        self.person("ada", "Owner", "Foundry Owner")

    def person(self, name: str, *roles: str) -> None:
        grants = [{"role": role, "scope": "/subscriptions/s"} for role in roles]
        self.console.declare("principal", id=name, assignments=grants)

    def __call__(self, seconds: int, operation: str, by: str = "ada", **fields: Any) -> dict[str, Any]:
        of = {} if operation.endswith("_instance") else {"resource": "contoso"}
        return self.console.apply(by, operation, now=at(seconds), **of, **fields)

    def code(self, seconds: int, operation: str, **fields: Any) -> str:
        """What the operation is refused with. It says why, and what to do."""
        with pytest.raises(GatewayError) as raised:
            self(seconds, operation, **fields)
        error = raised.value
        assert error.next and str(error).endswith(error.next) and error.code == 0
        assert [finding["code"] for finding in error.findings if finding["code"] == error.name], error.findings
        return error.name

    def limit(self, seconds: int, project: str, **limit: Any) -> dict[str, Any]:
        return self(seconds, "set_limit", project=project, deployment="d", limit=limit)

    def call(self, seconds: int, project: str, input: int = 0, output: int = 0) -> dict[str, Any]:
        """A call of a project, settled with these tokens if it passes."""
        decided: dict[str, Any] = self.console.command({"call": {"project": project, "deployment": "d"}}, now=at(seconds))
        if "call" in decided:
            usage = {"input": input, "output": output}
            self.console.command({"settle": {"call": decided["call"], "usage": usage, "response_code": 200}})
        return decided

    def status(self, seconds: int) -> Any:
        return self.console.command({"status": {}}, now=at(seconds))

    def left(self, seconds: int, project: str) -> list[int]:
        use = self.status(seconds)["resources"]["contoso"]["projects"][project]["limits"]["d"]["use"]
        return [one["remaining"] for one in use]


def with_gateway() -> Admin:
    admin = Admin()
    admin(0, "create_gateway", name="front")
    admin.console.command({"refresh": {}}, now=at(480))
    admin(480, "add_project", project="search")
    return admin


def test_from_nothing_to_429_and_403_and_back_to_nothing() -> None:
    admin = Admin()
    assert admin(0, "create_gateway", name="front")["state"] == "Provisioning"
    assert admin.code(10, "add_project", project="search") == "GATEWAY_NOT_READY"
    assert admin.console.command({"refresh": {}}, now=at(479))["changes"] == []
    assert admin.console.command({"refresh": {}}, now=at(480))["changes"][0]["state"] == "Enabled"
    # What is not behind the gateway passes uncounted.
    quota = {"tokens_per_minute": 100, "token_quota": 250, "token_quota_period": "Monthly"}
    of_search = {"project": "search", "deployment": "d", "limit": quota}
    assert admin.code(481, "set_limit", **of_search) == "PROJECT_NOT_ENABLED"
    assert admin.call(481, "search", 1_000)["outcome"] == "bypassed"
    admin(482, "add_project", project="search")
    admin.limit(482, "search", **quota)
    assert admin.status(482)["resources"]["contoso"]["projects"]["search"]["status"] == "Enabled"
    assert admin.left(482, "search") == [100, 250]

    checked = admin.console.command({"verify": {"project": "search", "deployment": "d"}})
    assert checked["passed"] is True, checked
    assert admin.call(482, "search", 80, 28)["outcome"] == "admitted"
    refused = admin.call(482, "search")
    assert (refused["status"], refused["retry_after"], refused["headers"]["Retry-After"]) == (429, 7, "7")
    assert "Token limit is exceeded. Try again in 7 seconds." in refused["body"]
    assert admin.call(488, "search")["status"] == 429
    assert admin.call(489, "search", 141)["outcome"] == "admitted"
    refused = admin.call(1_000, "search")
    assert (refused["status"], refused["retry_after"]) == (403, 3_600 - 1_000)
    assert admin.left(1_000, "search")[1] == -1
    assert admin.call(3_600, "search", 1)["outcome"] == "admitted"

    assert admin.code(3_600, "delete_gateway") == "GATEWAY_HAS_ENABLED_PROJECTS"
    assert admin.code(3_600, "delete_instance", instance="front") == "GATEWAY_STILL_ASSOCIATED"
    assert admin.code(3_600, "disable_gateway") == "GATEWAY_DISABLE_UNSUPPORTED"
    admin(3_600, "remove_project", project="search")
    assert admin.call(3_600, "search", 1_000)["outcome"] == "bypassed"
    assert admin(3_601, "delete_gateway")["state"] == "Orphaned"
    assert admin.status(3_601)["instances"]["front"]["bills"] is True
    admin(3_602, "delete_instance", instance="front")
    admin.console.command({"refresh": {}}, now=at(3_662))
    last = admin.status(3_662)
    assert (last["instances"], last["resources"]["contoso"]["state"]) == ({}, "Absent")


def test_who_has_no_role_can_do_none_of_it_and_who_has_the_renamed_one_can() -> None:
    admin = Admin()
    admin.person("eve")
    admin.person("bob", "Owner", "Azure AI Account Owner")
    assert admin.code(0, "create_gateway", by="eve", name="front") == "PERMISSION_DENIED"
    assert admin(0, "create_gateway", by="bob", name="front")["state"] == "Provisioning"
    admin.console.command({"refresh": {}}, now=at(480))
    assert admin.code(480, "add_project", by="eve", project="search") == "PERMISSION_DENIED"
    admin(480, "add_project", by="bob", project="search")
    for operation, fields in (("remove_project", {"project": "search"}), ("delete_gateway", {})):
        assert admin.code(480, operation, by="eve", **fields) == "PERMISSION_DENIED"


def test_one_project_spent_leaves_another_its_full_limit() -> None:
    admin = with_gateway()
    admin(481, "add_project", project="chat")
    for project in ("search", "chat"):
        admin.limit(481, project, tokens_per_minute=100)
    admin.call(481, "search", 5_000)
    outcomes: list[str] = []

    def calls(project: str) -> None:
        outcomes.extend(f"{project} {admin.call(481, project, 0)['outcome']}" for _ in range(50))

    threads = [threading.Thread(target=calls, args=(project,)) for project in ("search", "chat")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(set(outcomes)) == ["chat admitted", "search refused-rate"]
    assert admin.left(481, "chat") == [100]


def test_a_stream_is_observed_and_a_call_cancelled() -> None:
    admin = with_gateway()
    admin.limit(480, "search", tokens_per_minute=100)
    call = {"call": {"project": "search", "deployment": "d", "estimate": {"input": 5, "output": 5}, "streamed": True}}
    first = admin.console.command(call)
    assert admin.console.command({"observe": {"call": first["call"], "input": 0, "output": 500}})["spent"] is True
    admin.console.command({"cancel": {"call": first["call"]}})
    with pytest.raises(GatewayError) as raised:
        admin.console.command({"cancel": {"call": first["call"]}})
    assert raised.value.name == "CALL_UNKNOWN"
    records = admin.console.command({"records": {}})["records"]
    assert len(records) == 1


def test_what_was_saved_goes_on_in_another_console() -> None:
    admin = with_gateway()
    admin.limit(480, "search", tokens_per_minute=100, token_quota=250, token_quota_period="Monthly")
    admin.call(481, "search", 120)
    document = admin.console.command({"save": {}})["document"]
    again = Console(OPTIONS)
    again.command({"load": {"document": document}}, now=at(481))
    refused = again.command({"call": {"project": "search", "deployment": "d"}})
    assert (refused["outcome"], refused["status"]) == ("refused-rate", 429)
    assert len(again.command({"audit": {}})["entries"]) > 3
    with pytest.raises(GatewayError) as raised:
        again.command({"load": {"document": {"version": 99}}})
    assert raised.value.name.startswith("DOCUMENT")


def test_what_does_not_work_is_diagnosed() -> None:
    admin = with_gateway()
    seen = {"project": "chat", "deployment": "d", "unrefused": {"tokens": 500, "seconds": 60}}
    causes = admin.console.command({"diagnose": {"seen": seen}})["causes"]
    assert causes and all(cause["diagnosis"].startswith("D-") and cause["remedy"] for cause in causes)


def test_a_clock_of_the_hosts_takes_the_place_of_the_systems() -> None:
    clock = ManualClock(Now.at(1_796_079_600_000_000_000))
    console = Console({"profile": None}, clock=clock)
    assert console.command({"status": {}})["resources"] == {}
    with pytest.raises(GatewayError) as raised:
        console.command({"status": {}}, now=at(0))
    assert raised.value.name == "NOW_NOT_TAKEN"


def test_what_is_wrong_with_a_command_is_said() -> None:
    console = Console({"time": "given"})
    with pytest.raises(GatewayError) as raised:
        console.command({"status": {}})
    assert raised.value.name == "NOW_MISSING" and "give" in raised.value.next
    wrongs: list[dict[str, Any]] = [{}, {"fly": {}}, {"status": {"more": 1}}, {"declare": {"resource": {}}}]
    for wrong in wrongs:
        with pytest.raises(GatewayError) as raised:
            console.command(wrong, now=at(0))
        assert raised.value.name == "COMMAND_INVALID"
    with pytest.raises(ValueError, match="which has no zone"):
        console.command({"status": {}}, now=datetime(2026, 11, 30))
    with pytest.raises(ValueError, match="the options of the console are wrong: .*unknown field"):
        Console({"speed": "fast"})
    with pytest.raises(TypeError, match="cannot pickle a Console"):
        pickle.dumps(console)
