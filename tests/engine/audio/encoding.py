"""Encodes a clip on the fly into the format that a test is about."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import av

CLIPS = Path(__file__).parents[2] / "clips"
DEMO, STEREO = CLIPS / "demo.flac", CLIPS / "stereo.flac"


def encode(
    target: Path,
    codec: str,
    *,
    clip: Path = DEMO,
    rate: int = 16000,
    layout: str = "mono",
    sample_format: str | None = None,
    container: str | None = None,
    options: dict[str, str] | None = None,
    bit_rate: int | None = None,
) -> Path:
    """`clip` at `target`, whose suffix names the container unless `container` does."""
    with av.open(str(target), "w", format=container, options=options or {}) as sink:
        stream = sink.add_stream(codec, rate=rate, layout=layout)
        assert isinstance(stream, av.AudioStream)
        if bit_rate:
            stream.codec_context.bit_rate = bit_rate
        form = sample_format or stream.codec_context.format.name
        stream.codec_context.format = av.AudioFormat(form)
        resampler = av.AudioResampler(format=form, layout=layout, rate=rate, frame_size=_frame_size(stream))
        for frame in _resampled(clip, resampler):
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
    return target


def _frame_size(stream: av.AudioStream) -> int:
    stream.codec_context.open(strict=False)
    return stream.codec_context.frame_size or 1024


def _resampled(clip: Path, resampler: av.AudioResampler) -> Iterator[av.AudioFrame]:
    with av.open(str(clip), "r") as source:
        for frame in source.decode(audio=0):
            yield from resampler.resample(frame)
    yield from resampler.resample(None)


def video_only(target: Path) -> Path:
    """A film without sound."""
    with av.open(str(target), "w") as sink:
        stream = sink.add_stream("mpeg4", rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(5):
            frame = av.VideoFrame(64, 64, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
    return target


def film(target: Path, seconds: int) -> Path:
    """A film of so many seconds with a picture in each, and one second of silence with the first."""
    with av.open(str(target), "w") as sink:
        pictures, sound = sink.add_stream("mpeg4", rate=1), sink.add_stream("pcm_s16le", rate=8000, layout="mono")
        pictures.width = pictures.height = 64
        pictures.pix_fmt = "yuv420p"
        silence = av.AudioFrame(format="s16", layout="mono", samples=8000)
        silence.sample_rate = 8000
        silence.planes[0].update(bytes(silence.planes[0].buffer_size))
        sink.mux([*sound.encode(silence), *sound.encode(None)])
        for number in range(seconds):
            picture = av.VideoFrame(64, 64, "yuv420p")
            picture.pts = number
            sink.mux(pictures.encode(picture))
        sink.mux(pictures.encode(None))
    return target


def endless_silence(target: Path, hours: float, *, promised: bool = True, rate: int = 2000) -> Path:
    """Hours of silence in a few kilobytes of FLAC. Where it is not `promised`, the file keeps its length to itself."""
    with av.open(str(target), "w", format="flac") as sink:
        stream = sink.add_stream("flac", rate=rate, layout="mono", options={"frame_size": "65535"})
        stream.codec_context.format = av.AudioFormat("s16")
        size = _frame_size(stream)
        frame = av.AudioFrame(format="s16", layout="mono", samples=size)
        frame.sample_rate = rate
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        for _ in range(int(hours * 3600 * rate / size) + 1):
            frame.pts = None
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
    if not promised:
        _forget_length(target)
    return target


def _forget_length(flac: Path) -> None:
    """Zero the 36 bits of STREAMINFO that count samples: the format's own way to say that nobody knows."""
    data = bytearray(flac.read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    flac.write_bytes(data)


def tiny_frames(target: Path, frames: int, rate: int = 655_350, channels: int = 8) -> Path:
    """FLAC whose frames hold 16 samples each, all of them silent: a processor works longer at it than it sounds."""
    samples = (rate << 44 | channels - 1 << 41 | 15 << 36 | 16 * frames).to_bytes(8, "big")
    data = bytearray(b"fLaC\x80\0\0\x22" + b"\0\x10" * 2 + bytes(6) + samples + bytes(16))
    for number in range(frames):
        head = bytes([0xFF, 0xF8, 0x60, channels - 1 << 4 | 8]) + chr(number).encode("utf-8", "surrogatepass") + b"\x0f"
        frame = head + bytes([_crc(head, 8, 0x07)]) + bytes(3 * channels)
        data += frame + _crc(frame, 16, 0x8005).to_bytes(2, "big")
    target.write_bytes(data)
    return target


def _crc(data: bytes, bits: int, polynomial: int) -> int:
    found, top = 0, 1 << bits - 1
    for byte in data:
        found ^= byte << bits - 8
        for _ in range(8):
            found = (found << 1 ^ polynomial if found & top else found << 1) & (1 << bits) - 1
    return found


def referring(target: Path, elsewhere: Path) -> Path:
    """A film whose sound lies in another file, as QuickTime allows: its data reference is an alias with a path."""
    data = encode(target, "pcm_s16le", container="mov").read_bytes()
    path = str(elsewhere).encode()
    alias = bytes(4 + 10) + b"\x04disk".ljust(28, b"\0") + bytes(12) + b"\x01a".ljust(64, b"\0") + bytes(16 + 4 + 16)
    alias += struct.pack(">HH", 2, len(path)) + path + bytes(len(path) % 2) + struct.pack(">hH", -1, 0)
    entry = struct.pack(">I4s", 8 + len(alias), b"alis") + alias
    dref = struct.pack(">I4sII", 16 + len(entry), b"dref", 0, 1) + entry
    target.write_bytes(_with_boxes(data, (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"), dref))
    return target


def _with_boxes(data: bytes, way: tuple[bytes, ...], replacement: bytes) -> bytes:
    """The boxes with the one at the end of the way replaced. What follows it must hold no offsets into the file."""
    out, at = b"", 0
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        box = data[at : at + size]
        if name == way[0]:
            inner = _with_boxes(box[8:], way[1:], replacement) if len(way) > 1 else b""
            box = struct.pack(">I4s", 8 + len(inner), name) + inner if len(way) > 1 else replacement
        out += box
        at += size
    return out
