"""engine.diarisation: who speaks, in conversations that are put together out of clips, over noise 20 dB below.

The diarisation error rate is in percent of what is said: missed, heard where nobody speaks, or given to another. Around
the beginnings and ends of turns a quarter of a second does not count; a pause in what one person says is speech.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from engine.recognisers.models.names import ENCODER, SPEAKERS
from engine.recognisers.speakers.encoder import VoiceEncoder
from engine.recognisers.speakers.turns import Turn
from engine.recognisers.speakers.voices import ChannelVoices
from engine.recognisers.speakers.weights import load_encoder
from engine.recognisers.whisper.stretch import Sound
from engine.request import SpeakerBounds
from tests.bench.stand import Result, Scale
from tests.clips import clips
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
_MIXES, _TURNS, _SEED = 8, {2: 20, 4: 24}, 5000
_COLLAR, _HUNDREDTHS, _PAUSE = 0.25, 100, 0.8


def diarisation(scale: Scale) -> Result:
    """Of two voices and of four: errors, how often their number is right, and seconds of processor for one of audio."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in the engine's workers
    people = [*(one.name for one in clips("en")), "real/austen", "real/jfk"]
    with TemporaryDirectory() as folder:
        encoder = load_encoder(str(voices.models_dir(Path(folder)) / SPEAKERS / ENCODER))
    dice, errors, right, took, seconds = random.Random(_SEED), dict[int, list[float]](), list[bool](), 0.0, 0.0
    for seed in range(min(_MIXES, scale.recordings)):
        for count, turns in _TURNS.items():
            said = conversation(dice.sample(people, count), min(turns, scale.dialogue_turns), _SEED + seed)
            heard, spent = _told(encoder, said)
            errors.setdefault(count, []).append(error_rate(said, heard))
            right.append(len({turn.speaker for turn in heard}) == count)
            took, seconds = took + spent, seconds + said.seconds
    return {
        "engine.diarisation.der": float(np.mean(errors[2])),
        "engine.diarisation.four.der": float(np.mean(errors[4])),
        "engine.diarisation.count_right": sum(right) / len(right),
        "engine.diarisation.overhead": took / seconds,
    }


def _told(encoder: VoiceEncoder, said: Dialogue) -> tuple[list[Turn], float]:
    """Who speaks, and the seconds of processor that it took beside what recognition does anyway."""
    sound, listener = Sound(said.pcm), ChannelVoices(encoder)
    began = time.process_time()
    listener.hear(0.0, sound.samples, sound.speech)
    return listener.turns(SpeakerBounds()), time.process_time() - began


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
