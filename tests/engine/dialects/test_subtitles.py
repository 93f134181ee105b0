"""Subtitles: the two formats to the letter, and captions that fit on a screen whatever was said."""

from __future__ import annotations

import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from engine.dialects.subtitles import Layout, captions, srt, vtt
from engine.transcript import Channel, Segment, Transcript, Word


def spoken(*texts: str, at: float = 0.0) -> Channel:
    """A channel on which each text is one segment, half a second a word, a second of silence between segments."""
    segments = []
    for text in texts:
        words = []
        for part in text.split(" "):
            words.append(Word(part.casefold(), at, at + 0.5, 0.9, part))
            at += 0.5
        segments.append(Segment(tuple(words)))
        at += 1.0
    return Channel(tuple(segments))


def test_subrip_numbers_its_captions_and_writes_a_comma_before_the_milliseconds(conversation: Transcript) -> None:
    assert srt(conversation.channels) == (
        "1\n00:00:00,000 --> 00:00:01,000\nHello, doctor.\n\n"
        "2\n00:00:01,500 --> 00:00:02,000\nAre you in?\n\n"
        "3\n00:00:02,500 --> 00:00:02,750\nYes.\n\n"
        "4\n00:00:05,000 --> 00:00:05,500\nHello!\n\n"
    )


def test_webvtt_has_a_header_and_writes_a_point_before_the_milliseconds(conversation: Transcript) -> None:
    assert vtt(conversation.channels) == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:01.000\nHello, doctor.\n\n"
        "00:00:01.500 --> 00:00:02.000\nAre you in?\n\n"
        "00:00:02.500 --> 00:00:02.750\nYes.\n\n"
        "00:00:05.000 --> 00:00:05.500\nHello!\n"
    )


def test_who_speaks_is_named_where_it_is_asked_and_known() -> None:
    said = spoken("Who is there?", "It is I & you.", "I see.")
    people = zip((0, 0, 1), said.segments, strict=True)
    told = [Channel(tuple(Segment(tuple(replace(word, speaker=n) for word in one.words)) for n, one in people))]
    assert srt(told, Layout(characters=20), names=True) == (
        "1\n00:00:00,000 --> 00:00:01,500\nSpeaker 0: Who is\nthere?\n\n"
        "2\n00:00:02,500 --> 00:00:05,000\nIt is I & you.\n\n"
        "3\n00:00:06,000 --> 00:00:07,000\nSpeaker 1: I see.\n\n"
    )
    assert vtt(told, names=True) == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:01.500\n<v Speaker 0>Who is there?\n\n"
        "00:00:02.500 --> 00:00:05.000\n<v Speaker 0>It is I &amp; you.\n\n"
        "00:00:06.000 --> 00:00:07.000\n<v Speaker 1>I see.\n"
    )
    assert (srt(told), vtt(told)) == (srt([said]), vtt([said])) == (srt([said], names=True), vtt([said], names=True))


def test_silence_has_no_captions(silence: Transcript) -> None:
    assert (srt(silence.channels), vtt(silence.channels)) == ("", "WEBVTT\n")


def test_hours_are_written_out() -> None:
    assert srt([spoken("Late.", at=36_061.0015)]).startswith("1\n10:01:01,002 --> 10:01:01,502\n")


def test_a_row_ends_before_it_is_too_wide_and_a_caption_before_it_has_too_many() -> None:
    found = captions([spoken("one two three four five six")], Layout(characters=9, rows=2))
    assert [caption.rows for caption in found] == [("one two", "three"), ("four five", "six")]
    assert [(caption.start, caption.end) for caption in found] == [(0.0, 1.5), (1.5, 3.0)]


def test_a_word_wider_than_a_row_is_not_cut() -> None:
    assert [caption.rows for caption in captions([spoken("a Donaudampfschiff b")], Layout(4, 3))] == [
        ("a", "Donaudampfschiff", "b")
    ]


def test_a_caption_stays_no_longer_than_it_may() -> None:
    assert [caption.end - caption.start for caption in captions([spoken("a b c d")], Layout(longest=1.0))] == [1.0, 1.0]
    drawl = Channel((Segment((Word("so", 0.0, 9.0, 1.0),)),))
    assert [caption.end for caption in captions([drawl], Layout(longest=7.0))] == [7.0]


def test_a_short_caption_is_held_but_not_into_the_next_one() -> None:
    found = captions([spoken("a", "b")], Layout(shortest=2.0))
    assert [(caption.start, caption.end) for caption in found] == [(0.0, 1.5), (1.5, 3.5)]


def test_what_is_said_cannot_end_or_forge_a_caption() -> None:
    hostile = Channel((Segment((Word("x", 0.0, 0.0, 1.0, "<i>&\n\n2\r\n00:00 --> 9"),)),))
    assert srt([hostile]) == "1\n00:00:00,000 --> 00:00:00,001\n<i>& 2 00:00 -> 9\n\n"
    assert vtt([hostile]) == "WEBVTT\n\n00:00:00.000 --> 00:00:00.001\n&lt;i&gt;&amp; 2 00:00 --&gt; 9\n"


@given(
    st.lists(st.text(min_size=1, max_size=30), max_size=20),
    st.builds(Layout, st.integers(1, 50), st.integers(1, 5), st.floats(0, 5), st.floats(5, 30)),
)
def test_every_word_appears_once_in_captions_that_keep_their_bounds(texts: list[str], layout: Layout) -> None:
    words = tuple(Word(text, n * 0.7, n * 0.7 + 0.5, 1.0) for n, text in enumerate(texts))
    channel = Channel((Segment(words),)) if words else Channel()
    found = captions([channel], layout)
    assert " ".join(row for caption in found for row in caption.rows).split() == " ".join(texts).split()
    assert all(len(caption.rows) <= layout.rows for caption in found)
    assert all(caption.end - caption.start <= layout.longest + 1e-9 for caption in found)
    assert len(re.findall(r"^\d\d:\d\d:\d\d,\d{3} --> ", srt([channel], layout), re.MULTILINE)) == len(found)
