"""Texts fit to be kept: URLs without what may be secret in them."""

from __future__ import annotations

import re

_USERINFO_OR_QUERY = re.compile(r"(?P<scheme>\b\w+://)(?:[^\s/?#]*@)?(?P<rest>[^\s?#'\"]*)(?:[?#][^\s'\"]*)?")


def without_secrets(text: str) -> str:
    """The same text, userinfo and query of every URL in it left out."""
    return _USERINFO_OR_QUERY.sub(r"\g<scheme>\g<rest>", text) if "://" in text else text
