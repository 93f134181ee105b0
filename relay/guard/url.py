"""Where a callback may go: reads a URL strictly, and says what is wrong with it.

Nothing is repaired and nothing is guessed. Two things are normalised: one trailing dot of a host name is dropped, so
that a destination has one name and one cap, and a fragment is dropped, because no HTTP client sends it. Path and query
are kept byte for byte. Messages repeat no part of the URL: a slash in a password would otherwise show half of it.

The URL is not given to `urlsplit`, which removes tabs and line ends before it looks.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from urllib.parse import unquote_to_bytes

from relay.guard.address import is_address, judge_address
from relay.guard.rules import Refusal, Rule, Rules

PRE_RECORDED = frozenset({"http", "https"})
LIVE = PRE_RECORDED | {"ws", "wss"}


@dataclass(frozen=True, slots=True)
class Target:
    """A callback URL that passed the guard, split into what a request needs.

    `host` is lower case and without brackets; `path` is the request target (path and query, never userinfo);
    `authorization` is the Basic credential made from the URL's userinfo.
    """

    scheme: str
    host: str
    port: int
    path: str
    authorization: str | None = field(default=None, repr=False)

    @property
    def origin(self) -> str:
        """Scheme, host and effective port: the key of a destination. Holds no secret."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def endpoint(self) -> str:
        """The path without its query, of which the first 255 characters count: what of the origin answers."""
        return self.path.partition("?")[0][:LONGEST_PATH]

    @property
    def authority(self) -> str:
        """The Host header: the port is left out when it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = {"http": 80, "ws": 80, "https": 443, "wss": 443}[self.scheme]
        return host if self.port == default else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the guard says of one part of a URL. `found` describes the part without repeating any of it: where another
    part is refused, what looks like a host may be half a password."""

    part: str
    found: str
    refusal: Refusal | None = None


LONGEST_PATH = 255
"""Characters by which an endpoint is known."""
_BEFORE_QUERY = re.compile(r"[^:]*://[^/?#]*(/[^?#]*)?")
_UNSAFE = re.compile(r"[^\x21-\x7e]|\\")
_TWO_ATS = re.compile(r"[^:]*://[^/?#@]*@[^/?#@]*@")
# Compiled when the first such URL comes: nobody else need wait.
_INTERNATIONAL = r"(?s)[A-Za-z]+://(?:[^/?#@]*@|(?!.*@))(?P<host>[^][:/?#@\\\s]+)(?::[0-9]*)?(?:[/?#].*)?"
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
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_DEFAULT_PORT = {"http": "80", "ws": "80", "https": "443", "wss": "443"}

_USERINFO_OR_QUERY = re.compile(r"(?P<scheme>\b\w+://)(?:[^\s/?#]*@)?(?P<rest>[^\s?#'\"]*)(?:[?#][^\s'\"]*)?")

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


def endpoint_of(url: str) -> str:
    """The endpoint of the target that a URL names, if it names one."""
    found = _BEFORE_QUERY.match(url)
    return found[1][:LONGEST_PATH] if found and found[1] else "/"


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


def without_secrets(text: str) -> str:
    """The same text, userinfo and query of every URL in it left out."""
    return _USERINFO_OR_QUERY.sub(r"\g<scheme>\g<rest>", text) if "://" in text else text


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
            "Percent-encode it; write an international host name in its xn-- form." + _converted(url),
        )
    if _TWO_ATS.match(url):
        return Refusal(
            Rule.AMBIGUOUS_AUTHORITY, "It is unclear where the host begins. Write each @ in the credentials as %40."
        )
    return None


def _converted(url: str) -> str:
    """How a host that is not ASCII has to be written (IDNA 2008), as another sentence; nothing where it is not the
    host, or no name. Nor where an @ further on makes it look like half of a password."""
    parts = re.fullmatch(_INTERNATIONAL, url)
    if parts is None or parts["host"].isascii():
        return ""
    try:
        import idna  # it comes with the extras, and a producer's program may lack it
    except ImportError:
        return ""
    try:
        return f" So written the host is {idna.encode(parts['host'].rstrip('.'), uts46=True).decode()}."
    except UnicodeError:
        return ""


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
    if parsed.scope_id:
        return None
    if parsed.ipv4_mapped:  # as WHATWG's URLs and Python have it: from 3.13 on Python writes it as ::ffff:127.0.0.1
        return f"::ffff:{int(parsed) >> 16 & 0xFFFF:x}:{int(parsed) & 0xFFFF:x}"
    return str(parsed)


def _judge_host(host: str, rules: Rules) -> Refusal | None:
    return judge_address(host, rules) if is_address(host) else None


def _judge_port(port: str, rules: Rules) -> Refusal | None:
    # Only the plain spelling: 080, +80 and the empty port are spellings that other parsers read differently.
    if _PORT.fullmatch(port) and int(port) in rules.ports:
        return None
    admitted = ", ".join(_spans(rules.ports))
    return Refusal(Rule.FORBIDDEN_PORT, f"The port is not one of those that are open here. Use one of {admitted}.")


def _spans(ports: Collection[int]) -> Iterator[str]:
    """Those in a row as one, because there may be 65535 of them."""
    first = last = None
    for port in [*sorted(ports), None]:
        if last is not None and port != last + 1:
            yield str(first) if first == last else f"{first} to {last}"
            first = None
        first, last = first or port, port


_MALFORMED_HOST = Refusal(
    Rule.MALFORMED_HOST,
    "The host is neither a host name (letters, digits, hyphens and underscores; labels of 1 to 63 characters, 253 in "
    "all) nor an IPv6 address in brackets without a zone. Write it plainly, without percent-encoding.",
)
