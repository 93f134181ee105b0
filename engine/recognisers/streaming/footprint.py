"""What a process that listens takes of memory, as far as its recognisers say. Pure.

Each is loaded once. pocketsphinx has a decoder besides for each channel with interim results, as large as itself; those
that a session leaves are used by the next, and only the end of the process gives them back.
"""

from __future__ import annotations

from collections import Counter

from engine.heard import LiveOptions
from engine.recognisers.base import Spec

_CHANNELS = 2
"""What a container may hold, that nobody has seen yet."""


class Footprint:
    """Of one process, from its start to its end: it only grows."""

    def __init__(self) -> None:
        self.total = 0
        self._loaded: set[Spec] = set()
        self._in_use = Counter[Spec]()
        self._made = Counter[Spec]()

    def more(self, spec: Spec, options: LiveOptions) -> int:
        """How many bytes one more session would add."""
        copies = self._in_use[spec] + _decoders(spec, options) - self._made[spec]
        return spec.memory * (max(0, copies) + (spec not in self._loaded))

    def begin(self, spec: Spec, options: LiveOptions) -> None:
        """It is there."""
        self.total += self.more(spec, options)
        self._loaded.add(spec)
        self._in_use[spec] += _decoders(spec, options)
        self._made[spec] = max(self._made[spec], self._in_use[spec])

    def end(self, spec: Spec, options: LiveOptions) -> None:
        """It has ended."""
        self._in_use[spec] -= _decoders(spec, options)


def _decoders(spec: Spec, options: LiveOptions) -> int:
    if spec.kind != "pocketsphinx" or not options.interim:
        return 0
    if not options.multichannel:
        return 1
    return options.raw.channels if options.raw else _CHANNELS
