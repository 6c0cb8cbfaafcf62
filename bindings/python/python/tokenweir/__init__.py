"""The token meter and gate that LLM gateways embed.

tokenweir decides whether a request to a model may pass, holds its estimated tokens, settles them against what the model
really used, and answers for every token afterwards. The engine is written in Rust; this package is a thin layer over it.

    import tokenweir

    policy = tokenweir.Policy.from_toml('''
        [[limit]]
        name      = "project tpm"
        meter     = "total"
        algorithm = "bucket"
        amount    = 100_000
        per       = "1m"
        scope     = ["project", "deployment"]
    ''')
    limiter = tokenweir.Limiter(policy)

    decision = limiter.admit("search", "gpt-4o", input=900, output=400)
    if decision:
        decision.settle(input=912, output=77)      # what was held and not used is given back
    else:
        print(decision.status, decision.limit, decision.retry_after)

Tokens are whole numbers, spans of time are seconds as float, instants are nanoseconds (`Now`). Names are str or bytes;
bytes that are not UTF-8 come back as str with surrogate escapes, as `os.fsdecode` has them. Every object may be used from
any thread. All exceptions are a tokenweir.Error, with a stable `code` and `name` (see there); a refusal is not an
error but a value, unless the caller asked for a permit or nothing (`reserve`, `acquire`).

`tokenweir.wire` reads requests to models and their responses, `tokenweir.asgi` is a middleware for FastAPI and Starlette,
`tokenweir.litellm` is for LiteLLM's proxy. `tokenweir.redis` has limits that machines share. `tokenweir.gateway` is the AI Gateway of a Foundry resource, `tokenweir.apim`
imports policies of API Management.
"""

from tokenweir._errors import (
    AcquireTimeout,
    ApimError,
    ApimProblem,
    BodyError,
    CapacityError,
    Denied,
    Error,
    GatewayError,
    PermitError,
    PolicyError,
    Problem,
    QuotaFileError,
    RedisError,
    RegionError,
    RequestError,
    SnapshotError,
    StoreError,
    TraceError,
    UsageError,
)
from tokenweir._limiter import Limiter
from tokenweir._native import (
    CoarseClock,
    CounterUsage,
    Denial,
    Estimate,
    ExplainedLimit,
    Explanation,
    LeftOut,
    Limit,
    LimitView,
    ManualClock,
    Now,
    Peek,
    Permit,
    Policy,
    QuotaFile,
    QuotaRecord,
    QuotaStore,
    Record,
    RecordRing,
    Refusal,
    RegionStatus,
    Restored,
    Route,
    Row,
    Rows,
    Settlement,
    SharedRegion,
    SkippedLimit,
    Stats,
    SystemClock,
    Usage,
    __version__,
    replay,
)

__all__ = [
    "AcquireTimeout",
    "ApimError",
    "ApimProblem",
    "BodyError",
    "CapacityError",
    "CoarseClock",
    "CounterUsage",
    "Denial",
    "Denied",
    "Error",
    "Estimate",
    "ExplainedLimit",
    "Explanation",
    "GatewayError",
    "LeftOut",
    "Limit",
    "LimitView",
    "Limiter",
    "ManualClock",
    "Now",
    "Peek",
    "Permit",
    "PermitError",
    "Policy",
    "PolicyError",
    "Problem",
    "QuotaFile",
    "QuotaFileError",
    "QuotaRecord",
    "QuotaStore",
    "Record",
    "RecordRing",
    "RedisError",
    "Refusal",
    "RegionError",
    "RegionStatus",
    "RequestError",
    "Restored",
    "Route",
    "Row",
    "Rows",
    "Settlement",
    "SharedRegion",
    "SkippedLimit",
    "SnapshotError",
    "Stats",
    "StoreError",
    "SystemClock",
    "TraceError",
    "Usage",
    "UsageError",
    "__version__",
    "replay",
]
