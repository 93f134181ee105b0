"""Makes the clips of `clips/`, and says how well the model hears speech that it has not learnt from.

Needs flite and faster-whisper: `python -m tests.models.examine` prints word accuracy and how far word times are off;
with `--clips` it speaks the clips again. The dice are not those of the lessons, and one voice, `kal`, was in none.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from random import Random

import av
import numpy as np
from faster_whisper import WhisperModel

from tests.models import CLIPS, DIGITS
from tests.models.lessons import spoilt
from tests.models.speech import LANGUAGES, RATE, VOICES, Phrase, Said, Samples, Speech, any_words, join, say

STRANGER = "kal"
Heard = tuple[str, float, float]


def speak(dice: Random, language: str, voice: str, phrases: int, most: int = 6, gap: float = 1.5) -> Speech:
    """Phrases between pauses of up to `gap` seconds."""
    said: list[Phrase] = []
    for _ in range(phrases):
        words = any_words(language, dice, most, after=said[-1].words[-1].text if said else "")
        said.append(say(words, language, voice, dice.uniform(0.8, 1.3)))
    return join(said, [0.2, *(dice.uniform(0.6, gap) for _ in said)], language)


def clips() -> dict[str, list[Speech]]:
    """The speech of each clip, one for each of its channels."""
    dice = Random(2031)
    english, spanish = speak(dice, "en", "slt", 3), speak(dice, "es", "rms", 3)
    noisy = spoilt(speak(dice, "en", "awb", 3), Random(5))
    return {
        "english": [english],
        "spanish": [spanish],
        "noisy": [noisy],
        "stranger": [speak(dice, "en", STRANGER, 2)],
        "stereo": [speak(dice, "en", "kal16", 2), speak(dice, "es", "slt", 2)],
    }


def write(path: Path, channels: Sequence[Samples]) -> None:
    """Samples as 16 kHz FLAC; the shorter channel ends in silence."""
    length = max(map(len, channels))
    samples = np.stack([np.pad(channel, (0, length - len(channel))) for channel in channels], axis=1)
    layout = {1: "mono", 2: "stereo"}[len(channels)]
    pcm = (samples.clip(-1, 1) * 32767).astype("<i2").reshape(1, -1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=RATE, layout=layout)
        frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout=layout)
        frame.sample_rate = RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)


def truth(speech: Speech) -> dict[str, object]:
    phrases = [[(word.text, round(word.start, 2), round(word.end, 2)) for word in phrase] for phrase in speech.phrases]
    return {"language": speech.language, "phrases": phrases}


def speak_clips() -> None:
    CLIPS.mkdir(exist_ok=True)
    made = clips()
    for name, channels in made.items():
        write(CLIPS / f"{name}.flac", [channel.samples for channel in channels])
    lines = (f"{json.dumps(name)}: {json.dumps([truth(channel) for channel in made[name]])}" for name in made)
    (CLIPS / "truth.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def hear(model: WhisperModel, samples: Samples, **options: object) -> tuple[str, list[Heard]]:
    """The language, and words with their times."""
    segments, info = model.transcribe(samples, word_timestamps=True, **options)
    words = [word for segment in segments for word in segment.words]
    return info.language, [(word.word.strip(" .").lower(), word.start, word.end) for word in words]


def compare(said: Iterable[Said], heard: Sequence[Heard]) -> tuple[int, int, list[float], list[float]]:
    """How many words were said, and wrong; and how far off, in seconds, the right ones begin and end."""
    words = list(said)
    matcher = SequenceMatcher(None, [word.text for word in words], [word for word, _, _ in heard], autojunk=False)
    pairs = [(words[a + i], heard[b + i]) for a, b, size in matcher.get_matching_blocks() for i in range(size)]
    wrong = sum(max(a2 - a1, b2 - b1) for tag, a1, a2, b1, b2 in matcher.get_opcodes() if tag != "equal")
    starts = [start - word.start for word, (_, start, _) in pairs]
    return len(words), wrong, starts, [end - word.end for word, (_, _, end) in pairs]


def examine(model: WhisperModel, voice: str, dice: Random, count: int, poor: bool, **options: object) -> str:
    said = wrong = tongues = 0
    starts: list[float] = []
    ends: list[float] = []
    for number in range(count):
        language = LANGUAGES[number % len(LANGUAGES)]
        speech = speak(dice, language, voice, dice.randint(1, 4))
        detected, heard = hear(model, (spoilt(speech, dice) if poor else speech).samples, **options)
        words, missed, start, end = compare((word for phrase in speech.phrases for word in phrase), heard)
        said, wrong, tongues = said + words, wrong + missed, tongues + (detected != language)
        starts, ends = starts + start, ends + end
    off = "; ".join(
        f"{name} off by {np.median(np.abs(times)):.2f} s, 95 % within {np.quantile(np.abs(times), 0.95):.2f} s"
        for name, times in (("starts", starts), ("ends", ends))
    )
    return f"{said} words, {wrong} wrong; language wrong {tongues} of {count}; {off}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", action="store_true", help="speak the clips of clips/ again")
    parser.add_argument("--model", type=Path, default=DIGITS)
    parser.add_argument("--count", type=int, default=20, help="clips for each voice")
    arguments = parser.parse_args()
    if arguments.clips:
        speak_clips()
    model = WhisperModel(str(arguments.model), device="cpu", compute_type="int8", cpu_threads=1)
    for voice in (*VOICES, STRANGER):
        for poor in (False, True):
            for vad in (False, True):
                result = examine(model, voice, Random(99), arguments.count, poor, vad_filter=vad)
                print(f"{voice:6} {'poor' if poor else 'good'} {'VAD' if vad else '':4} {result}", flush=True)


if __name__ == "__main__":
    main()
