"""What passes between a client and a model, read and answered: for hosts that proxy or serve models over HTTP.

It knows OpenAI (Chat Completions, Responses, Completions, Embeddings), Azure OpenAI, Anthropic Messages, Gemini and Vertex.
It has no HTTP stack: bytes in, values out. Whatever the bytes are, memory is bounded, and what is not known is None or
marked as an estimate.

    from tokenweir import wire

    asked = wire.Asked.read(path, body)                       # model, stream, input tokens, the output it allows
    estimate = asked.estimate(wire.OutputRule(1024), limiter, "search", asked.model)
    decision = limiter.admit("search", asked.model, estimate.input, estimate.output)
    if not decision:
        refused = wire.Dialect.of(path).refused(decision)     # status, headers, body
    else:
        sent = wire.StreamUsage.of(path, body).ask(body)      # asks for the usage at the end of a stream
        meter = wire.ResponseMeter(path, content_type)
        for chunk in response:                                # cut anywhere
            decision.observe(output=meter.feed(chunk))
        meter.settle(decision)                                # as reported; what has come, if the stream broke

`tokenweir.asgi` does all of this for an ASGI application.
"""

from tokenweir._native import (
    Asked,
    Dialect,
    Endpoint,
    Exchange,
    Measured,
    NamedLimit,
    OutputRule,
    Refused,
    ResponseMeter,
    StreamUsage,
    TokenUsage,
    UpstreamLimit,
    UpstreamLimits,
    UsageChunkFilter,
    ietf_headers,
)

__all__ = [
    "Asked",
    "Dialect",
    "Endpoint",
    "Exchange",
    "Measured",
    "NamedLimit",
    "OutputRule",
    "Refused",
    "ResponseMeter",
    "StreamUsage",
    "TokenUsage",
    "UpstreamLimit",
    "UpstreamLimits",
    "UsageChunkFilter",
    "ietf_headers",
]
