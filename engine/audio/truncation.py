"""Whether a file's own bytes say that it goes on after its end.

Asked where FFmpeg does not tell: it takes the length of a WAV from its size, and an Ogg's from its last whole page.
"""

from __future__ import annotations

import os
from typing import IO

_RIFF_HEAD = 12
_CHUNK_HEAD = 8
_MOST_CHUNKS = 64

_UNKNOWN = 0x7FFF0000
"""From here on a data size is what programs write that do not know it yet, such as the head of a pipe."""

_TOLERATED = 4096
"""Bytes by which headers are wrong without any audio missing."""

_PAGE_HEAD = 27
_LONGEST_PAGE = _PAGE_HEAD + 255 + 255 * 255


def is_cut_off(file: IO[bytes], head: bytes) -> bool:
    """Whether this WAV or Ogg, which begins with `head`, ends too early; False for anything else."""
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return _wav_is_cut_off(file)
    return head[:4] == b"OggS" and _ogg_is_cut_off(file)


def _wav_is_cut_off(file: IO[bytes]) -> bool:
    size, at = os.fstat(file.fileno()).st_size, _RIFF_HEAD
    for _ in range(_MOST_CHUNKS):
        file.seek(at)
        head = file.read(_CHUNK_HEAD)
        length = int.from_bytes(head[4:], "little")
        at += _CHUNK_HEAD + length
        if head[:4] == b"data":
            return length < _UNKNOWN and at > size + _TOLERATED
        at += length % 2
    return False


def _ogg_is_cut_off(file: IO[bytes]) -> bool:
    size = os.fstat(file.fileno()).st_size
    file.seek(max(0, size - _LONGEST_PAGE))
    tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    segments = page[_PAGE_HEAD - 1] if len(page) >= _PAGE_HEAD else 0
    lengths = page[_PAGE_HEAD : _PAGE_HEAD + segments]
    return len(page) < _PAGE_HEAD + segments + sum(lengths) or len(page) < _PAGE_HEAD
