"""What an English and a multilingual model offer, and a short conversation on two channels."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.dialects.catalogue import Abilities, Catalogue
from engine.request import Media
from engine.transcript import Channel, Gap, GapReason, Model, Segment, Transcript, Word

REQUEST_ID = "0199c0de-0000-7000-8000-000000000001"


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue(
        models={"nova-3": "default", "default": "default", "large": "whisper"},
        recognisers={
            "default": Abilities(frozenset({"en"})),
            "whisper": Abilities(frozenset({"en", "de"}), detects=True),
        },
        default="nova-3",
    )


@pytest.fixture
def media() -> Media:
    return Media(sha256="ab" * 32, size=96044, created=1763672314.1234)


@pytest.fixture
def conversation() -> Transcript:
    left = Channel(
        (
            Segment((Word("hello", 0.0, 0.5, 0.9, "Hello,"), Word("doctor", 0.5, 1.0, 0.7, "doctor."))),
            Segment((Word("are", 1.5, 1.7, 0.8, "Are"), Word("you", 1.7, 1.9, 0.6), Word("in", 1.9, 2.0, 1.0, "in?"))),
            Segment((Word("hello", 5.0, 5.5, 0.5, "Hello!"),)),
        ),
        language_confidence=1.0,
    )
    right = Channel((Segment((Word("yes", 2.5, 2.75, 0.25, "Yes."),)),), language_confidence=0.75)
    model = Model("5f3c1a52-9d3b-5d4e-8f6a-0c2b7e1d9a10", "tiny.en", "1.2.1", "whisper")
    return Transcript(model, duration=6.0, source_channels=2, channels=(left, right))


@pytest.fixture
def silence(conversation: Transcript) -> Transcript:
    return Transcript(conversation.model, duration=3.25, source_channels=1, channels=(Channel(language=None),))


@pytest.fixture
def bilingual(conversation: Transcript) -> Transcript:
    """Languages that change within a channel."""
    spanish = (Word("hola", 0.0, 0.5, 0.9, "Hola.", language="es"),)
    english = (Word("good", 1.0, 1.2, 0.8, "Good", language="en"), Word("day", 1.2, 1.5, 0.8, "day.", language="en"))
    heard = Channel((Segment(spanish), Segment(english)), "en", 0.75)
    return Transcript(conversation.model, duration=2.0, source_channels=1, channels=(heard,))


@pytest.fixture
def gapped(conversation: Transcript) -> Transcript:
    """Speech of which no words came."""
    gaps = (Gap(0, 2.25, 4.75), Gap(1, 0.0, 2.0, GapReason.REPETITIVE))
    return replace(conversation, gaps=gaps)
