"""What the guard would say of a URL, for an operator who asks: the judgement, with its rule and its remedy.

Besides the rules of `relay.guard.url`, a judgement's rule is one of

====================  =========================================================
`ok`                  the URL is allowed
`unresolvable`        the host has no address at this moment
`not_a_json_string`   a line of the input is not one JSON string
====================  =========================================================
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from relay.guard.address import judge_address
from relay.guard.resolver import Addresses, Resolver
from relay.guard.rules import ANYWHERE, Refusal
from relay.guard.url import LIVE, PRE_RECORDED, public_name, read, rulings

OK = "ok"
UNRESOLVABLE = "unresolvable"
NOT_A_JSON_STRING = "not_a_json_string"

_HIDDEN = "***"

Verdict = Literal["allow", "deny"]


@dataclass(frozen=True, slots=True)
class Check:
    """What the guard says of one part: text, scheme, host, userinfo, port or address, of which there may be several.

    `found` says what stands there; of a URL only its kind, of a resolved host the address. `message` is the remedy.
    """

    part: str
    found: str
    verdict: Verdict = "allow"
    rule: str = OK
    message: str = ""

    def as_text(self) -> str:
        """One line for a terminal."""
        why = f"{self.rule}: {self.message}" if self.message else ""
        return f"       {self.part:<9} {self.verdict:<5}  {self.found}{'  ' + why if why else ''}"


@dataclass(frozen=True, slots=True)
class Judgement:
    """One URL as it was given, and what the guard says of it. The URL may hold credentials: this is never logged."""

    url: str
    verdict: Verdict
    rule: str
    message: str
    checks: tuple[Check, ...] = ()

    @property
    def allowed(self) -> bool:
        return self.verdict == "allow"

    def told(self) -> dict[str, Any]:
        """The keys url, verdict, rule and message. The URL comes back as it was given: it is what tells lines apart."""
        told = asdict(self)
        del told["checks"]
        return told

    def as_json(self) -> str:
        """One line of ASCII, whatever the URL holds."""
        return json.dumps(self.told())

    def as_text(self) -> str:
        """One line for a terminal. The URL is quoted, so that nothing in it can steer the terminal, and shown without
        what may be a secret: a terminal's contents end up in tickets."""
        return f"{self.verdict:<5}  {self.rule:<20}  {json.dumps(masked(self.url))}  {self.message}"


def masked(url: str) -> str:
    """A text that should be a URL, without credentials and query."""
    target = read(url, ANYWHERE, LIVE)
    if isinstance(target, Refusal):  # where they begin and end is anybody's guess
        return url if frozenset("@?#").isdisjoint(url) else _HIDDEN
    credentials = f"{_HIDDEN}@" if target.authorization else ""
    path, mark, _ = target.path.partition("?")
    return f"{target.scheme}://{credentials}{target.authority}{path}{mark and mark + _HIDDEN}"


async def verify(url: str, resolver: Resolver, *, live: bool = False, offline: bool = False) -> Judgement:
    """What the guard says of one URL. `live` admits ws and wss; `offline` no name is resolved, and a well-formed public
    one is allowed."""
    schemes, rules = LIVE if live else PRE_RECORDED, resolver.rules
    checks = [_check(one.part, one.found, one.refusal) for one in rulings(url, rules, schemes)]
    target = read(url, rules, schemes)
    if not isinstance(target, Refusal):
        checks += [_by_name(target.host)] if offline else await _by_addresses(target.host, resolver)
    denied = next((check for check in checks if check.verdict == "deny"), None)
    if denied:
        return Judgement(url, "deny", denied.rule, denied.message, tuple(checks))
    return Judgement(url, "allow", OK, _allowed(offline=offline), tuple(checks))


async def verify_lines(
    lines: Iterable[str | bytes], resolver: Resolver, *, live: bool = False, offline: bool = False
) -> AsyncIterator[Judgement]:
    """One judgement for each line, in order, as it is read. A line holds a URL as a JSON string; any other is denied
    and echoed as it is. Bytes need not be UTF-8."""
    for line in lines:
        text = (line.decode(errors="surrogateescape") if isinstance(line, bytes) else line).strip(" \t\r\n")
        url = _json_string(text)
        if url is None:
            yield Judgement(text, "deny", NOT_A_JSON_STRING, 'Write one URL a line, as a JSON string: "https://...".')
        else:
            yield await verify(url, resolver, live=live, offline=offline)


def _check(part: str, found: str, refusal: Refusal | None) -> Check:
    return Check(part, found, "deny", refusal.rule, refusal.message) if refusal else Check(part, found)


def _by_name(host: str) -> Check:
    return _check("name", "not resolved", public_name(host))


async def _by_addresses(host: str, resolver: Resolver) -> Sequence[Check]:
    """Every address of a host by itself: the guard's own resolver stops at the first that it refuses."""
    match await Resolver(ANYWHERE, resolver.names).resolve(host):
        case Addresses(addresses):
            return [_check("address", address, judge_address(address, resolver.rules)) for address in addresses]
        case Refusal() as refusal:
            return [_check("address", "in a spelling of its own", refusal)]
        case unresolved:
            message = unresolved.detail + " Correct the name, or try again later."
            return [Check("address", "none", "deny", UNRESOLVABLE, message)]


def _json_string(text: str) -> str | None:
    # Looking at the first character spares the parser a megabyte of brackets, which it would answer with recursion.
    try:
        return str(json.loads(text)) if text.startswith('"') else None
    except ValueError:
        return None


def _allowed(*, offline: bool) -> str:
    checked = "its host was not resolved" if offline else "every address of its host is public or opened"
    return f"The URL is allowed; {checked}."
