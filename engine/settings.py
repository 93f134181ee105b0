"""The engine's settings: what stands in the configuration file, and nothing that reaches a room as a whole."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from engine.dialects import deepgram, openai
from engine.dialects.catalogue import Catalogue
from engine.dialects.warnings import Unsupported
from engine.jobs.retention import DAY
from engine.recognisers.base import Spec
from engine.recognisers.capabilities import abilities
from engine.recognisers.models import files, integrity
from engine.recognisers.models.names import ENCODER, SPEAKERS
from relay.outbox.errors import ConfigError
from relay.service.configfile import load
from relay.service.section import Read, Requirement, Secret, Section, setting
from relay.service.settings import CaFile, LogSettings, OutboxSettings, Ports, TraceSettings, usable_cores

if TYPE_CHECKING:
    from engine.jobs.audio_store import AudioStore

OTHER_SECTIONS = frozenset({"relay"})

DEFAULT = "default"
"""The recogniser that answers to every name that nothing else was said of."""

_BUCKET = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(/(?P<prefix>[\w.-]+(/[\w.-]+)*))?/?")
_ALIASES = (
    *deepgram.GENERAL,
    *deepgram.SPECIAL,
    *("solaria-1", "solaria-3", "solaria-fusion"),
    *openai.MODELS,
)
"""What callers already send: the names that Deepgram, Gladia and OpenAI have for their models."""


ComputeType = Literal[
    "auto", "int8", "int8_float32", "int8_float16", "int8_bfloat16", "int16", "float16", "bfloat16", "float32"
]


@dataclass(frozen=True, slots=True)
class RecogniserSettings(Section):
    """[engine.recognisers.NAME]: one Whisper model, and how it is run."""

    model: str = setting("tiny.en", "A name such as large-v3, ORGANISATION/NAME, or a directory.")
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "auto: CUDA where there is a device.")
    compute_type: ComputeType = setting(
        "auto", "The numbers it computes with; auto: int8 on a processor, float16 on CUDA."
    )
    threads: int = setting(0, "Processor threads of each worker; 0: its share of the cores.", ge=0, le=1024)
    batch_size: int = setting(0, "Windows heard at once; 0: up to 8, as memory allows.", ge=0, le=256)
    beam_size: int = setting(5, "Hypotheses followed; 1 is quicker and errs more.", ge=1, le=32)
    prompt: str = setting("", "Text in the style that is wanted, as if it had been heard.", max_length=400)
    memory_bytes: int = setting(0, "What it takes at its peak; 0: judged by its size on disk.", ge=0)

    def spec(self, models_dir: Path, workers: int, memory: int, voices: str = "") -> Spec:
        """The recogniser's own form for so many workers, which share `memory` bytes, once every file of its model was
        looked at; `voices` is the file of the voice encoder. Raises ModelMissing, ModelDamaged."""
        found = files.find(self.model, models_dir)
        integrity.check(found)
        size, compute, speakers = found.size, self.compute_type, bool(voices)
        batch = self.batch_size or files.batch_for(size, compute, memory // workers, voices=speakers)
        return Spec(
            memory=self.memory_bytes or files.expected_memory(size, compute, batch, voices=speakers),
            model=str(found.path),
            name=found.name,
            device=self.device,
            compute_type=self.compute_type,
            threads=self.threads or max(1, int(usable_cores()) // workers),
            batch_size=batch,
            beam_size=self.beam_size,
            prompt=self.prompt,
            voices=voices,
        )


def _with_default(recognisers: object) -> object:
    """The default recogniser is always there, whatever else the file or the environment says."""
    return {DEFAULT: {}} | recognisers if isinstance(recognisers, dict) else recognisers


Recognisers = Annotated[dict[str, RecogniserSettings], Read(_with_default)]


@dataclass(frozen=True, slots=True)
class FetchSettings(Section):
    """[engine.fetch]: what downloading audio from a caller's URL may cost."""

    ports: Ports = setting(frozenset({80, 443, 8080, 8443, 9000}), "Ports that an audio URL may name.")
    ca_file: CaFile = setting("", "Certificates in PEM that are trusted too, such as a company's own.")
    connect_timeout: float = setting(5.0, "Seconds to connect.", gt=0, le=300)
    total_timeout: float = setting(600.0, "Seconds for a whole download.", gt=0, le=86400)
    redirects: int = setting(5, "Redirects followed; each hop is judged anew.", ge=0, le=20)
    tries: int = setting(3, "Downloads tried before a job fails for want of its audio.", ge=1, le=10)


@dataclass(frozen=True, slots=True)
class DeepgramSettings(Section):
    """[engine.deepgram]: what Deepgram's callers are told."""

    unsupported: Unsupported = setting(
        "warn", "What cannot be done and does no harm when it is missing: warn of it, or refuse it."
    )


@dataclass(frozen=True, slots=True)
class GladiaSettings(Section):
    """[engine.gladia]: what Gladia's receivers are told."""

    event_names: Literal["short", "namespaced"] = setting(
        "short", "success with error codes as words, or transcription.success with numbers."
    )
    unsupported: Unsupported = setting(
        "warn", "What cannot be done and does no harm when it is missing: warn of it, or refuse it."
    )
    keep_live_audio: bool = setting(
        True, "Keep what live sessions hear, for GET /v2/live/{id}/file, as long as retention.audio says."
    )


@dataclass(frozen=True, slots=True)
class QueueSettings(Section):
    """[engine.queue]: how much may wait. Beyond it requests are refused with 429, before their bodies are read."""

    jobs: int = setting(10_000, "Jobs that wait, and callers who wait for a result.", ge=1)
    bytes: int = setting(64 * 1024**3, "Bytes of audio of all unfinished jobs.", ge=1)
    per_key_jobs: int = setting(
        5_000, "The same as jobs, for one API key; `engine keys add --max-queued` sets it for one.", ge=1
    )


@dataclass(frozen=True, slots=True)
class LiveSettings(Section):
    """[engine.live]: speech that is heard while it is spoken."""

    workers: int = setting(1, "Processes that listen, each with recognisers of its own.", ge=1, le=1024)
    sessions: int = setting(
        0, "Live sessions at once, over all of them; 0: as many as keep real time.", ge=0, le=100_000
    )
    capacity_share: float = setting(
        0.85, "How much of the cores' time sessions may be promised; beyond it they are refused.", gt=0, le=100
    )
    key_share: float = setting(
        0.75, "How much of the room for sessions one API key may hold; the first always fits.", gt=0, le=1
    )
    warn_lag_seconds: float = setting(5.0, "How late results are when a caller is warned.", gt=0, le=600)
    max_lag_seconds: float = setting(30.0, "How late they are when a session is ended.", gt=0, le=600)
    max_seconds: float = setting(4 * 3600.0, "How long one session may last.", gt=0)
    idle_seconds: float = setting(
        10.0, "Seconds without audio or KeepAlive that end a session: Deepgram's 10.", gt=0, le=3600
    )
    resume_seconds: float = setting(
        30.0, "The same for Gladia's, whose callers may come back after a broken connection.", gt=0, le=3600
    )
    finish_seconds: float = setting(30.0, "How long the last results may take.", gt=0, le=600)
    max_speed: float = setting(4.0, "How much faster than spoken audio may come.", ge=1, le=1000)
    burst_seconds: float = setting(30.0, "Seconds of audio that may come at once.", gt=0, le=3600)
    max_message_bytes: int = setting(1024 * 1024, "Bytes of one message.", ge=1024, le=64 * 1024**2)
    mirror: bool = setting(
        False, "Show Deepgram's callers what goes to their callbacks, and not only the last message."
    )
    backlog: int = setting(1000, "Messages that may wait for one session's callback.", ge=1)
    liveness_seconds: float = setting(
        10.0, "Silence after which the relay takes this engine for dead, and ends its streams.", ge=1, le=300
    )

    def __post_init__(self) -> None:
        if self.warn_lag_seconds >= self.max_lag_seconds:
            raise ValueError("warn_lag_seconds: must be less than max_lag_seconds, or nobody is warned")


@dataclass(frozen=True, slots=True)
class JobRetentionSettings(Section):
    """[engine.retention]: how long what is finished is kept, in seconds."""

    results: float = setting(3 * DAY, "Transcripts and errors, for GET /v1/requests/{id}.", gt=0)
    jobs: float = setting(30 * DAY, "What is known of finished jobs besides.", gt=0)
    audio: float = setting(DAY, "The audio of finished jobs whose caller may ask for it again.", gt=0)
    uploads: float = setting(DAY, "Audio sent ahead of the jobs that use it.", gt=0)

    def __post_init__(self) -> None:
        if self.results > self.jobs:
            raise ValueError("results: cannot be kept longer than jobs, to which they belong")


def _is_a_bucket(url: str) -> None:
    if url and not _BUCKET.fullmatch(url):
        raise ValueError("expected s3://bucket or s3://bucket/prefix")


def _is_a_server(endpoint: str) -> None:
    if endpoint and not re.fullmatch(r"https?://[^\s/?#@]+/?", endpoint):
        raise ValueError("expected http(s)://host, perhaps with a port, and nothing else")


BucketUrl = Annotated[str, Requirement(_is_a_bucket)]
ServerUrl = Annotated[str, Requirement(_is_a_server)]


@dataclass(frozen=True, slots=True)
class AudioSettings(Section):
    """[engine.audio]: where the audio of unfinished jobs lies, if not in `audio_dir`: where any engine finds it."""

    url: BucketUrl = setting("", "s3://BUCKET/PREFIX; empty: audio_dir.")
    endpoint: ServerUrl = setting("", "The URL of a store that is not AWS's; empty: AWS_ENDPOINT_URL, or AWS.")
    region: str = setting("", "Empty: AWS_REGION.")
    access_key_id: str = setting("", "Empty: AWS_ACCESS_KEY_ID, or a role.")
    secret_access_key: Secret = setting(Secret(""), "Empty: AWS_SECRET_ACCESS_KEY, or a role.")

    def __post_init__(self) -> None:
        if bool(self.access_key_id) != bool(self.secret_access_key):
            raise ValueError("access_key_id: goes with secret_access_key; give both, or neither")

    def store(self, folder: Path) -> AudioStore:
        """What `url` names; `folder` is what it stands beside. Raises ConfigError where an extra is missing."""
        named = _BUCKET.fullmatch(self.url)
        if named is None:
            from engine.jobs.folder import AudioFolder  # it loads what daemons need, for which a command need not wait

            return AudioFolder(folder)
        try:
            from engine.jobs.bucket import AudioBucket, BucketLocation
        except ImportError as error:
            raise ConfigError("engine.audio.url: S3 needs an extra: pip install 'outspoken[s3]'") from error
        secret = self.secret_access_key.value
        location = BucketLocation(
            named["bucket"], named["prefix"] or "", self.endpoint, self.region, self.access_key_id, secret
        )
        return AudioBucket(location, folder / "incoming")


@dataclass(frozen=True, slots=True)
class EngineSection(Section):
    """[engine]: the speech-to-text server."""

    host: str = setting("127.0.0.1", "Where requests are taken; elsewhere than loopback needs an API key.")
    port: int = setting(8004, "0 takes any free port, which the log names.", ge=0, le=65535)
    audio_dir: Path = setting(Path("var/audio"), "Where audio lies, or passes through on its way to [engine.audio].")
    workers: int = setting(2, "How many pieces of audio are transcribed at once.", ge=1, le=1024)
    models_dir: Path = setting(Path("var/models"), "Where models pulled from the hub lie.")
    models_idle_seconds: float = setting(
        900.0, "Seconds without work after which a recogniser is unloaded.", gt=0, le=365 * 86400
    )
    models_memory_bytes: int = setting(
        8 * 1024**3, "Bytes that all loaded recognisers may take together, live sessions' included.", ge=1
    )
    preload: list[str] = setting(
        [DEFAULT],
        "Recognisers that are loaded and measured at start, and stay unless others need their memory. "
        "Without any, worker processes are started by what comes first.",
    )
    max_upload_bytes: int = setting(2 * 1024**3, "Bytes of audio in one request, sent or fetched.", ge=1)
    max_audio_seconds: float = setting(4 * 3600.0, "Seconds of audio in one request.", gt=0)
    max_work_seconds: float = setting(6 * 3600.0, "Seconds that one recognition may take.", gt=0)
    head_seconds: float = setting(
        30.0, "Seconds for the head of a request, and without one on an idle connection.", gt=0, le=3600
    )
    upload_stall_seconds: float = setting(60.0, "Silence after which an upload is given up.", gt=0, le=3600)
    keep_alive_seconds: float = setting(
        5.0, "Silence before, and between, the spaces sent to a caller who waits.", gt=0, le=3600
    )
    lease_seconds: float = setting(60.0, "How long a dead engine's jobs stay taken.", gt=0, le=3600)
    drain_seconds: float = setting(
        30.0, "How long SIGTERM waits for jobs, and then for requests, under way.", ge=0, le=3600
    )
    default_model: str = setting("general", "The model of a request that names none.")
    recognisers: Recognisers = setting({DEFAULT: RecogniserSettings()}, "The recognisers that there are, by name.")
    models: dict[str, str] = setting(
        {}, "Names that callers may use for a model, each with the recogniser that answers to it."
    )
    audio: AudioSettings = AudioSettings()
    fetch: FetchSettings = FetchSettings()
    queue: QueueSettings = QueueSettings()
    live: LiveSettings = LiveSettings()
    retention: JobRetentionSettings = JobRetentionSettings()
    deepgram: DeepgramSettings = DeepgramSettings()
    gladia: GladiaSettings = GladiaSettings()
    log: LogSettings = LogSettings()
    traces: TraceSettings = TraceSettings()

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def specs(self) -> dict[str, Spec]:
        """Every recogniser, by name. Raises ConfigError for a model that is not on this machine, naming the key."""
        specs, voices = {}, self._voices()
        for name, recogniser in self.recognisers.items():
            try:
                specs[name] = recogniser.spec(self.models_dir, self.workers, self.models_memory_bytes, voices)
            except files.ModelUnusable as error:
                raise ConfigError(f"engine.recognisers.{name}.model: {error}") from None
        return specs

    def catalogue(self, specs: Mapping[str, Spec]) -> Catalogue:
        """What callers may ask for. Raises ConfigError as `specs` does."""
        try:
            able = {name: abilities(spec) for name, spec in specs.items()}
        except files.ModelUnusable as error:
            raise ConfigError(f"engine.recognisers: {error}") from None
        own, speakers = frozenset({*self.recognisers, *self.models}), any(spec.voices for spec in specs.values())
        return Catalogue(self.aliases, able, self.default_model, own, speakers)

    def _voices(self) -> str:
        """The file of the voice encoder; empty where it was not pulled. Raises ConfigError for one that is damaged."""
        folder = self.models_dir / SPEAKERS
        if not folder.is_dir():
            return ""
        try:
            integrity.check(files.files_in(folder, SPEAKERS, files.Origin.MODELS_DIR))
        except files.ModelUnusable as error:
            raise ConfigError(f"engine.models_dir: {error}") from None
        return str(folder / ENCODER)

    @property
    def aliases(self) -> dict[str, str]:
        """Every name that callers may use, with its recogniser: the vendors' names lead to the default recogniser, each
        recogniser answers to its own name, and [engine.models] is laid over both."""
        return dict.fromkeys(_ALIASES, DEFAULT) | {name: name for name in self.recognisers} | self.models

    def __post_init__(self) -> None:
        self._require_recognisers()
        if self.queue.bytes < self.max_upload_bytes:
            raise ValueError("queue.bytes: must be at least max_upload_bytes, or the largest upload never gets in")
        if self.default_model not in self.aliases:
            raise ValueError(
                f"default_model: {self.default_model!r} is no model's name; there are {', '.join(self.aliases)}"
            )

    def _require_recognisers(self) -> None:
        known = ", ".join(sorted(self.recognisers))
        for name, recogniser in self.models.items():
            if recogniser not in self.recognisers:
                raise ValueError(f"engine.models.{name}: {recogniser!r} is no recogniser; there are {known}")
        if unknown := sorted(set(self.preload) - set(self.recognisers)):
            raise ValueError(f"preload: {unknown[0]!r} is no recogniser; there are {known}")


@dataclass(frozen=True, slots=True)
class EngineSettings(Section):
    """The sections of the file that the engine reads."""

    outbox: OutboxSettings = OutboxSettings()
    engine: EngineSection = EngineSection()


def read(path: Path | None, environ: Mapping[str, str]) -> EngineSettings:
    """The settings from file and environment. Raises ConfigError, which names the key and the remedy."""
    return load(EngineSettings, path, environ, OTHER_SECTIONS)
