"""Whisper while somebody speaks, with the model of spoken digits: words settle, stay, and are those of the file."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from engine.audio.decode import decode
from engine.events import Final, LiveEvent, LiveOptions, Partial, SpeechStarted
from engine.recognisers.base import Spec
from engine.recognisers.whisper.live import ListeningWhisper
from engine.recognisers.whisper.live_channel import LONG_SECONDS, Ear
from engine.recognisers.whisper.recorded import Whisper
from engine.transcript import Word
from tests.models import DIGITS
from tests.models.speech import RATE
from tests.models.truth import clip, truth

OPTIONS = LiveOptions(interim=True, endpointing=0.3, vad_events=True)
STEP = 3200


@pytest.fixture(scope="module")
def listener() -> ListeningWhisper:
    return ListeningWhisper(Whisper(Spec("whisper", model=str(DIGITS), name="digits", device="cpu", threads=1)))


def sound(name: str) -> bytes:
    with decode(clip(name), split=False) as audio:
        return b"".join(block for (block,) in audio)


def listen(
    listener: ListeningWhisper, pcm: bytes, options: LiveOptions = OPTIONS, *, behind: bool = False
) -> Iterator[LiveEvent]:
    """All that is heard, as by somebody who is always in time."""
    ear = Ear(0, listener.hearer(options), options)
    for start in range(0, len(pcm), STEP):
        yield from ear.push(pcm[start : start + STEP], behind=behind)
    yield from ear.finish()


def texts(words: tuple[Word, ...]) -> list[str]:
    return [word.text for word in words]


def finals(heard: list[LiveEvent]) -> list[Final]:
    return [one for one in heard if isinstance(one, Final)]


def understood(heard: list[LiveEvent]) -> list[str]:
    return [word for final in finals(heard) for word in texts(final.words)]


def said(name: str) -> list[str]:
    (channel,) = truth(name)
    return [word.text for word in channel.words]


def without_a_pause(seconds: float) -> bytes:
    """The longest phrase of the clip, over and over, for so many seconds."""
    (channel,) = truth("english")
    phrase = max(channel.phrases, key=len)
    first, last = (int(at * RATE) for at in (phrase[0].start, phrase[-1].end))
    samples = np.frombuffer(sound("english"), np.int16)[first:last]
    return np.tile(samples, round(seconds * RATE / len(samples))).tobytes()


@pytest.mark.parametrize("name", ["english", "spanish"])
def test_what_is_final_is_what_was_said_in_its_language(listener: ListeningWhisper, name: str) -> None:
    heard = list(listen(listener, sound(name)))
    assert understood(heard) == said(name)
    assert {final.language for final in finals(heard)} == {truth(name)[0].language}


def test_words_have_their_times_in_the_session(listener: ListeningWhisper) -> None:
    silence = bytes(2 * RATE * 20)
    heard = finals(list(listen(listener, silence + sound("english"))))
    (channel,) = truth("english")
    starts = [word.start for final in heard for word in final.words]
    assert starts == pytest.approx([word.start + 20 for word in channel.words], abs=0.4)


def test_the_first_guess_comes_within_a_second_of_speech(listener: ListeningWhisper) -> None:
    started, partial = [one for one in listen(listener, sound("english")) if not isinstance(one, Final)][:2]
    assert isinstance(started, SpeechStarted)
    assert isinstance(partial, Partial)
    assert partial.start + partial.duration - started.at < 1.0


@pytest.mark.parametrize("pcm", [sound("english"), sound("noisy"), without_a_pause(10)], ids=["clear", "noisy", "long"])
def test_a_settled_word_never_changes(listener: ListeningWhisper, pcm: bytes) -> None:
    settled: list[str] = []
    seen = 0
    for one in listen(listener, pcm):
        if isinstance(one, Partial | Final):
            assert texts(one.words)[: len(settled)] == settled
            settled = texts(one.words[: one.settled]) if isinstance(one, Partial) else []
            seen += len(settled)
    assert seen > 0


def test_who_never_pauses_is_not_kept_waiting_for_what_is_settled(listener: ListeningWhisper) -> None:
    told = finals(list(listen(listener, without_a_pause(2 * LONG_SECONDS + 3))))
    assert len(told) >= 2
    assert max(final.duration for final in told) < 2 * LONG_SECONDS
    assert not any(final.speech_final for final in told[:-1])


def test_who_is_behind_gets_no_guesses_but_all_words(listener: ListeningWhisper) -> None:
    heard = list(listen(listener, sound("english"), behind=True))
    assert not any(isinstance(one, Partial) for one in heard)
    assert understood(heard) == said("english")


def test_silence_and_noise_have_no_words(listener: ListeningWhisper) -> None:
    noise = np.random.default_rng(1).normal(0, 3000, 3 * RATE).astype(np.int16).tobytes()
    assert understood(list(listen(listener, bytes(2 * RATE * 3) + noise))) == []
