"""What an operator may open or close, and what the guard says when it refuses.

A refusal's rule is one of these names, which stay the same between versions:

========================  ==========================================================================================
`url_too_long`            more than `Rules.max_url_bytes`
`forbidden_character`     a control character, a space, a backslash or non-ASCII anywhere in the URL
`ambiguous_authority`     more than one `@` before the first `/`, `?` or `#`: parsers disagree where the host begins
`forbidden_scheme`        not one of the admitted schemes followed by `://`
`malformed_userinfo`      credentials that Basic authentication cannot carry
`malformed_host`          neither a host name nor an address in brackets
`ambiguous_address`       an address in a spelling that parsers read differently (0177.0.0.1, 127.1, 2130706433)
`forbidden_address`       an address that no delivery may reach
`forbidden_port`          a port that is not open, or not written as a plain number
`not_a_public_name`       judged offline only: a name that public DNS never resolves
========================  ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network

Network = IPv4Network | IPv6Network


class Rule(StrEnum):
    """Why the guard said no, as a closed set."""

    URL_TOO_LONG = "url_too_long"
    FORBIDDEN_CHARACTER = "forbidden_character"
    AMBIGUOUS_AUTHORITY = "ambiguous_authority"
    FORBIDDEN_SCHEME = "forbidden_scheme"
    MALFORMED_USERINFO = "malformed_userinfo"
    MALFORMED_HOST = "malformed_host"
    AMBIGUOUS_ADDRESS = "ambiguous_address"
    FORBIDDEN_ADDRESS = "forbidden_address"
    FORBIDDEN_PORT = "forbidden_port"
    NOT_A_PUBLIC_NAME = "not_a_public_name"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The guard's no: `rule` is a stable name, `message` a sentence with the remedy and without secrets."""

    rule: str
    message: str


@dataclass(frozen=True, slots=True)
class Rules:
    """What an operator may widen or narrow.

    `networks` opens networks that the address rule denies; it opens exactly the addresses named, so an IPv4 network
    says nothing about the IPv6 addresses that embed it. `nat64` lets 64:ff9b::/96 through, judged by the IPv4 address
    inside.
    """

    ports: Collection[int] = frozenset({80, 443, 8080, 8443})
    networks: tuple[Network, ...] = ()
    nat64: bool = False
    max_url_bytes: int = 4096


ANYWHERE = Rules(
    ports=range(1, 65536),
    networks=(IPv4Network("0.0.0.0/0"), IPv6Network("::/0")),
    max_url_bytes=65536,
)
"""For a URL that only has to name a destination: whether it may be called is asked elsewhere."""
