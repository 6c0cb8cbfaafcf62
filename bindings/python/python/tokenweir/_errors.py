"""The package's exceptions. The native module raises them by name."""

from __future__ import annotations

from typing import Any, NamedTuple

from tokenweir._native import Denial


class Error(Exception):
    """An error of tokenweir. It changes nothing: no counter has moved.

    `code` is the stable number of this kind of error and `name` its stable name, never used again for another. The engine's
    (1 to 40), those of quota files and stores (1010 to 1014), and 1006 and 1007 are the same in all languages that have that
    call; 50 is of traces, which C does not read. 0 and "" are of the kinds that only Python has (ApimError, Denied,
    AcquireTimeout). A GatewayError has a name without a number: the console's code.
    """

    code: int = 0
    name: str = ""


class Problem(NamedTuple):
    """One thing that is wrong with a policy."""

    line: int | None
    """The line it stands on, counted from 1; None where it belongs to the document as a whole."""
    limit: str | None
    """The limit it belongs to, if it belongs to one that has a name."""
    message: str
    """What is wrong; names the field and what was found."""
    remedy: str
    """What to do about it."""


class PolicyError(Error, ValueError):
    """A policy is not valid (code 1). Its text has one line for each problem."""

    problems: list[Problem] = []
    """Everything that is wrong, in the order of the document."""
    file: str | None = None
    """The file that it was read from, if it was."""


class RequestError(Error, ValueError):
    """A request cannot be matched with the policy (codes 10 to 13), or its estimate is above 2**53 (14); or it has a
    key that is longer than a shared region has room for, or more limits (41)."""


class UsageError(Error, ValueError):
    """The reported usage cannot be (code 20). The permit is still open."""


class PermitError(Error):
    """The permit was settled, cancelled, dropped or expired before (code 21), or this limiter never issued it (22)."""


class CapacityError(Error):
    """All permits are open (code 30), or the table of counters or routes is full of entries in use (31)."""


class StoreError(Error):
    """What a request would be charged could not be recorded, or what was charged before not be read (code 40). Nothing was
    charged."""


STORE_FAILED = "the store of quotas failed and nothing was charged; try again later"
"""What clients are told of a StoreError: what went wrong, and where the store lies, is for the operator."""


class QuotaFileError(Error):
    """A quota file cannot be had: it is in use (code 1010), damaged (1011), of another format (1012), or the operating system
    refused (1013); or a store of this name is in use (1014). The file is as it was."""


class RegionError(Error):
    """A shared region cannot be had: the operating system refused (code 1020), it is damaged or none (1021), of another release
    (1022) or layout (1023), others may use its file (1024), it is from before the machine was restarted (1025), or full of
    limiters (1026). Or it cannot do what was asked (41): its policy is another, or cannot be changed now, or is too large; the
    limiter is to have a store as well, or was made before a fork."""


class SnapshotError(Error, ValueError):
    """A snapshot cannot be read (code 1006): it is none, or of a version that this library does not know."""


class TraceError(Error, ValueError):
    """A line of a trace is wrong (code 50, which Rust and Python have), or the engine cannot decide on it; then `__cause__` is
    what the engine said, and the code is its own."""

    line: int = 0
    """The number of the line, counted from 1."""


class BodyError(Error, ValueError):
    """The body of a request to a model is not one JSON object (code 1007)."""


class GatewayError(Error):
    """A command to a gateway's console was refused. It has changed nothing but the audit trail.

    `name` is its stable code, such as PROJECT_NOT_ENABLED; the number stays 0.
    """

    next: str = ""
    """What to do."""
    findings: list[dict[str, Any]] = []
    """Everything that stands against an operation, in order of weight, and then what is advice."""


class ApimProblem(NamedTuple):
    """One thing that is wrong with a policy document of API Management."""

    file: str
    """The name that the document was given."""
    line: int
    """Counted from 1."""
    code: str
    """A stable code, in capitals."""
    message: str
    """What is wrong; names the element or attribute and what was found."""
    remedy: str
    """What to do about it."""


class ApimError(Error, ValueError):
    """Policy documents of API Management were refused. Its text has one line for each problem."""

    problems: list[ApimProblem] = []
    """Everything that is wrong, by document and line."""


class Denied(Error):
    """A permit was asked for with `reserve` or `acquire`, and refused. `denial` says everything about it.

    Like its denial it is not pickled (TypeError): pass on the denial's status, limit and retry_after."""

    denial: Denial

    def __init__(self, denial: Denial) -> None:
        super().__init__(denial)
        self.denial = denial


class AcquireTimeout(Error, TimeoutError):
    """`acquire` has waited as long as it was allowed to. `denial` is the last answer; None if there was none, because others
    who had come earlier waited all the time."""

    denial: Denial | None

    def __init__(self, denial: Denial | None) -> None:
        super().__init__("others who wait for the same limit came first" if denial is None else denial)
        self.denial = denial

    def __reduce__(self) -> tuple[type[AcquireTimeout], tuple[Denial | None]]:
        return type(self), (self.denial,)


for _public in (
    Error,
    Problem,
    PolicyError,
    RequestError,
    UsageError,
    PermitError,
    CapacityError,
    StoreError,
    QuotaFileError,
    RegionError,
    SnapshotError,
    TraceError,
    BodyError,
    GatewayError,
    ApimProblem,
    ApimError,
    Denied,
    AcquireTimeout,
):
    _public.__module__ = "tokenweir"
