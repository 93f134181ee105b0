"""The observers of jobs that end: the log, with one canonical line, metrics and spans. None repeats what was said.

Every label value exists from the start: a counter that first appears with its first failure has no increase, so
nobody would be alerted.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from engine.jobs.admission import Bound
from engine.jobs.executor import Ended
from engine.jobs.store import JobsSnapshot
from engine.request import Failed, FailureCode, Request
from engine.transcript import Transcript
from relay.guard.rules import Refusal, Rules
from relay.guard.url import read
from relay.service.traces import Spans

DONE = "done"
_STATES = ("queued", "leased")
_DURATION = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_WAIT = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 14400)

log = structlog.get_logger()


class JobSpans:
    """Makes one span of each job that ended, in the trace of its request."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans

    def __call__(self, ended: Ended) -> None:
        from opentelemetry.trace import SpanKind

        request, said = ended.job.request, ended.result.said
        attributes: dict[str, str | int] = {
            "outspoken.job.id": request.id,
            "outspoken.model": request.model,
            "outspoken.recogniser": request.recogniser,
            "outspoken.audio.bytes": ended.result.media.size,
            "outspoken.crashes": ended.job.crashes,
        }
        error = said.code.value if isinstance(said, Failed) else None
        times = (ended.started_at, ended.finished_at)
        self._spans.add("transcribe", SpanKind.CONSUMER, request.traceparent, times, attributes, error)


class JobLog:
    """Writes one canonical line for each job that ended."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def __call__(self, ended: Ended) -> None:
        said = ended.result.said
        if isinstance(said, Failed):
            log.warning("job.failed", **self._common(ended), **{"error.type": said.code.value, "detail": said.message})
        else:
            log.info("job.finished", **self._common(ended), **_amounts(said))

    def _common(self, ended: Ended) -> dict[str, object]:
        request = ended.job.request
        fields = {
            "job.id": request.id,
            "model": request.model,
            "recogniser": request.recogniser,
            "destination": self._destination(request),
            "key.id": request.key_id,
            "traceparent": request.traceparent,
            "bytes": ended.result.media.size,
            "crashes": ended.job.crashes,
            "duration_s": round(ended.finished_at - ended.started_at, 6),
            "queue_lag_s": round(max(0.0, ended.started_at - ended.job.created_at), 6),
        }
        return {name: value for name, value in fields.items() if value is not None}

    def _destination(self, request: Request) -> str | None:
        """The callback's origin: its path, query and userinfo may be secret."""
        target = read(request.callback.url, self._rules) if request.callback else None
        return None if target is None or isinstance(target, Refusal) else target.origin


def _amounts(transcript: Transcript) -> dict[str, object]:
    words = sum(len(channel.words) for channel in transcript.channels)
    return {"audio_s": round(transcript.duration, 3), "channels": len(transcript.channels), "words": words}


class JobMetrics:
    """What is counted of jobs and of the processes that work on them."""

    def __init__(self, registry: CollectorRegistry, workers: int) -> None:
        self._jobs(registry)
        self._queue(registry)
        Gauge("engine_workers", "Recogniser processes.", registry=registry).set(workers)
        self._audio = Counter("engine_audio_seconds", "Seconds of audio transcribed.", registry=registry)
        self._deaths = Counter("engine_worker_deaths", "Recogniser processes that ended at work.", registry=registry)

    def _jobs(self, registry: CollectorRegistry) -> None:
        jobs = Counter("engine_jobs", "Jobs that ended, by result.", ["result"], registry=registry)
        self._results = {result: jobs.labels(result) for result in (DONE, *(code.value for code in FailureCode))}
        self._duration = Histogram(
            "engine_job_duration_seconds", "From leased to ended.", buckets=_DURATION, registry=registry
        )
        self._wait = Histogram(
            "engine_job_queue_lag_seconds", "From accepted to leased.", buckets=_WAIT, registry=registry
        )

    def _queue(self, registry: CollectorRegistry) -> None:
        jobs = Gauge("engine_queue_jobs", "Unfinished jobs by state.", ["state"], registry=registry)
        self._states = {state: jobs.labels(state) for state in _STATES}
        self._bytes = Gauge("engine_queue_bytes", "Bytes of audio of unfinished jobs.", registry=registry)
        refused = Counter(
            "engine_requests_turned_away", "Requests answered with 429, by bound.", ["bound"], registry=registry
        )
        self._refused = {bound: refused.labels(bound.value) for bound in Bound}
        self._oldest = Gauge(
            "engine_queue_oldest_due_age_seconds", "How late the latest is; 0 when nothing waits.", registry=registry
        )
        self._stats_at = Gauge("engine_queue_stats_timestamp_seconds", "When these were counted.", registry=registry)

    def __call__(self, ended: Ended) -> None:
        said = ended.result.said
        self._results[said.code.value if isinstance(said, Failed) else DONE].inc()
        self._duration.observe(max(0.0, ended.finished_at - ended.started_at))
        self._wait.observe(max(0.0, ended.started_at - ended.job.created_at))

    def transcribed(self, seconds: float) -> None:
        """So much audio was transcribed, for a job or for a caller who waits."""
        self._audio.inc(seconds)

    def worker_died(self) -> None:
        self._deaths.inc()

    def refused(self, bound: Bound) -> None:
        self._refused[bound].inc()

    def counted(self, snapshot: JobsSnapshot) -> None:
        self._states["queued"].set(snapshot.queued)
        self._states["leased"].set(snapshot.leased)
        self._bytes.set(snapshot.bytes)
        self._oldest.set(snapshot.oldest_due_age)
        self._stats_at.set_to_current_time()


class JobGauges:
    """What is asked of the runner at each scrape: whether it lets its jobs finish and takes no more."""

    def __init__(self, registry: CollectorRegistry, draining: Callable[[], bool]) -> None:
        gauge = Gauge("engine_draining", "1 while the engine lets its jobs finish.", registry=registry)
        gauge.set_function(lambda: float(draining()))
