"""Policies of Azure API Management as policies of tokenweir.

    from tokenweir.apim import Document, import_policies

    imported = import_policies(Document(Path("api.xml").read_text()), placeholders={"tpm": "1000"})
    limiter = tokenweir.Limiter(imported.policy)
    for one in imported.report["not_mapped"]:
        print(one["file"], one["line"], one["element"], one["notes"])
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from tokenweir import ApimError, ApimProblem, Policy, _native

__all__ = ["ApimError", "ApimProblem", "Document", "Imported", "import_policies"]


class Document(NamedTuple):
    """A policy document."""

    text: str
    scope: Literal["global", "workspace", "product", "api", "operation"] = "api"
    """Where it stands."""
    id: str | None = None
    """Of which product, API and so on it is; without it, of all that the import is about."""
    name: str = "policy.xml"
    """What it is called in messages and in the account."""


class Imported(NamedTuple):
    """What came of policy documents."""

    policy: Policy
    toml: str
    """The policy as text, with comments that say where each limit comes from and how it differs."""
    report: dict[str, Any]
    """The account: every element is in one of `imported`, `not_mapped` (with the reason) and `not_about_limits`; `limits`,
    `parts` (what a host has to send), `dimensions` of metrics, `documents` and `warnings` besides."""


def import_policies(
    *documents: Document,
    tier: Literal["classic", "v2"] = "v2",
    fragments: Mapping[str, str] | None = None,
    named_values: Mapping[str, str] | None = None,
    placeholders: Mapping[str, str] | None = None,
    parts: Mapping[str, str] | None = None,
) -> Imported:
    """Makes a policy of documents, outermost scope first or in any order.

    `fragments` are texts by the id that documents include them by, `named_values` what stands in `{{double braces}}`,
    `placeholders` what stands in `{braces}`, `parts` the name that a host has for a part of the request (`{"key:ip":
    "key:address"}`). Raises ApimError with everything that is wrong, and ValueError for a wrong scope or tier.
    """
    if not documents:
        raise ValueError("there is no document; give at least one")
    given = [(document.name, document.text, document.scope, document.id) for document in documents]
    policy, toml, report = _native.import_apim(
        tier, given, dict(fragments or {}), dict(named_values or {}), dict(placeholders or {}), dict(parts or {})
    )
    return Imported(policy, toml, json.loads(report))
