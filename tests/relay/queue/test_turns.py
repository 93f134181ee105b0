"""Who is looked at first where there are too many to look at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from relay.queue.claims import ClaimRequest, Group
from relay.queue.turns import MORE, Turns, one_each, pick

CROWD = [("", f"http://host{number}.example:80") for number in range(100)]
BUSY = ("", "http://busy.example:80")


def test_what_had_nothing_more_is_looked_at_in_turn() -> None:
    turns = Turns()
    turns.note_served(dict.fromkeys(CROWD, False))
    looks = [turns.lately() for _ in range(4)]
    assert all(0 < len(look) < len(CROWD) for look in looks)
    assert {pair for look in looks for pair in look} == set(CROWD)


def test_what_may_have_more_is_looked_at_with_each_claim() -> None:
    turns = Turns()
    turns.note_served(dict.fromkeys(CROWD, False) | {BUSY: True})
    assert all(BUSY in turns.lately() for _ in range(4))
    turns.note_looked([BUSY], found=())
    assert not all(BUSY in turns.lately() for _ in range(4))
    turns.note_looked([BUSY], found=[BUSY])
    assert all(BUSY in turns.lately() for _ in range(4))


def test_what_was_not_served_lately_is_not_remembered_for_having_been_looked_at() -> None:
    turns = Turns()
    turns.note_looked([BUSY], found=[BUSY])
    assert turns.lately() == []


def test_groups_of_an_origin_each_go_as_they_stand_and_others_by_turns() -> None:
    crowd = [("", origin, "/a") for _, origin in CROWD]
    assert list(one_each(crowd)) == crowd
    of_two_owners = [("one", "x", "/a"), ("one", "y", "/a"), ("two", "z", "/a")]
    assert list(one_each(of_two_owners)) == [of_two_owners[0], of_two_owners[2], of_two_owners[1]]
    of_two_endpoints = [("", "x", "/a"), ("", "x", "/b"), ("", "y", "/a")]
    assert list(one_each(of_two_endpoints)) == [of_two_endpoints[0], of_two_endpoints[2], of_two_endpoints[1]]


def test_of_what_is_not_prompt_no_more_is_read_than_may_go() -> None:
    prompt = {origin for _, origin in CROWD[-2:]}
    groups = [("", origin, "/a") for _, origin in CROWD]
    asked: dict[Group, int] = {}

    def heads_of(depths: Mapping[Group, int]) -> Mapping[Group, Sequence[int]]:
        asked.update(depths)
        return {group: range(100 * number, 100 * number + depths[group]) for number, group in enumerate(depths)}

    picked = Counter(group[1] for group, _ in pick(groups, ClaimRequest(600, others=4, prompt=prompt), 600, heads_of))
    assert {origin: picked[origin] for origin in prompt} == dict.fromkeys(prompt, 16)
    assert sum(picked.values()) == 2 * 16 + 4
    assert len(asked) == 4 + MORE + len(prompt)
    assert {depth for group, depth in asked.items() if group[1] not in prompt} == {2}


def test_each_origin_has_one_before_any_has_a_second() -> None:
    heads = {("", origin, "/a"): [10 * number, 10 * number + 1] for number, (_, origin) in enumerate(CROWD[:3])}
    request = ClaimRequest(4, prompt={origin for _, origin in CROWD})
    assert [seq for _, seq in pick(list(heads), request, 4, lambda _: heads)] == [0, 10, 20, 1]
