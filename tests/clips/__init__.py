"""Recordings of speech, each with the text of what is said and the times of its lines.

Where they come from, and under which licence, stands in README.md beside them; make.py makes those that can be made.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.metadata import files
from pathlib import Path

import av

HERE = Path(__file__).parent
TIMES = HERE / "times.json"
RATE = 16000

_NOT_ENGLISH = ("de", "es", "fr")
_ENDINGS = (".flac", ".ogg")


@dataclass(frozen=True, slots=True)
class Line:
    """What is said from `start` to `end`, in seconds."""

    start: float
    end: float
    text: str


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording. `name` is its folder and its file's name without the ending; `language` is a code of two letters."""

    name: str
    path: Path
    language: str
    lines: tuple[Line, ...]

    @property
    def text(self) -> str:
        return " ".join(line.text for line in self.lines)

    @property
    def seconds(self) -> float:
        return len(self.pcm()) / (2 * RATE)

    def pcm(self) -> bytes:
        """As 16 kHz mono s16le, channels mixed."""
        return _decoded(self.path)


@cache
def clip(name: str) -> Clip:
    """The clip of this name, such as `en/dashwood`."""
    path = next(path for ending in _ENDINGS if (path := HERE / f"{name}{ending}").exists())
    text = path.with_suffix(".txt").read_text(encoding="utf-8").splitlines()
    times = json.loads(TIMES.read_text())[name]
    lines = tuple(Line(start, end, line) for (start, end), line in zip(times, text, strict=True))
    folder = name.partition("/")[0]
    return Clip(name, path, folder if folder in _NOT_ENGLISH else "en", lines)


def clips(folder: str) -> tuple[Clip, ...]:
    """All of a folder, in order of their names: `real`, `en`, `noisy`, `de`, `es` or `fr`."""
    names = sorted(path.stem for path in (HERE / folder).iterdir() if path.suffix in _ENDINGS)
    return tuple(clip(f"{folder}/{name}") for name in names)


def audioeval(language: str) -> tuple[Clip, ...]:
    """The clips of the package pytest-audioeval in a language: en, es, fr, hi, it, ja, pl, pt or zh; one line each.

    They are found without importing the package.
    """
    paths = [Path(str(file.locate())) for file in files("pytest-audioeval") or ()]
    return tuple(_whole(path, language) for path in sorted(paths) if path.match(f"audio/{language}/*.wav"))


def _whole(path: Path, language: str) -> Clip:
    text = path.with_suffix(".txt").read_text(encoding="utf-8").strip()
    return Clip(f"audioeval/{language}/{path.stem}", path, language, (Line(0.0, len(_decoded(path)) / 2 / RATE, text),))


@cache
def _decoded(path: Path) -> bytes:
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    with av.open(str(path)) as container:
        blocks = [block for frame in (*container.decode(audio=0), None) for block in resampler.resample(frame)]
    return b"".join(bytes(block.planes[0])[: 2 * block.samples] for block in blocks)
