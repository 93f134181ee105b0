"""The errors of the engine. A class's docstring says what went wrong; the message names the field and the remedy."""

from __future__ import annotations

from typing import Literal


class EngineError(Exception):
    """Something that the person who started the engine can mend."""


class AudioError(Exception):
    """The audio cannot be decoded: broken, empty, or in a format that FFmpeg does not know."""


class WorkerDied(Exception):
    """The worker process ended in the middle of a piece of work."""


class RecogniserUnavailable(Exception):
    """The recogniser cannot be loaded: too large for the memory it may take, broken, or no longer configured."""


class Busy(Exception):
    """No more live sessions now. `reason` says what there is too little of; another try later can succeed."""

    def __init__(self, message: str, reason: Literal["capacity", "key", "limit", "memory", "stopping"]) -> None:
        super().__init__(message)
        self.reason = reason


class TooSlow(Exception):
    """This machine cannot keep even one live session of the recogniser in real time: another try later is of no use."""


class StorageFull(Exception):
    """The disk is full: nothing of what was to be stored is kept."""


class TooLarge(Exception):
    """More bytes than may be stored. `limit` is how many may."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"more than {limit} bytes")
        self.limit = limit
