"""What the time of one request was spent on."""

from __future__ import annotations

from headrace.requests import Timings

# wire: from HAProxy to the gateway, reading the request, sending the answer, on the way between processes.
# decode, encode: bytes to tensors and back. cache: choosing the version, checking, looking up, waiting for
# another request's computation. queue: waiting for the engine. pad: stacking, padding and cutting.
# engine: the model itself.
STAGES = ("wire", "decode", "cache", "queue", "pad", "engine", "encode")
_REMEMBERED = ("memory", "redis", "flight")  # these timings, if any, are those of another request

# Seconds, in the order of STAGES.
Spent = tuple[float, float, float, float, float, float, float]


def stages_of(
    timings: Timings, answer_s: float, wire_s: float = 0.0, decode_s: float = 0.0, encode_s: float = 0.0
) -> Spent:
    """The seconds of each stage, which add up to all that is given: `answer_s` from the decoded request to
    the answer, the others around it."""
    if timings.tier in _REMEMBERED:
        return wire_s, decode_s, answer_s, 0.0, 0.0, 0.0, encode_s
    queue_s = timings.held_s + timings.queued_s
    known_s = queue_s + timings.ran_s + timings.hop_s
    if known_s <= answer_s:
        pad_s, engine_s = timings.padded_s, timings.ran_s - timings.padded_s
        return (
            wire_s + timings.hop_s, decode_s, answer_s - known_s, queue_s, pad_s, engine_s, encode_s
        )  # fmt: skip
    part = answer_s / known_s  # it ran in parts, side by side
    pad_s, engine_s = timings.padded_s * part, (timings.ran_s - timings.padded_s) * part
    return wire_s + timings.hop_s * part, decode_s, 0.0, queue_s * part, pad_s, engine_s, encode_s
