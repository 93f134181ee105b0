"""engine.diarisation: who speaks, in conversations that are put together out of clips, over noise 20 dB below: once all
was heard, and live, and in an hour.

The diarisation error rate is in percent of what is said: missed, heard where nobody speaks, or given to another. Around
the beginnings and ends of turns a quarter of a second does not count; a pause in what one person says is speech.
"""

from __future__ import annotations

import os
import random
import resource
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import cycle, pairwise
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from engine.recognisers.models.names import ENCODER, SPEAKERS
from engine.recognisers.speakers.encoder import VoiceEncoder
from engine.recognisers.speakers.known import KnownSpeakers
from engine.recognisers.speakers.turns import Turn
from engine.recognisers.speakers.voices import ChannelVoices, heard
from engine.recognisers.speakers.weights import load_encoder
from engine.recognisers.speech.cutting import Cutter
from engine.recognisers.speech.detection import SpeechDetector
from engine.recognisers.speech.windows import Stretch, Stretches
from engine.recognisers.whisper.stretch import Sound
from engine.request import SpeakerBounds
from engine.transcript import Word
from tests.bench.stand import Result, Scale
from tests.clips import RATE, clips
from tests.clips.dialogues import Dialogue, conversation
from tests.services import voices

Labels = NDArray[np.int64]
"""Who speaks in each hundredth of a second; -1 is nobody."""

GOALS = {
    "engine.diarisation.der": "<= 8",
    "engine.diarisation.four.der": "<= 12",
    "engine.diarisation.count_right": ">= 0.9",
    "engine.diarisation.overhead": "<= 0.05",
}
LIVE_GOALS = {"engine.diarisation.live.right": ">= 0.9", "engine.diarisation.live.overhead": "<= 0.05"}
HOUR_GOALS = {"engine.diarisation.hour.ratio": "<= 1.1", "engine.diarisation.hour.memory_mib": "<= 80"}
_MIXES, _TURNS, _SEED = 20, {2: 20, 4: 24}, 5000
_COLLAR, _HUNDREDTHS, _PAUSE = 0.25, 100, 0.8
_STRETCH = 120.0
"""Seconds of a recording that are heard at once."""


def diarisation(scale: Scale) -> Result:
    """Of two voices and of four: errors, how often their number is right, and seconds of processor for one of audio."""
    encoder, errors, right, took, seconds = _encoder(), dict[int, list[float]](), list[bool](), 0.0, 0.0
    for said, count in _mixes(scale):
        told, spent = _told(encoder, said)
        errors.setdefault(count, []).append(error_rate(said, told))
        right.append(len({turn.speaker for turn in told}) == count)
        took, seconds = took + spent, seconds + said.seconds
    return {
        "engine.diarisation.der": float(np.mean(errors[2])),
        "engine.diarisation.four.der": float(np.mean(errors[4])),
        "engine.diarisation.count_right": sum(right) / len(right),
        "engine.diarisation.overhead": took / seconds,
    }


def live(scale: Scale) -> Result:
    """The same conversations: how many of the words, three in a second, go at once to whom they belong; and the seconds
    of processor for one of audio."""
    encoder, right, count, took, seconds = _encoder(), 0, 0, 0.0, 0.0
    for said, _ in _mixes(scale):
        pairs, spent = _told_live(encoder, said)
        truth, guess = np.array([one for one, _ in pairs]), np.array([other for _, other in pairs])
        right, count = right + _agreed(truth, guess), count + len(pairs)
        took, seconds = took + spent, seconds + said.seconds
    return {"engine.diarisation.live.right": right / count, "engine.diarisation.live.overhead": took / seconds}


def hour(scale: Scale) -> Result:
    """An hour of speech: what a second of it takes of the processor, as a ratio to ten minutes'; and how much more
    memory a process has at its peak that tells speakers apart."""
    seconds = scale.recording_seconds
    processes = get_context("spawn")
    with TemporaryDirectory() as folder:
        pulled = _pulled(folder)  # here, because that takes memory, too
        with processes.Pool(1) as without, processes.Pool(1) as short, processes.Pool(1) as long:
            _, floor = without.apply(_of_speech, (seconds, None))
            few, _ = short.apply(_of_speech, (seconds, pulled))
            many, peak = long.apply(_of_speech, (6 * seconds, pulled))
    return {"engine.diarisation.hour.ratio": many / few, "engine.diarisation.hour.memory_mib": peak - floor}


def _of_speech(seconds: float, encoder: str | None) -> tuple[float, float]:
    """Seconds of processor for one of so much speech, beside what finds the speech, and the peak of memory in MiB; with
    the encoder in that file, or without who speaks."""
    listener, took, end = ChannelVoices(load_encoder(encoder)) if encoder else None, 0.0, 0.0
    for stretch in _stretches(seconds):
        sound = Sound(stretch.pcm)
        end = stretch.start + sound.seconds
        took -= time.process_time()
        if listener:
            listener.hear(stretch.start, sound.samples, sound.speech)
        took += time.process_time()
    took -= time.process_time()
    if listener:
        listener.name([Word("so", at / 3, at / 3 + 0.3, 1.0) for at in range(int(3 * end))], SpeakerBounds())
    took += time.process_time()
    return took / end, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _stretches(seconds: float) -> Iterator[Stretch]:
    """Of clips that are said over and over."""
    stretches = Stretches(_STRETCH, RATE)
    left = int(2 * RATE * seconds)
    for one in cycle(clips("en")):
        part = one.pcm()[:left]
        yield from stretches.push(part)
        left -= len(part)
        if not left:
            break
    yield from stretches.flush()


def _encoder() -> VoiceEncoder:
    with TemporaryDirectory() as folder:
        return load_encoder(_pulled(folder))


def _pulled(folder: str) -> str:
    """The encoder's file, in that folder."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in the engine's workers
    return str(voices.models_dir(Path(folder)) / SPEAKERS / ENCODER)


def _mixes(scale: Scale) -> Iterator[tuple[Dialogue, int]]:
    """Conversations of two and of four, and how many they are."""
    people = [*(one.name for one in clips("en")), "real/austen", "real/jfk"]
    dice = random.Random(_SEED)
    for seed in range(min(_MIXES, scale.recordings)):
        for count, turns in _TURNS.items():
            yield conversation(dice.sample(people, count), min(turns, scale.dialogue_turns), _SEED + seed), count


def _told(encoder: VoiceEncoder, said: Dialogue) -> tuple[list[Turn], float]:
    """Who speaks, and the seconds of processor that it took beside what recognition does anyway."""
    sound, listener = Sound(said.pcm), ChannelVoices(encoder)
    began = time.process_time()
    listener.hear(0.0, sound.samples, sound.speech)
    return listener.turns(SpeakerBounds()), time.process_time() - began


def _told_live(encoder: VoiceEncoder, said: Dialogue) -> tuple[list[tuple[int, int]], float]:
    """For each word who says it and who is told to, once its utterance is over; and the same seconds."""
    cutter, known = Cutter(SpeechDetector()), KnownSpeakers()
    pairs, took = list[tuple[int, int]](), 0.0
    for piece in (*cutter.push(said.pcm), *cutter.flush()):
        sound = Sound(piece.pcm)
        spoken = list(_words(said, piece.start, piece.start + sound.seconds))
        took -= time.process_time()
        told = known.name([word for word, _ in spoken], heard(encoder, piece.start, sound.samples, sound.speech))
        took += time.process_time()
        pairs += [(truth, word.speaker or 0) for (_, truth), word in zip(spoken, told, strict=True)]
    return pairs, took


def _words(said: Dialogue, start: float, end: float) -> Iterator[tuple[Word, int]]:
    """Three a second in that part, and who says each."""
    for turn in said.turns:
        for number in range(int(3 * (turn.end - turn.start))):
            at = turn.start + number / 3
            if start <= at < end:
                yield Word("so", at, at + 0.3, 1.0), turn.speaker


def error_rate(said: Dialogue, heard: Sequence[Turn]) -> float:
    """In percent, with the assignment of numbers that is best."""
    length = int(said.seconds * _HUNDREDTHS) + 1
    truth, guess, counts = (np.full(length, -1), np.full(length, -1), np.ones(length, bool))
    for turn in said.turns:
        truth[_part(turn.start, turn.end)] = turn.speaker
        for edge in (turn.start, turn.end):
            counts[_part(max(0.0, edge - _COLLAR), edge + _COLLAR)] = False
    for start, end, speaker in _joined(heard):
        guess[_part(start, end)] = speaker
    truth, guess = truth[counts], guess[counts]
    both = (truth >= 0) & (guess >= 0)
    wrong = np.sum((truth >= 0) != (guess >= 0)) + np.sum(both) - _agreed(truth[both], guess[both])
    return 100 * float(wrong) / max(1, int(np.sum(truth >= 0)))


def _joined(heard: Sequence[Turn]) -> Iterator[tuple[float, float, int]]:
    """Turns, each with the pause after which the same person goes on."""
    for turn, after in pairwise([*heard, Turn(float("inf"), float("inf"), -1, 0.0)]):
        goes_on = after.speaker == turn.speaker and after.start - turn.end < _PAUSE
        yield turn.start, after.start if goes_on else turn.end, turn.speaker


def _part(start: float, end: float) -> slice:
    return slice(int(start * _HUNDREDTHS), int(end * _HUNDREDTHS))


def _agreed(truth: Labels, guess: Labels) -> int:
    """Hundredths of a second that both give to the same person, once everybody is called by the best name."""
    table = [[int(np.sum((truth == a) & (guess == b))) for b in np.unique(guess)] for a in np.unique(truth)]

    @lru_cache(None)
    def best(row: int, taken: frozenset[int]) -> int:
        if row == len(table):
            return 0
        free = [column for column in range(len(table[row])) if column not in taken]
        given = [table[row][column] + best(row + 1, taken | {column}) for column in free]
        return max([best(row + 1, taken), *given])

    return best(0, frozenset())
