"""Custom vocabulary and custom spelling: what to listen for, and how to write what was heard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.dialects.gladia.fields import Fields

_MAX_PHRASES = 1000


@dataclass(frozen=True, slots=True)
class Phrases:
    """`listen` holds phrases that may be said, `replace` pairs of what may be heard and what is written then,
    `weighed` whether the caller gave them weights, and `params` what the caller asked for, to be shown again."""

    listen: tuple[str, ...]
    replace: list[list[str]]
    weighed: bool
    params: dict[str, Any]


def phrases(fields: Fields) -> Phrases:
    """The phrases of a request's body; flaws are noted."""
    entries = _vocabulary(fields)
    spellings = _spellings(fields)
    params: dict[str, Any] = {}
    if entries:
        params |= {"custom_vocabulary": True, "custom_vocabulary_config": {"vocabulary": entries}}
    if spellings:
        params |= {"custom_spelling": True, "custom_spelling_config": {"spelling_dictionary": spellings}}
    sounds = [[sound, entry["value"]] for entry in entries for sound in entry.get("pronunciations", ())]
    variants = [[variant, spelling] for spelling, heard in spellings.items() for variant in heard]
    return Phrases(
        listen=tuple(dict.fromkeys(entry["value"] for entry in entries)),
        replace=sounds + variants,
        weighed=any("intensity" in entry for entry in entries) or _default_intensity(fields) is not None,
        params=params,
    )


def _vocabulary(fields: Fields) -> list[dict[str, Any]]:
    """The entries, once an array in the place of the switch."""
    if isinstance(fields.raw("custom_vocabulary"), list):
        owner, name = fields, "custom_vocabulary"
    elif fields.flag("custom_vocabulary"):
        owner, name = fields.inner("custom_vocabulary_config"), "vocabulary"
        owner.only("vocabulary", "default_intensity")
        if name not in owner:
            owner.flaw(name, "be an array of phrases where custom_vocabulary is true")
    else:
        return []
    items = [{"value": item} if isinstance(item, str) else item for item in owner.items(name, _MAX_PHRASES)]
    entries = [_entry(owner.within(name, item)) for item in items]
    return [entry for entry in entries if "value" in entry]


def _entry(phrase: Fields) -> dict[str, Any]:
    phrase.only("value", "pronunciations", "intensity", "language")
    if "value" not in phrase:
        phrase.flaw("value", "be a phrase")
    found = {
        "value": phrase.text("value"),
        "pronunciations": phrase.texts("pronunciations"),
        "intensity": phrase.number("intensity", 0, 1),
        "language": phrase.text("language"),
    }
    return {name: value for name, value in found.items() if value not in (None, [])}


def _default_intensity(fields: Fields) -> float | None:
    if fields.raw("custom_vocabulary") is not True:
        return None
    return fields.inner("custom_vocabulary_config").number("default_intensity", 0, 1)


def _spellings(fields: Fields) -> dict[str, list[str]]:
    """Each spelling with what it is heard as."""
    if not fields.flag("custom_spelling"):
        return {}
    config = fields.inner("custom_spelling_config")
    config.only("spelling_dictionary")
    dictionary = config.inner("spelling_dictionary")
    if not dictionary.names:
        config.flaw("spelling_dictionary", "be an object of spellings where custom_spelling is true")
    if any(not spelling.strip() for spelling in dictionary.names):
        config.flaw("spelling_dictionary", "have no empty spelling")
    return {spelling: dictionary.texts(spelling) for spelling in dictionary.names}
