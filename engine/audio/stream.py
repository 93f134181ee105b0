"""Audio that is still coming: bytes are pushed as they arrive, and what can be decoded of them comes back at once.

Behind the same fences as a file. Samples without a container are decoded where they are; for everything else FFmpeg
wants to read, and waits when there is nothing, so its reading happens in a thread that is woken for each push.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from queue import Queue, SimpleQueue

import av
from av.audio.codeccontext import AudioCodecContext

from engine.audio import pcm
from engine.audio.decode import MAX_SECONDS, Decoding, opened, too_long
from engine.audio.resample import Resampler
from engine.errors import AudioError
from engine.request import RawFormat

Block = tuple[bytes, ...]
"""One channel's s16le PCM per item, all of the same length."""

_SNIFFED = 12
"""Bytes that tell a container."""

_AHEAD = 4
"""Blocks that are decoded before somebody takes them: a few kilobytes may hold hours."""

_HURRY = {"probesize": "2048"}
"""Otherwise FFmpeg listens for seconds before it believes what a header says. A WAV of PCM costs it 64 KiB even so: it
looks for S/PDIF in there."""

_TRAILING = 64 * 1024
"""Bytes after the end that a container itself has declared, such as tags."""

_TELLING = 256
"""Bytes at the beginning that tell what audio is that could not be decoded."""

_INDEX_LAST = (
    "the index of this MP4 comes after its audio, which cannot be decoded while it is still coming; write it with its "
    "index in front (ffmpeg -movflags +faststart), or send Ogg, WebM, FLAC or ADTS"
)
_NO_CONTAINER = "or, for audio without a container, encoding and sample_rate, such as linear16 and 16000"


class AudioStream:
    """Push bytes, get blocks of PCM at 16 kHz; `finish` gives the last. One channel per source channel if `split`, else
    their average.

    `duration` is the seconds decoded so far; `channels` is known with the first block. Everything raises AudioError
    with a message for the caller.
    """

    def __init__(self, raw: RawFormat | None, *, split: bool, max_seconds: float = MAX_SECONDS) -> None:
        self._raw = raw
        self._split = split
        self._max_seconds = max_seconds
        self._head: bytes | None = b""
        self._beginning = b""
        self._decoder: _Samples | _Container | None = None

    @property
    def duration(self) -> float:
        return self._decoder.duration if self._decoder else 0.0

    @property
    def channels(self) -> int:
        return self._decoder.channels if self._decoder else 1

    def push(self, data: bytes) -> Iterator[Block]:
        """Iterate to the end before the next push."""
        self._beginning += data[: _TELLING - len(self._beginning)]
        if self._head is not None:
            self._head, data = self._head + data, b""
            if len(self._head) < _SNIFFED:
                return
            data, self._head = self._head, None
            self._decoder = self._chosen(data)
        assert self._decoder
        with self._explained():
            yield from self._decoder.push(data)

    def finish(self) -> Iterator[Block]:
        """No more bytes come. Without any there is no audio, and no error."""
        if self._head:
            data, self._head = self._head, None
            self._decoder = self._chosen(data)
            with self._explained():
                yield from self._decoder.push(data)
        if self._decoder:
            with self._explained():
                yield from self._decoder.finish()

    def close(self) -> None:
        """Let go of it, wherever it is."""
        if self._decoder:
            self._decoder.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Where nothing of an audio that should describe itself could be decoded, its beginning says why."""
        try:
            yield
        except AudioError as error:
            if self._raw is None and self.duration == 0 and not pcm.has_header(self._beginning):
                raise AudioError(f"{error}; {_NO_CONTAINER}") from error
            if self.duration == 0 and pcm.has_index_last(self._beginning):
                raise AudioError(_INDEX_LAST) from error
            raise

    def _chosen(self, head: bytes) -> _Samples | _Container:
        headerless = None if self._raw is None or pcm.has_header(head) else self._raw
        if headerless and headerless.codec.startswith("pcm_"):
            return _Samples(headerless, split=self._split, max_seconds=self._max_seconds)
        return _Container(headerless, split=self._split, max_seconds=self._max_seconds)


class _Samples:
    """Headerless PCM: any whole number of samples can be decoded."""

    def __init__(self, raw: RawFormat, *, split: bool, max_seconds: float) -> None:
        codec = av.CodecContext.create(raw.codec, "r")
        assert isinstance(codec, AudioCodecContext)
        codec.sample_rate = raw.sample_rate
        codec.layout = av.AudioLayout(f"{raw.channels}C" if raw.channels > 2 else ("mono", "stereo")[raw.channels - 1])
        codec.open()
        self._codec = codec
        self._rate = raw.sample_rate
        self._frame_bytes = codec.format.bytes * raw.channels if codec.format else raw.channels
        self._max_seconds = max_seconds
        self._resampler: Resampler | None = None
        self._rest = b""
        self._seconds = Fraction(0)
        self.channels = raw.channels if split else 1

    @property
    def duration(self) -> float:
        return float(self._seconds)

    def push(self, data: bytes) -> Iterator[Block]:
        data = self._rest + data
        whole = len(data) - len(data) % self._frame_bytes
        self._rest = data[whole:]
        for frame in self._codec.decode(av.Packet(data[:whole])) if whole else ():
            self._seconds += Fraction(frame.samples, self._rate)
            if self._seconds > self._max_seconds:
                raise too_long(self._max_seconds)
            if self._resampler is None:
                self._resampler = Resampler(frame, self.channels, pcm.SAMPLE_RATE, None)
            yield from self._resampler.push(frame)

    def finish(self) -> Iterator[Block]:
        if self._resampler:
            yield from self._resampler.flush()

    def close(self) -> None:
        """Holds nothing that waits."""


class _Hungry:
    """The thread has read everything."""


class _Container:
    """FFmpeg reading, in a thread of its own. Only one of the two sides runs at a time, but for a few blocks."""

    def __init__(self, headerless: RawFormat | None, *, split: bool, max_seconds: float) -> None:
        self._headerless = headerless
        self._split = split
        self._max_seconds = max_seconds
        self._reader = _Reader(self._starve)
        self._out: Queue[Block | _Hungry | Exception | None] = Queue(_AHEAD)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._decoding: Decoding | None = None
        self._trailing = 0
        self._ended = False
        self._closed = False
        self._thread.start()

    @property
    def duration(self) -> float:
        return self._decoding.duration if self._decoding else 0.0

    @property
    def channels(self) -> int:
        return self._decoding.channels if self._decoding else 1

    def push(self, data: bytes) -> Iterator[Block]:
        if self._ended:
            self._trailing += len(data)
            if self._trailing > _TRAILING:
                raise AudioError("the audio ended before its bytes did; send one container, without a length in front")
        elif data:
            self._reader.feed(data)
            yield from self._blocks()

    def finish(self) -> Iterator[Block]:
        if not self._ended:
            self._reader.feed(b"")
            yield from self._blocks()

    def close(self) -> None:
        self._closed = True
        self._reader.feed(b"")
        while not self._ended:
            self._ended = self._out.get() is None
        self._thread.join()

    def _blocks(self) -> Iterator[Block]:
        """Until the thread wants more, or has come to an end."""
        while True:
            match self._out.get():
                case None:
                    self._ended = True
                    return
                case _Hungry():
                    return
                case Exception() as error:
                    raise error
                case block:
                    yield block

    def _starve(self) -> None:
        self._out.put(_Hungry())

    def _run(self) -> None:
        try:
            with opened(self._reader, self._headerless, _HURRY) as container:
                self._decoding = Decoding(
                    container,
                    split=self._split,
                    sample_rate=pcm.SAMPLE_RATE,
                    max_seconds=self._max_seconds,
                    block_seconds=None,
                )
                for block in self._decoding:
                    if self._closed:
                        break
                    self._out.put(block)
        except Exception as error:  # noqa: BLE001 (it is raised where the bytes came from)
            self._out.put(error)
        finally:
            self._out.put(None)


class _Reader:
    """What FFmpeg reads from: it cannot seek, and what is not there yet is waited for, but said first."""

    name = "audio"

    def __init__(self, starve: Callable[[], None]) -> None:
        self._starve = starve
        self._chunks: SimpleQueue[bytes] = SimpleQueue()
        self._buffer = b""
        self._fed = False
        self._over = False

    def feed(self, data: bytes) -> None:
        """Nothing means that nothing more comes."""
        self._chunks.put(data)

    def read(self, size: int) -> bytes:
        if not self._buffer and not self._over:
            if self._fed:
                self._starve()
            self._buffer = self._chunks.get()
            self._fed, self._over = True, not self._buffer
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken
