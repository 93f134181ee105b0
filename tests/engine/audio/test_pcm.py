"""Which encodings may come headerless, and what is said about those that may not."""

from __future__ import annotations

import pytest

from engine.audio.pcm import HEADERLESS, SELF_DESCRIBING, demuxer, has_header, raw_format
from engine.errors import AudioError
from engine.request import RawFormat
from tests.cases import cases


@cases(
    ("encoding", "sample_rate", "channels", "expected"),
    [
        ("linear16", 44100, 2, RawFormat("pcm_s16le", 44100, 2)),
        ("linear32", 16000, None, RawFormat("pcm_f32le", 16000, 1)),
        ("mulaw", None, None, RawFormat("pcm_mulaw", 8000, 1)),
        ("ALAW", 16000, 1, RawFormat("pcm_alaw", 16000, 1)),
        ("amr-nb", 44100, None, RawFormat("amrnb", 8000, 1)),
        ("amr-wb", None, 1, RawFormat("amrwb", 16000, 1)),
        ("g729", 8000, None, RawFormat("g729", 8000, 1)),
    ],
)
def test_a_headerless_encoding_becomes_a_raw_format(
    encoding: str, sample_rate: int | None, channels: int | None, expected: RawFormat
) -> None:
    assert raw_format(encoding, sample_rate, channels) == expected


@cases("encoding", sorted(SELF_DESCRIBING))
def test_an_encoding_that_comes_in_a_container_describes_itself(encoding: str) -> None:
    assert raw_format(encoding, 48000, 2) is None


@cases(
    ("encoding", "sample_rate", "channels", "field"),
    [
        ("mp5", 16000, 1, "encoding"),
        ("linear16", None, 1, "sample_rate"),
        ("linear16", 1, 1, "sample_rate"),
        ("linear16", 10_000_000, 1, "sample_rate"),
        ("linear16", 16000, 0, "channels"),
        ("mulaw", 8000, 33, "channels"),
        ("amr-nb", None, 2, "channels"),
    ],
)
def test_a_refusal_names_the_field(encoding: str, sample_rate: int | None, channels: int, field: str) -> None:
    with pytest.raises(AudioError, match=f"^{field}: "):
        raw_format(encoding, sample_rate, channels)


def test_every_headerless_encoding_has_a_demuxer() -> None:
    assert {demuxer(RawFormat(entry.codec, 8000, 1)) for entry in HEADERLESS.values()} == {
        entry.demuxer for entry in HEADERLESS.values()
    }


def test_a_decoder_that_is_not_for_headerless_audio_is_refused() -> None:
    with pytest.raises(AudioError, match="headerless 'mp3'"):
        demuxer(RawFormat("mp3", 8000, 1))


@cases(
    ("head", "expected"),
    [
        (b"RIFF\x24\x08\0\0WAVE", True),
        (b"RIFF\x24\x08\0\0AVI ", False),
        (b"FORM\0\0\0\0AIFF", True),
        (b"\0\0\0\x20ftypM4A ", True),
        (b"OggS\0\x02", True),
        (b"#!AMR\n", True),
        (b"\0\0\x01\0\xff\xff", False),
        (b"", False),
    ],
)
def test_a_container_is_known_by_its_first_bytes(head: bytes, expected: bool) -> None:
    assert has_header(head) is expected
