"""Audio that comes in pieces is decoded as the same audio in a file is, as soon as it can be."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.audio.decode import decode
from engine.audio.stream import AudioStream, Block
from engine.errors import AudioError
from engine.request import RawFormat
from tests.cases import cases
from tests.engine.audio.encoding import DEMO, STEREO, encode, endless_silence, referring, video_only

SECOND = 32000
MULAW = RawFormat("pcm_mulaw", 8000, 1)


def in_one(path: Path, raw: RawFormat | None = None, *, split: bool = False) -> list[bytes]:
    """Every channel of the file."""
    with decode(path, raw, split=split) as audio:
        return [b"".join(channel) for channel in zip(*audio, strict=True)]


def pushed(stream: AudioStream, data: bytes, size: int) -> Iterator[Block]:
    for start in range(0, len(data), size):
        yield from stream.push(data[start : start + size])


def in_pieces(stream: AudioStream, data: bytes, size: int) -> list[bytes]:
    blocks = [*pushed(stream, data, size), *stream.finish()]
    stream.close()
    return [b"".join(channel) for channel in zip(*blocks, strict=True)]


@pytest.mark.parametrize("size", [333, 10**7])
@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("a.wav", "pcm_s16le", 16000),
        ("b.wav", "pcm_mulaw", 8000),
        ("c.ogg", "libopus", 48000),
        ("d.webm", "libopus", 48000),
    ],
)
def test_a_container_gives_the_same_sound_however_it_is_cut(
    tmp_path: Path, name: str, codec: str, rate: int, size: int
) -> None:
    path = encode(tmp_path / name, codec, rate=rate)
    assert in_pieces(AudioStream(None, split=False), path.read_bytes(), size) == in_one(path)


@pytest.mark.parametrize("size", [333, 10**7])
@pytest.mark.parametrize(
    ("raw", "codec", "container", "layout"),
    [
        (RawFormat("pcm_s16le", 16000, 1), "pcm_s16le", "s16le", "mono"),
        (MULAW, "pcm_mulaw", "mulaw", "mono"),
        (RawFormat("pcm_alaw", 8000, 1), "pcm_alaw", "alaw", "mono"),
        (RawFormat("pcm_f32le", 44100, 2), "pcm_f32le", "f32le", "stereo"),
    ],
)
@pytest.mark.parametrize("split", [False, True])
def test_samples_give_the_same_sound_however_they_are_cut(
    tmp_path: Path, raw: RawFormat, codec: str, container: str, layout: str, size: int, split: bool
) -> None:
    path = encode(tmp_path / "raw", codec, rate=raw.sample_rate, container=container, layout=layout)
    stream = AudioStream(raw, split=split)
    assert in_pieces(stream, path.read_bytes(), size) == in_one(path, raw, split=split)


def test_each_channel_comes_by_itself_where_that_is_wanted() -> None:
    stream = AudioStream(None, split=True)
    assert in_pieces(stream, STEREO.read_bytes(), 5000) == in_one(STEREO, split=True)
    assert stream.channels == 2


def test_a_speech_codec_without_a_container_is_decoded_frame_by_frame() -> None:
    frame = b"\x3c" + bytes(31)  # twenty milliseconds of AMR at 12.2 kbit/s
    (pcm,) = in_pieces(AudioStream(RawFormat("amrnb", 8000, 1), split=False), frame * 50, 100)
    assert len(pcm) / SECOND == pytest.approx(1.0, abs=0.01)


def test_a_wav_that_was_announced_as_samples_is_a_wav(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.wav", "pcm_s16le")
    assert in_pieces(AudioStream(RawFormat("pcm_s16le", 16000, 1), split=False), path.read_bytes(), 640) == in_one(path)


def test_samples_are_heard_with_the_packet_that_brings_them() -> None:
    stream = AudioStream(MULAW, split=False)
    seconds = []
    for _ in range(10):
        list(stream.push(b"\xff" * 160))
        seconds.append(stream.duration)
    assert seconds == pytest.approx([0.02 * n for n in range(1, 11)])


def test_a_browsers_recording_is_heard_while_it_is_made(tmp_path: Path) -> None:
    data = encode(tmp_path / "a.webm", "libopus", rate=48000).read_bytes()
    stream = AudioStream(None, split=False)
    half = len(data) // 2
    heard = sum(len(block[0]) for block in pushed(stream, data[:half], 500)) / SECOND
    stream.close()
    assert heard == pytest.approx(11.12 / 2, abs=0.5)


def test_a_recording_that_breaks_off_gives_what_came(tmp_path: Path) -> None:
    data = encode(tmp_path / "a.ogg", "libopus", rate=48000).read_bytes()
    (pcm,) = in_pieces(AudioStream(None, split=False), data[: len(data) // 2], 500)
    assert len(pcm) / SECOND == pytest.approx(11.12 / 2, abs=1)


def test_no_bytes_are_no_audio_and_no_error() -> None:
    stream = AudioStream(None, split=False)
    assert [*stream.push(b""), *stream.finish()] == []
    assert stream.duration == 0


@cases("junk", [b"?", b"no audio at all" * 1000])
def test_what_is_no_audio_is_refused(junk: bytes) -> None:
    with pytest.raises(AudioError, match="corrupt, or in a format that is not supported"):
        in_pieces(AudioStream(None, split=False), junk, 100)


def test_samples_of_which_nothing_was_said_are_told_what_to_say(tmp_path: Path) -> None:
    data = encode(tmp_path / "raw", "pcm_s16le", rate=16000, container="s16le").read_bytes()
    with pytest.raises(AudioError, match="or, for audio without a container, encoding and sample_rate, such as lin"):
        in_pieces(AudioStream(None, split=False), data, 3200)


def test_an_mp4_whose_index_comes_last_is_told_to_bring_it_first(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", "aac", rate=48000)
    with pytest.raises(AudioError, match=r"the index of this MP4 comes after its audio.*-movflags \+faststart"):
        in_pieces(AudioStream(None, split=False), path.read_bytes(), 3200)
    heard = in_one(path)
    assert heard[0]  # a file can be read from its end


def test_a_film_without_sound_is_refused(tmp_path: Path) -> None:
    data = video_only(tmp_path / "a.mkv").read_bytes()
    with pytest.raises(AudioError, match="no audio track"):
        in_pieces(AudioStream(None, split=False), data, 1000)


def test_a_file_that_refers_to_another_is_refused(tmp_path: Path) -> None:
    data = referring(tmp_path / "a.mov", DEMO).read_bytes()
    with pytest.raises(AudioError):
        in_pieces(AudioStream(None, split=False), data, 1000)


def test_bytes_long_after_the_end_that_a_container_declared_are_refused(tmp_path: Path) -> None:
    data = encode(tmp_path / "a.aiff", "pcm_s16be").read_bytes()
    with pytest.raises(AudioError, match="ended before its bytes did"):
        in_pieces(AudioStream(None, split=False), data + bytes(200_000), 10_000)


def test_tags_after_the_end_are_left_unheard(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.aiff", "pcm_s16be")
    assert in_pieces(AudioStream(None, split=False), path.read_bytes() + bytes(20_000), 1000) == in_one(path)


@cases("raw", [None, RawFormat("pcm_s16le", 16000, 1)])
def test_a_session_that_is_too_long_is_ended(raw: RawFormat | None) -> None:
    data = DEMO.read_bytes() if raw is None else bytes(12 * SECOND)
    with pytest.raises(AudioError, match="longer than 5 seconds"):
        in_pieces(AudioStream(raw, split=False, max_seconds=5), data, 3200)


def test_hours_of_silence_in_a_few_bytes_are_decoded_one_block_at_a_time(tmp_path: Path) -> None:
    stream = AudioStream(None, split=False)
    blocks = stream.push(endless_silence(tmp_path / "a.flac", hours=3, promised=False).read_bytes())
    next(blocks)
    assert stream.duration < 600
    stream.close()


def test_closing_leaves_no_thread_behind_wherever_it_was() -> None:
    before = set(threading.enumerate())
    data = DEMO.read_bytes()
    waiting, ahead, fresh = (AudioStream(None, split=False) for _ in range(3))
    list(pushed(waiting, data[:20_000], 1000))
    next(ahead.push(data))
    for stream in (waiting, ahead, fresh):
        stream.close()
    assert set(threading.enumerate()) == before
