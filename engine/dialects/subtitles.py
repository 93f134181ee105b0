"""A transcript as subtitles: SubRip (srt) and WebVTT (vtt), cut to the size of a screen. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from engine.dialects.words import name
from engine.transcript import Channel, Segment, Word


@dataclass(frozen=True, slots=True)
class Layout:
    """How much one caption may hold: characters in a row, rows, and seconds on the screen.

    A word wider than a row keeps a row of its own. `shortest` gives way to the caption that comes next.
    """

    characters: int = 42
    rows: int = 2
    shortest: float = 0.0
    longest: float = 7.0


DEFAULT = Layout()


@dataclass(frozen=True, slots=True)
class Caption:
    """What stands on the screen at once; times in seconds. `speaker` says all of it, where that is known."""

    start: float
    end: float
    rows: tuple[str, ...]
    speaker: int | None = None


def srt(channels: Sequence[Channel], layout: Layout = DEFAULT, *, names: bool = False) -> str:
    """The channels as one SubRip file, in the order of time; empty where nothing was said. With `names` it says who
    speaks, where somebody begins."""
    channels = [_introduced(channel) for channel in channels] if names else channels
    return "".join(
        f"{number}\n{_span(caption, ',')}\n{_srt_text(caption)}\n\n"
        for number, caption in enumerate(captions(channels, layout), 1)
    )


def vtt(channels: Sequence[Channel], layout: Layout = DEFAULT, *, names: bool = False) -> str:
    """The channels as one WebVTT file, in the order of time; its header alone where nothing was said. With `names` each
    cue has a voice, as the format has it."""
    cues = [f"{_span(caption, '.')}\n{_vtt_text(caption, names)}\n" for caption in captions(channels, layout)]
    return "\n".join(("WEBVTT\n", *cues))


def captions(channels: Sequence[Channel], layout: Layout = DEFAULT) -> list[Caption]:
    """The captions of all channels in the order of time. None spans a pause between segments."""
    found = [caption for channel in channels for caption in _of_channel(channel, layout)]
    return sorted(found, key=lambda caption: (caption.start, caption.end))


def _of_channel(channel: Channel, layout: Layout) -> list[Caption]:
    groups = [group for segment in channel.segments for group in _groups(segment.words, layout)]
    found = [_caption(group, layout) for group in groups]
    following = [(before, after.start) for before, after in pairwise(found)] + [(last, None) for last in found[-1:]]
    return [_held(caption, until, layout) for caption, until in following]


def _introduced(channel: Channel) -> Channel:
    """With each speaker's name before the first word, as a part of it, so that it has room in a row."""
    segments: list[Segment] = []
    for segment in channel.segments:
        first, *others = segment.words
        if not segments or segments[-1].words[0].speaker != first.speaker:
            first = replace(first, written=f"{name(segment.words)}{first.written or first.text}")
        segments.append(Segment((first, *others)))
    return replace(channel, segments=tuple(segments))


def _groups(words: Sequence[Word], layout: Layout) -> Iterator[list[Word]]:
    """Words in the portions that fit."""
    group: list[Word] = []
    for word in words:
        if group and not _fits([*group, word], layout):
            yield group
            group = []
        group.append(word)
    if group:
        yield group


def _fits(words: Sequence[Word], layout: Layout) -> bool:
    return words[-1].end - words[0].start <= layout.longest and len(_wrap(words, layout.characters)) <= layout.rows


def _caption(words: Sequence[Word], layout: Layout) -> Caption:
    start, rows = words[0].start, tuple(_wrap(words, layout.characters))
    return Caption(start, min(words[-1].end, start + layout.longest), rows, words[0].speaker)


def _held(caption: Caption, until: float | None, layout: Layout) -> Caption:
    """The caption, held for as long as it must be, but never into the one that follows."""
    wanted = caption.start + layout.shortest
    allowed = wanted if until is None else min(wanted, until)
    return replace(caption, end=max(caption.end, allowed))


def _wrap(words: Sequence[Word], characters: int) -> list[str]:
    rows: list[str] = []
    for word in filter(_text, words):
        longer = rows[-1] + " " * word.spaced + _text(word) if rows else ""
        if rows and len(longer) <= characters:
            rows[-1] = longer
        else:
            rows.append(_text(word))
    return rows


def _text(word: Word) -> str:
    """A word on one line: an empty line would end its caption."""
    return " ".join((word.written or word.text).split())


def _srt_text(caption: Caption) -> str:
    return "\n".join(caption.rows).replace("-->", "->")  # SubRip knows no escape, and lenient readers seek the arrow


def _vtt_text(caption: Caption, names: bool) -> str:
    voice = "" if not names or caption.speaker is None else f"<v Speaker {caption.speaker}>"
    return voice + "\n".join(caption.rows).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _span(caption: Caption, point: str) -> str:
    start = round(caption.start * 1000)
    end = max(round(caption.end * 1000), start + 1)  # WebVTT: a cue ends after it began
    return f"{_clock(start, point)} --> {_clock(end, point)}"


def _clock(milliseconds: int, point: str) -> str:
    seconds, thousandths = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{thousandths:03}"
