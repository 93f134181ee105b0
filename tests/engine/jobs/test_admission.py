"""A bound on what waits: exact among the requests of one engine, and told with a time to come again."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from engine.jobs.admission import Admission, Bound, Bounds, Patience, QueueFull
from engine.jobs.runner import Ended
from engine.jobs.store import Backlog, Job, JobStore
from tests.engine.jobs.conftest import HEARD, MEDIA, Rows, request

KEY, OTHER = "a" * 16, "b" * 16


@dataclass
class Numbers:
    """The store's, as the test sets them."""

    now: Backlog

    def backlog(self, key_id: str) -> Backlog:
        return self.now


def numbers(jobs: int = 0, size: int = 0, key_jobs: int = 0, key_bound: int | None = None) -> Numbers:
    return Numbers(Backlog(jobs, size, key_jobs, key_bound))


def admission(store: Numbers, bounds: Bounds) -> Admission:
    return Admission(store, bounds, Patience(workers=2))


def test_places_are_taken_until_the_bound_and_given_back() -> None:
    gate = admission(numbers(jobs=8), Bounds(jobs=10))
    places = [gate.enter(KEY), gate.enter(OTHER)]
    with pytest.raises(QueueFull, match="10 requests wait already"):
        gate.enter(None)
    places[0].leave()
    gate.enter(None)


def test_bytes_are_bounded_with_those_that_are_on_their_way() -> None:
    gate = admission(numbers(size=50), Bounds(bytes=100))
    place = gate.enter(KEY, 30)
    with pytest.raises(QueueFull, match="more than 100 bytes"):
        gate.enter(KEY, 21)
    gate.enter(KEY, 20)
    place.leave()
    gate.enter(KEY, 30)


def test_a_key_is_bounded_by_the_settings_or_by_its_own_bound() -> None:
    gate = admission(numbers(key_jobs=2), Bounds(per_key_jobs=3))
    gate.enter(KEY)
    with pytest.raises(QueueFull, match="3 requests of this key"):
        gate.enter(KEY)
    gate.enter(OTHER)
    generous = admission(numbers(key_jobs=2, key_bound=9), Bounds(per_key_jobs=1))
    generous.enter(KEY)
    with pytest.raises(QueueFull, match="0 requests of this key"):
        admission(numbers(key_bound=0), Bounds()).enter(KEY)


def test_a_body_of_unknown_size_takes_room_as_it_comes() -> None:
    gate = admission(numbers(), Bounds(bytes=100))
    place = gate.enter(KEY)
    place.arrived(60)
    with pytest.raises(QueueFull):
        gate.enter(KEY, 41)
    other = gate.enter(KEY, 40)
    with pytest.raises(QueueFull):
        place.arrived(1)
    other.leave()
    place.arrived(39)  # what was refused has come all the same
    place.leave()
    gate.enter(KEY, 100)


def test_a_body_of_known_size_took_its_room_before() -> None:
    gate = admission(numbers(), Bounds(bytes=100))
    place = gate.enter(KEY, 100)
    for _ in range(10):
        place.arrived(10)


def ended(took: float) -> Ended:
    job = Job(1, "t", request(), MEDIA, has_audio=True, crashes=0, lapses=0, created_at=0.0)
    return Ended(job, HEARD, 0.0, took)


@pytest.mark.parametrize(("took", "wait"), [(0.01, 1), (20.0, 10), (100_000.0, 60)])
def test_the_time_to_come_again_is_when_a_worker_is_likely_free(took: float, wait: int) -> None:
    patience = Patience(workers=2)
    for _ in range(100):
        patience(ended(took))
    with pytest.raises(QueueFull) as full:
        Admission(numbers(jobs=1), Bounds(jobs=1), patience).enter(KEY)
    assert full.value.wait == wait


def test_who_is_turned_away_is_counted_by_the_bound_that_was_met() -> None:
    met: list[Bound] = []
    for bounds in (Bounds(jobs=1), Bounds(bytes=1), Bounds(per_key_jobs=1)):
        with pytest.raises(QueueFull):
            Admission(numbers(jobs=1, size=1, key_jobs=1), bounds, Patience(1), met.append).enter(KEY, 1)
    assert met == [Bound.JOBS, Bound.BYTES, Bound.KEY]


async def test_the_store_counts_what_waits_and_knows_a_keys_own_bound(store: JobStore, rows: Rows) -> None:
    assert store.backlog(KEY) == Backlog(0, 0, 0, None)
    rows("INSERT INTO api_keys (id, name, sha256, created_at, max_queued) VALUES (?, 'n', zeroblob(32), 0, 7)", KEY)
    for number, key_id in enumerate((KEY, KEY, OTHER)):
        await store.accept(replace(request(f"job-{number}"), key_id=key_id), MEDIA)
    assert store.backlog(KEY) == Backlog(jobs=3, bytes=3000, key_jobs=2, key_bound=7)
    (job,) = await store.lease(1)
    assert store.backlog(KEY) == Backlog(jobs=2, bytes=3000, key_jobs=1, key_bound=7), "audio at work lies there yet"
    await store.finish(job, HEARD, None)
    assert store.backlog(OTHER) == Backlog(jobs=2, bytes=2000, key_jobs=1, key_bound=None)
