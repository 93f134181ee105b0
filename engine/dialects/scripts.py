"""Scripts that have no spaces between words: Chinese, Japanese, Thai, Lao and Burmese. Pure."""

from __future__ import annotations

import re

# Thai and Lao; Burmese; CJK signs and punctuation, kana, ideographs and their compatible forms; full width; the planes
# of rare ideographs. Korean has spaces, and Khmer is written with spaces by those who transcribe it.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u2e80-\u312f\u31a0-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]"
)


def has_unspaced(text: str) -> bool:
    """Whether any character belongs to such a script."""
    return _UNSPACED.search(text) is not None


def parts(text: str) -> list[str]:
    """What can be told apart in a text: its words, the halves of a hyphenated one, and each sign of such a script."""
    return _UNSPACED.sub(r" \g<0> ", text).replace("-", " ").split()
