"""What is known of one stream under way: what was read, written and confirmed, and how it ends. Pure.

A message is confirmed once its receiver has it for certain. What was written and not confirmed when the socket is lost
may have arrived, and nobody will ever know: it is dead, as all behind it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from relay.outbox.model import KillReason, Kind, Method
from relay.policy.attempt import (
    DELIVERED,
    Answer,
    Attempted,
    Dead,
    Delivery,
    Failure,
    Finish,
    HeldStream,
    Lease,
    Message,
    Outcome,
    Reason,
    Timing,
)
from relay.policy.outcome import classify, diagnose
from relay.policy.request_headers import Headers, redacted

WINDOW = 128
"""Messages of one stream that were read and are not confirmed, at most."""

NOWHERE = 2**62
"""The position behind which there is never anything."""

DONE, GOING_AWAY = 1000, 1001
"""Codes with which a WebSocket is closed."""

_UNOPENED: Mapping[Failure | None, KillReason] = {
    Failure.BLOCKED: KillReason.FORBIDDEN,
    Failure.SHORTAGE: KillReason.INTERNAL,
    Failure.UNSENDABLE: KillReason.INTERNAL,
    Failure.INTERNAL: KillReason.INTERNAL,
}
_LOST: Mapping[Failure | None, KillReason] = {
    Failure.READ_TIMEOUT: KillReason.SILENT,
    Failure.PROTOCOL: KillReason.MISBEHAVED,
}


@dataclass(frozen=True, slots=True)
class StreamEnding:
    """How a stream ends: the last attempts to write down, its finish, and a sentence on why it was killed."""

    finish: Finish
    attempts: tuple[Attempted, ...] = ()
    diagnosis: str = ""


class CarriedStream:
    """One stream, from the first message to the last. Times are epoch seconds."""

    def __init__(self, stream: HeldStream) -> None:
        self.stream = stream
        self.confirmed = 0
        self.close_code: int | None = None  # once nothing more will come
        self._read_up_to = 0
        self._to_send: deque[Message] = deque()
        self._sent: deque[tuple[Delivery, float]] = deque()  # and when
        self._opened_at = 0.0
        self._leaving = False

    @property
    def room(self) -> int:
        """How many more messages to read."""
        return WINDOW - len(self._to_send) - len(self._sent)

    @property
    def read_up_to(self) -> int:
        """The position of the last message that was read."""
        return self._read_up_to

    @property
    def reads_from(self) -> int:
        """The position behind which there may be news; where there is no room, behind every one."""
        return self._read_up_to if self.room > 0 else NOWHERE

    @property
    def unconfirmed(self) -> int:
        """How many messages were written, and may not have arrived."""
        return len(self._sent)

    def take(self, messages: Sequence[Message], room: int, grown_to: int) -> None:
        """Have these sent next. Where they did not fill the room that they were asked for, all up to a position was
        read: what is not among them was cancelled, or never added."""
        filled = len(messages) == room
        self._to_send += messages
        last = messages[-1][0].position or 0 if messages else 0
        self._read_up_to = last if filled else max(last, grown_to)

    def end(self, *, abandoned: bool) -> None:
        """Nothing more will come: its producer ended it, or fell silent."""
        self.close_code = GOING_AWAY if abandoned else DONE

    def leave(self) -> None:
        self._leaving = True

    def opened(self, now: float) -> None:
        self._opened_at = now

    def next_body(self, now: float) -> bytes | None:
        """The next message to write, which counts as written; None: nothing waits."""
        if not self._to_send:
            return None
        delivery, body = self._to_send.popleft()
        self._sent.append((delivery, now))
        return body

    def confirm(self, count: int, handshake: Answer, headers: Headers, now: float) -> list[Attempted]:
        """The receiver has so many messages in all: the records of those that are new among them."""
        attempts = []
        while self.confirmed < count:
            delivery, written_at = self._sent.popleft()
            answer = replace(handshake, timing=Timing(now - written_at), reused=self.confirmed > 0)
            attempts.append(self._attempted(delivery, answer, headers, written_at, now))
            self.confirmed += 1
        return attempts

    def ending(self, lost: Answer | None, headers: Headers, now: float) -> StreamEnding | None:
        """Whether it is at its end: everything is confirmed, the socket is `lost`, or the relay stops."""
        if self.close_code is not None and not self._to_send and not self._sent:
            return StreamEnding(Finish(self.stream.id))
        if lost is not None:
            return self._dropped(lost, headers, now)
        return self.cut_off() if self._leaving else None

    def cut_off(self) -> StreamEnding:
        """The relay stops, and does not wait for its receiver."""
        return StreamEnding(Finish(self.stream.id, KillReason.RELAY), diagnosis="This relay stops.")

    def left_alone(self) -> StreamEnding:
        """It was not even tried."""
        why = "The destination is paused, disabled or failing."
        return StreamEnding(Finish(self.stream.id, KillReason.LEFT_ALONE), diagnosis=why)

    def first(self) -> Delivery | None:
        """The message that is sent first, if one was read."""
        return self._to_send[0][0] if self._to_send else None

    def not_opened(
        self, first: Delivery | None, answer: Answer, headers: Headers, started_at: float, now: float
    ) -> StreamEnding:
        """The `first` message bears the reason, or, where there is none yet, the stream itself."""
        self._opened_at = started_at
        attempt = self._attempted(first or _nothing(self.stream, started_at), answer, headers, started_at, now)
        reason = _UNOPENED.get(answer.failure, KillReason.REFUSED)
        finish = Finish(self.stream.id, reason, None if first else attempt)
        return StreamEnding(finish, (attempt,) if first else (), attempt.diagnosis)

    def _dropped(self, lost: Answer, headers: Headers, now: float) -> StreamEnding:
        attempts = []
        for delivery, written_at in self._sent:
            answer = replace(lost, timing=Timing(now - written_at), reused=self.confirmed > 0)
            attempts.append(self._attempted(delivery, answer, headers, written_at, now))
        reason = _LOST.get(lost.failure, KillReason.DROPPED)
        return StreamEnding(Finish(self.stream.id, reason), tuple(attempts), lost.detail)

    def _attempted(
        self, delivery: Delivery, answer: Answer, headers: Headers, started_at: float, now: float
    ) -> Attempted:
        """The record of one message. It was not due before the socket stood; the handshake's headers go with the
        first."""
        if delivery.due_at < self._opened_at:
            delivery = replace(delivery, due_at=self._opened_at)
        delivered = answer.status == 101
        reason = Reason.FORBIDDEN if answer.failure is Failure.BLOCKED else Reason.STREAM_KILLED
        return Attempted(
            delivery,
            answer,
            Outcome.SUCCESS if delivered else classify(answer),
            DELIVERED if delivered else Dead(reason),
            "" if delivered else diagnose(answer),
            started_at,
            now,
            request_headers=() if answer.reused else redacted(headers),
        )


def _nothing(stream: HeldStream, now: float) -> Delivery:
    """A message that was never added, for a stream that failed before its first."""
    return Delivery(
        Lease(0, ""),
        stream.key,
        stream.origin,
        stream.url,
        Method.POST,
        Kind.PARTIAL,
        "",
        {},
        None,
        0,
        created_at=now,
        due_at=now,
        attempts=0,
        lapses=0,
        path=stream.path,
    )
