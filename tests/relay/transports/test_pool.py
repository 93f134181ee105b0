"""Which connections are kept, seen from a receiver."""

from __future__ import annotations

import asyncio
from time import perf_counter

from relay.guard.resolver import Names, Resolver
from relay.policy.attempt import Failure
from relay.transports.deadline import Deadlines
from relay.transports.exchange import ExchangeBounds
from relay.transports.http import HttpTransport
from tests.relay.transports.conftest import LOOPBACK, envelope, loopback
from tests.relay.transports.receivers import OK, Reader, Receiver, Writer, answers, hangs, receiving


def transport(bounds: ExchangeBounds) -> HttpTransport:
    return HttpTransport(Resolver(LOOPBACK, Names(loopback)), bounds)


async def test_no_more_connections_idle_than_an_origin_may_have(nothing_is_left: None) -> None:
    together = asyncio.Barrier(4)
    gone = asyncio.Semaphore(0)

    async def behave(receiver: Receiver, reader: Reader, writer: Writer) -> None:
        await receiver.read(reader)
        await together.wait()
        writer.write(OK)
        await reader.read()
        gone.release()

    async with receiving(behave) as receiver:
        sender = transport(ExchangeBounds(idle_per_origin=1))
        await asyncio.gather(*(sender.send(envelope(receiver.port)) for _ in range(4)))
        for _ in range(3):
            await gone.acquire()
        assert gone.locked()
        await sender.aclose()


async def test_the_longest_idle_connection_makes_room(nothing_is_left: None) -> None:
    async with receiving(answers(OK)) as first, receiving(answers(OK)) as second:
        sender = transport(ExchangeBounds(idle_in_all=1))
        await sender.send(envelope(first.port))
        await sender.send(envelope(second.port))
        await first.hung_up.wait()
        assert (await sender.send(envelope(second.port))).reused
        await sender.aclose()


async def test_an_old_connection_is_replaced_so_that_a_move_is_noticed(nothing_is_left: None) -> None:
    async with receiving(answers(OK)) as receiver:
        sender = transport(ExchangeBounds(age_seconds=0))
        told = [await sender.send(envelope(receiver.port)) for _ in range(2)]
        await sender.aclose()
    assert [answer.reused for answer in told] == [False, False]


async def test_closing_ends_what_is_under_way_as_our_own_fault(nothing_is_left: None) -> None:
    async with receiving(hangs) as receiver:
        sender = transport(ExchangeBounds())
        sending = asyncio.create_task(sender.send(envelope(receiver.port)))
        await receiver.reached.wait()
        await sender.aclose()
        answer = await sending
    assert answer.failure is Failure.INTERNAL


async def test_deadlines_expire_in_their_order_and_forget_what_they_should() -> None:
    expired: list[str] = []
    last = asyncio.Event()

    def expire(name: str) -> None:
        expired.append(name)
        if name == "last":
            last.set()

    deadlines = Deadlines(expire)
    now = perf_counter()
    deadlines.watch("last", now + 0.02)
    deadlines.watch("first", now + 0.01)
    deadlines.watch("forgotten", now + 0.005)
    deadlines.forget("forgotten")
    await last.wait()
    assert expired == ["first", "last"]
