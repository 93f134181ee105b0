"""What jobs and waiting callers ask of the recognisers' processes, and what it means when one of them dies."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from engine.audio.decode import AudioInfo
from engine.errors import AudioError, RecogniserUnavailable, WorkerDied
from engine.jobs.observers import JobMetrics
from engine.recognisers.base import RecognitionOptions
from engine.recognisers.workers.pool import Transcribe, TranscriptionPool
from engine.request import Failed, FailureCode, RawFormat, Request
from engine.transcript import Transcript, Word

_PROBES = 2
Heard = Callable[[Sequence[Word]], None]
"""Who wants the words as they come; sometimes there are none."""

_RECENT = 50
"""Recognitions that the speed is measured by."""


class Recognition:
    """`max_seconds` bounds one recognition, its turn in the queue included: a recogniser may hang on hostile audio."""

    def __init__(self, pool: TranscriptionPool, metrics: JobMetrics, max_seconds: float) -> None:
        self._pool = pool
        self._metrics = metrics
        self._max_seconds = max_seconds
        self._recent: deque[tuple[float, float]] = deque(maxlen=_RECENT)

    @property
    def speed(self) -> float | None:
        """Seconds of audio for each second of work, its turn in the queue of processes included; None before any."""
        took = sum(seconds for _, seconds in self._recent)
        return sum(audio for audio, _ in self._recent) / took if took else None

    async def attempt(self, request: Request, path: Path, heard: Heard | None = None) -> Transcript | Failed:
        """What is said in the file at `path`; `heard` is told the words as they come. Raises WorkerDied when the
        process ended on the way."""
        options = RecognitionOptions(
            language=request.language,
            hotwords=request.hotwords,
            languages=request.languages,
            code_switching=request.code_switching,
            translate=request.translate,
            prompt=request.prompt,
            as_it_comes=heard is not None,
            speakers=request.speakers,
        )
        task = Transcribe(str(path), request.recogniser, request.multichannel, request.raw, options)
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._max_seconds):
                transcript = await self._pool.transcribe(task, (lambda _, words: heard(words)) if heard else None)
        except AudioError as error:
            return Failed(FailureCode.AUDIO, str(error))
        except RecogniserUnavailable as error:
            return Failed(FailureCode.INTERNAL, str(error))
        except TimeoutError:
            return Failed(FailureCode.TIMEOUT, f"Recognition took more than {self._max_seconds:g} s; send less audio.")
        except WorkerDied:
            self._metrics.worker_died()
            raise
        self._metrics.transcribed(transcript.duration)
        took = time.perf_counter() - began
        self._recent.append((transcript.duration, took))
        return replace(transcript, took=round(took, 3))

    async def transcribe(self, request: Request, path: Path, heard: Heard | None = None) -> Transcript | Failed:
        """The same for a caller who waits, and who is told of a death at once: to try again is the caller's choice."""
        try:
            return await self.attempt(request, path, heard)
        except WorkerDied:
            return Failed(FailureCode.INTERNAL, "The recogniser's process ended on this audio. Send it again.")

    async def probe(self, path: Path, raw: RawFormat | None) -> AudioInfo:
        """What the file is. Raises AudioError for audio that cannot be decoded, or that ends whoever looks at it."""
        for _ in range(_PROBES):
            try:
                return await self._pool.probe(str(path), raw)
            except WorkerDied:
                self._metrics.worker_died()
        raise AudioError("the audio ends the process that reads it; convert it to WAV or FLAC")
