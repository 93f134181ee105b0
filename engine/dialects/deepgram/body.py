"""The JSON body of a request for a recording: the URL of the audio, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from engine.dialects.deepgram.errors import BadRequest
from engine.dialects.deepgram.recorded_parameters import KNOWN
from engine.dialects.warnings import warning

MAX_JSON = 64 * 1024
"""Bytes of a JSON body, which holds one URL."""

_BAD_JSON = "Content-type was application/json, but we could not process the JSON payload."
_SEND = 'send {"url": "https://..."}.'
_AUDIO = "audio is sent with its own type, such as Content-Type: audio/wav, or application/octet-stream."
_MARKS = (b"RIFF", b"ID3", b"fLaC", b"OggS", b"\x1aE\xdf\xa3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf1", b"FORM", b"#!AMR")
_MOST_WARNINGS = 50


@dataclass(frozen=True, slots=True)
class AudioReference:
    """Where the audio is, which may hold credentials, and what of the body was not read."""

    url: str
    warnings: tuple[Mapping[str, str], ...] = ()


def parse_body(body: bytes) -> AudioReference | BadRequest:
    """What a body says that claims to be JSON, or why it says nothing."""
    if body.startswith(_MARKS) or body[4:8] == b"ftyp":
        return _bad_json(f"The body is audio; {_AUDIO}")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return _bad_json(f"The body is not JSON; {_SEND}")
    if not isinstance(document, dict) or "url" not in document:
        return _bad_json(f"url: the field is missing; {_SEND}")
    url = document["url"]
    if not isinstance(url, str) or not url:
        return _bad_json(f"url: the value is not a string with a URL in it; {_SEND}")
    others = [str(name) for name in document if name != "url"]
    if misplaced := next((name for name in others if name in KNOWN), None):
        return BadRequest("Bad Request", f"{misplaced}: belongs in the query; send POST /v1/listen?{misplaced}=...")
    strange = [warning(name, "unknown", "Not read: the body holds a url alone.") for name in others[:_MOST_WARNINGS]]
    return AudioReference(url, tuple(strange))


def too_much_json(size: int | None) -> BadRequest:
    """A body that claims to be JSON and is larger than one that holds a URL."""
    many = f"{size} bytes are" if size else f"more than {MAX_JSON} bytes are"
    return _bad_json(f"{many} no URL; {_AUDIO}")


def instead_of_audio(beginning: bytes, content_type: str) -> str:
    """What to do about a body that cannot be decoded, by how it begins and what it claims to be; empty where neither
    says anything."""
    if content_type.lower().startswith("multipart/"):
        return "The body is a form; send the bytes of the file alone, as curl does with --data-binary @FILE."
    if beginning.lstrip().startswith(b"{"):
        return "The body looks like JSON; send it with Content-Type: application/json."
    return ""


def _bad_json(flaw: str) -> BadRequest:
    return BadRequest("Bad Request", _BAD_JSON, details=flaw)
