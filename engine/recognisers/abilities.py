"""What each kind of recogniser can do, in the words by which dialects ask for it."""

from __future__ import annotations

from pathlib import Path

from engine.dialects.catalogue import Abilities
from engine.recognisers import languages, shelf
from engine.recognisers.base import Spec

POCKETSPHINX = Abilities(frozenset({"en"}))
ENGLISH_WHISPER = Abilities(frozenset({"en"}), frozenset({"punctuate", "keyterm"}))
WHISPER = Abilities(languages.CODES, ENGLISH_WHISPER.honours | {"detect_language"})


def abilities(spec: Spec) -> Abilities:
    """Of the recogniser that would be loaded. Raises ModelMissing for a vocabulary that cannot be read."""
    if spec.kind == "pocketsphinx":
        return POCKETSPHINX
    return WHISPER if shelf.is_multilingual(Path(spec.model)) else ENGLISH_WHISPER
