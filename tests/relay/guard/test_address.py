from __future__ import annotations

from ipaddress import ip_network

from relay.guard.address import judge_address, judge_addresses
from relay.guard.rules import Rule, Rules
from tests.cases import cases
from tests.relay.guard.destinations import ADDRESSES, DENIED_RANGES, rule_of

RULES = Rules()


@cases(("address", "rule"), ADDRESSES)
def test_an_address_is_decided_by_the_rule_in_the_table(address: str, rule: str) -> None:
    assert rule_of(judge_address(address, RULES)) == rule


@cases(("before", "first", "last", "after"), DENIED_RANGES)
def test_a_denied_range_ends_exactly_at_its_borders(
    before: str | None, first: str, last: str, after: str | None
) -> None:
    assert [rule_of(judge_address(address, RULES)) for address in (first, last)] == [Rule.FORBIDDEN_ADDRESS] * 2
    assert not any(judge_address(neighbour, RULES) for neighbour in (before, after) if neighbour)


def test_an_opened_ipv6_network_is_opened_by_its_own_name() -> None:
    mapped = Rules(networks=(ip_network("::ffff:127.0.0.0/104"), ip_network("::1/128")))
    assert judge_addresses(["::1", "::ffff:127.0.0.1"], mapped) is None
    assert rule_of(judge_address("127.0.0.1", mapped)) == Rule.FORBIDDEN_ADDRESS
    assert rule_of(judge_address("::2", mapped)) == Rule.FORBIDDEN_ADDRESS


@cases(
    ("address", "rule"),
    [
        ("64:ff9b::8.8.8.8", "ok"),
        ("64:ff9b::127.0.0.1", "forbidden_address"),
        ("64:ff9b::a9fe:a9fe", "forbidden_address"),
        ("64:ff9b::10.0.0.1", "forbidden_address"),
        ("64:ff9b::1:808:808", "forbidden_address"),
        ("64:ff9b:1::8.8.8.8", "forbidden_address"),
        ("::ffff:8.8.8.8", "forbidden_address"),
    ],
)
def test_nat64_is_judged_by_the_address_inside_when_the_switch_is_on(address: str, rule: str) -> None:
    assert rule_of(judge_address(address, Rules(nat64=True))) == rule
    assert rule_of(judge_address(address, RULES)) == Rule.FORBIDDEN_ADDRESS


def test_an_opened_network_does_not_open_the_nat64_gateway_s_own() -> None:
    rules = Rules(nat64=True, networks=(ip_network("127.0.0.0/8"),))
    assert rule_of(judge_address("64:ff9b::127.0.0.1", rules)) == Rule.FORBIDDEN_ADDRESS


def test_one_forbidden_address_among_many_denies_them_all() -> None:
    assert judge_addresses(["8.8.8.8", "2606:4700::1111"], RULES) is None
    for answers in (["8.8.8.8", "10.0.0.1"], ["10.0.0.1", "8.8.8.8"], ["2606:4700::1111", "::1", "8.8.8.8"]):
        assert rule_of(judge_addresses(answers, RULES)) == Rule.FORBIDDEN_ADDRESS


def test_a_refusal_of_an_address_names_the_range_and_the_remedy_but_not_the_address() -> None:
    refusal = judge_address("10.1.2.3", RULES)
    assert refusal is not None
    assert "10.0.0.0/8" in refusal.message
    assert "allow_networks" in refusal.message
    assert "10.1.2.3" not in refusal.message
