"""Policies of API Management, imported."""

from __future__ import annotations

import pytest
import tokenweir
from tokenweir import ManualClock
from tokenweir.apim import Document, import_policies

API = """<policies>
    <inbound>
        <base />
        <set-header name="x-served-by" exists-action="override"><value>front</value></set-header>
        <llm-token-limit counter-key="@(context.Subscription.Id)" tokens-per-minute="{tpm}"
                         estimate-prompt-tokens="false" />
        <include-fragment fragment-id="calls" />
    </inbound>
</policies>"""
CALLS = """<fragment><rate-limit-by-key calls="{{calls}}" renewal-period="60" counter-key="@(context.Request.IpAddress)" />
</fragment>"""


def test_documents_become_a_policy_with_an_account_of_every_element() -> None:
    imported = import_policies(
        Document(API, name="api.xml"),
        fragments={"calls": CALLS},
        named_values={"calls": "2"},
        placeholders={"tpm": "1000"},
        parts={"key:ip": "key:address"},
    )
    limits = imported.policy.limits
    assert {(limit.meter, tuple(limit.scope), limit.amount) for limit in limits} == {
        ("total", ("key:subscription",), 1_000),
        ("requests", ("key:address",), 2),
    }
    assert len(tokenweir.Policy.from_toml(imported.toml)) == len(imported.policy) and "# " in imported.toml
    report = imported.report
    assert report["not_mapped"] == []
    assert [one["element"] for one in report["not_about_limits"] if one["element"] == "set-header"] == ["set-header"]
    lines = {(one["file"], one["line"], one["element"]) for one in report["imported"]}
    assert ("api.xml", 5, "llm-token-limit") in lines and ("calls", 1, "rate-limit-by-key") in lines

    gate = tokenweir.Limiter(imported.policy, clock=ManualClock())
    keys = {"subscription": "s", "address": "10.0.0.1"}
    outcomes = [gate.admit("search", "gpt-4o", keys=keys) for _ in range(3)]
    assert [bool(outcome) for outcome in outcomes] == [True, True, False]


def test_what_cannot_be_mapped_is_listed_with_its_reason() -> None:
    key = '@(context.Request.Headers.GetValueOrDefault("a","").Substring(3))'
    text = f"<policies><inbound><rate-limit-by-key calls='1' renewal-period='60' counter-key='{key}' /></inbound></policies>"
    report = import_policies(Document(text, scope="product", id="gold"), tier="classic").report
    (one,) = report["not_mapped"]
    assert one["line"] == 1 and one["notes"] and report["tier"] == "classic"


def test_documents_that_are_wrong_are_refused_with_line_and_remedy() -> None:
    with pytest.raises(tokenweir.ApimError) as raised:
        import_policies(Document(API.replace("{tpm}", "-5")))
    problem = raised.value.problems[0]
    assert (problem.file, problem.line > 0) == ("policy.xml", True) and problem.code.isupper() and problem.remedy
    assert str(raised.value).startswith("policy.xml:")
    with pytest.raises(tokenweir.ApimError):
        import_policies(Document('<!DOCTYPE a [<!ENTITY b "c">]><policies />'))
    with pytest.raises(ValueError, match="at least one"):
        import_policies()
    with pytest.raises(ValueError, match="unknown scope"):
        import_policies(Document(API, scope="planet"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='give "classic" or "v2"'):
        import_policies(Document(API), tier="v3")  # type: ignore[arg-type]
