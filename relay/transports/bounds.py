"""Every bound on one exchange with a receiver that nobody has a reason to trust, in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a receiver may cost us. Times are seconds, sizes bytes.

    `connect_timeout` spans TCP and TLS over all addresses, `exchange_timeout` everything from the call of `send` to the
    end of the answer's body. `head_bytes` bounds one answer head, `informational` the 1xx answers before the final one.
    Beyond `body_bytes` the rest of an answer is not read, and `excerpt_bytes` of what was read are kept, decompressed.
    A connection idles for at most `idle_seconds` and is used for at most `age_seconds`, so that a destination which
    moved to another address is found there.
    """

    connect_timeout: float = 5.0
    exchange_timeout: float = 30.0
    head_bytes: int = 64 * 1024
    header_count: int = 256
    informational: int = 16
    body_bytes: int = 64 * 1024
    excerpt_bytes: int = 4 * 1024
    idle_seconds: float = 15.0
    idle_per_origin: int = 16
    idle_in_all: int = 256
    age_seconds: float = 300.0
