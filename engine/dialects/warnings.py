"""What a result is qualified by, the same in every dialect: an object for each warning. Pure."""

from __future__ import annotations

from typing import Any, Literal

from engine.request import Request
from engine.transcript import Gap, GapReason, Transcript

Unsupported = Literal["warn", "refuse"]
"""What becomes of what cannot be done and does no harm when it is missing."""

NO_SPEAKERS = "telling speakers apart, before whoever runs it has said `engine models pull speakers`"
"""What this server does not offer, in the middle of a sentence."""

_REASONS = {
    GapReason.UNHEARD: "Somebody seems to speak, but no words could be made out",
    GapReason.REPETITIVE: "Only endless repetitions could be made out, and were left out,",
}


def warnings(request: Request, transcript: Transcript) -> list[dict[str, Any]]:
    """What of the request was not honoured, and what of the audio is missing."""
    flaws = [{"parameter": "audio", "type": "incomplete_audio", "message": transcript.flaw}] if transcript.flaw else []
    return [*map(dict, request.warnings), *flaws, *map(_gap, transcript.gaps)]


def warning(parameter: str, kind: str, message: str) -> dict[str, str]:
    """What of a request is not honoured, or in part, as `Request.warnings` keeps it. `kind` is unknown, unused,
    unsupported or partly_supported."""
    return {"parameter": parameter[:64], "type": f"{kind}_parameter", "message": message}


def missing(transcript: Transcript) -> list[str]:
    """A sentence for each thing that is missing of the audio."""
    flaws = [transcript.flaw] if transcript.flaw else []
    return [*flaws, *map(_sentence, transcript.gaps)]


def _gap(gap: Gap) -> dict[str, Any]:
    times = {"channel": gap.channel, "start": round(gap.start, 6), "end": round(gap.end, 6)}
    return {"parameter": "audio", "type": gap.reason.value, "message": _sentence(gap), **times}


def _sentence(gap: Gap) -> str:
    return f"{_REASONS[gap.reason]} from {gap.start:.1f} to {gap.end:.1f} s on channel {gap.channel}."
