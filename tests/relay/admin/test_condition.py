"""The judgement looks at what is in trouble: it comes out as if it had looked at all destinations, and costs no more
where many more of them are well."""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice, product
from types import FrameType

import pytest

from relay.admin import overview
from relay.admin.condition import Attention, Process, judge
from relay.admin.destinations import Destination, destination, destinations, found, named
from relay.outbox.store import Connection, Database
from relay.policy.breaker import Cause, DestinationState
from relay.queue.stats import QueueStats
from tests.relay.admin.past import change
from tests.relay.admin.population import populate
from tests.relay.deliveries import apart, writing

# What is known of an origin, or of a path of it: columns of its row.
WELL: dict[str, object] = {}
TROUBLES: tuple[dict[str, object], ...] = (
    {"failures": 2},
    {"failures": 3},
    {"open": 1, "held": 1},
    {"rate": 2, "held": 1},
    {"silent": 1, "held": 1},
    {"state": "paused", "held": 1},
    {"state": "disabled", "held": 1},
)
WHOLES: tuple[dict[str, object] | None, ...] = (None, WELL, *TROUBLES)
PARTS: tuple[dict[str, object] | None, ...] = (None, {"largest_accepted": 9, "smallest_refused": 10}, *TROUBLES)

# What there is for the path: the columns of each delivery, its times as seconds from now.
FRESH, LATE, LATER = -5.0, -90.0, 90.0
Delivery = dict[str, object]
READY: Delivery = {"lane": 0}
HELD: Delivery = {"lane": 1}
SCHEDULED: Delivery = {"lane": 2, "due_at": LATER}
LEASED: Delivery = {"state": "leased", "lease_token": "r.1", "lease_until": LATER}
DEAD: Delivery = {"state": "dead", "reason": "exhausted", "attempts": 1, "finished_at": LATE}
WORK: tuple[tuple[Delivery, ...], ...] = (
    (),
    (READY,),
    (READY | {"due_at": LATE}, READY | {"owner": "another"}),
    (LEASED,),
    (LEASED, READY | {"due_at": LATE}),
    (LEASED, SCHEDULED | {"due_at": LATE}),
    (LEASED, HELD | {"due_at": LATE}),
    (HELD,),
    (HELD | {"due_at": LATE}, HELD),
    (HELD | {"due_at": LATE, "attempts": 1},),
    (SCHEDULED,),
    (SCHEDULED | {"attempts": 1},) * 2,
    (SCHEDULED | {"attempts": 1},) * 3,
    (DEAD,),
    (DEAD | {"finished_at": -100_000.0},),
)
DAMAGED = (False, True)  # whether a URL of the path answered 410


Row = tuple[str, dict[str, object]]
"""A table, and the values of some columns."""


SEVENTH = 7  # no number of what can be the matter has it as a factor: each two things still come together


def everything_that_can_be_the_matter(now: float, step: int = 1) -> Iterator[Row]:
    """An origin for each combination, or for one in so many."""
    combinations = enumerate(product(WHOLES, PARTS, WORK, DAMAGED))
    for number, (whole, part, work, gone) in islice(combinations, 0, None, step):
        origin = f"http://h{number}.example:80"
        for path, known in (("", whole), ("/hook", part)):
            if known is not None:
                yield "destinations", {"origin": origin, "path": path} | known
        yield from (delivery(origin, index, one, now) for index, one in enumerate(work))
        if gone:
            yield "gone_urls", {"sha256": str(number), "origin": origin, "path": "/hook", "since": now}


def delivery(origin: str, index: int, given: Delivery, now: float) -> Row:
    values = {"due_at": FRESH, "lane": 0} | given
    times = {
        name: now + at for name, at in values.items() if name.endswith(("_at", "_until")) and isinstance(at, float)
    }
    named = {
        "id": f"{origin} {index}",
        "origin": origin,
        "path": "/hook",
        "url": "",
        "body_bytes": 0,
        "created_at": now,
    }
    return "deliveries", named | values | times


def insert(database: Database, given: Iterable[Row]) -> None:
    """All that have the same columns at once."""
    alike: dict[tuple[str, ...], list[list[object]]] = defaultdict(list)
    for table, values in given:
        alike[table, *values].append([*values.values()])

    def fill(connection: Connection) -> None:
        for (table, *columns), lines in alike.items():
            marks = ", ".join("?" * len(columns))
            connection.executemany(f"INSERT INTO outspoken_{table} ({', '.join(columns)}) VALUES ({marks})", lines)

    writing(database, fill)


def test_a_disk_that_is_full_comes_before_the_silence_that_it_is_the_cause_of() -> None:
    process = Process(relays=0, seen_at=1.0, stopped_at=None, ready=2, late=2, late_seconds=90.0, disk_free=0)
    condition = judge(process, ())
    assert condition.severity == "broken"
    assert condition.headline.startswith("The disk of the outbox has 0 B left")
    assert [sentence.split(" has ")[0] for sentence in condition.ours] == ["The disk of the outbox", "The relay"]
    assert "if it runs, its log says what keeps it from the outbox" in condition.ours[1]


def judged_by_all(
    places: tuple[Destination, ...], seen: overview.Overview, now: float
) -> tuple[tuple[Attention, ...], tuple[str, ...]]:
    """What needs attention, and what is ours to mend, by how every destination stands."""
    idle = [place for place in places if not place.in_flight and place.unheld]
    process = Process(
        relays=seen.relays,
        seen_at=now,
        stopped_at=None,
        ready=seen.ready,
        late=sum(place.unheld for place in idle),
        late_seconds=max((place.unheld_age for place in idle), default=0.0),
        disk_free=None,
    )
    condition = judge(process, [one for place in places for one in place.attention])
    return condition.attention, condition.ours


def one_of_each(database: Database, now: float, step: int = 1) -> None:
    insert(database, everything_that_can_be_the_matter(now, step))
    change(database, "INSERT INTO outspoken_relays (holder, seen_at) VALUES ('one', ?)", now)
    if database.is_distant:
        change(database, "ANALYZE")  # as a server does by itself after a while


@pytest.mark.parametrize("fill", [one_of_each, populate])
def test_the_judgement_is_the_one_of_all_destinations(
    database: Database, fill: Callable[[Database, float], None]
) -> None:
    now = time.time()
    fill(database, now)
    places = destinations(database, now)
    seen = overview.overview(database, now, history=False)
    assert (seen.condition.attention, seen.condition.ours) == judged_by_all(places, seen, now)
    assert seen.destinations == Counter(str(place.state) for place in places)
    assert overview.condition(database, now).attention == seen.condition.attention


def test_what_is_found_is_what_would_be_found_among_all_destinations(database: Database) -> None:
    now, most = time.time(), 20
    one_of_each(database, now, SEVENTH)
    places = destinations(database, now)
    for word in {str(word) for word in (*DestinationState, *Cause)}:
        fit = tuple(place for place in places if word in place.stands)
        last = max(0, len(fit) - most)
        shown, count = found(database, "", word, last, most, now)
        assert ({*shown}, count) == ({*fit[last:]}, len(fit))
    begin = next(place.endpoints[0].id for place in reversed(places) if place.endpoints)[:3]
    ids = {place: (place.id, *(one.id for one in place.endpoints)) for place in places}
    fit = tuple(place for place in places if begin in place.origin or any(id_.startswith(begin) for id_ in ids[place]))
    assert found(database, begin, "", 0, len(places), now) == (fit, len(fit))


def test_one_of_all_destinations_comes_by_its_origin_and_by_its_id(database: Database) -> None:
    now = time.time()
    one_of_each(database, now, SEVENTH)
    places = destinations(database, now)
    one = next(place for place in places if place.endpoints and place.attention)
    assert destination(database, one.origin, now) == one
    assert destination(database, "http://unheard-of.example:80", now) is None
    assert named(database, one.id, now) == (one.origin, "")
    assert named(database, one.endpoints[0].id, now) == (one.origin, one.endpoints[0].path)


def test_pages_hold_all_destinations_once(database: Database) -> None:
    now = time.time()
    one_of_each(database, now, SEVENTH)
    places, most = destinations(database, now), 100
    pages = [found(database, "", "", start, most, now)[0] for start in range(0, len(places), most)]
    shown = [place for page in pages for place in page]
    assert [place.ready for place in shown] == [place.ready for place in places]
    assert {place.origin for place in shown} == {place.origin for place in places}


def test_the_gauges_count_the_states_that_the_page_does(database: Database) -> None:
    """Of origins that were tried."""
    now = time.time()
    insert(database, (row for row in everything_that_can_be_the_matter(now) if row[0] == "destinations"))
    change(
        database,
        "INSERT INTO outspoken_destinations (origin) SELECT origin FROM outspoken_destinations AS part "
        "WHERE path <> '' ON CONFLICT DO NOTHING",
    )

    def counted() -> Mapping[str, int]:
        with database.reading() as connection:
            return QueueStats(database).snapshot(connection, now, 16).destination_states

    assert apart(counted) == overview.overview(database, now, history=False).destinations


@contextmanager
def calls() -> Iterator[list[str]]:
    """What the interpreter calls in this thread."""
    called: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            called.append(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        yield called
    finally:
        sys.setprofile(None)


def well(database: Database, prefix: str, count: int) -> None:
    """So many origins that are known, for each of which something waits."""
    origins = [f"http://{prefix}{number}.example:80" for number in range(count)]
    insert(database, (("destinations", {"origin": origin, "largest_accepted": 2000}) for origin in origins))
    insert(database, (delivery(origin, 0, READY, time.time()) for origin in origins))


@pytest.mark.parametrize("judge_now", [overview.condition, overview.overview])
def test_the_judgement_takes_the_interpreter_no_longer_where_more_destinations_are_well(
    database: Database, judge_now: Callable[[Database, float], object]
) -> None:
    populate(database, time.time())
    well(database, "a", 5)

    def taken() -> Counter[str]:
        with calls() as called:
            judge_now(database, time.time())
        return Counter(called)

    taken()
    before = taken()
    well(database, "b", 500)
    assert {name: more for name, more in (taken() - before).items() if more > 20} == {}
