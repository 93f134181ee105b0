"""`engine transcribe`: files to text on this machine, without a server.

Each file goes through the same recognisers, in the same kind of process, as a request would; JSON is the document that
`/v1/listen` answers with.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import orjson
import typer

from engine.cli.terminal import Config, complain, complaints, settings
from engine.dialects import subtitles
from engine.dialects.catalogue import Catalogue
from engine.dialects.deepgram.errors import BadRequest
from engine.dialects.deepgram.recorded_parameters import parse
from engine.dialects.deepgram.results import render
from engine.dialects.warnings import missing
from engine.dialects.words import name, prose
from engine.errors import AudioError, EngineError, RecogniserUnavailable, WorkerDied
from engine.recognisers.base import RecognitionOptions
from engine.request import Media, Request
from engine.transcript import Channel, Transcript, Word
from relay.service.commands import Exit
from relay.service.terminal import console

if TYPE_CHECKING:
    from rich.progress import Progress

    from engine.recognisers.workers.pool import TranscriptionPool
    from engine.settings import EngineSection

commands = typer.Typer()

STDOUT = Path("-")


class Format(StrEnum):
    """What is written, and the suffix of the file."""

    JSON = "json"
    SRT = "srt"
    VTT = "vtt"
    TXT = "txt"


@dataclass(frozen=True, slots=True)
class Output:
    """Where results go: `folder` is None beside the audio, or STDOUT."""

    form: Format
    folder: Path | None
    overwrite: bool

    def path(self, file: Path) -> Path:
        """Of the result of `file`. Raises EngineError for one that is there already, and is to stay."""
        if self.folder == STDOUT:
            return STDOUT
        path = (self.folder or file.parent) / f"{file.stem}.{self.form}"
        if path == file or (path.exists() and not self.overwrite):
            raise EngineError(f"{path} is there already; say --force to write over it, or name an --output-dir")
        return path


Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Audio or video files.")]
Model = Annotated[str | None, typer.Option(help="A name of [engine.models]. [default: engine.default_model]")]
Form = Annotated[Format, typer.Option("--format", help="What to write: Deepgram's JSON, subtitles, or text.")]
Folder = Annotated[
    Path | None, typer.Option("--output-dir", help="Write here, not beside each file; - is standard output.")
]
Language = Annotated[str | None, typer.Option(help="A language code, such as en. [default: the model's judgement]")]
Split = Annotated[bool, typer.Option("--multichannel", help="Hear each channel by itself.")]
Diarize = Annotated[bool, typer.Option("--diarize", help="Tell who speaks; needs `engine models pull speakers`.")]
Force = Annotated[bool, typer.Option("--force", help="Write over results that are there already.")]


@commands.command()
def transcribe(
    files: Files,
    model: Model = None,
    form: Form = Format.JSON,
    output_dir: Folder = None,
    language: Language = None,
    multichannel: Split = False,
    diarize: Diarize = False,
    force: Force = False,
    config: Config = None,
) -> None:
    """Write down what is said in files. One that cannot be used does not stop the others; the exit code is 1 then."""
    with complaints():
        engine = settings(config).engine
        command = FileTranscription(
            engine, Output(form, output_dir, force), model, language, multichannel=multichannel, diarize=diarize
        )
        failures = asyncio.run(command.run(files))
    if failures:
        raise typer.Exit(Exit.FAILED)


class FileTranscription:
    """All files of one command, one after another: a recogniser makes use of the whole machine."""

    def __init__(
        self,
        engine: EngineSection,
        output: Output,
        model: str | None,
        language: str | None,
        *,
        multichannel: bool,
        diarize: bool,
    ) -> None:
        alone = replace(engine, workers=1)
        self._specs = alone.specs()
        self._engine = engine
        self._request = _request(alone.catalogue(self._specs), model, language, multichannel, diarize)
        self._output = output

    async def run(self, files: Sequence[Path]) -> int:
        """How many failed; each is told on standard error."""
        from engine.recognisers.workers.pool import TranscriptionPool  # only here: it loads FFmpeg

        if self._output.folder not in {None, STDOUT}:
            self._output.folder.mkdir(parents=True, exist_ok=True)
        pool = TranscriptionPool(1, self._specs, max_seconds=self._engine.max_audio_seconds)
        try:
            with _bar() as bar:
                return sum([not await self._attempt(pool, file, bar) for file in files])
        finally:
            await pool.stop()

    async def _attempt(self, pool: TranscriptionPool, file: Path, bar: Progress) -> bool:
        try:
            path = self._output.path(file)
            transcript = await self._transcribe(pool, file, bar)
            self._write(path, _text(self._output.form, self._request, file, transcript))
            for message in missing(transcript):
                complain(f"{file}: {message}")
        except WorkerDied:
            complain(f"{file}: the recogniser's process ended on this audio; convert it to WAV or FLAC, and try again")
        except OSError as error:
            complain(f"{error.filename or file}: {error.strerror or error}")
        except (AudioError, RecogniserUnavailable, EngineError) as error:
            complain(f"{file}: {error}")
        else:
            return True
        return False

    async def _transcribe(self, pool: TranscriptionPool, file: Path, bar: Progress) -> Transcript:
        from engine.recognisers.workers.pool import Transcribe

        file.open("rb").close()  # what is not there, or may not be read, is no matter of audio
        info = await pool.probe(str(file))
        task = bar.add_task(file.name, total=info.duration, speed="")
        began = time.monotonic()

        def done(seconds: float, _: Sequence[Word] = ()) -> None:
            bar.update(task, completed=seconds, speed=f"{seconds / max(time.monotonic() - began, 1e-3):.1f}x")

        request = self._request
        options = RecognitionOptions(request.language, code_switching=request.code_switching, speakers=request.speakers)
        work = Transcribe(str(file), request.recogniser, request.multichannel, options=options)
        try:
            transcript = await pool.transcribe(work, done)
            bar.update(task, total=transcript.duration)
            done(transcript.duration)
            return transcript
        finally:
            bar.stop_task(task)

    def _write(self, path: Path, text: str) -> None:
        if path == STDOUT:
            sys.stdout.write(text)
            sys.stdout.flush()
        else:
            path.write_text(text, "utf-8")


def _request(
    catalogue: Catalogue, model: str | None, language: str | None, multichannel: bool, diarize: bool
) -> Request:
    """The request that the same wishes make over HTTP, refused for the same reasons. Raises EngineError."""
    wishes = {"model": model, "language": language, "multichannel": str(multichannel).lower(), "paragraphs": "true"}
    wishes["diarize"] = str(diarize).lower()
    pairs = [(name, value) for name, value in wishes.items() if value is not None]
    parsed = parse(
        pairs, request_id=str(uuid4()), catalogue=catalogue, raw_format=lambda *_: None, unsupported="refuse"
    )
    if isinstance(parsed, BadRequest):
        raise EngineError(parsed.line)
    return parsed


def _text(form: Format, request: Request, file: Path, transcript: Transcript) -> str:
    match form:
        case Format.JSON:
            document = render(request, _media(file), transcript)
            return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()
        case Format.SRT:
            return subtitles.srt(transcript.channels, names=True)
        case Format.VTT:
            return subtitles.vtt(transcript.channels, names=True)
        case Format.TXT:
            return "".join(f"{line}\n" for line in _lines(transcript.channels))


def _lines(channels: Sequence[Channel]) -> list[str]:
    """A line for each segment in the order of time, before it the channel where there are several, and who speaks where
    that is known."""
    said = [
        (segment.words[0].start, number, name(segment.words) + prose(segment.words, punctuate=True))
        for number, channel in enumerate(channels)
        for segment in channel.segments
    ]
    return [f"[{number}] {line}" if len(channels) > 1 else line for _, number, line in sorted(said)]


def _media(file: Path) -> Media:
    with file.open("rb") as audio:
        return Media(hashlib.file_digest(audio, "sha256").hexdigest(), file.stat().st_size, time.time())


def _bar() -> Progress:
    """Audio done, how many times faster than it was spoken, and the time left: on standard error, for a person only."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    seconds = TextColumn("{task.completed:.0f} of {task.total:.0f} s")
    speed = TextColumn("{task.fields[speed]}")
    return Progress(
        *(TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), seconds, speed, TimeRemainingColumn()),
        console=console(stderr=True),
        disable=not sys.stderr.isatty(),
        redirect_stdout=sys.stdout.isatty(),  # results that go into a pipe must not end on the screen
    )
