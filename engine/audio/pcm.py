"""Headerless audio: which encodings may come without a container, and how such bytes are to be read. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from engine.errors import AudioError
from engine.request import RawFormat

SAMPLE_RATE = 16000
"""Hertz of the PCM that recognisers are given."""

SAMPLE_BYTES = 2
"""Bytes per sample of that PCM: signed 16 bit, little endian."""

MIN_RATE, MAX_RATE = 2000, 768_000
"""Hertz of any audio we resample. The floor is a limit on amplification: one second claimed per sample would turn a
megabyte into months."""

MAX_CHANNELS = 32


@dataclass(frozen=True, slots=True)
class Headerless:
    """An encoding without a container: FFmpeg's decoder and demuxer for it; a fixed rate means a mono speech codec."""

    codec: str
    demuxer: str
    default_rate: int | None = None
    fixed_rate: bool = False


HEADERLESS = {
    "linear16": Headerless("pcm_s16le", "s16le"),
    "linear32": Headerless("pcm_f32le", "f32le"),
    "mulaw": Headerless("pcm_mulaw", "mulaw", default_rate=8000),
    "alaw": Headerless("pcm_alaw", "alaw", default_rate=8000),
    "amr-nb": Headerless("amrnb", "amrnb", default_rate=8000, fixed_rate=True),
    "amr-wb": Headerless("amrwb", "amrwb", default_rate=16000, fixed_rate=True),
    "g729": Headerless("g729", "g729", default_rate=8000, fixed_rate=True),
}
"""Encodings by the name that callers use. `linear32` is floating point, as Deepgram documents it."""

_DEPTHS = {
    8: Headerless("pcm_u8", "u8"),
    16: HEADERLESS["linear16"],
    24: Headerless("pcm_s24le", "s24le"),
    32: Headerless("pcm_s32le", "s32le"),
}
"""Integer samples by their bits, as a WAV has them: with 8 they have no sign."""

_SAMPLE_SIZES = {
    "pcm_s16le": 2,
    "pcm_f32le": 4,
    "pcm_mulaw": 1,
    "pcm_alaw": 1,
    "pcm_u8": 1,
    "pcm_s24le": 3,
    "pcm_s32le": 4,
}

SELF_DESCRIBING = frozenset({"flac", "opus", "ogg-opus", "speex"})
"""Encodings that a stored file always carries in a container, so that the bytes say all that there is to know."""

_DEMUXERS = {entry.codec: entry.demuxer for entry in (*HEADERLESS.values(), *_DEPTHS.values())}
_MAGIC = (b"OggS", b"fLaC", b"#!AMR", b".snd", b"caff", b"ID3", b"\x1aE\xdf\xa3")


def raw_format(encoding: str, sample_rate: int | None = None, channels: int | None = None) -> RawFormat | None:
    """How to read a file of this encoding: None where it describes itself.

    Raises AudioError, naming the field and the remedy, for an unknown encoding or an impossible rate or channel count.
    """
    name = encoding.strip().lower()
    if name in SELF_DESCRIBING:
        return None
    if name not in HEADERLESS:
        known = ", ".join(sorted(HEADERLESS | dict.fromkeys(SELF_DESCRIBING)))
        raise AudioError(f"encoding: {encoding[:40]!r} is not supported; use one of {known}, or leave it out")
    entry = HEADERLESS[name]
    return RawFormat(entry.codec, _rate(name, entry, sample_rate), _channels(name, entry, channels))


def integers(bit_depth: int, sample_rate: int, channels: int) -> RawFormat:
    """Integer PCM of 8, 16, 24 or 32 bits; within the bounds of `raw_format`, which raises the same for others."""
    entry = _DEPTHS[bit_depth]
    return RawFormat(entry.codec, _rate("pcm", entry, sample_rate), _channels("pcm", entry, channels))


def bytes_per_second(raw: RawFormat | None) -> float | None:
    """How many bytes are a second of this audio; None where the bytes do not tell, as a speech codec's or a
    container's."""
    size = _SAMPLE_SIZES.get(raw.codec) if raw else None
    return float(size * raw.sample_rate * raw.channels) if raw and size else None


def demuxer(raw: RawFormat) -> str:
    """The FFmpeg demuxer that reads headerless audio of this format."""
    if raw.codec not in _DEMUXERS:
        raise AudioError(f"encoding: headerless {raw.codec[:40]!r} is not supported")
    return _DEMUXERS[raw.codec]


def has_header(head: bytes) -> bool:
    """Whether the first bytes belong to a container, whatever the caller said: a WAV sent as linear16 is common."""
    riff = head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE"
    aiff = head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC")
    return riff or aiff or head[4:8] == b"ftyp" or head.startswith(_MAGIC)


def has_index_last(head: bytes) -> bool:
    """Whether the first bytes are those of an MP4 whose samples come before its index."""
    place, kind = 0, head[4:8]
    while (
        kind in (b"ftyp", b"free", b"skip", b"wide") and (size := int.from_bytes(head[place : place + 4], "big")) >= 8
    ):
        place += size
        kind = head[place + 4 : place + 8]
    return place > 0 and kind == b"mdat"


def _rate(name: str, entry: Headerless, sample_rate: int | None) -> int:
    if entry.fixed_rate and entry.default_rate:
        return entry.default_rate
    rate = sample_rate or entry.default_rate
    if rate is None:
        raise AudioError(f"sample_rate: required with encoding={name}; send the rate in hertz, such as 16000")
    if not MIN_RATE <= rate <= MAX_RATE:
        raise AudioError(f"sample_rate: {rate} is out of range; send {MIN_RATE} to {MAX_RATE} hertz")
    return rate


def _channels(name: str, entry: Headerless, channels: int | None) -> int:
    count = 1 if channels is None else channels
    most = 1 if entry.fixed_rate else MAX_CHANNELS
    if not 1 <= count <= most:
        raise AudioError(f"channels: {count} is out of range for encoding={name}; send 1 to {most}")
    return count
