"""Deepgram's API, in and out: query parameters become a Request, a Transcript the vendor's document, and what is heard
live its messages."""

from engine.dialects.deepgram.body import MAX_JSON, instead_of_audio, parse_body, too_much_json
from engine.dialects.deepgram.errors import (
    BadRequest,
    failure_reply,
    invalid_callback,
    render_refusal,
    unresolved_callback,
)
from engine.dialects.deepgram.live_messages import DeepgramProtocol
from engine.dialects.deepgram.live_parameters import parse_live
from engine.dialects.deepgram.management import find_model, model_list, parse_grant, project, project_list
from engine.dialects.deepgram.models import GENERAL, SPECIAL
from engine.dialects.deepgram.recorded_parameters import parse
from engine.dialects.deepgram.results import acknowledge, callback_headers, render, render_failure

__all__ = [
    "GENERAL",
    "MAX_JSON",
    "SPECIAL",
    "BadRequest",
    "DeepgramProtocol",
    "acknowledge",
    "callback_headers",
    "failure_reply",
    "find_model",
    "instead_of_audio",
    "invalid_callback",
    "model_list",
    "parse",
    "parse_body",
    "parse_grant",
    "parse_live",
    "project",
    "project_list",
    "render",
    "render_failure",
    "render_refusal",
    "too_much_json",
    "unresolved_callback",
]
