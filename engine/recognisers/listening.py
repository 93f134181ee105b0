"""Live recognition, seen from the engine: sessions, each heard in one of a few worker processes that many share.

Audio that kills a worker ends the sessions in it, each with Broken, and nothing else; the next session has a new one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from engine.audio.decode import MAX_SECONDS
from engine.errors import Busy
from engine.heard import Heard, LiveOptions
from engine.recognisers.base import Spec
from engine.transcript import Model

WORKER = "engine.recognisers.streaming.worker"
"""The module that a worker process runs; whoever brings another speaks the frames of `streaming.wire`."""


class Hearing:
    """One session: push audio, and iterate for what is heard, until Finished or Broken, which comes last.

    `duration` is how many seconds of the audio were decoded so far, `channels` how many the Heard are numbered by; both
    are up to date with the last Heard.
    """

    model: Model
    duration: float
    channels: int

    async def push(self, data: bytes) -> None:
        """Hand in bytes as the caller sent them. Waits while the recogniser is behind; nothing once it has ended."""
        raise NotImplementedError

    async def finalize(self, channel: int | None = None) -> None:
        """What was pushed so far becomes final: a Final with `from_finalize` comes for the channel, or for each."""
        raise NotImplementedError

    async def finish(self) -> None:
        """No more audio comes: the last Finals, then Finished."""
        raise NotImplementedError

    async def close(self) -> None:
        """Forget the session, at any time. Iterating ends; after Finished or Broken it gives the place back, too."""
        raise NotImplementedError

    def __aiter__(self) -> AsyncIterator[Heard]:
        raise NotImplementedError


class Listening:
    """At most `sessions` at once, spread over `workers` processes."""

    def __init__(
        self,
        recognisers: Mapping[str, Spec],
        *,
        workers: int = 1,
        sessions: int = 16,
        max_seconds: float = MAX_SECONDS,
        worker: str = WORKER,
    ) -> None:
        raise NotImplementedError

    async def start(self) -> None:
        """Start the processes, without recognisers."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Kill the processes and wait for their end. Sessions under way end with Broken."""
        raise NotImplementedError

    async def open(self, recogniser: str, options: LiveOptions) -> Hearing:
        """Begin a session, once the recogniser is loaded.

        Raises Busy beyond the bound, RecogniserUnavailable for one that cannot be loaded, WorkerDied.
        """
        raise Busy
