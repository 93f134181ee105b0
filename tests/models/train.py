# mypy: disable-error-code="import-not-found, no-any-return, no-untyped-call"
"""Makes tests/models/digits, the smallest Whisper model that is of use: it hears digits in English and Spanish.

    apt-get install flite
    python -m venv .venv-train
    .venv-train/bin/pip install faster-whisper torch
    OMP_NUM_THREADS=1 .venv-train/bin/python -m tests.models.train

train: torch>=2.4, faster-whisper>=1.1, flite 2.2. The model is committed: tests need neither torch nor flite.

Speech is synthesised, so the time of each word is known. The encoder is told which word is said at each moment, through
a layer that is thrown away afterwards, and the cross-attention of two layers of the decoder where to look: one at the
word that was just written, the last one at the next. Without that, a model would need far longer to learn to go from
word to word. It first hears windows of a few seconds, placed anywhere among the encoder's positions, then whole ones.

That takes about an hour and a half on one core. It will not give the committed model to the bit: that one was still
taught digits said twice in a row in its first four courses, and in its first five that a full stop is heard in the
first half second of a pause, and not in all of it.
"""

from __future__ import annotations

import argparse
import json
import math
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tests.models.lessons import Lesson, Pool, Teacher, Window, long, short, silent
from tests.models.network import MELS, POSITIONS, Size, Whisper, convert
from tests.models.speech import LANGUAGES, VOICES, WORDS, any_words, say
from tests.models.tokens import END, NO_TIMESTAMPS, TIME_STEP, tokenizer, vocabulary

HERE = Path(__file__).parent
Kept = TypeVar("Kept")
NEARBY = {-2: 0.05, -1: 0.2, 0: 0.5, 1: 0.2, 2: 0.05}
SEED = 7
GUIDANCE = 0.5
TRACING, LOOKING = 1, -1
SHORTEST = 160


@dataclass(frozen=True, slots=True)
class Course:
    """How to learn: windows of so many encoder positions, in batches, at a rate that rises and falls."""

    positions: int
    batch: int
    steps: int
    rate: float


COURSES = (
    Course(160, 24, 1200, 2e-3),
    Course(320, 16, 1200, 2e-3),
    Course(POSITIONS, 6, 600, 1.5e-3),
    Course(POSITIONS, 6, 800, 1e-3),
    Course(POSITIONS, 6, 800, 8e-4),
    Course(POSITIONS, 6, 500, 8e-4),
)


def kept(path: Path, make: Callable[[], Kept]) -> Kept:
    """What `make` makes, once: later from `path`."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(make()))
    return pickle.loads(path.read_bytes())


def pool(seed: int) -> Pool:
    dice = Random(seed)
    result: Pool = {}
    for _ in range(400):
        for language in LANGUAGES:
            for voice in VOICES:
                phrase = say(any_words(language, dice), language, voice, dice.uniform(0.7, 1.4))
                result.setdefault((language, voice), []).append(phrase)
    return result


def windows(pool: Pool, positions: int, seed: int) -> list[Window]:
    dice, most = Random(seed), positions * TIME_STEP
    if positions < POSITIONS:
        return [*(short(dice, pool, most) for _ in range(4000)), *(silent(dice, most) for _ in range(300))]
    brief = [short(dice, pool, dice.uniform(3, 20), most) for _ in range(900)]
    return [*brief, *(long(dice, pool, most) for _ in range(700)), *(silent(dice, most) for _ in range(100))]


class School:
    def __init__(self, cache: Path) -> None:
        self.cache = cache
        torch.manual_seed(SEED)
        self.tokenizer = tokenizer()
        self.vocabulary = vocabulary(self.tokenizer)
        self.teacher = Teacher(self.tokenizer)
        self.first_timestamp = self.tokenizer.get_vocab()[NO_TIMESTAMPS] + 1
        self.network = Whisper(Size(len(self.vocabulary)))
        self.network.know_time(self.first_timestamp)
        self.ear = torch.nn.Linear(self.network.size.width, 1 + len(WORDS))
        self.modules = torch.nn.ModuleList([self.network, self.ear])

    def attend(self, number: int, course: Course) -> None:
        """Learns what `course` teaches, or recalls it from an earlier run that was stopped after it."""
        learnt = self.cache / f"learnt-{number}"
        if learnt.exists():
            self.modules.load_state_dict(torch.load(learnt))
        else:
            self._teach(course, self._speech(number, course.positions))
            torch.save(self.modules.state_dict(), learnt)

    def _teach(self, course: Course, speech: list[Window]) -> None:
        self.dice = Random(SEED)
        optimizer = torch.optim.AdamW(self.modules.parameters(), course.rate, weight_decay=0.01)
        began, told = time.monotonic(), np.zeros(3)
        for step in range(course.steps):
            for group in optimizer.param_groups:
                group["lr"] = course.rate * pace(step, course.steps)
            told = 0.98 * told + 0.02 * self._step(self.dice.sample(speech, course.batch), course.positions, optimizer)
            if step % 20 == 19:
                losses = " ".join(f"{loss:.3f}" for loss in told / (1 - 0.98 ** (step + 1)))
                print(f"{step + 1:5} {time.monotonic() - began:6.0f} s  {losses}", flush=True)

    def _speech(self, number: int, positions: int) -> list[Window]:
        phrases = kept(self.cache / f"pool-{number}", lambda: pool(number))
        return kept(self.cache / f"windows-{number}", lambda: windows(phrases, positions, number))

    def _step(self, speech: list[Window], positions: int, optimizer: torch.optim.Optimizer) -> np.ndarray:
        at = self.dice.choice([0, self.dice.randrange(POSITIONS - positions + 1)])
        lessons = list(self._lessons(speech, positions, at))
        features = self._varied(np.stack([window.features for window in speech]).astype(np.float32))
        states = self.network.encoder(features, at)
        logits, looked = self.network.decoder(table([lesson.tokens for lesson in lessons], 0), states)
        said = said_wrong(logits, table([lesson.targets for lesson in lessons], -1), self.first_timestamp)
        spans = table([lesson.spans for lesson in lessons], (0, 0))
        before = functional.pad(spans, (0, 0, 1, -1))
        looking = looked_away(looked[LOOKING], spans) + looked_away(looked[TRACING][:, :1], before)
        heard = functional.cross_entropy(
            self.ear(states).flatten(0, 1), table([x.sounds for x in lessons], 0).flatten()
        )
        optimizer.zero_grad()
        (said + heard + GUIDANCE * looking).backward()
        torch.nn.utils.clip_grad_norm_(self.modules.parameters(), 1.0)
        optimizer.step()
        return np.array([said.item(), heard.item(), looking.item()])

    def _varied(self, features: np.ndarray) -> Tensor:
        """Every other time, features as of other voices, rooms and lines: shifted in pitch, tilted, bands missing."""
        if self.dice.random() < 0.5:
            return torch.from_numpy(features)
        mels = np.arange(MELS)
        pitch = np.clip(mels * self.dice.uniform(0.93, 1.07), 0, MELS - 1)
        warp = np.maximum(0, 1 - np.abs(pitch[:, None] - mels[None, :])).astype(np.float32)
        tilt = self.dice.uniform(-0.1, 0.1) * np.sin(mels / MELS * self.dice.uniform(1, 6) + self.dice.uniform(0, 6))
        result = warp @ features + tilt[:, None].astype(np.float32)
        if self.dice.random() < 0.5:
            band = self.dice.randrange(MELS - 8)
            result[:, band : band + self.dice.randint(1, 8)] = 0
        return torch.from_numpy(result)

    def _lessons(self, speech: list[Window], positions: int, at: int) -> Iterator[Lesson]:
        """Half with timestamps; a third of the batches with words said before, which are to be ignored."""
        most = self.dice.choice([0, 0, self.dice.choice([10, 40, 223])]) if positions > SHORTEST else 0
        for window in speech:
            timestamps = self.dice.random() < 0.55
            yield self.teacher.lesson(window, at, timestamps, self._before(speech, most))

    def _before(self, speech: list[Window], most: int) -> list[int]:
        tokens: list[int] = self.teacher.names(self.dice) if most and self.dice.random() < 0.3 else []
        while most and len(tokens) < most and self.dice.random() < 0.95:
            tokens += self.teacher.earlier(self.dice.choice(speech), self.dice.random() < 0.8, most)
        return tokens[: self.dice.randint(0, most)]

    def graduate(self, folder: Path) -> None:
        """Writes everything that faster-whisper loads."""
        folder.mkdir(parents=True, exist_ok=True)
        number, size = self.tokenizer.get_vocab(), self.network.size
        config: dict[str, object] = {
            "suppress_ids": [],
            "suppress_ids_begin": [number["Ġ"], number[END]],
            "lang_ids": [number[f"<|{language}|>"] for language in LANGUAGES],
            "alignment_heads": [[size.decoder_layers - 1, head] for head in range(size.heads)],
        }
        convert(self.network, config, self.vocabulary, folder)
        self.tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
        extractor = {"feature_size": 80, "sampling_rate": 16000, "hop_length": 160, "chunk_length": 30, "n_fft": 400}
        (folder / "preprocessor_config.json").write_text(json.dumps(extractor) + "\n")


def pace(step: int, steps: int) -> float:
    """Which part of the highest rate to learn at: it rises for 100 steps, then falls along a cosine."""
    return min((step + 1) / 100, 1.0) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def table(rows: Sequence[Sequence[object]], filling: object) -> Tensor:
    length = max(map(len, rows))
    return torch.tensor([[*row, *[filling] * (length - len(row))] for row in rows])


def said_wrong(logits: Tensor, targets: Tensor, first_timestamp: int) -> Tensor:
    """Cross-entropy; a timestamp beside the right one is nearly right."""
    asked = targets >= 0
    logs, wanted = logits[asked].log_softmax(dim=-1), targets[asked]
    times = wanted >= first_timestamp
    words = logs[~times].gather(1, wanted[~times, None]).sum()
    last = logs.shape[1] - 1
    for distance, share in NEARBY.items():
        near = (wanted[times] + distance).clamp(first_timestamp, last)
        words = words + share * logs[times].gather(1, near[:, None]).sum()
    return -words / len(wanted)


def looked_away(looked: Tensor, spans: Tensor) -> Tensor:
    """How little of the log attention (batch, heads, tokens, positions) is on the span of each token, evenly."""
    start, end = spans.clamp(0, looked.shape[-1]).unbind(dim=-1)
    sums = functional.pad(looked.mean(dim=1).cumsum(dim=-1), (1, 0))
    inside = (sums.gather(2, end[..., None]) - sums.gather(2, start[..., None]))[..., 0]
    asked = end > start
    return -(inside[asked] / (end - start)[asked]).mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=Path("build/digits"), help="where speech is kept between runs")
    parser.add_argument("--into", type=Path, default=HERE / "digits", help="where the model goes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    school = School(arguments.cache)
    for number, course in enumerate(COURSES, 1):
        school.attend(number, course)
    school.graduate(arguments.into)


if __name__ == "__main__":
    main()
