"""The statements of all rooms: named blocks, each with a sentence on what it is for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from relay.outbox.queries import blocks, statement
from tests.cases import cases

ROOT = Path(__file__).parents[3]
ROOMS = ("relay.outbox", "relay.queue", "relay.admin", "engine.jobs")
FILES = [(room, dialect) for room in ROOMS for dialect in ("sqlite", "postgres")]
INCLUDED = re.compile(r"\{(?:([\w.]+)\.)?(\w+)\}")
ASKED = re.compile(r"statement\(\s*\"(\w+)\"(?:, (?:__package__|\"([\w.]+)\"))?\)")


def asked_for() -> set[tuple[str, str]]:
    """Every statement that the programs name, or another statement, with its room."""
    found = set()
    for root in ("relay", "engine"):
        for file in (ROOT / root).rglob("*.py"):
            own = ".".join(file.parent.relative_to(ROOT).parts)
            found |= {(room or own, name) for name, room in ASKED.findall(file.read_text("utf-8"))}
    for room, dialect in FILES:
        texts = blocks(room, dialect).values()
        found |= {(other or room, name) for block in texts for other, name in INCLUDED.findall(block)}
    return found


@cases(("room", "dialect"), FILES)
def test_a_name_stands_once_in_a_file_and_says_what_its_statement_is_for(room: str, dialect: str) -> None:
    named = blocks(room, dialect)
    text = ROOT.joinpath(*room.split("."), "sql", f"{dialect}.sql").read_text("utf-8")
    assert re.findall(r"^-- (\w+) --$", text, re.MULTILINE) == list(named)
    assert [name for name, block in named.items() if not re.match(r"-- [A-Z]", block)] == []


def test_every_statement_that_is_asked_for_is_there_and_no_other() -> None:
    there = {(room, name) for room, dialect in FILES for name in blocks(room, dialect)}
    assert asked_for() == there


def test_a_block_for_postgresql_takes_the_place_of_sqlites() -> None:
    shared, own = statement("settle", "relay.queue"), statement("sweep", "relay.queue")
    assert shared.postgres == str(shared)
    assert "SKIP LOCKED" in own.postgres
    assert "SKIP LOCKED" not in own


def test_a_statement_asks_what_others_ask_in_one_round_trip() -> None:
    whole, part = statement("snapshot", "relay.queue"), statement("full", "relay.queue")
    assert part in whole
    assert part.postgres in whole.postgres
    assert part.postgres not in whole


def test_a_statement_asks_what_one_of_another_room_asks() -> None:
    whole, part = statement("known_origins", "relay.admin"), statement("queues", "relay.queue")
    assert part in whole
    assert part.postgres in whole.postgres


def test_a_name_that_no_block_has_is_said() -> None:
    with pytest.raises(KeyError, match="has no statement 'swept'"):
        statement("swept", "relay.queue")
