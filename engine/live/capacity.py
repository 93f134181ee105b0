"""How many live sessions this machine can keep in real time. Pure: numbers in, a decision out.

Everything is counted in cores, and as if everybody spoke all the time: a session that was admitted is kept in real
time, whatever the others say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from engine.events import LiveOptions
from engine.recognisers.whisper.passes import Costs, PassRecord


@dataclass(frozen=True, slots=True)
class Speech:
    """What is to be transcribed: so many channels by a recogniser, with interim results or without, and with who speaks
    or without."""

    recogniser: str
    channels: int = 1
    interim: bool = True
    speakers: bool = False


@dataclass(frozen=True, slots=True)
class Admitted:
    """There is room."""


@dataclass(frozen=True, slots=True)
class Full:
    """What was admitted leaves too little. All in cores: what is needed, what is left."""

    needed: float
    left: float


@dataclass(frozen=True, slots=True)
class Limited:
    """As many sessions as may be are there, whatever the machine could do."""

    most: int


@dataclass(frozen=True, slots=True)
class KeyLimited:
    """One key holds as much of the room as one may: a `share` of it."""

    share: float


@dataclass(frozen=True, slots=True)
class Impossible:
    """Not even one such session could be kept: it takes more than there is at all."""

    needed: float
    left: float


Decision = Admitted | Full | Limited | KeyLimited | Impossible


class Capacity:
    """What recognisers cost here, and what may be spent on them: a `share` of so many `cores`. `threads` tells how many
    of these a pass of a recogniser keeps busy, where that is more than one; `most` bounds the sessions in any case, and
    `key_share` is how much of all that one API key may hold."""

    def __init__(
        self,
        cores: float,
        share: float,
        threads: Mapping[str, int] | None = None,
        most: int | None = None,
        key_share: float = 1.0,
    ) -> None:
        self._budget = cores * share
        self._most = most
        self._key_share = key_share
        self._threads = dict(threads or {})
        self._costs: dict[str, Costs] = {}

    def knows(self, recogniser: str) -> bool:
        return recogniser in self._costs

    def measured(self, recogniser: str, costs: Costs) -> None:
        """What it costs while nothing else is done."""
        self._costs[recogniser] = costs

    def passed(self, recogniser: str, record: PassRecord) -> None:
        """What a pass of it really cost."""
        if recogniser in self._costs:
            self._costs[recogniser] = self._costs[recogniser].learn(record)

    def decide(self, wanted: Speech, admitted: Iterable[Speech], own: Sequence[Speech] = ()) -> Decision:
        """Whether it can be transcribed in real time beside what was admitted. `own` of that is of the same key."""
        taken = [self._needed(speech) for speech in admitted]
        needed, left = self._needed(wanted), max(0.0, self._budget - sum(taken))
        if needed > self._budget:
            return Impossible(needed, self._budget)
        if self._most is not None and len(taken) >= self._most:
            return Limited(self._most)
        if own and self._is_hogged([*own, wanted]):
            return KeyLimited(self._key_share)
        return Admitted() if needed <= left else Full(needed, left)

    def _is_hogged(self, of_key: Sequence[Speech]) -> bool:
        """Whether all this is more than the share of one key."""
        if self._most is not None and len(of_key) > self._most * self._key_share:
            return True
        return sum(map(self._needed, of_key)) > self._budget * self._key_share

    def sessions(self, recogniser: str) -> int:
        """How many sessions of one channel, with interim results, can be kept in all; 0 before it was measured."""
        if (needed := self._needed(Speech(recogniser))) <= 0:
            return 0
        return int(self._budget / needed)

    def _needed(self, speech: Speech) -> float:
        """Nothing is known of what was not measured, and nothing refused for it."""
        if (costs := self._costs.get(speech.recogniser)) is None:
            return 0.0
        passes = costs.of(speech.channels, interim=speech.interim, speakers=speech.speakers)
        return passes * self._threads.get(speech.recogniser, 1)


def speech(recogniser: str, options: LiveOptions) -> Speech:
    """What a session needs, as far as its options tell: audio in a container may have channels that show
    later, and is taken for stereo."""
    channels = (options.raw.channels if options.raw else 2) if options.multichannel else 1
    return Speech(recogniser, channels, options.interim, options.speakers)
