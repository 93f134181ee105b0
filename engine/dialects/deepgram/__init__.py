"""Deepgram's pre-recorded API, in and out: query parameters become a Request, a Transcript the vendor's document."""

from engine.dialects.deepgram.parameters import RawReader, parse
from engine.dialects.deepgram.render import acknowledge, callback_headers, failure_reply, render, render_failure
from engine.dialects.deepgram.reply import BadRequest, invalid_callback, unresolved_callback

__all__ = [
    "BadRequest",
    "RawReader",
    "acknowledge",
    "callback_headers",
    "failure_reply",
    "invalid_callback",
    "parse",
    "render",
    "render_failure",
    "unresolved_callback",
]
