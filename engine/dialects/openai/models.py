"""OpenAI's names for models that transcribe, and how it lists models. Pure."""

from __future__ import annotations

from typing import Any

from engine.dialects.catalogue import Catalogue
from engine.dialects.openai.errors import ErrorObject

MODELS = (
    *("whisper-1", "gpt-transcribe", "gpt-4o-transcribe", "gpt-4o-mini-transcribe"),
    *("gpt-4o-mini-transcribe-2025-12-15", "gpt-4o-transcribe-diarize"),
)
"""What its clients send: each is answered by a recogniser of ours."""


def model_list(catalogue: Catalogue) -> dict[str, Any]:
    """Every model that its clients would ask for: those of this server, and the vendor's own names."""
    offered = sorted(name for name in catalogue.models if name in catalogue.own or name in MODELS)
    return {"object": "list", "data": [model_document(name) for name in offered]}


def model_document(name: str) -> dict[str, Any]:
    """One model. When it was made is not known here."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "outspoken"}


def no_such_model(name: str) -> ErrorObject:
    """The answer to whoever asks for a name that is none."""
    message = f"The model {name[:64]!r} does not exist here. GET /v1/models lists those that do."
    return ErrorObject(404, message, "model", "model_not_found")
