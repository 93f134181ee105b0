"""Names, asked of a name server of our own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.guard.resolver import Addresses, Found, LookupShortage, Names, Resolver, Unresolved
from relay.guard.rules import Refusal, Rules
from relay.service.dns import SystemLookup, system_names
from tests.cases import cases
from tests.nameserver import NXDOMAIN, REFUSED, SERVFAIL, Says, name_server

PUBLIC = "93.184.216.34"

ZONE = {
    "both.example": Says(("2606:4700::1111", PUBLIC)),
    "four.example": Says((PUBLIC,)),
    "chain.example": Says((PUBLIC,), aliases=("one.example", "two.example", "three.example"), ttl=7),
    "inwards.example": Says(("10.0.0.1",), aliases=("one.example",)),
    "mixed.example": Says((PUBLIC, "192.168.0.1")),
    "long.example": Says(tuple(f"8.8.{third}.8" for third in range(100)), truncated=True),
    "lied-about.example": Says((PUBLIC,), lies=("10.0.0.1",)),
    "failing.example": Says(code=SERVFAIL),
    "refused.example": Says(code=REFUSED),
    "nothing.example": Says(),
    "brief.example": Says((PUBLIC,), ttl=0),
    "host.search.example": Says((PUBLIC,)),
}


def zone(name: str) -> Says:
    return ZONE.get(name, Says(code=NXDOMAIN))


@pytest.fixture
def search_domain() -> Iterator[None]:
    os.environ["LOCALDOMAIN"] = "search.example"
    yield
    del os.environ["LOCALDOMAIN"]


async def test_both_kinds_of_addresses_are_found_and_how_long_they_hold() -> None:
    async with name_server(zone) as server:
        found = await SystemLookup([server.address])("both.example")
    assert isinstance(found, Found)
    assert set(found.addresses) == {"2606:4700::1111", PUBLIC}
    assert found.seconds == 300


async def test_a_chain_of_aliases_leads_to_its_end_and_is_judged_there() -> None:
    async with name_server(zone) as server:
        lookup = SystemLookup([server.address])
        assert await lookup("chain.example") == Found((PUBLIC,), 7)
        resolver = Resolver(Rules(), Names(lookup))
        assert isinstance(await resolver.resolve("inwards.example"), Refusal)
        assert isinstance(await resolver.resolve("mixed.example"), Refusal)


async def test_what_a_datagram_cannot_hold_is_asked_for_over_tcp() -> None:
    async with name_server(zone) as server:
        found = await SystemLookup([server.address])("long.example")
    assert isinstance(found, Found)
    assert len(found.addresses) == 100
    assert server.over_tcp > 0


async def test_answers_to_other_questions_are_not_believed() -> None:
    async with name_server(zone) as server:
        assert await SystemLookup([server.address])("lied-about.example") == Found((PUBLIC,), 300)


@cases(
    ("host", "answered", "why"),
    [
        ("absent.example", True, "it does not exist"),
        ("nothing.example", True, "it has no address"),
        ("a..example", True, "it is not a name"),
        ("failing.example", False, "the name server failed"),
        ("refused.example", False, "the name server refused"),
    ],
)
async def test_a_no_of_dns_is_told_from_its_failure(host: str, answered: bool, why: str) -> None:
    async with name_server(zone) as server:
        found = await SystemLookup([server.address])(host)
    assert isinstance(found, Unresolved)
    assert (found.answered, why in found.detail) == (answered, True)
    assert "example" not in found.detail


async def test_without_a_name_server_nobody_was_asked() -> None:
    nobody = SystemLookup(["127.0.0.1:1"])
    found = await nobody("four.example")
    assert isinstance(found, LookupShortage)
    assert await Names(nobody, timeout=0.1).find("four.example") == found


async def test_the_system_s_search_domains_count(search_domain: None) -> None:
    async with name_server(zone) as server:
        assert await SystemLookup([server.address])("host") == Found((PUBLIC,), 300)


async def test_the_system_s_hosts_file_is_read_first() -> None:
    known = [line.split("#")[0].split() for line in Path("/etc/hosts").read_text().splitlines()]
    address, name = next((line[0], line[1]) for line in known if len(line) > 1 and line[1] != "localhost")
    async with name_server(zone) as server:
        found = await SystemLookup([server.address])(name)
    assert isinstance(found, Found)
    assert address in found.addresses
    assert server.asked == []


async def test_a_thousand_who_call_one_host_ask_once() -> None:
    async with name_server(zone) as server:
        names = system_names([server.address])
        at_once = await asyncio.gather(*[names.find("four.example") for _ in range(500)])
        after = [await names.find("four.example") for _ in range(500)]
        again = [await names.find("brief.example") for _ in range(3)]
    assert set(at_once + after + again) == {Addresses((PUBLIC,))}
    assert server.asked.count("four.example") == 1
    assert server.asked.count("brief.example") == 3


async def test_names_that_hang_do_not_slow_others() -> None:
    """A hundred names whose servers do not answer, and as many healthy ones, one after another: all of these are found
    before one of those is given up."""

    never = asyncio.Event()
    async with name_server(lambda name: Says((PUBLIC,), after=never if name.startswith("slow") else None)) as server:
        names = system_names([server.address])
        waiting = [asyncio.create_task(names.find(f"slow-{number}.example")) for number in range(100)]
        while sum(name.startswith("slow") for name in server.asked) < len(waiting):
            await asyncio.sleep(0)
        found = {await names.find(f"healthy-{number}.example") for number in range(100)}
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
    assert found == {Addresses((PUBLIC,))}
