"""The languages that Whisper knows, and the codes by which callers name them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

_CODES = (
    "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi hr ht hu hy id "
    "is it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn no oc pa pl ps pt ro ru sa sd si "
    "sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi yi yo yue zh"
)
WHISPER = frozenset(_CODES.split())
"""Whisper's own codes."""

_ALIASES = {"jv": "jw", "fil": "tl", "iw": "he", "in": "id", "nb": "no", "cmn": "zh"}
"""What BCP 47 calls them where Whisper says something else."""

CODES = WHISPER | _ALIASES.keys()
"""Every primary code that a caller may send."""


def whisper_code(language: str | None) -> str | None:
    """Whisper's code for a caller's, such as `en-GB`; None for none, and for one that it does not know."""
    primary = (language or "").lower().replace("_", "-").partition("-")[0]
    code = _ALIASES.get(primary, primary)
    return code if code in WHISPER else None


def public_code(code: str) -> str:
    """The code that callers expect for one of Whisper's: only Javanese differs."""
    return "jv" if code == "jw" else code


def most_probable(probabilities: Sequence[tuple[str, float]], candidates: Sequence[str]) -> tuple[str, float]:
    """The likeliest language and how likely it is, among the candidates where any of them is known, else among all."""
    wanted = {whisper_code(candidate) for candidate in candidates}
    eligible = [entry for entry in probabilities if entry[0] in wanted] or list(probabilities)
    return max(eligible, key=lambda entry: entry[1])
