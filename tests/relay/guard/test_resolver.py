from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import ip_network

import pytest

from relay.guard.resolver import Addresses, Resolver, Unresolved, admit, system_lookup
from relay.guard.rules import Refusal, Rule, Rules
from relay.guard.url import LIVE, Target

RULES = Rules()
DEMO = Rules(networks=(ip_network("127.0.0.0/8"), ip_network("::1/128")))


class NameServer:
    """Answers each lookup with the next of its answers, the last one for ever; remembers the names it was asked."""

    def __init__(self, *answers: Sequence[str] | Exception) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class SlowNameServer:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer = asyncio.Event()

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        await self.answer.wait()
        return ["8.8.8.8"]


async def test_a_public_name_resolves_to_its_addresses_in_order() -> None:
    resolver = Resolver(RULES, NameServer(["2606:4700::1111", "1.1.1.1"]))
    assert await resolver.resolve("example.com") == Addresses(("2606:4700::1111", "1.1.1.1"))


@pytest.mark.parametrize("answers", [["10.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::1", "8.8.8.8"], ["127.0.0.1", "::1"]])
async def test_a_name_with_a_forbidden_address_is_refused(answers: list[str]) -> None:
    refused = await Resolver(RULES, NameServer(answers)).resolve("example.com")
    assert isinstance(refused, Refusal)
    assert refused.rule == Rule.FORBIDDEN_ADDRESS


async def test_an_answer_that_is_no_address_is_refused() -> None:
    refused = await Resolver(RULES, NameServer(["8.8.8.8", "127.1"])).resolve("example.com")
    assert isinstance(refused, Refusal)
    assert refused.rule == Rule.AMBIGUOUS_ADDRESS


async def test_a_name_that_moves_to_loopback_between_submission_and_connection_is_refused() -> None:
    rebinding = NameServer(["8.8.8.8"], ["127.0.0.1"])
    resolver = Resolver(RULES, rebinding)
    admitted = await admit("http://rebinding.example.com/", resolver)
    assert isinstance(admitted, Target)
    dialled = await resolver.resolve(admitted.host)
    assert isinstance(dialled, Refusal)
    assert dialled.rule == Rule.FORBIDDEN_ADDRESS
    assert rebinding.asked == ["rebinding.example.com"] * 2


@pytest.mark.parametrize("host", ["8.8.8.8", "2606:4700::1111", "127.0.0.1", "::1", "2130706433"])
async def test_an_address_is_judged_without_asking_anybody(host: str) -> None:
    nobody = NameServer(OSError("nobody may be asked"))
    found = await Resolver(RULES, nobody).resolve(host)
    assert found == Addresses((host,)) if host in {"8.8.8.8", "2606:4700::1111"} else isinstance(found, Refusal)
    assert nobody.asked == []


@pytest.mark.parametrize(
    "failure",
    [
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
        OSError("secret.example.com"),
        UnicodeEncodeError("idna", "secret.example.com", 0, 1, "secret.example.com: label too long"),
        [],
    ],
)
async def test_a_name_without_an_answer_is_unresolved_and_not_named(failure: Exception | list[str]) -> None:
    found = await Resolver(RULES, NameServer(failure)).resolve("secret.example.com")
    assert isinstance(found, Unresolved)
    assert found.detail.endswith(".")
    assert "secret" not in found.detail


async def test_a_name_server_that_never_answers_is_given_up() -> None:
    found = await Resolver(RULES, SlowNameServer(), timeout=0.01).resolve("example.com")
    assert found == Unresolved("The host name did not resolve within 0.01 s.")


async def test_callers_who_want_the_same_name_at_once_share_one_lookup() -> None:
    server = SlowNameServer()
    resolver = Resolver(RULES, server)
    async with asyncio.TaskGroup() as group:
        same = [group.create_task(resolver.resolve("example.com")) for _ in range(5)]
        other = group.create_task(resolver.resolve("example.org"))
        group.create_task(_let_everybody_ask(server))
    assert sorted(server.asked) == ["example.com", "example.org"]
    assert {task.result() for task in [*same, other]} == {Addresses(("8.8.8.8",))}


async def test_a_finished_lookup_is_not_remembered() -> None:
    server = NameServer(["8.8.8.8"], OSError(), ["1.1.1.1"])
    resolver = Resolver(RULES, server)
    assert await resolver.resolve("example.com") == Addresses(("8.8.8.8",))
    assert isinstance(await resolver.resolve("example.com"), Unresolved)
    assert await resolver.resolve("example.com") == Addresses(("1.1.1.1",))


async def test_a_caller_who_leaves_does_not_take_the_lookup_from_the_others() -> None:
    server = SlowNameServer()
    resolver = Resolver(RULES, server)
    leaves, stays = (asyncio.create_task(resolver.resolve("example.com")) for _ in range(2))
    await _until_asked(server)
    leaves.cancel()
    server.answer.set()
    assert await stays == Addresses(("8.8.8.8",))
    assert leaves.cancelled()


async def test_admission_is_reading_and_resolving_in_one_call() -> None:
    resolver = Resolver(RULES, NameServer(["8.8.8.8"]))
    assert await admit("https://u:p@example.com/x?y", resolver) == Target(
        "https", "example.com", 443, "/x?y", "Basic dTpw"
    )
    assert isinstance(await admit("wss://example.com/", resolver), Refusal)
    assert isinstance(await admit("wss://example.com/", resolver, LIVE), Target)
    assert isinstance(await admit("http://127.0.0.1/", resolver), Refusal)
    assert isinstance(await admit("http://example.com/", Resolver(RULES, NameServer(["127.0.0.1"]))), Refusal)
    assert isinstance(await admit("http://example.com/", Resolver(RULES, NameServer(OSError()))), Unresolved)


async def test_the_system_knows_this_machine_and_the_default_rules_refuse_it() -> None:
    addresses = await system_lookup("localhost")
    assert set(addresses) <= {"127.0.0.1", "::1"}
    assert len(addresses) == len(set(addresses)) > 0
    assert isinstance(await Resolver(RULES).resolve("localhost"), Refusal)
    assert await Resolver(DEMO).resolve("localhost") == Addresses(addresses)


async def _until_asked(server: SlowNameServer) -> None:
    while not server.asked:
        await asyncio.sleep(0)


async def _let_everybody_ask(server: SlowNameServer) -> None:
    while len(server.asked) < 2:
        await asyncio.sleep(0)
    server.answer.set()
