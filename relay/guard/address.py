"""Which addresses a delivery may reach, and audio may be fetched from.

The address rule is written out rather than asked of `ipaddress.is_global`, which calls multicast, 6to4 and
168.63.129.16 global.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from relay.guard.rules import Refusal, Rule, Rules

_IPV4_DENIED = {
    IPv4Network("0.0.0.0/8"): "this network",
    IPv4Network("10.0.0.0/8"): "private",
    IPv4Network("100.64.0.0/10"): "shared by carriers",
    IPv4Network("127.0.0.0/8"): "loopback",
    IPv4Network("169.254.0.0/16"): "link-local, cloud metadata",
    IPv4Network("172.16.0.0/12"): "private",
    IPv4Network("192.0.0.0/24"): "protocol assignments",
    IPv4Network("192.0.2.0/24"): "documentation",
    IPv4Network("192.88.99.0/24"): "6to4 relays",
    IPv4Network("192.168.0.0/16"): "private",
    IPv4Network("198.18.0.0/15"): "benchmarks",
    IPv4Network("198.51.100.0/24"): "documentation",
    IPv4Network("203.0.113.0/24"): "documentation",
    IPv4Network("224.0.0.0/3"): "multicast, reserved and broadcast",
    IPv4Network("168.63.129.16/32"): "the Azure host",
}
_IPV6_DENIED = {
    IPv6Network("2001::/23"): "protocol assignments, Teredo",
    IPv6Network("2001:db8::/32"): "documentation",
    IPv6Network("2002::/16"): "6to4",
    IPv6Network("3fff::/20"): "documentation",
}
_IPV6_GLOBAL = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")

# Every spelling that inet_aton takes for an address ends in a label like this, and no host name does.
_NUMERIC_END = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")


def judge_address(address: str, rules: Rules) -> Refusal | None:
    """The address rule, for one IPv4 or IPv6 address without brackets; anything else is refused as ambiguous."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return _AMBIGUOUS_ADDRESS
    if any(parsed in network for network in rules.networks):
        return None
    if rules.nat64 and parsed in _NAT64:
        # `networks` opens our own 127.0.0.0/8, not the gateway's: the embedded address gets no such favour.
        parsed = IPv4Address(int(parsed) & 0xFFFFFFFF)
    return _judge_ipv4(parsed) if isinstance(parsed, IPv4Address) else _judge_ipv6(parsed)


def judge_addresses(addresses: Iterable[str], rules: Rules) -> Refusal | None:
    """The first refusal among the addresses of one name: a single forbidden one denies them all."""
    return next(filter(None, (judge_address(address, rules) for address in addresses)), None)


def is_address(host: str) -> bool:
    """Whether a host is an IPv4 or IPv6 address rather than a name."""
    return ":" in host or _NUMERIC_END.fullmatch(host) is not None


def _judge_ipv4(address: IPv4Address) -> Refusal | None:
    for network, purpose in _IPV4_DENIED.items():
        if address in network:
            return _forbidden_address(f"inside {network} ({purpose})")
    return None


def _judge_ipv6(address: IPv6Address) -> Refusal | None:
    if address not in _IPV6_GLOBAL:
        return _forbidden_address(f"outside {_IPV6_GLOBAL} (global unicast)")
    for network, purpose in _IPV6_DENIED.items():
        if address in network:
            return _forbidden_address(f"inside {network} ({purpose})")
    return None


_AMBIGUOUS_ADDRESS = Refusal(
    Rule.AMBIGUOUS_ADDRESS,
    "The host is an address in a spelling that programs read differently. Write an IPv4 address as four decimal "
    "numbers without leading zeros.",
)


def _forbidden_address(where: str) -> Refusal:
    # The address itself stays out: callers must not learn what a name inside our network resolves to.
    return Refusal(
        Rule.FORBIDDEN_ADDRESS,
        f"The destination has an address {where}. Use a public address, or let the operator open the network in "
        "allow_networks.",
    )
