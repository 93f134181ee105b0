"""What is heard live, kept as it comes: samples in a WAV file, and a container as it is."""

from __future__ import annotations

import asyncio
import struct
from io import FileIO
from pathlib import Path

from engine.audio.pcm import has_header
from engine.audio.sink import Sink, full_disk_named, private
from engine.errors import StorageFull, TooLarge
from engine.request import RawFormat

_FORMATS = {
    "pcm_u8": (1, 8),
    "pcm_s16le": (1, 16),
    "pcm_s24le": (1, 24),
    "pcm_s32le": (1, 32),
    "pcm_alaw": (6, 8),
    "pcm_mulaw": (7, 8),
}
"""Of a decoder's name, WAV's number of the format and the bits of a sample."""

_BATCH = 64 * 1024
"""Bytes that wait to be written: there are as many recordings as sessions, and two seconds of speech for each."""

_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
_MOST = 2**32 - 1
"""A WAV's sizes have 32 bits; what is longer says that it ends where the file does."""


class AudioRecording:
    """One file, written in batches by a thread, at most `limit` bytes. A disk that is full, or a session that is
    longer, ends it early and costs the session nothing: then there is no file."""

    def __init__(self, path: Path, raw: RawFormat | None, limit: int) -> None:
        """The file is readable by its owner only."""
        self._path = path
        self._raw = raw
        self._file = FileIO(path, "x", opener=private)
        self._sink = Sink(self._file.fileno(), limit, _BATCH)
        self._began = self._headed = False
        self._turn = asyncio.Lock()
        self.flaw: str | None = None

    async def add(self, data: bytes) -> None:
        """What comes next. Never raises for want of room."""
        async with self._turn:
            if self.flaw is None and not self._file.closed:
                await self._write(data)

    async def close(self) -> bool:
        """No more comes. Whether there is a file with all of it, which is told once."""
        async with self._turn:
            if self._file.closed:
                return False
            try:
                return self.flaw is None and self._began and await self._finish()
            finally:
                self._file.close()

    async def _write(self, data: bytes) -> None:
        try:
            with full_disk_named():
                if not self._began:
                    self._began = True
                    self._headed = self._raw is not None and self._raw.codec in _FORMATS and not has_header(data)
                    await self._sink.write(bytes(_HEADER.size) if self._headed else b"")
                await self._sink.write(data)
        except (StorageFull, TooLarge) as error:
            self.flaw = type(error).__name__

    async def _finish(self) -> bool:
        try:
            with full_disk_named():
                stored = await self._sink.finish()
                if self._headed and self._raw:
                    self._file.seek(0)
                    self._file.write(header(self._raw, stored.size - _HEADER.size))
        except StorageFull as error:
            self.flaw = type(error).__name__
        return self.flaw is None


def header(raw: RawFormat, size: int) -> bytes:
    """The beginning of a WAV file with so many bytes of samples."""
    number, bits = _FORMATS[raw.codec]
    frame = raw.channels * bits // 8
    sizes = min(size + _HEADER.size - 8, _MOST), min(size, _MOST)
    described = number, raw.channels, raw.sample_rate, raw.sample_rate * frame, frame, bits
    return _HEADER.pack(b"RIFF", sizes[0], b"WAVE", b"fmt ", 16, *described, b"data", sizes[1])
