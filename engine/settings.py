"""The engine's settings: what stands in the configuration file, and nothing that reaches a room as a whole."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

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
from relay.service.settings import CaFile, LogSettings, OutboxSettings, Ports, Section, TraceSettings, usable_cores

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


class RecogniserSettings(Section):
    """[engine.recognisers.NAME]: one Whisper model, and how it is run."""

    model: str = Field("tiny.en", description="A name such as large-v3, ORGANISATION/NAME, or a directory.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA where there is a device.")
    compute_type: ComputeType = Field(
        "auto", description="The numbers it computes with; auto: int8 on a processor, float16 on CUDA."
    )
    threads: int = Field(0, ge=0, le=1024, description="Processor threads of each worker; 0: its share of the cores.")
    batch_size: int = Field(0, ge=0, le=256, description="Windows heard at once; 0: up to 8, as memory allows.")
    beam_size: int = Field(5, ge=1, le=32, description="Hypotheses followed; 1 is quicker and errs more.")
    prompt: str = Field("", max_length=400, description="Text in the style that is wanted, as if it had been heard.")
    memory_bytes: int = Field(0, ge=0, description="What it takes at its peak; 0: judged by its size on disk.")

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


class FetchSettings(Section):
    """[engine.fetch]: what downloading audio from a caller's URL may cost."""

    ports: Ports = Field(frozenset({80, 443, 8080, 8443, 9000}), description="Ports that an audio URL may name.")
    ca_file: CaFile = Field("", description="Certificates in PEM that are trusted too, such as a company's own.")
    connect_timeout: float = Field(5.0, gt=0, le=300, description="Seconds to connect.")
    total_timeout: float = Field(600.0, gt=0, le=86400, description="Seconds for a whole download.")
    redirects: int = Field(5, ge=0, le=20, description="Redirects followed; each hop is judged anew.")
    tries: int = Field(3, ge=1, le=10, description="Downloads tried before a job fails for want of its audio.")


class DeepgramSettings(Section):
    """[engine.deepgram]: what Deepgram's callers are told."""

    unsupported: Unsupported = Field(
        "warn", description="What cannot be done and does no harm when it is missing: warn of it, or refuse it."
    )


class GladiaSettings(Section):
    """[engine.gladia]: what Gladia's receivers are told."""

    event_names: Literal["short", "namespaced"] = Field(
        "short", description="success with error codes as words, or transcription.success with numbers."
    )
    unsupported: Unsupported = Field(
        "warn", description="What cannot be done and does no harm when it is missing: warn of it, or refuse it."
    )
    keep_live_audio: bool = Field(
        True, description="Keep what live sessions hear, for GET /v2/live/{id}/file, as long as retention.audio says."
    )


class QueueSettings(Section):
    """[engine.queue]: how much may wait. Beyond it requests are refused with 429, before their bodies are read."""

    jobs: int = Field(10_000, ge=1, description="Jobs that wait, and callers who wait for a result.")
    bytes: int = Field(64 * 1024**3, ge=1, description="Bytes of audio of all unfinished jobs.")
    per_key_jobs: int = Field(
        5_000, ge=1, description="The same as jobs, for one API key; `engine keys add --max-queued` sets it for one."
    )


class LiveSettings(Section):
    """[engine.live]: speech that is heard while it is spoken."""

    workers: int = Field(1, ge=1, le=1024, description="Processes that listen, each with recognisers of its own.")
    sessions: int = Field(
        0, ge=0, le=100_000, description="Live sessions at once, over all of them; 0: as many as keep real time."
    )
    capacity_share: float = Field(
        0.85,
        gt=0,
        le=100,
        description="How much of the cores' time sessions may be promised; beyond it they are refused.",
    )
    key_share: float = Field(
        0.75, gt=0, le=1, description="How much of the room for sessions one API key may hold; the first always fits."
    )
    warn_lag_seconds: float = Field(5.0, gt=0, le=600, description="How late results are when a caller is warned.")
    max_lag_seconds: float = Field(30.0, gt=0, le=600, description="How late they are when a session is ended.")
    max_seconds: float = Field(4 * 3600.0, gt=0, description="How long one session may last.")
    idle_seconds: float = Field(
        10.0, gt=0, le=3600, description="Seconds without audio or KeepAlive that end a session: Deepgram's 10."
    )
    resume_seconds: float = Field(
        30.0, gt=0, le=3600, description="The same for Gladia's, whose callers may come back after a broken connection."
    )
    finish_seconds: float = Field(30.0, gt=0, le=600, description="How long the last results may take.")
    max_speed: float = Field(4.0, ge=1, le=1000, description="How much faster than spoken audio may come.")
    burst_seconds: float = Field(30.0, gt=0, le=3600, description="Seconds of audio that may come at once.")
    max_message_bytes: int = Field(1024 * 1024, ge=1024, le=64 * 1024**2, description="Bytes of one message.")
    mirror: bool = Field(
        False, description="Show Deepgram's callers what goes to their callbacks, and not only the last message."
    )
    backlog: int = Field(1000, ge=1, description="Messages that may wait for one session's callback.")
    liveness_seconds: float = Field(
        10.0,
        ge=1,
        le=300,
        description="Silence after which the relay takes this engine for dead, and ends its streams.",
    )

    @model_validator(mode="after")
    def _a_warning_comes_before_the_end(self) -> Self:
        if self.warn_lag_seconds >= self.max_lag_seconds:
            raise ValueError("warn_lag_seconds: must be less than max_lag_seconds, or nobody is warned")
        return self


class JobRetentionSettings(Section):
    """[engine.retention]: how long what is finished is kept, in seconds."""

    results: float = Field(3 * DAY, gt=0, description="Transcripts and errors, for GET /v1/requests/{id}.")
    jobs: float = Field(30 * DAY, gt=0, description="What is known of finished jobs besides.")
    audio: float = Field(DAY, gt=0, description="The audio of finished jobs whose caller may ask for it again.")
    uploads: float = Field(DAY, gt=0, description="Audio sent ahead of the jobs that use it.")

    @model_validator(mode="after")
    def _a_result_belongs_to_a_job(self) -> Self:
        if self.results > self.jobs:
            raise ValueError("results: cannot be kept longer than jobs, to which they belong")
        return self


class AudioSettings(Section):
    """[engine.audio]: where the audio of unfinished jobs lies, if not in `audio_dir`: where any engine finds it."""

    url: str = Field("", description="s3://BUCKET/PREFIX; empty: audio_dir.")
    endpoint: str = Field("", description="The URL of a store that is not AWS's; empty: AWS_ENDPOINT_URL, or AWS.")
    region: str = Field("", description="Empty: AWS_REGION.")
    access_key_id: str = Field("", description="Empty: AWS_ACCESS_KEY_ID, or a role.")
    secret_access_key: SecretStr = Field(SecretStr(""), description="Empty: AWS_SECRET_ACCESS_KEY, or a role.")

    @field_validator("url")
    @classmethod
    def _is_a_bucket(cls, url: str) -> str:
        if url and not _BUCKET.fullmatch(url):
            raise ValueError("expected s3://bucket or s3://bucket/prefix")
        return url

    @field_validator("endpoint")
    @classmethod
    def _is_a_server(cls, endpoint: str) -> str:
        if endpoint and not re.fullmatch(r"https?://[^\s/?#@]+/?", endpoint):
            raise ValueError("expected http(s)://host, perhaps with a port, and nothing else")
        return endpoint

    @model_validator(mode="after")
    def _both_halves(self) -> Self:
        if bool(self.access_key_id) != bool(self.secret_access_key.get_secret_value()):
            raise ValueError("access_key_id: goes with secret_access_key; give both, or neither")
        return self

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
        secret = self.secret_access_key.get_secret_value()
        location = BucketLocation(
            named["bucket"], named["prefix"] or "", self.endpoint, self.region, self.access_key_id, secret
        )
        return AudioBucket(location, folder / "incoming")


class EngineSection(Section):
    """[engine]: the speech-to-text server."""

    host: str = Field("127.0.0.1", description="Where requests are taken; elsewhere than loopback needs an API key.")
    port: int = Field(8004, ge=0, le=65535, description="0 takes any free port, which the log names.")
    audio_dir: Path = Field(
        Path("var/audio"), description="Where audio lies, or passes through on its way to [engine.audio]."
    )
    workers: int = Field(2, ge=1, le=1024, description="How many pieces of audio are transcribed at once.")
    models_dir: Path = Field(Path("var/models"), description="Where models pulled from the hub lie.")
    models_idle_seconds: float = Field(
        900.0, gt=0, le=365 * 86400, description="Seconds without work after which a recogniser is unloaded."
    )
    models_memory_bytes: int = Field(
        8 * 1024**3, ge=1, description="Bytes that all loaded recognisers may take together, live sessions' included."
    )
    preload: list[str] = Field(
        [DEFAULT],
        description="Recognisers that are loaded and measured at start, and stay unless others need their memory. "
        "Without any, worker processes are started by what comes first.",
    )
    max_upload_bytes: int = Field(2 * 1024**3, ge=1, description="Bytes of audio in one request, sent or fetched.")
    max_audio_seconds: float = Field(4 * 3600.0, gt=0, description="Seconds of audio in one request.")
    max_work_seconds: float = Field(6 * 3600.0, gt=0, description="Seconds that one recognition may take.")
    head_seconds: float = Field(
        30.0, gt=0, le=3600, description="Seconds for the head of a request, and without one on an idle connection."
    )
    upload_stall_seconds: float = Field(60.0, gt=0, le=3600, description="Silence after which an upload is given up.")
    keep_alive_seconds: float = Field(
        5.0, gt=0, le=3600, description="Silence before, and between, the spaces sent to a caller who waits."
    )
    lease_seconds: float = Field(60.0, gt=0, le=3600, description="How long a dead engine's jobs stay taken.")
    drain_seconds: float = Field(
        30.0, ge=0, le=3600, description="How long SIGTERM waits for jobs, and then for requests, under way."
    )
    default_model: str = Field("general", description="The model of a request that names none.")
    recognisers: Annotated[dict[str, RecogniserSettings], BeforeValidator(_with_default)] = Field(
        {DEFAULT: RecogniserSettings()}, description="The recognisers that there are, by name."
    )
    models: dict[str, str] = Field(
        {}, description="Names that callers may use for a model, each with the recogniser that answers to it."
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

    @model_validator(mode="after")
    def _models_have_recognisers(self) -> Self:
        for name, recogniser in self.models.items():
            if recogniser not in self.recognisers:
                known = ", ".join(sorted(self.recognisers))
                raise ValueError(f"engine.models.{name}: {recogniser!r} is no recogniser; there are {known}")
        return self

    @model_validator(mode="after")
    def _preloaded_are_recognisers(self) -> Self:
        if unknown := sorted(set(self.preload) - set(self.recognisers)):
            known = ", ".join(sorted(self.recognisers))
            raise ValueError(f"preload: {unknown[0]!r} is no recogniser; there are {known}")
        return self

    @model_validator(mode="after")
    def _the_largest_upload_has_room(self) -> Self:
        if self.queue.bytes < self.max_upload_bytes:
            raise ValueError("queue.bytes: must be at least max_upload_bytes, or the largest upload never gets in")
        return self

    @model_validator(mode="after")
    def _default_exists(self) -> Self:
        if self.default_model not in self.aliases:
            raise ValueError(
                f"default_model: {self.default_model!r} is no model's name; there are {', '.join(self.aliases)}"
            )
        return self


class EngineSettings(Section):
    """The sections of the file that the engine reads."""

    outbox: OutboxSettings = OutboxSettings()
    engine: EngineSection = EngineSection()


def read(path: Path | None, environ: Mapping[str, str]) -> EngineSettings:
    """The settings from file and environment. Raises ConfigError, which names the key and the remedy."""
    return load(EngineSettings, path, environ, OTHER_SECTIONS)
