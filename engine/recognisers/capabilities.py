"""What a recogniser can do, in the words by which dialects ask for it."""

from __future__ import annotations

from pathlib import Path

from engine.dialects.catalogue import Abilities
from engine.recognisers import languages
from engine.recognisers.base import Spec
from engine.recognisers.models.files import is_multilingual

ENGLISH = Abilities(frozenset({"en"}))
MULTILINGUAL = Abilities(languages.CODES, detects=True)


def abilities(spec: Spec) -> Abilities:
    """Of the model that would be loaded. Raises ModelDamaged for a vocabulary that cannot be read."""
    return MULTILINGUAL if is_multilingual(Path(spec.model)) else ENGLISH
