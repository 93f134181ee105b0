"""Servers of one test do not meet on a port."""

from __future__ import annotations

import random

from tests.ports import free_port


def test_a_port_that_is_not_listened_on_yet_is_not_given_again() -> None:
    drawn: set[int] = set()
    for _ in range(500):
        random.seed(0)  # as Hypothesis does
        drawn.add(free_port())
    assert len(drawn) == 500
