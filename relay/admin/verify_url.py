"""What the guard would say of a URL, for an operator who asks: the judgement, with its rule and its remedy.

Besides the rules of `relay.policy.destination`, a judgement's rule is one of

====================  =========================================================
`ok`                  the URL is allowed
`unresolvable`        the host has no address at this moment
`not_a_json_string`   a line of the input is not one JSON string
====================  =========================================================
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from relay.model import Refusal
from relay.policy.destination import LIVE, PRE_RECORDED, Rules, public_name, read
from relay.transports.resolver import Resolver, Unresolved

OK = "ok"
UNRESOLVABLE = "unresolvable"
NOT_A_JSON_STRING = "not_a_json_string"


@dataclass(frozen=True, slots=True)
class Judgement:
    """One URL as it was given, and what the guard says of it. The URL may hold credentials: this is never logged."""

    url: str
    verdict: Literal["allow", "deny"]
    rule: str
    message: str

    @property
    def allowed(self) -> bool:
        """Whether the guard lets the URL through."""
        return self.verdict == "allow"

    def as_json(self) -> str:
        """One line of ASCII with the keys url, verdict, rule and message, whatever the URL holds."""
        return json.dumps(asdict(self))

    def as_text(self) -> str:
        """One line for a terminal. The URL is quoted, so that nothing in it can steer the terminal."""
        return f"{self.verdict:<5}  {self.rule:<20}  {json.dumps(self.url)}  {self.message}"


async def verify(url: str, *, rules: Rules, resolver: Resolver | None = None, live: bool = False) -> Judgement:
    """What the guard says of one URL. Without a resolver no name is looked up, and a well-formed public name is
    allowed; `live` admits ws and wss. A resolver judges addresses by its own rules, which should be the same."""
    target = read(url, rules, LIVE if live else PRE_RECORDED)
    if isinstance(target, Refusal):
        return Judgement(url, "deny", target.rule, target.message)
    match public_name(target.host) if resolver is None else await resolver.resolve(target.host):
        case Refusal(rule, message):
            return Judgement(url, "deny", rule, message)
        case Unresolved(detail):
            return Judgement(url, "deny", UNRESOLVABLE, detail + " Correct the name, or try again later.")
        case _:
            return Judgement(url, "allow", OK, _allowed(resolver))


async def verify_lines(
    lines: Iterable[str | bytes], *, rules: Rules, resolver: Resolver | None = None, live: bool = False
) -> AsyncIterator[Judgement]:
    """One judgement for each line, in order, as it is read. A line holds a URL as a JSON string; any other is denied
    and echoed as it is. Bytes need not be UTF-8."""
    for line in lines:
        text = (line.decode(errors="surrogateescape") if isinstance(line, bytes) else line).strip(" \t\r\n")
        url = _json_string(text)
        if url is None:
            yield Judgement(text, "deny", NOT_A_JSON_STRING, 'Write one URL a line, as a JSON string: "https://...".')
        else:
            yield await verify(url, rules=rules, resolver=resolver, live=live)


def _json_string(text: str) -> str | None:
    # Looking at the first character spares the parser a megabyte of brackets, which it would answer with recursion.
    try:
        return str(json.loads(text)) if text.startswith('"') else None
    except ValueError:
        return None


def _allowed(resolver: Resolver | None) -> str:
    checked = "every address of its host is public or opened" if resolver else "its host was not resolved"
    return f"The URL is allowed; {checked}."
