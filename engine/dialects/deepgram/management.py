"""What Deepgram's clients read besides results: the one project, its models, how long a token is good. Pure."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

from engine.dialects.catalogue import Catalogue
from engine.dialects.deepgram.errors import BadRequest
from engine.dialects.deepgram.models import GENERAL

GRANT_SECONDS = 30
"""How long a token is good, unless `ttl_seconds` says otherwise."""

_MOST_SECONDS = 3600
_OURS = UUID("8c1d3f7e-55b0-5a0e-9d67-0f0a4b6c2e11")
PROJECT_ID = str(uuid5(_OURS, "project"))


def project_list() -> dict[str, Any]:
    """The one project, in a list."""
    return {"projects": [{"project_id": PROJECT_ID, "name": "Outspoken"}]}


def project(project_id: str) -> dict[str, Any] | None:
    """A project; None for one that there is not. Nothing that is heard here teaches a model."""
    return {"project_id": PROJECT_ID, "name": "Outspoken", "mip_opt_out": True} if project_id == PROJECT_ID else None


def model_list(catalogue: Catalogue) -> dict[str, Any]:
    """Every model that is worth choosing: those of this server, and the vendor's general names. None of them speaks."""
    offered = sorted(name for name in catalogue.models if name in catalogue.own or name in GENERAL)
    return {"stt": [_model(name, catalogue) for name in offered], "tts": []}


def find_model(wanted: str, catalogue: Catalogue) -> dict[str, Any] | None:
    """One model, by its name or its UUID; None for one that there is not."""
    name = next((name for name in catalogue.models if wanted in {name, _uuid(name)}), None)
    return _model(name, catalogue) if name else None


def parse_grant(body: object) -> int | BadRequest:
    """For how many seconds a token is asked for."""
    seconds = body.get("ttl_seconds", GRANT_SECONDS) if isinstance(body, dict) else None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 1 <= seconds <= _MOST_SECONDS:
        message = f'ttl_seconds: expected a number from 1 to {_MOST_SECONDS}; send {{"ttl_seconds": {GRANT_SECONDS}}}.'
        return BadRequest("Bad Request", message)
    return int(seconds)


def _model(name: str, catalogue: Catalogue) -> dict[str, Any]:
    return {
        "name": name,
        "canonical_name": name,
        "architecture": "whisper",
        "languages": sorted(catalogue.recognisers[catalogue.models[name]].languages),
        "version": catalogue.models[name],
        "uuid": _uuid(name),
        "batch": True,
        "streaming": True,
        "formatted_output": True,
    }


def _uuid(name: str) -> str:
    return str(uuid5(_OURS, name))
