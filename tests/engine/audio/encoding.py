"""Encodes a clip on the fly into the format that a test is about."""

from __future__ import annotations

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
) -> Path:
    """`clip` at `target`, whose suffix names the container unless `container` does."""
    with av.open(str(target), "w", format=container) as sink:
        stream = sink.add_stream(codec, rate=rate, layout=layout)
        assert isinstance(stream, av.AudioStream)
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
