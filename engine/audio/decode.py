"""Any file that FFmpeg can decode, as blocks of 16 bit PCM in constant memory.

The bytes are hostile until proven otherwise. Three fences keep FFmpeg inside the one file it was handed: only demuxers
that read audio out of their own bytes are allowed, no protocol is, and every further open goes to a function that
refuses. The file's name is kept from FFmpeg, so that contents alone decide what it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, NoReturn, Protocol

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError

from engine.audio import pcm
from engine.audio.resample import Resampler
from engine.audio.truncation import is_cut_off
from engine.errors import AudioError
from engine.request import RawFormat

MAX_SECONDS = 4 * 3600.0
BLOCK_SECONDS = 0.5

# An allow list, because the next FFmpeg may bring a new playlist format. Left out on purpose: playlists and manifests
# (hls, dash, concat, sdp, imf), devices, images, subtitles: they open other files, sockets or hardware.
DEMUXERS = (
    "aa,aac,ac3,aiff,alaw,amr,amrnb,amrwb,ape,aptx,asf,au,avi,caf,codec2,dsf,dss,dts,dtshd,dv,eac3,f32le,"
    "flac,flv,g722,g723_1,g726,g729,gsm,gxf,iamf,iff,ilbc,ircam,lc3,live_flv,loas,matroska,webm,mlp,mmf,mov,"
    "mp3,mpc,mpc8,mpeg,mpegts,mulaw,mxf,nistsphere,nsv,nut,ogg,oma,osq,paf,pvf,qcp,qoa,rm,s16le,s24le,s32le,sbc,sds,"
    "shn,smjpeg,sox,spdif,swf,tak,truehd,tta,u8,voc,vqf,w64,wav,wsd,wtv,wv,xwma"
)

# Bytes that tell a container.
_SNIFFED = 12

# Containers that know how long their audio is, and do not guess from a bit rate: they are refused without decoding.
_EXACT = frozenset({"flac", "mov,mp4,m4a,3gp,3g2,mj2", "ogg", "wav"})

# By how much audio may fall short of what its container announces: encoders pad, and clocks round.
_TOLERATED_SECONDS = 1.0
_TOLERATED_SHARE = 0.01

# FFmpeg looks for DTS inside of every WAV, and asks all of its demuxers for up to 2500 packets: more work than all the
# rest of a probe. A DTS stream shows within a few.
_PROBE_PACKETS = "4"

# PyAV asked what is to become of a tag that is not UTF-8 until version 19, which replaces what is wrong by itself.
_UNREADABLE_TAGS: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
_UNREADABLE = "the audio is corrupt, or in a format that is not supported; send a WAV, FLAC, MP3, Ogg, MP4 or WebM file"


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a file is. `duration` is the container's claim in seconds, None where it makes none."""

    duration: float | None
    channels: int
    sample_rate: int
    codec: str
    container: str


class WorkBound:
    """Processor time that decoding may take: so many `seconds`, and a `share` of what was decoded, by default a hundred
    times what music takes. A file of tiny frames, or of nothing that can be decoded, holds a processor no longer."""

    def __init__(self, seconds: float = 20.0, share: float = 0.25) -> None:
        self._seconds = seconds
        self._share = share
        self._spent = self._began = 0.0

    def resume(self) -> None:
        """Work goes on, in the thread that says so."""
        self._began = time.thread_time()

    def pause(self) -> None:
        """Somebody else is at work until it resumes."""
        self._spent += time.thread_time() - self._began

    def check(self, decoded: Fraction) -> None:
        """Raises AudioError where it took too long for so many seconds of audio."""
        spent = self._spent + time.thread_time() - self._began
        if spent > self._seconds and spent > self._seconds + self._share * float(decoded):
            raise AudioError("the audio takes too long to decode; send it in another format, such as WAV or Opus")


class ByteSource(Protocol):
    """Bytes as FFmpeg reads them: it seeks where there is a `seek`, too."""

    @property
    def name(self) -> str: ...
    @property
    def read(self) -> Callable[[int], bytes]: ...


class Decoding:
    """One pass over a file's audio: iterate for blocks, each a tuple with the s16le bytes of every output channel.

    `duration` is exact: the seconds decoded so far, all of them once iteration has ended; then `flaw` is true as well.
    Iterating raises AudioError when the audio turns out longer, faster or wider than we decode.
    """

    def __init__(
        self,
        container: InputContainer,
        *,
        split: bool,
        sample_rate: int,
        max_seconds: float,
        block_seconds: float | None = BLOCK_SECONDS,
        cut_off: bool = False,
        work: WorkBound | None = None,
    ) -> None:
        """Find the audio and decode its first frame: what cannot be decoded fails here, before anything is promised.

        Without `block_seconds` a block is whatever one frame gives, at once. `cut_off` is what the file's bytes say.
        """
        stream = container.streams.best("audio")
        if not isinstance(stream, AudioStream):
            raise AudioError("the file has no audio track; send one that has")
        self._seconds = Fraction(0)
        self._work = work or WorkBound()
        self._work.resume()
        self._lost = 0  # packets that could not be decoded
        self._lost_the_last = False
        self._frames = self._decoded(container, stream)
        self._first = next(self._frames, None)
        if self._first is None:
            raise AudioError(
                f"the file holds no audio that can be decoded ({_codec(stream)}); send one with sound in it"
            )
        check(self._first)
        if _promised(container, stream) > max_seconds:
            raise too_long(max_seconds)
        self._split = split
        self._max_seconds = max_seconds
        self._block_seconds = block_seconds
        self._cut_off = cut_off
        self._announced = _announced(container, stream)
        self.sample_rate = sample_rate
        self.info = _info(container, stream, self._first)
        self.source_channels = self.info.channels
        self.channels = self.source_channels if split else 1
        self._work.pause()

    @property
    def duration(self) -> float:
        """Seconds decoded so far: samples over rate, not the container's claim."""
        return float(self._seconds)

    @property
    def flaw(self) -> str:
        """What of the audio is missing, as a sentence for the caller; empty where nothing is."""
        missing = self._announced - self.duration
        if missing > max(_TOLERATED_SECONDS, _TOLERATED_SHARE * self._announced):
            return (
                f"The file announces {self._announced:.1f} seconds of audio, of which {self.duration:.1f} could be "
                "decoded. Was all of it sent?"
            )
        if self._cut_off:
            return "The file ends in the middle of its audio. Was all of it sent?"
        # One alone is what the seam of two files costs that were put after one another.
        return "Some of the audio is damaged and was left out." if self._lost > 1 or self._lost_the_last else ""

    def __iter__(self) -> Iterator[tuple[bytes, ...]]:
        self._work.resume()
        for block in self._blocks():
            self._work.pause()
            yield block
            self._work.resume()

    def _blocks(self) -> Iterator[tuple[bytes, ...]]:
        resampler: Resampler | None = None
        for frame in self._checked():
            if resampler is None or not resampler.fits(frame):
                yield from resampler.flush() if resampler else ()
                resampler = Resampler(frame, self.channels, self.sample_rate, self._block_seconds)
            yield from resampler.push(frame)
        yield from resampler.flush() if resampler else ()

    def _checked(self) -> Iterator[AudioFrame]:
        """The frames, first one included, each counted and held against the limits."""
        frame, self._first = self._first, None
        while frame is not None:
            check(frame)
            self._work.check(self._seconds)
            if self._split and frame.layout.nb_channels != self.source_channels:
                raise AudioError(
                    "multichannel: the audio changes its channel count on the way; send it without multichannel"
                )
            self._seconds += Fraction(frame.samples, frame.sample_rate)
            if self._seconds > self._max_seconds:
                raise too_long(self._max_seconds)
            yield frame
            frame = next(self._frames, None)

    def _decoded(self, container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
        """All frames that can be. A packet that cannot is skipped: one lost syllable is better than no result."""
        for packet in self._packets(container, stream):
            try:
                frames = packet.decode()
            except FFmpegError:
                self._lost, self._lost_the_last = self._lost + 1, True
                self._work.check(self._seconds)
                continue
            for frame in frames:
                if frame.samples:
                    self._lost_the_last = False
                    yield frame

    def _packets(self, container: InputContainer, stream: AudioStream) -> Iterator[av.Packet[AudioStream]]:
        try:
            yield from container.demux(stream)
        except FFmpegError:
            self._lost_the_last = True  # recordings are often cut off: what came before the break counts


@contextmanager
def decode(
    path: str | Path,
    raw: RawFormat | None = None,
    *,
    split: bool,
    sample_rate: int = pcm.SAMPLE_RATE,
    max_seconds: float = MAX_SECONDS,
    work: WorkBound | None = None,
) -> Iterator[Decoding]:
    """Open a file for decoding: one output channel per source channel if `split`, else their average.

    `raw` says how to read headerless audio. Raises AudioError with a message for the caller.
    """
    with Path(path).open("rb") as file:
        head = file.read(_SNIFFED)
        if not head:
            raise AudioError("the audio is empty: 0 bytes came")
        cut_off = is_cut_off(file, head)
        file.seek(0)
        headerless = None if raw is None or pcm.has_header(head) else raw
        with opened(_Nameless(file), headerless) as container:
            yield Decoding(
                container, split=split, sample_rate=sample_rate, max_seconds=max_seconds, cut_off=cut_off, work=work
            )


def probe(path: str | Path, raw: RawFormat | None = None, max_seconds: float = MAX_SECONDS) -> AudioInfo:
    """What the file is, after its first audio was really decoded. Raises AudioError with a message for the caller."""
    with decode(path, raw, split=False, max_seconds=max_seconds) as decoding:
        return decoding.info


def opened(
    source: ByteSource, headerless: RawFormat | None, hurry: Mapping[str, str] = MappingProxyType({})
) -> InputContainer:
    """The audio behind FFmpeg's fences: in a container, or `headerless`. Raises AudioError where it is neither.

    `hurry` has options that make less of the probing.
    """
    fences = {"format_whitelist": DEMUXERS, "protocol_whitelist": "none", "max_probe_packets": _PROBE_PACKETS}
    try:
        container: InputContainer = av.open(
            source,
            "r",
            format=pcm.demuxer(headerless) if headerless else None,
            options={**hurry, **(_raw_options(headerless) if headerless else {}), **fences},
            io_open=_refuse,
            **_UNREADABLE_TAGS,
        )
    except (FFmpegError, ValueError) as error:
        raise AudioError(_UNREADABLE) from error
    return container


def _raw_options(raw: RawFormat) -> dict[str, str]:
    if not raw.codec.startswith("pcm_"):
        return {}
    return {"sample_rate": str(raw.sample_rate), "ch_layout": f"{raw.channels}C"}


class _Nameless:
    """The file as FFmpeg sees it: without the name that could make a WAV of a playlist, or a playlist of a WAV."""

    name = "audio"

    def __init__(self, file: IO[bytes]) -> None:
        self.read = file.read
        self.seek = file.seek
        self.tell = file.tell


def _refuse(url: str, flags: int, options: dict[str, Any]) -> NoReturn:  # noqa: ARG001 (the shape is PyAV's)
    raise AudioError("the audio refers to another file or address; send the audio itself")


def check(frame: AudioFrame) -> None:
    """Raises AudioError for more channels, or another rate, than we take."""
    if frame.layout.nb_channels > pcm.MAX_CHANNELS:
        raise AudioError(f"the audio has {frame.layout.nb_channels} channels; send at most {pcm.MAX_CHANNELS}")
    if not pcm.MIN_RATE <= frame.sample_rate <= pcm.MAX_RATE:
        raise AudioError(f"the sample rate is {frame.sample_rate} Hz; send {pcm.MIN_RATE} to {pcm.MAX_RATE} Hz")


def _promised(container: InputContainer, stream: AudioStream) -> float:
    """Seconds that the container vouches for; 0 where it does not."""
    if container.format.name not in _EXACT or not stream.duration or not stream.time_base:
        return 0.0
    return float(stream.duration * stream.time_base)


def _announced(container: InputContainer, stream: AudioStream) -> float:
    """Seconds that the file says it has, whether it has them or not; 0 where that is a guess, or not said of the audio.

    An MP3 that tells the delay of its encoder, and so begins after 0, counts its frames as well. Matroska tells the
    length of the longest of its tracks.
    """
    if container.format.name == "mp3" and stream.start_time and stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.format.name == "matroska,webm" and len(container.streams) == 1 and container.duration:
        return container.duration / av.time_base
    return _promised(container, stream)


def too_long(max_seconds: float) -> AudioError:
    """What to raise for audio of more seconds than that."""
    most = f"{max_seconds / 3600:g} hours" if max_seconds >= 3600 else f"{max_seconds:g} seconds"
    return AudioError(f"the audio is longer than {most}; send it in parts")


def _info(container: InputContainer, stream: AudioStream, frame: AudioFrame) -> AudioInfo:
    return AudioInfo(
        duration=_claimed_duration(container, stream),
        channels=frame.layout.nb_channels,
        sample_rate=frame.sample_rate,
        codec=_codec(stream),
        container=container.format.name,
    )


def _claimed_duration(container: InputContainer, stream: AudioStream) -> float | None:
    if stream.duration and stream.time_base and stream.duration > 0:
        return float(stream.duration * stream.time_base)
    if container.duration and container.duration > 0:
        return container.duration / av.time_base
    return None


def _codec(stream: AudioStream) -> str:
    return stream.codec_context.name if stream.codec_context else "unknown codec"
