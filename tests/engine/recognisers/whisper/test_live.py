"""Whisper while somebody speaks, with the default model's weights: words settle, stay, and are those that were said."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from difflib import SequenceMatcher
from functools import cache, partial

import numpy as np
import pytest

from engine.events import Final, LiveEvent, LiveOptions, Partial, SpeechStarted
from engine.recognisers.speech.detection import FRAME_SECONDS
from engine.recognisers.whisper.live import LiveWhisper
from engine.recognisers.whisper.live_channel import LONG_SECONDS, LONGEST, LiveChannel
from engine.recognisers.whisper.passes import Pass
from engine.recognisers.workers.calibration import measure, sample
from engine.transcript import Word
from tests.clips import RATE, clip
from tests.engine.recognisers.tiny import TINY

pytestmark = pytest.mark.recognition

OPTIONS = LiveOptions(interim=True, endpointing=0.3, vad_events=True)
STEP = 3200
LARGE_STEP = 12 * STEP  # for what comes of a few passes, whenever they are made
SECOND = 2 * RATE
SILENT_SECONDS = 4.0
SENTENCES = 3  # that are said without a pause


@cache
def whisper() -> LiveWhisper:
    return LiveWhisper(TINY, 2)


def listen(pcm: bytes, options: LiveOptions = OPTIONS, step: int = STEP) -> Iterator[LiveEvent]:
    """All that is told to somebody who is always in time."""
    channel = LiveChannel(0, options)
    for at in range(0, len(pcm), step):
        now = (at + step) / SECOND
        yield from channel.push(pcm[at : at + step], now, now)
        yield from passes(channel, options)
    yield from channel.finish()
    yield from passes(channel, options)


def passes(channel: LiveChannel, options: LiveOptions) -> Iterator[LiveEvent]:
    while channel.wants():
        wanted = channel.begin()
        _, told = channel.complete(wanted, whisper().transcribe(wanted, options), took=0.0, now=0.0)
        yield from told


@cache
def told(name: str) -> tuple[LiveEvent, ...]:
    return tuple(listen(sound(name), step=STEP if name != "endless" else LARGE_STEP))


def sound(name: str) -> bytes:
    """A clip after some silence, or its last sentence over and over without a pause."""
    silence = bytes(int(SILENT_SECONDS * SECOND))
    return silence + clip(name).pcm() if name != "endless" else endless()


def endless() -> bytes:
    """Longer than a stretch is held back, and not so long that it would end by itself."""
    line = clip("demo").lines[2]
    sentence = clip("demo").pcm()[int(line.start * RATE) * 2 : int(line.end * RATE) * 2]
    assert LONG_SECONDS + 2 < SENTENCES * len(sentence) / SECOND < LONGEST * FRAME_SECONDS
    return sentence * SENTENCES


def texts(words: tuple[Word, ...]) -> list[str]:
    return [word.text for word in words]


def finals(heard: tuple[LiveEvent, ...]) -> list[Final]:
    return [one for one in heard if isinstance(one, Final)]


def understood(heard: tuple[LiveEvent, ...]) -> list[str]:
    return [word for final in finals(heard) for word in texts(final.words)]


def said(name: str) -> list[str]:
    return [word.strip(".,?!;:").lower() for word in clip(name).text.split()]


def test_what_is_final_is_what_was_said() -> None:
    assert understood(told("demo")) == said("demo")


def test_words_have_their_times_in_the_session() -> None:
    for final, line in zip(finals(told("demo")), clip("demo").lines, strict=True):
        assert final.words[0].start == pytest.approx(SILENT_SECONDS + line.start, abs=0.5)
        assert final.words[-1].end == pytest.approx(SILENT_SECONDS + line.end, abs=0.5)


def test_the_first_guess_comes_within_a_second_of_speech() -> None:
    started, partial_ = [one for one in told("demo") if not isinstance(one, Final)][:2]
    assert isinstance(started, SpeechStarted)
    assert isinstance(partial_, Partial)
    assert partial_.start + partial_.duration - started.at < 1.0


def test_who_never_pauses_is_not_kept_waiting_for_what_is_settled() -> None:
    heard = finals(told("endless"))
    assert len(heard) >= 2
    assert not any(final.speech_final for final in heard[:-1])
    sentence = [word.strip(".,").lower() for word in clip("demo").lines[2].text.split()]
    assert SequenceMatcher(None, understood(told("endless")), sentence * SENTENCES).ratio() > 0.9


def test_silence_noise_and_a_tone_have_no_words() -> None:
    noise = np.random.default_rng(1).normal(0, 3000, 3 * RATE).astype(np.int16).tobytes()
    tone = (8000 * np.sin(np.arange(3 * RATE) * 2 * np.pi * 440 / RATE)).astype(np.int16).tobytes()
    assert understood(tuple(listen(bytes(3 * SECOND) + noise + bytes(SECOND) + tone))) == []


def test_a_stretch_too_short_to_be_heard_has_no_words() -> None:
    assert whisper().transcribe(Pass(1.0, bytes(100), final=True), OPTIONS).words == ()


def test_hotwords_decide_how_a_name_is_written() -> None:
    line = next(line for line in clip("en/bennet").lines if line.text == "Mr. Bennet replied that he had not.")
    speech = clip("en/bennet").pcm()[int(line.start * RATE) * 2 : int(line.end * RATE) * 2]
    plain, helped = (
        whisper().transcribe(Pass(0.0, speech, final=True), LiveOptions(hotwords=hotwords)).words
        for hotwords in ((), ("Bennet", "Netherfield"))
    )
    assert (texts(plain)[1], texts(helped)[1]) == ("bennett", "bennet")


def test_passes_in_several_threads_hear_what_each_is_about() -> None:
    lines = clip("demo").lines
    cut = [clip("demo").pcm()[int(one.start * RATE) * 2 : int(one.end * RATE) * 2] for one in lines] * 2
    wanted = [Pass(0.0, pcm, final=True) for pcm in cut]
    with ThreadPoolExecutor(2) as threads:
        heard = [texts(one.words) for one in threads.map(partial(whisper().transcribe, options=OPTIONS), wanted)]
    assert heard[:3] == heard[3:]
    assert [word for words in heard[:3] for word in words] == said("demo")


def test_the_built_in_sample_is_understood_and_tells_what_passes_cost() -> None:
    heard = whisper().transcribe(Pass(0.0, sample(), final=True), OPTIONS)
    assert " ".join(texts(heard.words)) == "if nobody answers the door we will try again later"
    costs = measure(whisper().transcribe, 2)
    assert costs.final > 0
    assert costs.interim > 0
