"""What a running engine of this machine says of itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.settings import EngineSettings

_HERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (where everybody is listened to)
_ANSWER_SECONDS = 2.0
_MOST = 1024 * 1024


def address(engine: EngineSettings) -> str:
    """Where it would answer."""
    host = _HERE.get(engine.host, engine.host)
    return f"http://[{host}]:{engine.port}" if ":" in host else f"http://{host}:{engine.port}"


def ask(engine: EngineSettings, path: str) -> dict[str, Any] | None:
    """The JSON object at a path; None where no engine answers."""
    from urllib.error import HTTPError
    from urllib.request import ProxyHandler, build_opener

    try:
        with build_opener(ProxyHandler({})).open(address(engine) + path, timeout=_ANSWER_SECONDS) as answer:
            body = answer.read(_MOST)
    except HTTPError as error:
        body = error.read(_MOST)  # not ready, and says so
    except OSError:
        return None
    try:
        told = json.loads(body)
    except ValueError:
        return None
    return told if isinstance(told, dict) else None
