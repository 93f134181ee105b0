"""What sessions add to a process that listens, in bytes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.heard import LiveOptions
from engine.recognisers.base import Spec
from engine.recognisers.streaming.footprint import Footprint
from engine.request import RawFormat

SPHINX = Spec("pocketsphinx", memory=100)
WHISPER = Spec("whisper", memory=700, model="small")
FINAL = LiveOptions(raw=RawFormat("pcm_s16le", 16000, 3))
INTERIM = replace(FINAL, interim=True)


def test_a_recogniser_is_loaded_once() -> None:
    footprint = Footprint()
    assert footprint.more(WHISPER, INTERIM) == 700
    footprint.begin(WHISPER, INTERIM)
    assert footprint.more(WHISPER, INTERIM) == 0
    footprint.begin(SPHINX, FINAL)
    assert footprint.total == 800
    assert footprint.more(SPHINX, FINAL) == 0


@pytest.mark.parametrize(
    ("options", "decoders"),
    [
        (FINAL, 0),
        (INTERIM, 1),
        (replace(INTERIM, multichannel=True), 3),
        (replace(INTERIM, multichannel=True, raw=None), 2),
    ],
)
def test_pocketsphinx_has_a_decoder_for_each_channel_with_interim_results(options: LiveOptions, decoders: int) -> None:
    assert Footprint().more(SPHINX, options) == (1 + decoders) * 100


def test_what_a_session_leaves_is_used_by_the_next() -> None:
    footprint = Footprint()
    for _ in range(2):
        footprint.begin(SPHINX, INTERIM)
    assert footprint.total == 300
    footprint.end(SPHINX, INTERIM)
    assert footprint.more(SPHINX, INTERIM) == 0
    footprint.begin(SPHINX, INTERIM)
    assert footprint.more(SPHINX, INTERIM) == 100
    assert footprint.total == 300
