"""Who calls, by API key."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

_DIGEST = "sha256:"
_HEADERS = (b"x-api-key", b"api-key", b"x-goog-api-key", b"ocp-apim-subscription-key")
"""Where a key may stand besides `authorization: Bearer`: Anthropic, Azure OpenAI, Gemini, API Management."""


@dataclass(frozen=True)
class Caller:
    """Who calls: what the limits of a policy see of a request."""

    project: str | bytes
    keys: Mapping[str, str | bytes] = field(default_factory=dict)
    """Further caller keys, such as `{"user": "u-17"}`."""
    deployment: str | bytes | None = None
    """What is called, where that is not the model that the request names."""


class ApiKeys:
    """Who calls, by the API key of the request: `ApiKeys({"sk-...": "search"})`.

    Each key, or its digest as `ApiKeys.digest` writes it, goes with a project or a Caller. Only digests are kept, keyed by a
    secret of this process, so that how long a look-up takes says nothing about the keys. The key of a request is read from
    `authorization: Bearer`, `x-api-key`, `api-key`, `x-goog-api-key` or `ocp-apim-subscription-key`.
    """

    def __init__(self, keys: Mapping[str, str | Caller]) -> None:
        self._secret = secrets.token_bytes(32)
        self._callers: dict[bytes, Caller] = {}
        for key, caller in keys.items():
            if key.startswith(_DIGEST):
                try:
                    digest = bytes.fromhex(key[len(_DIGEST) :])
                except ValueError:
                    digest = b""
                if len(digest) != 32:
                    raise ValueError(f"{key[:16]}... is no digest; write it as ApiKeys.digest(key) does")
            elif key:
                digest = hashlib.sha256(key.encode()).digest()
            else:
                raise ValueError("an API key is empty; leave it out")
            self._callers[self._keyed(digest)] = Caller(caller) if isinstance(caller, str) else caller

    @staticmethod
    def digest(key: str) -> str:
        """`sha256:` and the digest of a key, for configurations that must not hold the key itself. Use long random keys."""
        return _DIGEST + hashlib.sha256(key.encode()).hexdigest()

    def __call__(self, scope: MutableMapping[str, Any]) -> Caller | None:
        """The caller of a request; None if it has no key, or one that is not known."""
        key = _presented(scope["headers"])
        if key is None:
            return None
        return self._callers.get(self._keyed(hashlib.sha256(key).digest()))

    def _keyed(self, digest: bytes) -> bytes:
        return hmac.digest(self._secret, digest, "sha256")

    def __repr__(self) -> str:
        return f"<ApiKeys: {len(self._callers)} keys>"


def _presented(headers: Any) -> bytes | None:
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        found.setdefault(name.lower(), value.strip())
    kind, _, token = found.get(b"authorization", b"").partition(b" ")
    if kind.lower() == b"bearer" and token.strip():
        return token.strip()
    for name in _HEADERS:
        if found.get(name):
            return found[name]
    return None
