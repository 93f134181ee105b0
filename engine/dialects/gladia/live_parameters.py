"""Every field of the body that begins a live session, and what this engine does with it, as for recordings."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from engine.dialects.catalogue import ByteRate, Catalogue, RawReader
from engine.dialects.gladia.errors import GladiaProblem, invalid
from engine.dialects.gladia.fields import Fields
from engine.dialects.gladia.phrases import Phrases
from engine.dialects.gladia.recorded_parameters import (
    MAX_URL,
    REFUSED,
    UNSUPPORTED,
    GladiaOptions,
    GladiaReader,
    custom_metadata,
)
from engine.dialects.live import LiveRequest
from engine.dialects.warnings import Unsupported, warning
from engine.events import LiveOptions
from engine.request import Callback, RawFormat, Request

LIVE = "gladia-live"
"""The dialect of a live session's record. Lists of recordings leave it out."""

ENDPOINTING = 0.05
"""Seconds of silence that end an utterance, unless `endpointing` says otherwise."""

# What is sent where nothing else is asked for, by the vendor's documentation.
MESSAGES = {
    "receive_partial_transcripts": False,
    "receive_final_transcripts": True,
    "receive_speech_events": True,
    "receive_pre_processing_events": True,
    "receive_realtime_processing_events": True,
    "receive_post_processing_events": True,
    "receive_acknowledgments": True,
    "receive_errors": True,
    "receive_lifecycle_events": False,
}
CALLBACK_MESSAGES = MESSAGES | {
    "receive_speech_events": False,
    "receive_acknowledgments": False,
    "receive_errors": False,
    "receive_lifecycle_events": True,
}

_KNOWN = (
    *("encoding", "bit_depth", "sample_rate", "channels", "custom_metadata", "model", "endpointing"),
    *("maximum_duration_without_endpointing", "language_config", "pre_processing", "realtime_processing"),
    *("post_processing", "messages_config", "callback", "callback_config"),
)
_COMPANDED = {"wav/alaw": "alaw", "wav/ulaw": "mulaw"}
_ENCODINGS = ("wav/pcm", *_COMPANDED)
_RATES = (8000, 16000, 32000, 44100, 48000)
_DEPTHS = (8, 16, 24, 32)
_MOST_CHANNELS = 8

_ONE_REGION = "Not read: this server is the only region that it has."
_NO_QUERY = "This server does not know this parameter; what a session is to be stands in the body."

Integers = Callable[[int, int, int], RawFormat]
"""Bits of a sample, sample rate and channels to the format of such PCM."""


class GladiaLiveOptions(GladiaOptions, total=False):
    """What rendering needs to know of a live session: besides the rest, who gets which messages."""

    messages: dict[str, bool]
    callback_messages: dict[str, bool]


def parse_live(
    body: object,
    *,
    request_id: str,
    catalogue: Catalogue,
    raw_format: RawReader,
    integers: Integers,
    byte_rate: ByteRate,
    key_id: str | None = None,
    traceparent: str | None = None,
    unsupported: Unsupported = "warn",
    keeps_audio: bool = False,
    query: Collection[str] = (),
) -> LiveRequest | GladiaProblem:
    """The session that a decoded JSON body asks for, or everything that is wrong with it. URLs are not judged here.

    `unsupported` is as for recordings; `keeps_audio` says whether the audio stays when the session is over. `query` are
    the names of the parameters beside the body.
    """
    if not isinstance(body, dict):
        return GladiaProblem(400, 'The body is not a JSON object. Send {"encoding": "wav/pcm", "sample_rate": 16000}.')
    fields = Fields(body)
    reader = _LiveReader(fields, catalogue, unsupported, query)
    raw = reader.raw(raw_format, integers)
    request = replace(reader.request(request_id, key_id, traceparent, raw), keeps_audio=keeps_audio)
    options = LiveOptions(
        language=request.language,
        languages=request.languages,
        hotwords=request.hotwords,
        multichannel=True,
        raw=raw,
        interim=any(wish["receive_partial_transcripts"] for wish in reader.wishes),
        endpointing=reader.endpointing,
        vad_events=any(wish["receive_speech_events"] for wish in reader.wishes),
    )
    return invalid(*fields.flaws) if fields.flaws else LiveRequest(request, options, byte_rate(raw))


class _LiveReader(GladiaReader):
    """Reads one body."""

    def __init__(self, fields: Fields, catalogue: Catalogue, unsupported: Unsupported, query: Collection[str]) -> None:
        super().__init__(fields, catalogue, unsupported)
        for name in query:
            kind, why = ("unused", _ONE_REGION) if name == "region" else ("unknown", _NO_QUERY)
            self._warnings.append(warning(name, kind, why))
        self._callback = _callback(fields)
        self._messages = _wishes(fields.inner("messages_config"), MESSAGES)
        self._callback_messages = _wishes(fields.inner("callback_config"), CALLBACK_MESSAGES, "url")
        endpointing = fields.number("endpointing", 0.01, 10)
        self.endpointing = ENDPOINTING if endpointing is None else endpointing

    @property
    def wishes(self) -> list[dict[str, bool]]:
        """What each of those who listen wants to hear."""
        return [self._messages, *([self._callback_messages] if self._callback else [])]

    def raw(self, raw_format: RawReader, integers: Integers) -> RawFormat | None:
        """The audio's format; of flawed fields that of their defaults."""
        fields = self._fields
        encoding = fields.choice("encoding", _ENCODINGS) or "wav/pcm"
        depth = _one_of(fields, "bit_depth", _DEPTHS) or 16
        rate = _one_of(fields, "sample_rate", _RATES) or 16000
        channels = fields.whole("channels", 1, _MOST_CHANNELS) or 1
        self._params |= {"encoding": encoding, "bit_depth": depth, "sample_rate": rate, "channels": channels}
        if encoding == "wav/pcm":
            return integers(depth, rate, channels)
        return raw_format(_COMPANDED[encoding], rate, channels)

    def request(self, request_id: str, key_id: str | None, traceparent: str | None, raw: RawFormat | None) -> Request:
        """The request; what the callback is sent is in its options."""
        languages = self._languages()
        self._unsupported("code_switching", self._switching)
        spoken = self._processing()
        return Request(
            id=request_id,
            dialect=LIVE,
            model=self._model,
            recogniser=self._recogniser,
            language=languages[0] if len(languages) == 1 else None,
            languages=languages if len(languages) > 1 else (),
            multichannel=True,
            raw=raw,
            hotwords=spoken.listen,
            callback=self._callback,
            key_id=key_id,
            traceparent=traceparent,
            options=dict(self._options(spoken.replace)),
            warnings=tuple(self._warnings),
        )

    def _processing(self) -> Phrases:
        """What is done to the audio, to the words as they are heard, and to all of them."""
        fields = self._fields
        fields.only(*_KNOWN)
        self._unread(fields, "callback")
        before, meanwhile, after = (fields.inner(f"{name}_processing") for name in ("pre", "realtime", "post"))
        before.only("audio_enhancer", "speech_threshold")
        self._unsupported("audio_enhancer", before.flag("audio_enhancer"))
        self._unsupported("speech_threshold", before.number("speech_threshold", 0, 1) is not None)
        longest = fields.number("maximum_duration_without_endpointing", 0.1)
        self._unsupported("maximum_duration_without_endpointing", longest is not None)
        self._switches(meanwhile, "custom_vocabulary", "custom_spelling", *REFUSED, *UNSUPPORTED)
        self._switches(after, "summarization", "chapterization")
        spoken = self._phrases(meanwhile)
        self._params["realtime_processing"] = spoken.params | _asked_in_vain(meanwhile)
        if vain := _asked_in_vain(after):
            self._params["post_processing"] = vain
        return spoken

    def _switches(self, processing: Fields, *switches: str) -> None:
        self._refuse(processing)
        self._unread(processing, *switches)
        processing.only(*switches, *(f"{name}_config" for name in switches))

    def _options(self, replace: list[list[str]]) -> GladiaLiveOptions:
        params: dict[str, Any] = self._params | {
            "model": self._model,
            "endpointing": self.endpointing,
            "messages_config": self._messages,
            "callback": self._callback is not None,
        }
        options = GladiaLiveOptions(params=params, messages=self._messages)
        if self._callback:
            options["callback_messages"] = self._callback_messages
        if metadata := custom_metadata(self._fields):
            options["custom_metadata"] = metadata
        if replace:
            options["replace"] = replace
        if self._missing:
            options["missing"] = self._missing
        return options


def _asked_in_vain(fields: Fields) -> dict[str, bool]:
    return {name: True for name in UNSUPPORTED if fields.raw(name) is True}


def _callback(fields: Fields) -> Callback | None:
    if not fields.flag("callback"):
        return None
    config = fields.inner("callback_config")
    url = config.text("url", MAX_URL)
    if url is None:
        config.flaw("url", "be a URL address where callback is true")
    return Callback(url or "")


def _wishes(config: Fields, defaults: dict[str, bool], *others: str) -> dict[str, bool]:
    config.only(*defaults, *others)
    return {name: config.flag(name) if name in config else wanted for name, wanted in defaults.items()}


def _one_of(fields: Fields, name: str, allowed: tuple[int, ...]) -> int | None:
    value = fields.whole(name, allowed[0], allowed[-1])
    if value is not None and value not in allowed:
        fields.flaw(name, f"be one of {', '.join(map(str, allowed))}")
        return None
    return value
