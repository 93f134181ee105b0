"""OpenAI's API: `/v1/audio/transcriptions` and `/v1/audio/translations`."""

from __future__ import annotations

from aiohttp import web

from engine.api.admission import defer_continue
from engine.api.context import ApiContext
from engine.api.openai.speech import OpenAiSpeech

__all__ = ["PATHS", "routes"]

_TRANSCRIPTIONS = "/v1/audio/transcriptions"
_TRANSLATIONS = "/v1/audio/translations"

PATHS = (_TRANSCRIPTIONS, _TRANSLATIONS)
"""The paths that metrics tell apart."""


def routes(api: ApiContext) -> list[web.RouteDef]:
    """The endpoints, ready to be added to an application."""
    speech = OpenAiSpeech(api)
    return [
        web.post(_TRANSCRIPTIONS, speech.transcribe, expect_handler=defer_continue),
        web.post(_TRANSLATIONS, speech.translate, expect_handler=defer_continue),
    ]
