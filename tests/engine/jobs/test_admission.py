"""A bound on what waits: exact among the requests of one engine, and told with a time to come again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import pytest

from engine.jobs.admission import Admission, Bound, QueueBounds, QueueFull, Reservation, WaitEstimate
from engine.jobs.executor import Ended
from engine.jobs.store import Backlog, Job, JobStore
from relay.outbox.errors import StoreUnavailable
from tests.cases import cases
from tests.engine.jobs.conftest import ADD_KEY, HEARD, MEDIA, Rows, key, request

KEY, OTHER = "a" * 16, "b" * 16


@dataclass
class Numbers:
    """The store's, as the test sets them."""

    now: Backlog

    async def backlog(self, key_id: str) -> Backlog:
        return self.now


@dataclass
class Distant(Numbers):
    """The same, at the end of a wire: who asks, waits."""

    def __post_init__(self) -> None:
        self.asked = asyncio.Event()
        self.answers = asyncio.Event()

    async def backlog(self, key_id: str) -> Backlog:
        self.asked.set()
        await self.answers.wait()
        return self.now


@dataclass
class Away(Numbers):
    """The same, once the wire is mended."""

    is_away: bool = True

    async def backlog(self, key_id: str) -> Backlog:
        if self.is_away:
            raise StoreUnavailable("unavailable")
        return self.now


def numbers(jobs: int = 0, size: int = 0, key_jobs: int = 0, key_bound: int | None = None) -> Numbers:
    return Numbers(Backlog(jobs, size, key_jobs, key_bound))


def admission(store: Numbers, bounds: QueueBounds) -> Admission:
    return Admission(store, bounds, WaitEstimate(workers=2))


async def test_places_are_taken_until_the_bound_and_given_back() -> None:
    gate = admission(numbers(jobs=8), QueueBounds(jobs=10))
    places = [await gate.enter(KEY), await gate.enter(OTHER)]
    with pytest.raises(QueueFull, match="10 requests wait already"):
        await gate.enter(None)
    places[0].leave()
    await gate.enter(None)


async def test_however_many_look_at_once_no_more_get_in_than_there_is_room_for() -> None:
    store = Distant(numbers().now)
    gate = admission(store, QueueBounds(jobs=2, bytes=100))
    entering = [asyncio.ensure_future(gate.enter(KEY, 40)) for _ in range(5)]
    await store.asked.wait()
    store.answers.set()
    met = await asyncio.gather(*entering, return_exceptions=True)
    assert [type(one) for one in met] == [Reservation, Reservation, QueueFull, QueueFull, QueueFull]
    assert isinstance(met[0], Reservation)
    met[0].leave()
    await gate.enter(KEY, 60)


async def test_a_place_that_is_given_back_during_a_look_still_counts() -> None:
    store = Distant(numbers().now)
    gate = admission(store, QueueBounds(jobs=1))
    store.answers.set()
    place = await gate.enter(KEY)
    store.answers.clear()
    store.asked.clear()
    entering = asyncio.ensure_future(gate.enter(KEY))
    await store.asked.wait()
    place.leave()  # its job is in the store by now, but it was not when the other one asked
    store.answers.set()
    with pytest.raises(QueueFull):
        await entering


async def test_a_store_that_cannot_be_asked_costs_no_place() -> None:
    store = Away(numbers().now)
    gate = admission(store, QueueBounds(jobs=1))
    with pytest.raises(StoreUnavailable):
        await gate.enter(KEY)
    store.is_away = False
    await gate.enter(KEY)


async def test_bytes_are_bounded_with_those_that_are_on_their_way() -> None:
    gate = admission(numbers(size=50), QueueBounds(bytes=100))
    place = await gate.enter(KEY, 30)
    with pytest.raises(QueueFull, match="more than 100 bytes"):
        await gate.enter(KEY, 21)
    await gate.enter(KEY, 20)
    place.leave()
    await gate.enter(KEY, 30)


async def test_a_key_is_bounded_by_the_settings_or_by_its_own_bound() -> None:
    gate = admission(numbers(key_jobs=2), QueueBounds(per_key_jobs=3))
    await gate.enter(KEY)
    with pytest.raises(QueueFull, match="3 requests of this key"):
        await gate.enter(KEY)
    await gate.enter(OTHER)
    generous = admission(numbers(key_jobs=2, key_bound=9), QueueBounds(per_key_jobs=1))
    await generous.enter(KEY)
    with pytest.raises(QueueFull, match="0 requests of this key"):
        await admission(numbers(key_bound=0), QueueBounds()).enter(KEY)


async def test_a_body_of_unknown_size_takes_room_as_it_comes() -> None:
    gate = admission(numbers(), QueueBounds(bytes=100))
    place = await gate.enter(KEY)
    await place.arrived(60)
    with pytest.raises(QueueFull):
        await gate.enter(KEY, 41)
    other = await gate.enter(KEY, 40)
    with pytest.raises(QueueFull):
        await place.arrived(1)
    other.leave()
    await place.arrived(39)  # what was refused has come all the same
    place.leave()
    await gate.enter(KEY, 100)


async def test_a_body_of_known_size_took_its_room_before() -> None:
    gate = admission(numbers(), QueueBounds(bytes=100))
    place = await gate.enter(KEY, 100)
    for _ in range(10):
        await place.arrived(10)


def ended(took: float) -> Ended:
    job = Job(1, "t", request(), MEDIA, has_audio=True, crashes=0, lapses=0, created_at=0.0)
    return Ended(job, HEARD, 0.0, took)


@cases(("took", "wait"), [(0.01, 1), (20.0, 10), (100_000.0, 60)])
async def test_the_time_to_come_again_is_when_a_worker_is_likely_free(took: float, wait: int) -> None:
    estimate = WaitEstimate(workers=2)
    for _ in range(100):
        estimate(ended(took))
    with pytest.raises(QueueFull) as full:
        await Admission(numbers(jobs=1), QueueBounds(jobs=1), estimate).enter(KEY)
    assert full.value.wait == wait


async def test_a_refusal_is_told_by_the_bound_that_was_met() -> None:
    met: list[Bound] = []
    for bounds in (QueueBounds(jobs=1), QueueBounds(bytes=1), QueueBounds(per_key_jobs=1)):
        with pytest.raises(QueueFull):
            await Admission(numbers(jobs=1, size=1, key_jobs=1), bounds, WaitEstimate(1), met.append).enter(KEY, 1)
    assert met == [Bound.JOBS, Bound.BYTES, Bound.KEY]


async def test_the_store_counts_what_waits_and_knows_a_keys_own_bound(store: JobStore, rows: Rows) -> None:
    assert await store.backlog(KEY) == Backlog(0, 0, 0, None)
    rows(ADD_KEY, *key(KEY, max_queued=7))
    for number, key_id in enumerate((KEY, KEY, OTHER)):
        await store.accept(replace(request(f"job-{number}"), key_id=key_id), MEDIA)
    assert await store.backlog(KEY) == Backlog(jobs=3, bytes=3000, key_jobs=2, key_bound=7)
    (job,) = await store.lease(1)
    now = await store.backlog(KEY)
    assert now == Backlog(jobs=2, bytes=3000, key_jobs=1, key_bound=7), "audio at work lies there yet"
    await store.finish(job, HEARD, None)
    assert await store.backlog(OTHER) == Backlog(jobs=2, bytes=2000, key_jobs=1, key_bound=None)
