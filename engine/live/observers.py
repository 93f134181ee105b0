"""What is told of live sessions: log lines and metrics. Every label value is known at start."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from engine.dialects.live import EndReason, LiveRequest
from engine.live.conversation import Lateness, SessionEnded
from engine.live.sessions import LiveRecord, Reason, SessionRefused
from engine.recognisers.workers.live_recognition import PassMade
from relay.guard.rules import Refusal, Rules
from relay.guard.url import LIVE, read

_DIALECTS = ("deepgram", "gladia-live")
_SECONDS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)
_COMMIT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
_LAG = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
"""What one wants of interim and of final results, of one session and of several, ends on an edge; and so do the lags at
which a caller is warned, and a session ended."""

log = structlog.get_logger()


class LiveLog:
    """Writes one canonical line for each session that ended, and one whenever a session is late or refused."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def __call__(self, record: LiveRecord) -> None:
        match record:
            case SessionEnded():
                self._ended(record)
            case SessionRefused(asked, reason, detail):
                log.warning("live.refused", reason=reason, detail=detail, **_known(asked))
            case Lateness(asked, lag, is_late=True):
                log.warning("live.behind", lag_s=round(lag, 3), **_known(asked))
            case Lateness(asked, lag):
                log.info("live.caught_up", lag_s=round(lag, 3), **_known(asked))

    def _ended(self, ended: SessionEnded) -> None:
        request = ended.asked.request
        fields = {
            "ending": ended.ending.value,
            "destination": self._destination(request.callback.url) if request.callback else None,
            "traceparent": request.traceparent,
            "bytes": ended.audio_bytes,
            "audio_s": round(ended.audio, 3),
            "duration_s": round(ended.ended_at - ended.began_at, 6),
            "told_caller": ended.told_caller,
            "told_callback": ended.told_callback,
        }
        known = {name: value for name, value in fields.items() if value is not None}
        log.info("live.ended", **_known(ended.asked), **known)

    def _destination(self, url: str) -> str | None:
        """The callback's origin: its path, query and userinfo may be secret."""
        target = read(url, self._rules, LIVE)
        return None if isinstance(target, Refusal) else target.origin


def _known(asked: LiveRequest) -> dict[str, object]:
    """What every line about a session has."""
    request = asked.request
    known = {
        "request_id": request.id,
        "dialect": request.dialect,
        "model": request.model,
        "recogniser": request.recogniser,
        "key.id": request.key_id,
    }
    return {name: value for name, value in known.items() if value is not None}


class LiveMetrics:
    """What is counted of sessions, and of what they tell."""

    def __init__(self, registry: CollectorRegistry) -> None:
        ended = Counter(
            "engine_live_sessions_ended",
            "Live sessions that ended, by dialect and why.",
            ["dialect", "ending"],
            registry=registry,
        )
        self._ended = {(name, ending): ended.labels(name, ending.value) for name in _DIALECTS for ending in EndReason}
        self._seconds = Histogram(
            "engine_live_session_duration_seconds", "How long sessions lasted.", buckets=_SECONDS, registry=registry
        )
        self._audio = Counter("engine_live_audio_seconds", "Seconds of audio heard live.", registry=registry)
        told = Counter("engine_live_messages", "Messages of live sessions, by to whom.", ["to"], registry=registry)
        self._to_caller, self._to_callback = told.labels("caller"), told.labels("callback")
        refused = Counter(
            "engine_live_sessions_refused",
            "Live sessions that could not begin, by what there was too little of.",
            ["reason"],
            registry=registry,
        )
        self._refused = {reason: refused.labels(reason) for reason in get_args(Reason)}
        self._behind = Counter(
            "engine_live_sessions_behind",
            "Times that a live session fell behind so far that its caller was warned.",
            registry=registry,
        )

    def __call__(self, record: LiveRecord) -> None:
        match record:
            case SessionEnded():
                self._count(record)
            case SessionRefused(reason=reason):
                self._refused[reason].inc()
            case Lateness(is_late=True):
                self._behind.inc()

    def _count(self, ended: SessionEnded) -> None:
        self._ended[ended.asked.request.dialect, ended.ending].inc()
        self._seconds.observe(max(0.0, ended.ended_at - ended.began_at))
        self._audio.inc(ended.audio)
        self._to_caller.inc(ended.told_caller)
        self._to_callback.inc(ended.told_callback)


class LiveLagMetrics:
    """How late results are, and what is not made for want of time."""

    def __init__(self, registry: CollectorRegistry) -> None:
        lag = Histogram(
            "engine_live_lag_seconds",
            "From the arrival of the audio that a result needed to that result.",
            ["kind"],
            buckets=_LAG,
            registry=registry,
        )
        self._interim_lag, self._final_lag = lag.labels("interim"), lag.labels("final")
        self._dropped = Counter(
            "engine_live_interims_dropped",
            "Interim results that were promised, one a second of speech, and not made for want of time.",
            registry=registry,
        )
        self._commit = Histogram(
            "engine_live_commit_seconds",
            "From a message for a callback to its commit, for the first of each group.",
            buckets=_COMMIT,
            registry=registry,
        )

    def passed(self, made: PassMade) -> None:
        self._dropped.inc(made.record.missed)
        if made.lag is not None:
            (self._final_lag if made.record.final else self._interim_lag).observe(made.lag)

    def committed(self, messages: int, seconds: float) -> None:  # noqa: ARG002 (messages are counted by session)
        self._commit.observe(seconds)


class LiveGauges:
    """What is asked of sessions at each scrape: how many there are, how many there could be in all, and for how many
    seconds audio has waited to be transcribed where it has waited longest."""

    def __init__(
        self,
        registry: CollectorRegistry,
        sessions: Callable[[], float],
        capacity: Callable[[], float],
        lag: Callable[[], float],
    ) -> None:
        for name, text, ask in (
            ("engine_live_sessions", "Live sessions under way.", sessions),
            (
                "engine_live_capacity_sessions",
                "Live sessions with interim results, of the default recogniser, that can be kept in real time at once.",
                capacity,
            ),
            ("engine_live_lag_max_seconds", "The largest lag of any live session now.", lag),
        ):
            Gauge(name, text, registry=registry).set_function(ask)
