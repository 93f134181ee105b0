"""What is told of live sessions: a log line for each, and metrics. Every label value is known at start."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from engine.dialects.live import Ending
from engine.live.conversation import SessionEnded
from relay.guard.rules import Refusal, Rules
from relay.guard.url import LIVE, read

_DIALECTS = ("deepgram", "gladia-live")
_SECONDS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)
_COMMIT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)

log = structlog.get_logger()


class LiveLog:
    """Writes one canonical line for each session that ended."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def __call__(self, ended: SessionEnded) -> None:
        """Hear of one session."""
        request = ended.asked.request
        fields = {
            "request_id": request.id,
            "dialect": request.dialect,
            "ending": ended.ending.value,
            "model": request.model,
            "recogniser": request.recogniser,
            "destination": self._destination(request.callback.url) if request.callback else None,
            "key.id": request.key_id,
            "traceparent": request.traceparent,
            "bytes": ended.audio_bytes,
            "audio_s": round(ended.audio, 3),
            "duration_s": round(ended.ended_at - ended.began_at, 6),
            "told_caller": ended.told_caller,
            "told_callback": ended.told_callback,
        }
        log.info("live.ended", **{name: value for name, value in fields.items() if value is not None})

    def _destination(self, url: str) -> str | None:
        """The callback's origin: its path, query and userinfo may be secret."""
        target = read(url, self._rules, LIVE)
        return None if isinstance(target, Refusal) else target.origin


class LiveMetrics:
    """What is counted of sessions."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._under_way = Gauge("engine_live_sessions", "Live sessions under way.", registry=registry)
        ended = Counter(
            "engine_live_sessions_ended",
            "Live sessions that ended, by dialect and why.",
            ["dialect", "ending"],
            registry=registry,
        )
        self._ended = {(name, ending): ended.labels(name, ending.value) for name in _DIALECTS for ending in Ending}
        self._seconds = Histogram(
            "engine_live_session_duration_seconds", "How long sessions lasted.", buckets=_SECONDS, registry=registry
        )
        self._audio = Counter("engine_live_audio_seconds", "Seconds of audio heard live.", registry=registry)
        told = Counter("engine_live_messages", "Messages of live sessions, by to whom.", ["to"], registry=registry)
        self._to_caller, self._to_callback = told.labels("caller"), told.labels("callback")
        self._commit = Histogram(
            "engine_live_commit_seconds",
            "From a message for a callback to its commit, for the first of each group.",
            buckets=_COMMIT,
            registry=registry,
        )
        self._away = Counter(
            "engine_live_sessions_refused", "Live sessions for which there was no room.", registry=registry
        )

    def count(self, sessions: Callable[[], int]) -> None:
        """Ask this how many sessions there are."""
        self._under_way.set_function(lambda: float(sessions()))

    def __call__(self, ended: SessionEnded) -> None:
        """Hear of one session."""
        self._ended[ended.asked.request.dialect, ended.ending].inc()
        self._seconds.observe(max(0.0, ended.ended_at - ended.began_at))
        self._audio.inc(ended.audio)
        self._to_caller.inc(ended.told_caller)
        self._to_callback.inc(ended.told_callback)

    def committed(self, messages: int, seconds: float) -> None:  # noqa: ARG002 (messages are counted by session)
        """Hear of one group of messages."""
        self._commit.observe(seconds)

    def refused(self) -> None:
        """Hear of a session that found no room."""
        self._away.inc()
