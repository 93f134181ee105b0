"""What a recogniser can do, in the words by which dialects ask for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from engine.dialects.catalogue import Abilities
from engine.recognisers import languages
from engine.recognisers.base import Spec
from engine.recognisers.models.files import is_multilingual

ENGLISH = Abilities(frozenset({"en"}))
MULTILINGUAL = Abilities(languages.CODES, detects=True, translates=True)

_TRANSCRIBES_ONLY = ("turbo", "distil")
"""Parts of the names of multilingual models that were never taught to translate."""


def abilities(spec: Spec) -> Abilities:
    """Of the model that would be loaded. Raises ModelDamaged for a vocabulary that cannot be read."""
    if not is_multilingual(Path(spec.model)):
        return ENGLISH
    taught = not any(part in (spec.name or spec.model).lower() for part in _TRANSCRIBES_ONLY)
    return replace(MULTILINGUAL, translates=taught)
