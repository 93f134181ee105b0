"""The expositions of several workers as one: each series says whose it is.

Each worker is a relay of its own to whoever asks: a counter that begins anew with a new process is understood as such
only where it is told apart, and no gauge has to be summed that must not be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_META = re.compile(r"# (?:HELP|TYPE|UNIT) (\S+)")
_NAME = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(\{)?")
_END = "# EOF"


def merged(expositions: Mapping[str, str]) -> str:
    """One text out of some, whose samples get the label `worker`, if it is not empty. All are in the same format."""
    families: dict[str, list[str]] = {}
    described: dict[str, list[str]] = {}
    for worker, text in expositions.items():
        for family, line in _lines(text):
            samples, words = families.setdefault(family, []), described.setdefault(family, [])
            if not line.startswith("#"):
                samples.append(_told_apart(line, worker))
            elif line not in words:
                words.append(line)
    lines = [line for family in families for line in (*described[family], *families[family])]
    ended = any(text.endswith(f"{_END}\n") for text in expositions.values())
    return "".join(f"{line}\n" for line in (*lines, *([_END] if ended else [])))


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """Each line, and the family that it belongs to: the one that was described last."""
    family = ""
    for line in text.splitlines():
        if meta := _META.match(line):
            family = meta[1]
        if line and line != _END:
            yield family, line


def _told_apart(sample: str, worker: str) -> str:
    """The label comes first; what follows the name, an exemplar too, stays as it is."""
    if not worker:
        return sample
    return _NAME.sub(lambda name: f'{name[1]}{{worker="{worker}"{"," if name[2] else "}"}', sample, count=1)
