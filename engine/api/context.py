"""What the endpoints work with, whichever vendor's they are."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from engine.api.admission import RequestLimits
from engine.api.metrics import HttpMetrics
from engine.api.spool import Spool
from engine.audio.decode import AudioInfo
from engine.audio.fetch import HttpFetcher
from engine.dialects.catalogue import Catalogue
from engine.jobs.admission import Admission
from engine.jobs.archive import Archive
from engine.jobs.intake import Intake
from engine.jobs.recognition import Heard
from engine.keys import ApiKeys
from engine.request import Failed, RawFormat, Request
from engine.transcript import Transcript
from relay.guard.resolver import Resolver


class Transcriber(Protocol):
    """What the endpoints ask of recognition."""

    async def probe(self, path: Path, raw: RawFormat | None) -> AudioInfo:
        """What the file is. Raises AudioError, naming the fault and the remedy, where it cannot be decoded."""

    async def transcribe(self, request: Request, path: Path, heard: Heard | None = None) -> Transcript | Failed:
        """What is said in the file, for a caller who waits; `heard` is told the words as they come."""


@dataclass(frozen=True, slots=True)
class ApiContext:
    """Whoever makes it opens and closes what is in it. `public_url` is where callers reach this server; empty: where
    they say they do. `clock` tells epoch seconds."""

    keys: ApiKeys
    catalogue: Catalogue
    resolver: Resolver
    spool: Spool
    admission: Admission
    fetcher: HttpFetcher
    transcriber: Transcriber
    intake: Intake
    archive: Archive
    metrics: HttpMetrics
    limits: RequestLimits = field(default_factory=RequestLimits)
    clock: Callable[[], float] = time.time
    public_url: str = ""
