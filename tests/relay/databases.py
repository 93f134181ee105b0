"""Which databases a test is about: every one there is, unless it says otherwise."""

from __future__ import annotations

import pytest

on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
"""For what only a file can do: to be locked as a whole, or to find its disk full."""
