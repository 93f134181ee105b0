"""What a result is qualified by, the same in every dialect: an object for each warning. Pure."""

from __future__ import annotations

from engine.request import Request
from engine.transcript import Transcript


def warnings(request: Request, transcript: Transcript) -> list[dict[str, str]]:
    """What of the request was not honoured, and what of the audio is missing."""
    flaws = [{"parameter": "audio", "type": "incomplete_audio", "message": transcript.flaw}] if transcript.flaw else []
    return [*map(dict, request.warnings), *flaws]
