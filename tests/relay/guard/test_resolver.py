from __future__ import annotations

import asyncio

from relay.guard.resolver import Addresses, Found, LookupShortage, Names, Resolver, Unresolved, admit
from relay.guard.rules import ANYWHERE, Refusal, Rule, Rules
from relay.guard.url import LIVE, Target
from tests.cases import cases

RULES = Rules()
NOWHERE = Unresolved("The host name does not resolve.", answered=True)


class NameServer:
    """Answers each lookup with the next of its answers, the last one for ever; remembers the names it was asked."""

    def __init__(self, *answers: tuple[str, ...] | Unresolved, seconds: float = 0.0) -> None:
        self._answers = list(answers)
        self._seconds = seconds
        self.asked: list[str] = []

    async def __call__(self, host: str) -> Found | Unresolved:
        self.asked.append(host)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return answer if isinstance(answer, Unresolved) else Found(answer, self._seconds)


class SlowNameServer:
    """Answers when it is told to; of the `quick` ones, at once."""

    def __init__(self, *quick: str) -> None:
        self._quick = quick
        self.asked: list[str] = []
        self.answer = asyncio.Event()

    async def __call__(self, host: str) -> Found:
        self.asked.append(host)
        if host not in self._quick:
            await self.answer.wait()
        return Found(("8.8.8.8",))


async def test_a_public_name_resolves_to_its_addresses_in_order() -> None:
    resolver = Resolver(RULES, Names(NameServer(("2606:4700::1111", "1.1.1.1"))))
    assert await resolver.resolve("example.com") == Addresses(("2606:4700::1111", "1.1.1.1"))


@cases("answers", [("10.0.0.1",), ("8.8.8.8", "10.0.0.1"), ("::1", "8.8.8.8"), ("127.0.0.1", "::1")])
async def test_a_name_with_a_forbidden_address_is_refused(answers: tuple[str, ...]) -> None:
    refused = await Resolver(RULES, Names(NameServer(answers))).resolve("example.com")
    assert isinstance(refused, Refusal)
    assert refused.rule == Rule.FORBIDDEN_ADDRESS


async def test_an_answer_that_is_no_address_is_refused() -> None:
    refused = await Resolver(RULES, Names(NameServer(("8.8.8.8", "127.1")))).resolve("example.com")
    assert isinstance(refused, Refusal)
    assert refused.rule == Rule.AMBIGUOUS_ADDRESS


async def test_a_name_that_moves_to_loopback_between_submission_and_connection_is_refused() -> None:
    rebinding = NameServer(("8.8.8.8",), ("127.0.0.1",))
    resolver = Resolver(RULES, Names(rebinding))
    admitted = await admit("http://rebinding.example.com/", resolver)
    assert isinstance(admitted, Target)
    dialled = await resolver.resolve(admitted.host)
    assert isinstance(dialled, Refusal)
    assert dialled.rule == Rule.FORBIDDEN_ADDRESS
    assert rebinding.asked == ["rebinding.example.com"] * 2


@cases("host", ["8.8.8.8", "2606:4700::1111", "127.0.0.1", "::1", "2130706433"])
async def test_an_address_is_judged_without_asking_anybody(host: str) -> None:
    nobody = NameServer(NOWHERE)
    found = await Resolver(RULES, Names(nobody)).resolve(host)
    assert found == Addresses((host,)) if host in {"8.8.8.8", "2606:4700::1111"} else isinstance(found, Refusal)
    assert nobody.asked == []


@cases("answer", [NOWHERE, ()])
async def test_a_name_without_an_address_is_unresolved(answer: tuple[str, ...] | Unresolved) -> None:
    found = await Resolver(RULES, Names(NameServer(answer))).resolve("example.com")
    assert isinstance(found, Unresolved)
    assert found.answered


async def test_a_name_server_that_never_answers_is_given_up() -> None:
    found = await Resolver(RULES, Names(SlowNameServer(), timeout=0.01)).resolve("example.com")
    assert found == Unresolved("The host name did not resolve within 0.01 s.")


async def test_callers_who_want_the_same_name_at_once_share_one_lookup() -> None:
    server = SlowNameServer()
    resolver = Resolver(RULES, Names(server))
    async with asyncio.TaskGroup() as group:
        same = [group.create_task(resolver.resolve("example.com")) for _ in range(5)]
        other = group.create_task(resolver.resolve("example.org"))
        group.create_task(_let_everybody_ask(server))
    assert sorted(server.asked) == ["example.com", "example.org"]
    assert {task.result() for task in [*same, other]} == {Addresses(("8.8.8.8",))}


async def test_an_answer_that_holds_for_no_time_is_not_used_again() -> None:
    server = NameServer(("8.8.8.8",), NOWHERE, ("1.1.1.1",))
    resolver = Resolver(RULES, Names(server))
    assert await resolver.resolve("example.com") == Addresses(("8.8.8.8",))
    assert isinstance(await resolver.resolve("example.com"), Unresolved)
    assert await resolver.resolve("example.com") == Addresses(("1.1.1.1",))


async def test_a_caller_who_leaves_does_not_take_the_lookup_from_the_others() -> None:
    server = SlowNameServer()
    resolver = Resolver(RULES, Names(server))
    leaves, stays = (asyncio.create_task(resolver.resolve("example.com")) for _ in range(2))
    await _until_asked(server)
    leaves.cancel()
    server.answer.set()
    assert await stays == Addresses(("8.8.8.8",))
    assert leaves.cancelled()


async def test_admission_is_reading_and_resolving_in_one_call() -> None:
    resolver = Resolver(RULES, Names(NameServer(("8.8.8.8",))))
    assert await admit("https://u:p@example.com/x?y", resolver) == Target(
        "https", "example.com", 443, "/x?y", "Basic dTpw"
    )
    assert isinstance(await admit("wss://example.com/", resolver), Refusal)
    assert isinstance(await admit("wss://example.com/", resolver, LIVE), Target)
    assert isinstance(await admit("http://127.0.0.1/", resolver), Refusal)
    assert isinstance(await admit("http://example.com/", Resolver(RULES, Names(NameServer(("127.0.0.1",))))), Refusal)
    assert isinstance(await admit("http://example.com/", Resolver(RULES, Names(NameServer(NOWHERE)))), Unresolved)


async def test_an_answer_is_judged_each_time_it_is_used() -> None:
    server = NameServer(("10.0.0.1",), seconds=300)
    names = Names(server)
    assert isinstance(await Resolver(RULES, names).resolve("example.com"), Refusal)
    assert await Resolver(ANYWHERE, names).resolve("example.com") == Addresses(("10.0.0.1",))
    assert server.asked == ["example.com"]


async def test_names_that_never_resolved_leave_room_to_those_that_did() -> None:
    server = SlowNameServer("known.example")
    names = Names(server, most=4, timeout=60)
    assert isinstance(await names.find("known.example"), Addresses)
    waiting = [asyncio.create_task(names.find(f"slow-{number}.example")) for number in range(10)]
    while len(server.asked) < 4:
        await asyncio.sleep(0)
    assert isinstance(await names.find("known.example"), Addresses)
    assert server.asked == ["known.example", *[f"slow-{number}.example" for number in range(3)], "known.example"]
    server.answer.set()
    assert all(isinstance(found, Addresses) for found in await asyncio.gather(*waiting))


async def test_names_that_failed_have_less_room_than_new_ones() -> None:
    server, dead, failed = SlowNameServer(), NameServer(NOWHERE), set[str]()

    async def first_no_and_then_nothing(host: str) -> Found | Unresolved:
        if host in failed or host.startswith("new"):
            return await server(host)
        failed.add(host)
        return await dead(host)

    names = Names(first_no_and_then_nothing, most=4)
    await asyncio.gather(*[names.find(f"dead-{number}.example") for number in range(10)])
    waiting = [asyncio.create_task(names.find(f"dead-{number}.example")) for number in range(10)]
    new = [asyncio.create_task(names.find(f"new-{number}.example")) for number in range(2)]
    while len(server.asked) < 3:
        await asyncio.sleep(0)
    assert server.asked == ["dead-0.example", "new-0.example", "new-1.example"]
    server.answer.set()
    await asyncio.gather(*waiting, *new)


async def test_one_owner_s_names_leave_room_to_another_s() -> None:
    server = SlowNameServer("honest.example")
    names = Names(server, most=32, timeout=60)
    waiting = [asyncio.create_task(names.find(f"slow-{number}.example", "crowd")) for number in range(100)]
    while len(server.asked) < 2:
        await asyncio.sleep(0)
    assert isinstance(await names.find("honest.example", "another"), Addresses)
    assert len(server.asked) == 3
    server.answer.set()
    assert all(isinstance(found, Addresses) for found in await asyncio.gather(*waiting))


async def test_who_finds_no_room_was_not_asked_for() -> None:
    server = SlowNameServer()
    names = Names(server, most=1, timeout=0.05)
    first, second = await asyncio.gather(names.find("first.example"), names.find("second.example"))
    assert isinstance(first, Unresolved)
    assert not first.answered
    assert isinstance(second, LookupShortage)
    assert server.asked == ["first.example"]
    server.answer.set()


async def _until_asked(server: SlowNameServer) -> None:
    while not server.asked:
        await asyncio.sleep(0)


async def _let_everybody_ask(server: SlowNameServer) -> None:
    while len(server.asked) < 2:
        await asyncio.sleep(0)
    server.answer.set()
