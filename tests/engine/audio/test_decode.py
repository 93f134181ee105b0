"""Real files through the real FFmpeg: what it decodes, what it refuses, and what it must never open."""

from __future__ import annotations

import array
import os
import random
import re
import socket
import tracemalloc
import wave
from itertools import chain
from pathlib import Path

import av
import pytest

from engine.audio.decode import AudioInfo, WorkBound, decode, probe
from engine.audio.pcm import raw_format
from engine.errors import AudioError
from engine.request import RawFormat
from tests.engine.audio.encoding import DEMO, STEREO, encode, endless_silence, film, referring, tiny_frames, video_only

DEMO_SECONDS = 11.12
STEREO_SECONDS = 3.145


def samples(path: Path, raw: RawFormat | None = None, *, split: bool = False) -> list[array.array[int]]:
    """All samples of every output channel."""
    with decode(path, raw, split=split) as decoding:
        channels = [array.array("h") for _ in range(decoding.channels)]
        for block in decoding:
            for channel, pcm in zip(channels, block, strict=True):
                channel.frombytes(pcm)
    return channels


def seconds(path: Path, raw: RawFormat | None = None) -> float:
    with decode(path, raw, split=False) as decoding:
        for _ in decoding:
            pass
    return decoding.duration


def write_wav(path: Path, frames: bytes, *, channels: int = 1, width: int = 2, rate: int = 16000) -> Path:
    with wave.open(str(path), "wb") as sink:
        sink.setnchannels(channels)
        sink.setsampwidth(width)
        sink.setframerate(rate)
        sink.writeframes(frames)
    return path


def similarity(a: array.array[int], b: array.array[int]) -> float:
    """The correlation of two signals: 1.0 for the same one at any volume."""
    dot = sum(x * y for x, y in zip(a, b, strict=False))
    return float(dot / (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5)


@pytest.mark.parametrize(
    ("suffix", "codec", "rate", "layout", "sample_format", "slack"),
    [
        (".wav", "pcm_s16le", 44100, "stereo", "s16", 0.001),
        (".wav", "pcm_s24le", 48000, "mono", "s32", 0.001),
        (".wav", "pcm_f32le", 22050, "stereo", "flt", 0.001),
        (".flac", "flac", 96000, "5.1", "s16", 0.001),
        (".mp3", "libmp3lame", 44100, "stereo", "s16p", 0.06),
        (".ogg", "libopus", 48000, "stereo", "s16", 0.06),
        (".mkv", "ac3", 48000, "stereo", "fltp", 0.06),
        (".mp4", "aac", 44100, "stereo", "fltp", 0.06),
        (".webm", "libopus", 48000, "mono", "s16", 0.06),
        (".aiff", "pcm_s16be", 8000, "mono", "s16", 0.001),
    ],
)
def test_every_common_format_decodes_to_the_same_speech(
    tmp_path: Path, suffix: str, codec: str, rate: int, layout: str, sample_format: str, slack: float
) -> None:
    path = encode(tmp_path / f"clip{suffix}", codec, rate=rate, layout=layout, sample_format=sample_format, clip=STEREO)
    info = probe(path)
    assert (info.sample_rate, info.channels) == (rate, av.AudioLayout(layout).nb_channels)
    assert info.duration == pytest.approx(STEREO_SECONDS, abs=0.1)
    (heard,) = samples(path)
    assert len(heard) / 16000 == pytest.approx(STEREO_SECONDS, abs=slack)
    assert seconds(path) == pytest.approx(len(heard) / 16000, abs=0.001)
    assert max(heard) > 2000


def test_probing_tells_what_the_file_is() -> None:
    assert probe(STEREO) == AudioInfo(138695 / 44100, channels=2, sample_rate=44100, codec="flac", container="flac")


def test_splitting_gives_each_source_channel_its_own_output() -> None:
    left, right = samples(STEREO, split=True)
    assert len(left) == len(right)
    assert similarity(left, right) < 0.2


def test_a_mixdown_is_the_average_of_the_channels() -> None:
    left, right = samples(STEREO, split=True)
    (mixed,) = samples(STEREO)
    average = array.array("h", (int((a + b) / 2) for a, b in zip(left, right, strict=True)))
    assert max(abs(a - b) for a, b in zip(mixed, average, strict=True)) <= 2


@pytest.mark.parametrize("channels", [2, 3, 5, 6, 9, 32])
def test_a_mixdown_at_full_scale_does_not_clip(tmp_path: Path, channels: int) -> None:
    path = write_wav(tmp_path / "loud.wav", b"\xff\x7f" * channels * 4000, channels=channels)
    (mixed,) = samples(path)
    assert min(mixed) >= 32760


@pytest.mark.parametrize("channels", [3, 9, 32])
def test_channels_without_names_are_split_in_order(tmp_path: Path, channels: int) -> None:
    frame = array.array("h", (100 * number for number in range(channels))).tobytes()
    path = write_wav(tmp_path / "many.wav", frame * 1600, channels=channels)
    assert [channel[800] for channel in samples(path, split=True)] == [100 * number for number in range(channels)]


@pytest.mark.parametrize(
    ("codec", "muxer", "rate", "sample_format"),
    [
        ("pcm_mulaw", "mulaw", 8000, "s16"),
        ("pcm_alaw", "alaw", 8000, "s16"),
        ("pcm_s16le", "s16le", 24000, "s16"),
        ("pcm_f32le", "f32le", 16000, "flt"),
    ],
)
def test_headerless_audio_is_read_as_the_caller_says(
    tmp_path: Path, codec: str, muxer: str, rate: int, sample_format: str
) -> None:
    path = encode(tmp_path / "raw", codec, rate=rate, sample_format=sample_format, container=muxer, layout="stereo")
    raw = RawFormat(codec, rate, 2)
    assert seconds(path, raw) == pytest.approx(DEMO_SECONDS, abs=0.001)
    assert similarity(samples(path, raw)[0], samples(DEMO)[0]) > 0.95


@pytest.mark.parametrize(
    ("encoding", "frame", "milliseconds"),
    [
        ("amr-nb", b"\x3c" + bytes(31), 20),
        ("amr-wb", b"\x44" + bytes(60), 20),
        ("g729", bytes(10), 10),
    ],
)
def test_speech_codecs_without_a_container_are_read_frame_by_frame(
    tmp_path: Path, encoding: str, frame: bytes, milliseconds: int
) -> None:
    path = tmp_path / "raw"
    path.write_bytes(frame * 100)
    assert seconds(path, raw_format(encoding)) == pytest.approx(milliseconds / 10, rel=0.02)


def test_a_wav_sent_as_linear16_is_read_by_its_own_header(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.wav", "pcm_s16le", rate=44100, layout="stereo")
    assert probe(path, RawFormat("pcm_s16le", 8000, 1)).sample_rate == 44100


def test_an_mp3_that_was_cut_off_counts_as_far_as_it_goes(tmp_path: Path) -> None:
    whole = encode(tmp_path / "clip.mp3", "libmp3lame", sample_format="s16p").read_bytes()
    cut = tmp_path / "cut.mp3"
    cut.write_bytes(whole[: len(whole) // 2])
    assert DEMO_SECONDS * 0.4 < seconds(cut) < DEMO_SECONDS * 0.6


def test_damage_in_the_middle_costs_only_the_damaged_part(tmp_path: Path) -> None:
    damaged = bytearray(encode(tmp_path / "clip.mp3", "libmp3lame", sample_format="s16p").read_bytes())
    middle = len(damaged) // 2
    # The same each time: of a hundred and fifty one looks like the head of a frame that takes a second with it.
    damaged[middle : middle + 1500] = random.Random(0).randbytes(1500)
    path = tmp_path / "damaged.mp3"
    path.write_bytes(damaged)
    assert seconds(path) == pytest.approx(DEMO_SECONDS, abs=1.0)


def test_a_stream_may_change_its_rate_on_the_way(tmp_path: Path) -> None:
    slow = encode(tmp_path / "slow.aac", "aac", rate=16000, container="adts", clip=STEREO).read_bytes()
    fast = encode(tmp_path / "fast.aac", "aac", rate=48000, container="adts", clip=STEREO, layout="stereo").read_bytes()
    path = tmp_path / "both.aac"
    path.write_bytes(slow + fast)
    assert len(samples(path)[0]) / 16000 == pytest.approx(2 * STEREO_SECONDS, abs=0.3)
    with pytest.raises(AudioError, match="multichannel: the audio changes its channel count"):
        samples(path, split=True)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "empty: 0 bytes"),
        (b"These are words, but nobody speaks them.\n" * 50, "corrupt, or in a format"),
        (b"RIFF\xff\xff\xff\xffWAVEfmt nonsense" + bytes(500), "corrupt|no audio"),
        (b"\0\0\0\x20ftypM4A " + bytes(500), "corrupt|no audio"),
    ],
)
def test_what_is_not_audio_is_refused_by_probe_and_decode_alike(tmp_path: Path, contents: bytes, message: str) -> None:
    path = tmp_path / "upload.wav"
    path.write_bytes(contents)
    with pytest.raises(AudioError, match=message):
        probe(path)
    with pytest.raises(AudioError, match=message):
        seconds(path)


def test_a_wav_of_no_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no audio that can be decoded"):
        probe(write_wav(tmp_path / "zero.wav", b""))


def test_a_film_without_sound_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no audio track"):
        probe(video_only(tmp_path / "film.mp4"))


def test_too_many_channels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="33 channels; send at most 32"):
        probe(write_wav(tmp_path / "wide.wav", bytes(2 * 33 * 100), channels=33))


def test_a_sample_rate_that_would_inflate_the_audio_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="sample rate is 1 Hz"):
        probe(write_wav(tmp_path / "slow.wav", bytes(2000), rate=1))


def test_audio_longer_than_the_limit_is_refused_while_decoding() -> None:
    with (
        pytest.raises(AudioError, match=r"longer than 7\.2 seconds"),
        decode(DEMO, split=False, max_seconds=7.2) as audio,
    ):
        list(audio)


def test_ten_hours_in_a_few_kilobytes_are_refused_without_decoding_them(tmp_path: Path) -> None:
    path = endless_silence(tmp_path / "bomb.flac", hours=10)
    assert path.stat().st_size < 30_000
    with pytest.raises(AudioError, match="longer than 4 hours"):
        probe(path)
    assert probe(path, max_seconds=11 * 3600).duration == pytest.approx(36000, abs=60)


def test_hours_that_are_not_announced_are_refused_when_the_limit_is_reached(tmp_path: Path) -> None:
    path = endless_silence(tmp_path / "bomb.flac", hours=2, promised=False)
    assert probe(path).duration is None
    with (
        pytest.raises(AudioError, match="longer than 1800 seconds"),
        decode(path, split=False, max_seconds=1800) as audio,
    ):
        list(audio)
    assert 1800 < audio.duration < 1900


def test_audio_that_takes_longer_to_decode_than_to_hear_is_given_up(tmp_path: Path) -> None:
    path = tiny_frames(tmp_path / "slow.flac", frames=6000)
    assert seconds(path) == pytest.approx(6000 * 16 / 655_350)
    with (
        pytest.raises(AudioError, match="takes too long to decode"),
        decode(path, split=False, work=WorkBound(0.01, 0.01)) as audio,
    ):
        list(audio)
    assert audio.duration < 6000 * 16 / 655_350


@pytest.mark.parametrize("bytes_kept", [0.5, 0.9])
def test_a_promise_that_the_bytes_do_not_keep_is_no_reason_to_refuse(tmp_path: Path, bytes_kept: float) -> None:
    whole = DEMO.read_bytes()
    path = tmp_path / "cut.flac"
    path.write_bytes(whole[: int(len(whole) * bytes_kept)])
    assert seconds(path) == pytest.approx(DEMO_SECONDS * bytes_kept, rel=0.2)


def flaw(path: Path) -> str:
    """What is said of the file when all of it was decoded."""
    with decode(path, split=False) as decoding:
        for _ in decoding:
            pass
    return decoding.flaw


ANNOUNCED = r"^The file announces 11\.[12] seconds of audio, of which [56]\.\d could be decoded\. Was all of it sent\?$"
IN_THE_MIDDLE = r"^The file ends in the middle of its audio\. Was all of it sent\?$"
DAMAGED = r"^Some of the audio is damaged and was left out\.$"


@pytest.mark.parametrize(
    ("suffix", "codec", "rate", "sample_format", "container", "message"),
    [
        (".mp3", "libmp3lame", 16000, "s16p", None, ANNOUNCED),
        (".flac", "flac", 16000, "s16", None, ANNOUNCED),
        (".webm", "libopus", 48000, "s16", None, ANNOUNCED),
        (".mkv", "aac", 16000, "fltp", None, ANNOUNCED),
        (".ogg", "libopus", 48000, "s16", None, IN_THE_MIDDLE),
        (".wav", "pcm_s16le", 16000, "s16", None, IN_THE_MIDDLE),
        (".aac", "aac", 16000, "fltp", "adts", DAMAGED),
    ],
)
def test_a_file_that_ends_in_the_middle_says_so_and_a_whole_one_does_not(
    tmp_path: Path, suffix: str, codec: str, rate: int, sample_format: str, container: str | None, message: str
) -> None:
    path = encode(tmp_path / f"clip{suffix}", codec, rate=rate, sample_format=sample_format, container=container)
    assert flaw(path) == ""
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2 + 37])
    assert re.search(message, flaw(path))


def test_an_mp3_whose_length_is_a_guess_is_not_held_to_it(tmp_path: Path) -> None:
    """It gets better on the way, and so the guess by its first frames is too long."""
    parts = [
        encode(tmp_path / f"{rate}.mp3", "libmp3lame", sample_format="s16p", options={"write_xing": "0"}, bit_rate=rate)
        for rate in (16000, 64000)
    ]
    path = tmp_path / "both.mp3"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    guessed = probe(path).duration
    assert guessed
    assert guessed > seconds(path) + 5
    assert flaw(path) == ""


def test_a_film_may_go_on_when_its_sound_is_over(tmp_path: Path) -> None:
    path = film(tmp_path / "film.mkv", seconds=30)
    assert seconds(path) == pytest.approx(1.0, abs=0.1)
    assert flaw(path) == ""


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x80000000, 0x7FFFF000, 0x7FFFFFFF - 36, 100_000 * 2 + 2000])
def test_a_wav_whose_length_was_not_known_or_is_a_little_off_is_whole(tmp_path: Path, size: int) -> None:
    path = write_wav(tmp_path / "pipe.wav", bytes(200_000))
    data = path.read_bytes()
    path.write_bytes(data[:40] + size.to_bytes(4, "little") + data[44:])
    assert seconds(path) == 6.25
    assert flaw(path) == ""


@pytest.mark.parametrize(
    ("suffix", "codec", "rate", "sample_format"),
    [
        *((".mp3", "libmp3lame", 16000, "s16p"), (".m4a", "aac", 16000, "fltp"), (".mkv", "ac3", 48000, "fltp")),
        *((".ogg", "libopus", 48000, "s16"), (".flac", "flac", 16000, "s16"), (".wav", "pcm_s16le", 16000, "s16")),
    ],
)
def test_a_file_with_any_bytes_changed_is_heard_or_refused_and_nothing_else(
    tmp_path: Path, suffix: str, codec: str, rate: int, sample_format: str
) -> None:
    whole = encode(tmp_path / f"clip{suffix}", codec, rate=rate, sample_format=sample_format).read_bytes()
    dice, path, refused = random.Random(suffix), tmp_path / "damaged", 0
    for reach in (64, 600, len(whole)) * 10:
        damaged = bytearray(whole[: dice.choice((3000, len(whole)))])
        for _ in range(dice.choice((1, 5, 50))):
            damaged[dice.randrange(min(reach, len(damaged)))] = dice.randrange(256)
        path.write_bytes(damaged)
        try:
            seconds(path)
        except AudioError:
            refused += 1
    assert 0 < refused < 30


@pytest.mark.parametrize("size", [3, 40, 120])
def test_an_mp3_cut_off_inside_its_first_frame_is_refused(tmp_path: Path, size: int) -> None:
    path = encode(tmp_path / "clip.mp3", "libmp3lame", sample_format="s16p")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(AudioError, match=r"corrupt|no audio"):
        probe(path)


def test_ten_minutes_are_decoded_in_the_memory_of_a_few_blocks(tmp_path: Path) -> None:
    path = tmp_path / "long.raw"
    path.write_bytes(bytes(8000 * 600))
    tracemalloc.start()
    assert seconds(path, RawFormat("pcm_mulaw", 8000, 1)) == 600
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


PLAYLISTS = {
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{url}\n#EXT-X-ENDLIST\n",
    "ffconcat": "ffconcat version 1.0\nfile '{url}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\na=x:{url}\n",
    "mpd": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet '
    'mimeType="audio/mp4"><Representation id="1"><BaseURL>{url}</BaseURL></Representation></AdaptationSet></Period>'
    "</MPD>",
    "asx": "[Reference]\nRef1={url}\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("scheme", ["", "file:", "concat:", "subfile,,start,0,end,0,,:"])
def test_a_playlist_opens_no_other_file(tmp_path: Path, kind: str, scheme: str) -> None:
    secret = tmp_path / "secret.wav"
    os.mkfifo(secret)
    pipe = os.open(secret, os.O_RDWR | os.O_NONBLOCK)
    os.write(pipe, b"what nobody may read")
    path = tmp_path / f"list.{kind}"
    path.write_text(PLAYLISTS[kind].format(url=f"{scheme}{secret}"))
    with pytest.raises(AudioError, match=r"corrupt|another file"):
        probe(path)
    assert os.read(pipe, 100) == b"what nobody may read"
    os.close(pipe)


@pytest.mark.parametrize(("kind", "options"), [("m3u8", {}), ("ffconcat", {"safe": "0"})])
def test_the_same_playlists_do_open_files_where_nothing_stops_them(
    tmp_path: Path, kind: str, options: dict[str, str]
) -> None:
    secret = encode(tmp_path / "secret.ts", "mp2", container="mpegts")
    path = tmp_path / f"list.{kind}"
    path.write_text(PLAYLISTS[kind].format(url=secret))
    with av.open(str(path), "r", options=options) as container:
        assert next(container.decode(audio=0)).samples


def test_a_film_that_keeps_its_sound_in_another_file_has_none(tmp_path: Path) -> None:
    film = referring(tmp_path / "film.mov", canary := tmp_path / "secret.raw")
    canary.write_bytes(b"\x11\x22" * 100_000)
    with av.open(str(film), options={"enable_drefs": "1", "use_absolute_path": "1"}) as container:
        assert next(container.decode(audio=0)).samples, "what nothing stops does open the other file"
    canary.unlink()
    os.mkfifo(canary)
    pipe = os.open(canary, os.O_RDWR | os.O_NONBLOCK)
    os.write(pipe, b"\x11\x22" * 10_000)
    with pytest.raises(AudioError, match="no audio that can be decoded"):
        probe(film)
    assert os.read(pipe, 100_000) == b"\x11\x22" * 10_000
    os.close(pipe)


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_opens_no_address(tmp_path: Path, kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        path = tmp_path / f"list.{kind}"
        path.write_text(PLAYLISTS[kind].format(url=f"http://127.0.0.1:{server.getsockname()[1]}/a.wav"))
        with pytest.raises(AudioError, match=r"corrupt|another file"):
            probe(path)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_the_name_of_a_file_means_nothing(tmp_path: Path) -> None:
    names = ["clip.m3u8", "clip.ffconcat", "clip%03d.png", "-", "concat:clip|clip", "clip.txt"]
    for path in (tmp_path / name for name in names):
        path.write_bytes(DEMO.read_bytes())
        assert probe(path).container == "flac"


def test_blocks_have_equal_lengths_on_every_channel() -> None:
    with decode(STEREO, split=True) as decoding:
        lengths = [tuple(map(len, block)) for block in decoding]
    assert all(left == right for left, right in lengths)
    assert sum(chain.from_iterable(lengths)) == 2 * 2 * round(STEREO_SECONDS * 16000)
