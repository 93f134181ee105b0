"""Where a callback may go: reads a URL strictly, and judges the addresses that it leads to.

A refusal's rule is one of these names, which stay the same between versions:

========================  ==========================================================================================
`url_too_long`            more than `Rules.max_url_bytes`
`forbidden_character`     a control character, a space, a backslash or non-ASCII anywhere in the URL
`ambiguous_authority`     more than one `@`, or an `@` after a `?` or `#` that ends the authority: parsers disagree
`forbidden_scheme`        not one of the admitted schemes followed by `://`
`malformed_userinfo`      credentials that Basic authentication cannot carry
`malformed_host`          neither a host name nor an address in brackets
`ambiguous_address`       an address in a spelling that parsers read differently (0177.0.0.1, 127.1, 2130706433)
`forbidden_address`       an address that no delivery may reach
`forbidden_port`          a port that is not open to callbacks, or not written as a plain number
`not_a_public_name`       judged offline only: a name that public DNS never resolves
========================  ==========================================================================================

Nothing is repaired and nothing is guessed. Two things are normalised: one trailing dot of a host name is dropped, so
that a destination has one name and one cap, and a fragment is dropped, because no HTTP client sends it. Path and query
are kept byte for byte. Messages repeat no part of the URL: a slash in a password would otherwise show half of it.

The address rule is written out rather than asked of `ipaddress.is_global`, and the URL is not given to `urlsplit`:
the first calls multicast, 6to4 and 168.63.129.16 global, the second removes tabs and line ends before it looks.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import unquote_to_bytes

from relay.model import Refusal, Target

Network = IPv4Network | IPv6Network

PRE_RECORDED = frozenset({"http", "https"})
LIVE = PRE_RECORDED | {"ws", "wss"}


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
class Rules:
    """What an operator may widen or narrow.

    `networks` opens networks that the address rule denies; it opens exactly the addresses named, so an IPv4 network
    says nothing about the IPv6 addresses that embed it. `nat64` lets 64:ff9b::/96 through, judged by the IPv4 address
    inside.
    """

    ports: frozenset[int] = frozenset({80, 443, 8080, 8443})
    networks: tuple[Network, ...] = ()
    nat64: bool = False
    max_url_bytes: int = 4096


ANYWHERE = Rules(
    ports=frozenset(range(1, 65536)),
    networks=(IPv4Network("0.0.0.0/0"), IPv6Network("::/0")),
    max_url_bytes=65536,
)
"""For a URL that only has to name a destination: whether it may be called is asked elsewhere."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the guard says of one part of a URL. `found` describes the part without repeating any of it: where another
    part is refused, what looks like a host may be half a password."""

    part: str
    found: str
    refusal: Refusal | None = None


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

_UNSAFE = re.compile(r"[^\x21-\x7e]|\\")
_STRAY_AT = re.compile(r"[^/?#]*//[^/?#]*[?#].*@")
_PARTS = re.compile(
    r"(?P<scheme>[^:]*)://"
    r"(?:(?P<userinfo>[^/?#@]*)@)?"
    r"(?P<host>\[[^]/?#@]*\]|[^:/?#@]*)(?::(?P<port>[^/?#@]*))?"
    r"(?P<path>(?:[/?][^#]*)?)(?:#.*)?"
)
_USERINFO = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
# Every spelling that inet_aton takes for an address ends in a label like this, and no host name does.
_NUMERIC_END = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_DEFAULT_PORT = {"http": "80", "ws": "80", "https": "443", "wss": "443"}

_TOP_LEVEL = re.compile(r"[a-z]{2,63}|xn--[a-z0-9-]{1,59}")
# IANA's special-use names, ICANN's `internal`, and the private zones of RFC 6762, appendix G. `example.com` and its
# siblings are special-use too, but they do resolve. All of `arpa` is infrastructure, `home.arpa` included.
_NEVER_PUBLIC = frozenset(
    {"alt", "arpa", "example", "internal", "invalid", "local", "localhost", "onion", "test"}
    | {"corp", "home", "intranet", "lan", "localdomain", "mail", "private"}
)


def read(url: str, rules: Rules, schemes: frozenset[str] = PRE_RECORDED) -> Target | Refusal:
    """The target that a URL names, or why no request may be made of it. Never raises, whatever the text.

    A host that is an address is judged here; a host name is judged by what it resolves to, which is not known here.
    """
    if refusal := _judge_text(url, rules):
        return refusal
    parts = _PARTS.fullmatch(url)
    if parts is None or parts["scheme"].lower() not in schemes:
        return _forbidden_scheme(schemes)
    scheme, host = parts["scheme"].lower(), _canonical(parts["host"])
    port = _DEFAULT_PORT[scheme] if parts["port"] is None else parts["port"]
    if host is None:
        return _MALFORMED_HOST
    if refusal := _judge_userinfo(parts["userinfo"]) or _judge_host(host, rules) or _judge_port(port, rules):
        return refusal
    path = parts["path"] if parts["path"].startswith("/") else "/" + parts["path"]
    return Target(scheme, host, int(port), path, _basic(parts["userinfo"]))


def rulings(url: str, rules: Rules, schemes: frozenset[str] = PRE_RECORDED) -> tuple[Ruling, ...]:
    """The guard's word on every part that can be made out, in the order in which `read` asks: the first refusal among
    them is the one that `read` returns."""
    text = Ruling("text", "printable ASCII of acceptable length", _judge_text(url, rules))
    if text.refusal:
        return (text,)
    parts = _PARTS.fullmatch(url)
    if parts is None:
        return text, Ruling("scheme", "none", _forbidden_scheme(schemes))
    return text, *_rulings_on(parts, rules, schemes)


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


def public_name(host: str) -> Refusal | None:
    """Whether a target's host could exist in public DNS; for judging without resolving. Addresses pass: `read` judged
    them."""
    if is_address(host):
        return None
    *parents, top = host.split(".")
    if parents and _TOP_LEVEL.fullmatch(top) and top not in _NEVER_PUBLIC:
        return None
    return Refusal(
        Rule.NOT_A_PUBLIC_NAME,
        "The host is not a name that public DNS resolves. Use a fully qualified public name, or judge it online.",
    )


def is_address(host: str) -> bool:
    """Whether a host is an IPv4 or IPv6 address rather than a name."""
    return ":" in host or _NUMERIC_END.fullmatch(host) is not None


def _rulings_on(parts: re.Match[str], rules: Rules, schemes: frozenset[str]) -> Iterator[Ruling]:
    scheme, host = parts["scheme"].lower(), _canonical(parts["host"])
    admitted = scheme in schemes
    yield Ruling("scheme", scheme if admitted else "another", None if admitted else _forbidden_scheme(schemes))
    if host is None:
        yield Ruling("host", "neither a name nor an address", _MALFORMED_HOST)
    else:
        yield Ruling("host", "an address" if is_address(host) else "a name")
    userinfo = parts["userinfo"]
    sent_as = "none" if userinfo is None else "credentials, sent as a Basic Authorization header"
    yield Ruling("userinfo", sent_as, _judge_userinfo(userinfo))
    if host is not None and is_address(host):
        yield Ruling("address", "the host itself", _judge_host(host, rules))
    port = _DEFAULT_PORT.get(scheme) if parts["port"] is None else parts["port"]
    if port is not None:
        yield Ruling("port", "the scheme's own" if parts["port"] is None else "a number", _judge_port(port, rules))


def _judge_text(url: str, rules: Rules) -> Refusal | None:
    if len(url) > rules.max_url_bytes:
        return Refusal(
            Rule.URL_TOO_LONG, f"The URL is longer than {rules.max_url_bytes} bytes. Shorten its path or query."
        )
    if unsafe := _UNSAFE.search(url):
        return Refusal(
            Rule.FORBIDDEN_CHARACTER,
            f"Character {unsafe.start() + 1} of the URL is a control character, a space, a backslash or not ASCII. "
            "Percent-encode it; write an international host name in its xn-- form.",
        )
    if url.count("@") > 1 or _STRAY_AT.match(url):
        return Refusal(
            Rule.AMBIGUOUS_AUTHORITY,
            "It is unclear where the host begins. Write every @ that does not end the credentials as %40.",
        )
    return None


def _forbidden_scheme(schemes: frozenset[str]) -> Refusal:
    admitted = " or ".join(f"{scheme}://" for scheme in sorted(schemes))
    return Refusal(Rule.FORBIDDEN_SCHEME, f"The URL must begin with {admitted}.")


def _judge_userinfo(userinfo: str | None) -> Refusal | None:
    if userinfo is None:
        return None
    if not _USERINFO.fullmatch(userinfo):
        return _malformed_userinfo("are empty or hold a character that must be percent-encoded")
    try:
        username, password = _credentials(userinfo)
    except UnicodeDecodeError:
        return _malformed_userinfo("are not UTF-8 once percent-decoded")
    if ":" in username:
        return _malformed_userinfo("have a colon in the user name, which Basic authentication cannot carry")
    if _CONTROL.search(username + password):
        return _malformed_userinfo("hold a control character, which Basic authentication cannot carry")
    return None


def _malformed_userinfo(flaw: str) -> Refusal:
    return Refusal(
        Rule.MALFORMED_USERINFO, f"The credentials before the @ {flaw}. Write them as user:password, percent-encoded."
    )


def _credentials(userinfo: str) -> tuple[str, str]:
    username, _, password = userinfo.partition(":")
    return unquote_to_bytes(username).decode(), unquote_to_bytes(password).decode()


def _basic(userinfo: str | None) -> str | None:
    if userinfo is None:
        return None
    return "Basic " + base64.b64encode(":".join(_credentials(userinfo)).encode()).decode()


def _canonical(host: str) -> str | None:
    """The host as it is looked up or dialled, without brackets; None when it is malformed."""
    if host.startswith("["):
        return _canonical_ipv6(host[1:-1])
    name = host.lower().removesuffix(".")
    return name if is_address(name) or _NAME.fullmatch(name) else None


def _canonical_ipv6(address: str) -> str | None:
    try:
        parsed = IPv6Address(address)
    except ValueError:
        return None
    return None if parsed.scope_id else str(parsed)


def _judge_host(host: str, rules: Rules) -> Refusal | None:
    return judge_address(host, rules) if is_address(host) else None


def _judge_port(port: str, rules: Rules) -> Refusal | None:
    # Only the plain spelling: 080, +80 and the empty port are spellings that other parsers read differently.
    if _PORT.fullmatch(port) and int(port) in rules.ports:
        return None
    admitted = ", ".join(_spans(rules.ports))
    return Refusal(Rule.FORBIDDEN_PORT, f"The port is not one of those open to callbacks. Use one of {admitted}.")


def _spans(ports: frozenset[int]) -> Iterator[str]:
    """Those in a row as one, because there may be 65535 of them."""
    first = last = None
    for port in [*sorted(ports), None]:
        if last is not None and port != last + 1:
            yield str(first) if first == last else f"{first} to {last}"
            first = None
        first, last = first or port, port


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


_MALFORMED_HOST = Refusal(
    Rule.MALFORMED_HOST,
    "The host is neither a host name (letters, digits, hyphens and underscores; labels of 1 to 63 characters, 253 in "
    "all) nor an IPv6 address in brackets without a zone. Write it plainly, without percent-encoding.",
)
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
