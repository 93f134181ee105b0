"""A live session: what the caller may say, what it is told, and when it ends. Pure: `now` is an argument, in seconds.

    LISTENING --finish, idle, too long, left, too late, stopping--> FINISHING --finished--> ENDED
        \\------------- undecodable, failed, callback lost, or not finished in time ---------^

A session that ends for any reason but its own death is finished first: what was said becomes final, and is told. What
happens to a session that has ended does nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from engine.dialects.live import (
    Answered,
    AudioChunk,
    ClientMessage,
    EndOfStream,
    EndReason,
    FinalizeRequest,
    Goodbye,
    KeepAlive,
    Message,
)
from engine.events import Broken, Finished, LiveEvent
from engine.request import FailureCode


class VendorProtocol(Protocol):
    """A vendor's side of one session: its client's messages in, its documents out. Remembers what was said."""

    def opening(self, now: float) -> Sequence[Message]:
        """What is said first, once."""

    def understand(self, data: bytes | str, now: float) -> ClientMessage:
        """What one message of the caller means."""

    def tell(self, event: LiveEvent, channels: int, now: float) -> Sequence[Message]:
        """What the recogniser said, of so many channels."""

    def parting(self, ending: EndReason, detail: str, now: float) -> Sequence[Message]:
        """What is said last of a session that ends before all of it was transcribed."""

    def late(self, lag: float, channels: int, now: float) -> Sequence[Message]:
        """What is said once recognition is so many seconds behind, once each time."""

    def goodbye(self, ending: EndReason, detail: str) -> Goodbye:
        """How the caller's socket is closed."""


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What one session may take, in seconds: by the clock, without audio or a sign of life, and to finish.

    Audio may come `speed` times as fast as it was spoken, and `burst` seconds of it at once; a faster caller is slowed
    down. After `flaws` messages that nobody understands it is left. Once recognition is `late` seconds behind, the
    caller is warned, and once it is `too_late`, the session is ended.
    """

    length: float = 4 * 3600.0
    idle: float = 10.0
    finishing: float = 30.0
    speed: float = 4.0
    burst: float = 30.0
    flaws: int = 10
    late: float = 5.0
    too_late: float = 30.0


@dataclass(frozen=True, slots=True)
class Push:
    """Hand bytes to the recogniser, and say `taken` when it has them."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Flush:
    """Have the recogniser make final what it has, of one channel or of all."""

    channel: int | None


@dataclass(frozen=True, slots=True)
class Conclude:
    """Tell the recogniser that no more comes."""


@dataclass(frozen=True, slots=True)
class Tell:
    """Send a message to whom it concerns."""

    message: Message


@dataclass(frozen=True, slots=True)
class End:
    """Close everything: the last action there is."""

    ending: EndReason
    goodbye: Goodbye


@dataclass(frozen=True, slots=True)
class Note:
    """Have those who watch know that the session fell behind by so many seconds, or is in time again."""

    lag: float
    is_late: bool


Action = Push | Flush | Conclude | Tell | Note | End


class _State(Enum):
    LISTENING = auto()
    FINISHING = auto()
    ENDED = auto()


_FATAL = frozenset({EndReason.UNDECODABLE, EndReason.FAILED, EndReason.CALLBACK_LOST})
_CALLERS_FAULT = frozenset({FailureCode.AUDIO, FailureCode.TOO_LARGE})


class Session:
    """One session, from its first moment to its last. Every method takes what happened, and returns what to do now."""

    def __init__(
        self, protocol: VendorProtocol, limits: SessionLimits, now: float, byte_rate: float | None = None
    ) -> None:
        """`byte_rate` is how many bytes are a second of audio; None where only the recogniser finds out."""
        self._protocol = protocol
        self._limits = limits
        self._byte_rate = byte_rate
        self._state = _State.LISTENING
        self._ending = EndReason.DONE
        self._detail = ""
        self.began_at = self._sign_of_life = self._finishing_since = now
        self._pushing = 0
        self._flaws = 0
        self._bytes = 0
        self._seconds = 0.0
        self._is_late = False

    @property
    def audio_bytes(self) -> int:
        return self._bytes

    def begin(self, now: float) -> tuple[Action, ...]:
        return tuple(Tell(message) for message in self._protocol.opening(now))

    def receive(self, data: bytes | str, now: float) -> tuple[Action, ...]:
        """The caller sent a message. What comes behind its last word is not read."""
        if self._state is not _State.LISTENING:
            return ()
        match self._protocol.understand(data, now):
            case AudioChunk(data=audio, answers=answers):
                return (*self._push(audio), *map(Tell, answers))
            case EndOfStream(answers=answers):
                return (*map(Tell, answers), *self._finish(EndReason.DONE, "", now))
            case FinalizeRequest(channel=channel):
                return (Flush(channel),)
            case KeepAlive():
                self._sign_of_life = max(self._sign_of_life, now)
                return ()
            case Answered(answers=answers, flawed=flawed):
                return (*map(Tell, answers), *(self._endure(now) if flawed else ()))

    def taken(self, seconds: float, now: float) -> None:
        """The recogniser took what was pushed; it has decoded so many seconds of audio in all."""
        self._pushing -= 1
        self._seconds = self._bytes / self._byte_rate if self._byte_rate else seconds
        self._sign_of_life = now + self.pause(now)  # while it is slowed down, a caller cannot be heard

    def pause(self, now: float) -> float:
        """For how many seconds a caller that is too fast is not listened to."""
        limits = self._limits
        ahead = self._seconds - limits.burst - limits.speed * (now - self.began_at)
        return max(0.0, ahead / limits.speed)

    def recognised(self, event: LiveEvent, channels: int, now: float) -> tuple[Action, ...]:
        """The recogniser said something, of so many channels."""
        if self._state is _State.ENDED:
            return ()
        match event:
            case Broken(code=code, message=message):
                return self.end(EndReason.UNDECODABLE if code in _CALLERS_FAULT else EndReason.FAILED, message, now)
            case Finished():
                return (*self._told(event, channels, now), self._end(self._ending, self._detail))
            case _:
                return self._told(event, channels, now)

    def end(self, ending: EndReason, detail: str, now: float) -> tuple[Action, ...]:
        """Something else wants it to end. `detail` is for the caller, without secrets."""
        if ending in _FATAL and self._state is not _State.ENDED:
            return (*map(Tell, self._protocol.parting(ending, detail, now)), self._end(ending, detail))
        return self._finish(ending, detail, now) if self._state is _State.LISTENING else ()

    def lag(self, seconds: float, channels: int, now: float) -> tuple[Action, ...]:
        """Audio that is over has waited so long to be transcribed."""
        if self._state is not _State.LISTENING:
            return ()
        if seconds >= self._limits.too_late:
            return self._finish(EndReason.TOO_LATE, "", now)
        if not self._is_late and seconds >= self._limits.late:
            self._is_late = True
            return (Note(seconds, is_late=True), *map(Tell, self._protocol.late(seconds, channels, now)))
        if self._is_late and seconds < self._limits.late / 2:
            self._is_late = False
            return (Note(seconds, is_late=False),)
        return ()

    def tick(self, now: float) -> tuple[Action, ...]:
        if now < self.deadline or self._state is _State.ENDED:
            return ()
        if self._state is _State.FINISHING:
            return self.end(EndReason.FAILED, "The recogniser did not finish in time.", now)
        return self._finish(EndReason.TOO_LONG if now >= self._last_moment else EndReason.IDLE, "", now)

    @property
    def deadline(self) -> float:
        """When `tick` has something to do, if nothing happens before."""
        if self._state is _State.FINISHING:
            return self._finishing_since + self._limits.finishing
        if self._pushing:
            return self._last_moment
        return min(self._sign_of_life + self._limits.idle, self._last_moment)

    @property
    def _last_moment(self) -> float:
        return self.began_at + self._limits.length

    def _push(self, audio: bytes) -> tuple[Action, ...]:
        if not audio:
            return ()
        self._pushing += 1
        self._bytes += len(audio)
        return (Push(audio),)

    def _endure(self, now: float) -> tuple[Action, ...]:
        self._flaws += 1
        return self._finish(EndReason.NONSENSE, "", now) if self._flaws >= self._limits.flaws else ()

    def _finish(self, ending: EndReason, detail: str, now: float) -> tuple[Action, ...]:
        self._state = _State.FINISHING
        self._ending, self._detail, self._finishing_since = ending, detail, now
        return (Conclude(),)

    def _told(self, event: LiveEvent, channels: int, now: float) -> tuple[Action, ...]:
        return tuple(Tell(message) for message in self._protocol.tell(event, channels, now))

    def _end(self, ending: EndReason, detail: str) -> End:
        self._state = _State.ENDED
        return End(ending, self._protocol.goodbye(ending, detail))
