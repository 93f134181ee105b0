from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, MutableMapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_network
from typing import Any

from relay.delivery.courier import Courier
from relay.delivery.dispatcher import Dispatcher
from relay.delivery.service import LoopIntervals, Service
from relay.delivery.settler import Settler
from relay.delivery.slots import Slots
from relay.guard.rules import Rules
from relay.guard.url import PRE_RECORDED, read
from relay.outbox.errors import StoreUnavailable
from relay.outbox.model import Stream
from relay.outbox.store import Database
from relay.policy.attempt import Answer, Attempted, Envelope, Lease
from relay.policy.outcome import RetryPolicy
from relay.queue.deliveries import DeliveryQueue
from relay.telemetry.metrics import Metrics
from tests.relay.databases import on_sqlite
from tests.relay.deliveries import answer, many, new, put, rows, states
from tests.relay.delivery.doubles import full_disk

# So slow that a test which needs a poll, a renewal or a second count never ends.
ASLEEP = LoopIntervals(poll=lambda: 60, renew=60)
SLOTS = 10


class Receiver:
    """Takes what comes while it is open."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.reached = asyncio.Event()
        self.down = ""  # the beginning of the ids that it answers with 500
        self.sent: list[str] = []

    async def send(self, envelope: Envelope) -> Answer:
        id_ = dict(envelope.headers)["webhook-id"]
        self.sent.append(id_)
        self.reached.set()
        await self.open.wait()
        return answer(500 if self.down and id_.startswith(self.down) else 200)


class Relay:
    """A service with everything but HTTP."""

    def __init__(
        self, database: Database, outbox: DeliveryQueue, pace: LoopIntervals = ASLEEP, stats: float = 60.0
    ) -> None:
        self.receiver = Receiver()
        self.told: asyncio.Queue[Attempted] = asyncio.Queue()
        self.turns: Counter[tuple[str, bool]] = Counter()
        self.metrics = Metrics(10)  # knows every loop by name
        self.stats_taken = self.expiries = 0
        self.stats_fail = self.expiry_fails = False
        self.news = asyncio.Event()
        wake = asyncio.Event()
        self.listener = database.listener(wake)
        settler = Settler(outbox, self.tell, wake)
        courier = Courier(
            source=outbox,
            transport=self.receiver,
            read=partial(read, rules=Rules(networks=(ip_network("127.0.0.0/8"),)), schemes=PRE_RECORDED),
            policy=RetryPolicy(),
            pointers=None,
            user_agent="ua",
            dice=lambda: 0.5,
        )
        self.service = Service(
            Dispatcher(outbox, courier.deliver, settler, Slots(SLOTS, SLOTS), wake),
            settler,
            queue=outbox,
            wake=wake,
            observer=self,
            periodic=[("stats", stats, self.report_stats), ("expire", 60.0, self.expire)],
            pace=pace,
        )

    def tell(self, attempts: Sequence[Attempted]) -> None:
        for attempt in attempts:
            self.told.put_nowait(attempt)

    def turned(self, loop: str, *, ok: bool) -> None:
        self.metrics.loops.turned(loop, ok=ok)
        self.turns[loop, ok] += 1
        self.news.set()

    async def until(self, ready: Callable[[], object]) -> None:
        """Look at the end of every turn of every loop."""
        async with asyncio.timeout(10):
            while not ready():
                self.news.clear()
                await self.news.wait()

    async def report_stats(self) -> None:
        self.stats_taken += 1
        if self.stats_fail:
            raise ZeroDivisionError

    async def expire(self) -> None:
        self.expiries += 1
        if self.expiry_fails:
            raise StoreUnavailable("unavailable")

    async def delivered(self) -> str:
        async with asyncio.timeout(60):
            return (await self.told.get()).delivery.id

    @asynccontextmanager
    async def running(self, drain_seconds: float = 5.0) -> AsyncIterator[asyncio.Task[None]]:
        await self.listener.open()
        task = asyncio.create_task(self.service.run(drain_seconds))
        yield task
        self.service.stop()
        async with asyncio.timeout(10):
            await task
        await self.listener.close()


async def test_what_waited_before_the_start_is_delivered(database: Database, outbox: DeliveryQueue) -> None:
    put(database, *many(30))
    relay = Relay(database, outbox)
    async with relay.running():
        assert {await relay.delivered() for _ in range(30)} == {f"d{number}" for number in range(1, 31)}
    assert set(states(database).values()) == {"delivered"}


async def test_what_is_due_and_has_no_room_is_asked_for_no_oftener_than_by_polls(
    database: Database, outbox: DeliveryQueue
) -> None:
    put(database, *many(3 * SLOTS))
    relay = Relay(database, outbox, stats=0.02)
    relay.receiver.open.clear()
    async with relay.running():
        await relay.receiver.reached.wait()
        claims, counts = relay.turns["claim", True], relay.turns["stats", True]
        await relay.until(lambda: relay.turns["stats", True] >= counts + 10)
        assert relay.turns["claim", True] - claims < 10
        relay.receiver.open.set()
        assert len({await relay.delivered() for _ in range(3 * SLOTS)}) == 3 * SLOTS


async def test_a_notification_wakes_a_relay_that_polls_once_a_minute(database: Database, outbox: DeliveryQueue) -> None:
    relay, notifier = Relay(database, outbox), database.notifier()
    async with relay.running():
        for id_ in ("first", "second", "third"):
            put(database, new(id_))
            notifier.notify()
            assert await relay.delivered() == id_
    notifier.close()


async def test_a_lost_notification_costs_one_poll(database: Database, outbox: DeliveryQueue) -> None:
    relay = Relay(database, outbox, LoopIntervals(poll=lambda: 0.02, renew=60))
    async with relay.running():
        put(database, new("unannounced"))
        assert await relay.delivered() == "unannounced"


async def test_a_retry_is_taken_up_when_it_is_due_and_not_at_a_poll(database: Database, outbox: DeliveryQueue) -> None:
    due_at = time.time() + 0.2
    put(database, new("d1"), due_at=due_at)
    relay = Relay(database, outbox)
    async with relay.running():
        assert await relay.delivered() == "d1"
    assert rows(database, "SELECT started_at >= ? FROM outspoken_attempts", due_at) == [(1,)]


async def test_stopping_lets_the_attempt_under_way_finish(database: Database, outbox: DeliveryQueue) -> None:
    put(database, new("d1"))
    relay, notifier = Relay(database, outbox), database.notifier()
    relay.receiver.open.clear()
    async with relay.running() as task:
        await relay.receiver.reached.wait()
        relay.service.stop()
        assert relay.service.draining
        put(database, new("late"))
        notifier.notify()
        await asyncio.wait([task], timeout=0.05)
        assert not task.done()
        relay.receiver.open.set()
        await task
    notifier.close()
    assert states(database) == {"d1": "delivered", "late": "pending"}


async def test_stopping_gives_back_what_does_not_finish_in_time(database: Database, outbox: DeliveryQueue) -> None:
    put(database, new("d1"))
    relay = Relay(database, outbox)
    relay.receiver.open.clear()
    async with relay.running(drain_seconds=0.05):
        await relay.receiver.reached.wait()
    assert rows(database, "SELECT state, attempts, lapses FROM outspoken_deliveries") == [("pending", 0, 1)]


@on_sqlite
async def test_what_is_done_now_and_then_and_failed_is_tried_again_soon(
    database: Database, outbox: DeliveryQueue
) -> None:
    relay = Relay(database, outbox)
    relay.expiry_fails = True
    async with relay.running():
        await relay.until(lambda: relay.turns["expire", False])
        assert relay.service.trouble() == "the outbox cannot be used (unavailable)"
        relay.expiry_fails = False
        await relay.until(lambda: relay.turns["expire", True])
        assert relay.service.trouble() is None


@on_sqlite
async def test_every_loop_outlives_a_disk_that_is_full_for_a_while(
    database: Database, outbox: DeliveryQueue, log: list[MutableMapping[str, Any]]
) -> None:
    put(database, new("d1"))
    relay = Relay(database, outbox, LoopIntervals(poll=lambda: 0.01, renew=0.01), stats=0.01)
    with full_disk():
        async with asyncio.timeout(60), relay.running() as task:
            await relay.until(lambda: relay.turns["claim", False] >= 3)
            assert not task.done()
            assert relay.turns["claim", True] == 0
            relay.service.stop()
    assert states(database) == {"d1": "pending"}
    errors = [line for line in log if line["event"] == "store.error"]
    assert {(line["operation"], line["kind"]) for line in errors} <= {("claim", "io"), ("claim", "full")}
    revived = Relay(database, outbox)
    async with revived.running():
        assert await revived.delivered() == "d1"


@on_sqlite
async def test_the_same_relay_delivers_once_the_disk_has_room(
    database: Database, outbox: DeliveryQueue, log: list[MutableMapping[str, Any]]
) -> None:
    put(database, new("d1"))
    relay = Relay(database, outbox, LoopIntervals(poll=lambda: 0.01, renew=60))
    relay.receiver.open.clear()
    async with relay.running():
        await relay.receiver.reached.wait()
        with full_disk():
            relay.receiver.open.set()
            await relay.until(lambda: any(line.get("operation") == "settle" for line in log))
        assert await relay.delivered() == "d1"
    assert rows(database, "SELECT state, attempts, lapses FROM outspoken_deliveries") == [("delivered", 1, 0)]


async def test_a_fault_in_one_loop_stops_no_other(
    database: Database, outbox: DeliveryQueue, log: list[MutableMapping[str, Any]]
) -> None:
    relay = Relay(database, outbox, LoopIntervals(poll=lambda: 0.01, renew=60), stats=0.01)
    relay.stats_fail = True
    async with relay.running():
        await relay.until(lambda: relay.stats_taken >= 3)
        put(database, new("d1"))
        assert await relay.delivered() == "d1"
    assert relay.turns["stats", True] == 0
    failures = [line for line in log if line["event"] == "loop.failed"]
    assert failures[0]["loop"] == "stats"
    assert isinstance(failures[0]["exc_info"], ZeroDivisionError)


async def test_claims_that_go_well_are_remembered_for_readiness(database: Database, outbox: DeliveryQueue) -> None:
    relay = Relay(database, outbox, LoopIntervals(poll=lambda: 0.01, renew=60))
    before = relay.service.claimed_at
    async with relay.running():
        await relay.until(lambda: relay.turns["claim", True] >= 2)
    assert relay.service.claimed_at > before


async def test_every_loop_turns_and_says_so(database: Database, outbox: DeliveryQueue) -> None:
    put(database, new("d1"))
    relay = Relay(database, outbox)
    async with relay.running():
        await relay.delivered()
    assert {loop for loop, ok in relay.turns if ok} == {"claim", "renew", "stats", "expire", "settle"}
    assert relay.expiries == 1


async def test_a_backlog_far_beyond_what_one_claim_brings_is_worked_off(
    database: Database, outbox: DeliveryQueue
) -> None:
    put(database, *many(300, "http://127.0.0.1/"), *many(300, "http://other.example/", "o"))
    relay = Relay(database, outbox)
    async with relay.running():
        for _ in range(600):
            await relay.delivered()
    assert set(states(database).values()) == {"delivered"}
    assert len(relay.receiver.sent) == 600


async def test_a_stream_arrives_in_order_without_waiting_for_a_poll(database: Database, outbox: DeliveryQueue) -> None:
    put(database, *(new(f"s{number}", stream=Stream("s")) for number in range(10)))
    relay = Relay(database, outbox)
    async with relay.running():
        assert [await relay.delivered() for _ in range(10)] == [f"s{number}" for number in range(10)]
    assert relay.receiver.sent == [f"s{number}" for number in range(10)]


async def test_a_destination_that_is_down_is_left_alone_and_others_are_served(
    database: Database, outbox: DeliveryQueue
) -> None:
    put(database, *many(300), *many(20, "http://fine.example/", "f"))
    relay = Relay(database, outbox, LoopIntervals(poll=lambda: 0.02, renew=60))
    relay.receiver.down = "d"
    async with relay.running():
        told: list[str] = []
        while sum(id_.startswith("f") for id_ in told) < 20:
            told.append(await relay.delivered())
        await relay.until(lambda: not Counter(states(database).values())["leased"])
        sent = len(relay.receiver.sent)
        polls = relay.turns["claim", True]
        await relay.until(lambda: relay.turns["claim", True] >= polls + 3)
        assert len(relay.receiver.sent) == sent <= 20 + 2 * SLOTS
    assert rows(database, "SELECT sum(attempts), sum(lapses) FROM outspoken_deliveries") == [(sent, 0)]
    assert rows(database, "SELECT failures, open FROM outspoken_destinations WHERE open = 1") == [(5, 1)]


class LateQueue(DeliveryQueue):
    """Writes the ends of attempts once it is let, as on a machine that is busy."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.writes = asyncio.Event()

    async def settle(self, attempts: Sequence[Attempted]) -> frozenset[Lease]:
        await self.writes.wait()
        return await super().settle(attempts)


async def test_while_the_failures_of_a_destination_are_not_written_down_it_gets_no_more_than_its_slots(
    database: Database,
) -> None:
    queue = LateQueue(database)
    put(database, *many(300), *many(20, "http://fine.example/", "f"))
    relay = Relay(database, queue, LoopIntervals(poll=lambda: 0.02, renew=60))
    relay.receiver.down = "d"
    async with relay.running():
        await relay.until(lambda: relay.turns["claim", True] >= 30)
        assert sum(id_.startswith("d") for id_ in relay.receiver.sent) <= SLOTS
        queue.writes.set()
        await relay.until(lambda: Counter(states(database).values()) == {"pending": 300, "delivered": 20})
        assert sum(id_.startswith("d") for id_ in relay.receiver.sent) <= 2 * SLOTS
    await queue.close()
