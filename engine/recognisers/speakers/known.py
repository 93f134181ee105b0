"""The speakers of a live session, who become known one after another. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.recognisers.speakers.clustering import Groups, merged
from engine.recognisers.speakers.encoder import unit
from engine.recognisers.speakers.turns import Turn, spoken, turns
from engine.recognisers.speakers.voices import HeardVoices
from engine.request import MOST_SPEAKERS, SpeakerBounds
from engine.transcript import Word


class KnownSpeakers:
    """Of one channel, on which utterances come in their order. Numbers are given in the order in which people speak,
    and stay; two that turn out to be one person go on as the earlier. What is kept are embeddings, and with the session
    they are gone."""

    def __init__(self) -> None:
        self._groups = Groups.none()
        self._numbers: dict[int, int] = {}  # of groups who have said a word
        self._next = 0
        self._last: int | None = None  # the group who spoke last

    def name(self, words: Sequence[Word], heard: HeardVoices | None) -> tuple[Word, ...]:
        """The words of an utterance with who says them. Where it tells nothing of that, it is who spoke last."""
        said = self._turns(heard) if heard and words else []
        if not said:
            speaker = 0 if self._last is None else self._numbers[self._last]
            return tuple(replace(word, speaker=speaker) for word in words)
        return tuple(replace(word, speaker=self._number(group)) for word, group, _ in spoken(words, said))

    def _turns(self, heard: HeardVoices) -> list[Turn]:
        if len(heard.pieces):
            self._learn(heard)
        if not len(self._groups):
            return []
        return turns(heard.windows, heard.embeddings @ unit(self._groups.means).T, self._last)

    def _learn(self, heard: HeardVoices) -> None:
        self._groups, into = merged(self._groups.joined(heard.pieces), SpeakerBounds())
        numbers: dict[int, int] = {}
        for group, number in self._numbers.items():
            numbers[into[group]] = min(number, numbers.get(into[group], number))
        self._numbers = numbers
        self._last = None if self._last is None else into[self._last]

    def _number(self, group: int) -> int:
        """Of a group that says a word now."""
        if group not in self._numbers:
            self._numbers[group] = self._next
            self._next = min(self._next + 1, MOST_SPEAKERS - 1)  # whoever comes after that many is the last of them
        self._last = group
        return self._numbers[group]
