"""Templates, and how numbers, times and charts are written in them. Whatever is put into a page is escaped."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from relay.admin import times
from relay.admin.condition import shortened

if TYPE_CHECKING:
    from jinja2 import Environment

_VISIBLE_SECONDS = 0.0005  # what would be written as 0 ms is left out

Bar = tuple[float, int, int]
"""When it begins, how many were delivered, how many failed."""


@cache
def environment() -> Environment:
    """The templates beside this file."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # whom nobody looks at need not pay for it

    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "clock": times.clock,
        "iso": times.iso,
        "size": times.size,
        "span": times.span,
        "number": number,
        "text": text,
        "query": query,
        "shortened": shortened,
        "words": lambda name: str(name).replace("_", " "),
    }
    environment.globals |= {"relative": times.relative, "bars": bars, "series": series, "peak": peak, "steps": steps}
    return environment


@dataclass(frozen=True, slots=True)
class Runbook:
    """What to do about an alert: its name, and a text in which every other part is code."""

    alert: str
    parts: tuple[str, ...]


def runbooks() -> tuple[Runbook, ...]:
    """Those of docs/operations.md, which is a link beside this file."""
    text = Path(__file__).with_name("operations.md").read_text("utf-8").partition("\n## Runbooks\n")[2]
    found = re.split(r"^### (\w+)\n", text, flags=re.MULTILINE)[1:]
    return tuple(
        Runbook(alert, tuple(said.strip().split("`"))) for alert, said in zip(found[::2], found[1::2], strict=True)
    )


def number(value: int) -> str:
    """`12 345`: a thin space, which no locale takes for a decimal point."""
    return f"{value:,}".replace(",", "\N{THIN SPACE}")


def text(value: bytes, most: int = 65536) -> str:
    """Bytes to be looked at, control characters written out."""
    shown = value[:most].decode(errors="replace")
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in shown)


def query(values: Mapping[str, object], **changed: object) -> str:
    """A query string with some values changed; what is None or empty is left out."""
    return urlencode({name: str(value) for name, value in (dict(values) | changed).items() if value not in (None, "")})


def peak(data: Sequence[Bar]) -> int:
    """The highest bar, at least 1."""
    return max((delivered + failed for _, delivered, failed in data), default=0) or 1


def bars(data: Sequence[Bar], width: int, height: int) -> list[dict[str, float]]:
    """Stacked bars as rectangles: `x`, `w`, and for each part its `y` and `h`, from the top left."""
    high, step = peak(data), width / max(1, len(data))
    drawn = []
    for index, (_, delivered, failed) in enumerate(data):
        good, bad = (_height(count, high, height) for count in (delivered, failed))
        drawn.append(
            {
                "x": round(index * step, 2),
                "w": round(max(1.0, step * 0.78), 2),
                "good": round(good, 2),
                "good_y": round(height - good, 2),
                "bad": round(bad, 2),
                "bad_y": round(max(0.0, height - good - bad), 2),
            }
        )
    return drawn


def _height(count: int, high: int, height: int) -> float:
    """What is there is seen, however little it is."""
    return max(1.5, height * count / high) if count else 0.0


def series(data: Sequence[Bar]) -> str:
    """The same for a script, as JSON that cannot end its element."""
    columns = [[at for at, _, _ in data], [good for _, good, _ in data], [bad for _, _, bad in data]]
    return json.dumps(columns, separators=(",", ":"))


def steps(timing: Mapping[str, float | None], duration: float) -> list[dict[str, Any]]:
    """Where an exchange spent its time, as parts of a line 100 long: `name`, `took`, `x`, `w`."""
    names = {"dns": "name", "connect": "connect", "tls": "TLS", "first_byte": "wait"}
    taken = [(name, timing.get(step) or 0.0) for step, name in names.items()]
    taken.append(("rest", max(0.0, duration - sum(took for _, took in taken))))
    parts, x = [], 0.0
    for name, took in taken:
        width = 100 * took / duration if duration else 0.0
        if took >= _VISIBLE_SECONDS:
            parts.append({"name": name, "took": took, "x": round(x, 2), "w": round(width, 2)})
        x += width
    return parts
