"""OpenAI's transcription API, in and out: a form's fields become a Request, a Transcript what its clients read."""

from engine.dialects.openai.errors import ErrorObject, failure_error, refused, render_error
from engine.dialects.openai.models import MODELS, model_document, model_list, no_such_model
from engine.dialects.openai.parameters import parse
from engine.dialects.openai.results import (
    acknowledge,
    answer,
    callback_headers,
    delta,
    event,
    events,
    plain_answer,
    render,
    render_failure,
)

__all__ = [
    "MODELS",
    "ErrorObject",
    "acknowledge",
    "answer",
    "callback_headers",
    "delta",
    "event",
    "events",
    "failure_error",
    "model_document",
    "model_list",
    "no_such_model",
    "parse",
    "plain_answer",
    "refused",
    "render",
    "render_error",
    "render_failure",
]
