"""Log lines: structlog JSON, one event name per fact, and nothing in them that a receiver or caller keeps secret."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections import Counter
from collections.abc import MutableMapping
from contextlib import suppress
from typing import IO, Any, Literal

import orjson
import structlog

from relay.guard.url import without_secrets

Event = MutableMapping[str, Any]

log = structlog.get_logger()

_SECRET_KEYS = frozenset(
    {"authorization", "api_key", "key", "secret", "token", "password", "url", "callback", "signature"}
)


def configure(level: str, style: Literal["json", "console"], service: str) -> None:
    """Send every log line of this process to standard output, one a line. `level` is a standard level name."""
    render: Any = structlog.processors.JSONRenderer(serializer=_serialise)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _stamp(service),
            structlog.processors.format_exc_info,
            redact,
            render if style == "json" else structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.BytesLoggerFactory(Unfailing(sys.stdout.buffer))  # type: ignore[arg-type]
        if style == "json"
        else structlog.PrintLoggerFactory(Unfailing(sys.stdout)),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [*(one for one in root.handlers if not isinstance(one, LibraryLog)), LibraryLog()]


class LibraryLog(logging.Handler):
    """What libraries log, as lines of ours: who speaks, which error, and where it was raised. Of their own words there
    is the sentence that is the same each time: aiohttp's tell the head of a request that it could not read, with the
    caller's key in it. What comes again and again is told when its count has doubled."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._counts = Counter[tuple[str, str, str]]()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one, unless it was written often enough."""
        error = record.exc_info[1] if record.exc_info else None
        kind = type(error).__name__ if error else ""
        detail = str(record.msg).partition("\n")[0] if record.args or error else ""
        counted = (record.name, detail, kind)
        self._counts[counted] += 1
        count = self._counts[counted]
        if count & (count - 1) == 0:
            # What a caller sent and nobody could read is no error of this process.
            level = logging.WARNING if getattr(error, "code", None) == 400 else record.levelno
            log.log(
                level, "library.logged", logger=record.name, detail=detail, kind=kind, at=_raised_at(error), count=count
            )


def _raised_at(error: BaseException | None) -> str:
    """The module's file and the line."""
    frames = traceback.extract_tb(error.__traceback__) if error else []
    return f"{'/'.join(frames[-1].filename.rsplit('/', 2)[-2:])}:{frames[-1].lineno}" if frames else ""


class Lines:
    """Counts lines by level, wherever they come from."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(("debug", "info", "warning", "error", "critical"), 0)

    def __call__(self, _: object, method: str, event: Event) -> Event:
        """Count one that structlog is about to write."""
        self.counts["error" if method == "exception" else method] += 1
        return event


def count_lines() -> Lines:
    """Count what this process writes from now on."""
    lines = Lines()
    structlog.configure(processors=[lines, *structlog.get_config()["processors"]])
    return lines


class Unfailing:
    """Standard output that may be a closed pipe or stand on a full disk: that costs a line, and never a delivery."""

    def __init__(self, stream: IO[Any]) -> None:
        self._stream = stream

    def write(self, line: Any) -> None:
        with suppress(OSError, ValueError):  # ValueError: closed, or text that it cannot encode
            self._stream.write(line)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


def _serialise(event: Event, **_: object) -> bytes:
    try:
        return orjson.dumps(event, default=str)
    except TypeError:  # half a surrogate pair, as a receiver's header may become: it stands escaped in the line
        return json.dumps(event, default=str).encode()


def _stamp(service: str) -> Any:
    def add_service(_: object, __: str, event: Event) -> Event:
        event["service"] = service
        return event

    return add_service


def redact(_: object, __: str, event: Event) -> Event:
    """Strip what may be secret: known keys altogether, userinfo and query of every URL in a text."""
    for key, value in event.items():
        if key.lower() in _SECRET_KEYS:
            event[key] = "[redacted]"
        elif isinstance(value, str):
            event[key] = without_secrets(value)
    return event
