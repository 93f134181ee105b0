"""What this engine offers, as far as a dialect must know to say yes or no. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Abilities:
    """What one recogniser can do.

    `languages` holds primary language codes in lower case (`en`); `honours` the optional features that it truly has,
    by Deepgram's parameter names (`punctuate`, `keyterm`, `detect_language`, ...): the rest is accepted with a warning.
    """

    languages: frozenset[str]
    honours: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The models that callers may name.

    `models` maps each name to a recogniser, `recognisers` each recogniser to its abilities, and `default` is the model
    of a request that names none.
    """

    models: Mapping[str, str]
    recognisers: Mapping[str, Abilities]
    default: str
