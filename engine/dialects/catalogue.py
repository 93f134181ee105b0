"""What this engine offers, as far as a dialect must know to say yes or no. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from engine.request import RawFormat

RawReader = Callable[[str, int | None, int | None], RawFormat | None]
"""Encoding, sample rate and channels to the format of headerless audio, None where the bytes describe themselves.
Raises AudioError, naming the field."""

ByteRate = Callable[[RawFormat | None], float | None]
"""How many bytes are a second of such audio; None where the bytes do not tell."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What one recogniser can do: the languages that it knows, as primary codes in lower case (`en`), whether it
    detects by itself which of them is spoken, and whether it can translate into English."""

    languages: frozenset[str]
    detects: bool = False
    translates: bool = False

    def knows(self, code: str) -> bool:
        """Whether it hears a language, by BCP 47; `multi` is whichever is spoken."""
        return self.detects if code.lower() == "multi" else code.lower().partition("-")[0] in self.languages


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The models that callers may name.

    `models` maps each name to a recogniser, `recognisers` each recogniser to its abilities, and `default` is the model
    of a request that names none. `own` are the names that whoever runs this server gave: the others are vendors'.
    `speakers` says whether any of them tells speakers apart.
    """

    models: Mapping[str, str]
    recognisers: Mapping[str, Abilities]
    default: str
    own: frozenset[str] = frozenset()
    speakers: bool = False

    def choice(self) -> str:
        """The names to choose from, where one is not known: those of this server, for the vendors' are many."""
        return ", ".join(sorted(self.own or self.models))

    def instead(self, code: str) -> str:
        """What to do about a language that the named model does not know: a sentence for the caller."""
        return self._others(lambda abilities: abilities.knows(code))

    def instead_to_translate(self) -> str:
        """The same about a model that cannot translate."""
        return self._others(lambda abilities: abilities.translates)

    def _others(self, fit: Callable[[Abilities], bool]) -> str:
        able = sorted(name for name, abilities in self.recognisers.items() if fit(abilities))
        if not able:
            return "No model here does; whoever runs this server can add a multilingual one."
        return f"Models here that do: {', '.join(map(self._name, able))}."

    def _name(self, recogniser: str) -> str:
        """How callers name it: its own name, unless that leads elsewhere."""
        names = sorted(name for name, target in self.models.items() if target == recogniser)
        return recogniser if recogniser in names or not names else names[0]
