"""Every field of the body that asks for a transcription, and what this engine does with it.

A field is honoured, or accepted with a warning in the result's `metadata.warnings`, or refused by name; none is ignored
in silence. Refused is what protects somebody, or would be missed: text that was to be redacted, and speakers where
nothing is there to tell them apart. Whatever else cannot be done is a warning, and in its place of the result stands
the vendor's own error of an add-on, unless an operator has it refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import orjson

from engine.dialects.catalogue import Abilities, Catalogue
from engine.dialects.gladia.errors import GladiaProblem, invalid
from engine.dialects.gladia.fields import Fields
from engine.dialects.gladia.phrases import Phrases, phrases
from engine.dialects.gladia.uploads import UploadedFile
from engine.dialects.subtitles import DEFAULT
from engine.dialects.warnings import NO_SPEAKERS, Unsupported, warning
from engine.request import MOST_SPEAKERS, Callback, Request, SpeakerBounds

RECORDED = "gladia"
"""The dialect of requests for recordings, and of their records."""

MAX_METADATA = 2000
"""Characters of `custom_metadata` as JSON: Gladia's limit."""

_MAX_DEPTH = 32
MAX_URL = 64 * 1024
"""Characters of a URL, which the guard judges."""

REFUSED = {
    "pii_redaction": "redact personal data",
    "moderation": "moderate",
}
"""What nobody gets, and how a refusal says so."""

UNSUPPORTED = {
    "translation": "translate",
    "summarization": "summarise",
    "named_entity_recognition": "recognise named entities",
    "sentiment_analysis": "analyse sentiments",
    "audio_to_llm": "put prompts to a language model",
    "chapterization": "find chapters",
    "name_consistency": "make names consistent",
    "structured_data_extraction": "extract structured data",
    "display_mode": "reorder utterances",
}
"""What cannot be done and does no harm when it is missing: add-ons, each with a place of its own in a result."""

_OFF: tuple[object, ...] = (None, False, "", [], {})
_SWITCHED = ("callback", "subtitles", "diarization", "custom_vocabulary", "custom_spelling", *REFUSED, *UNSUPPORTED)
_KNOWN = (
    *("audio_url", "custom_metadata", "language_config", "model", "sentences", "punctuation_enhanced"),
    # What these fields were called before; word times always come.
    *("callback_url", "language", "detect_language", "enable_code_switching", "code_switching_config"),
    *("accurate_words_timestamps", "words_accurate_timestamps", "context_prompt"),
    *_SWITCHED,
    *(f"{name}_config" for name in _SWITCHED),
)
_BOUNDS = ("number_of_speakers", "min_speakers", "max_speakers")
_OTHER_CODES = {"jp": "ja", "mymr": "my", "jv": "jw"}


class Subtitles(TypedDict):
    """Which subtitles, and how much one caption holds."""

    formats: list[str]
    characters: int
    rows: int
    shortest: float
    longest: float


class GladiaOptions(TypedDict, total=False):
    """What rendering needs to know, as the JSON object in `Request.options`; a key is there only when asked for.

    `params` is what the caller asked for, to be shown again; URLs, which may hold secrets, stay in the request.
    `missing` are add-ons that were asked for in vain. `file` and `audio_url` are there where the audio is an earlier
    upload.
    """

    params: dict[str, Any]
    custom_metadata: dict[str, Any]
    event_names: str
    replace: list[list[str]]
    missing: list[str]
    sentences: bool
    subtitles: Subtitles
    file: UploadedFile
    audio_url: str


def parse(
    body: object,
    *,
    request_id: str,
    catalogue: Catalogue,
    key_id: str | None = None,
    traceparent: str | None = None,
    event_names: str = "short",
    unsupported: Unsupported = "warn",
) -> Request | GladiaProblem:
    """The request that a decoded JSON body makes, or everything that is wrong with it. URLs are not judged here.

    `event_names` is how callback events are named: `short` is `success`, with error codes as words; `namespaced` is
    `transcription.success`, with numbers. `unsupported` is what becomes of fields that cannot be honoured and do no
    harm when they are missing.
    """
    if not isinstance(body, dict):
        return GladiaProblem(400, 'The body is not a JSON object. Send {"audio_url": "https://..."}.')
    fields = Fields(body)
    request = _RecordedReader(fields, catalogue, unsupported).request(request_id, key_id, traceparent, event_names)
    return invalid(*fields.flaws) if fields.flaws else request


class GladiaReader:
    """Reads what every body has. Flaws are noted on the way; with any of them, what it makes is worth nothing."""

    def __init__(self, fields: Fields, catalogue: Catalogue, unsupported: Unsupported) -> None:
        self._fields = fields
        self._catalogue = catalogue
        self._policy = unsupported
        self._model, self._recogniser = _model(fields, catalogue)
        self._abilities: Abilities = catalogue.recognisers[self._recogniser]
        self._switching = False
        self._params: dict[str, Any] = {}
        self._missing: list[str] = []
        self._warnings: list[Mapping[str, str]] = []

    def _languages(self) -> tuple[str, ...]:
        config = self._fields.inner("language_config")
        config.only("languages", "code_switching")
        codes = config.texts("languages") or _old_languages(self._fields)
        languages = tuple(dict.fromkeys(_code(code, self._abilities.languages) for code in codes))
        switching = config.flag("code_switching") or self._fields.flag("enable_code_switching")
        wanted = (*languages, "multi") if self._detects(languages, switching) else languages
        if vain := next((code for code in wanted if not self._abilities.knows(code)), None):
            known = ", ".join(sorted(self._abilities.languages))
            config.flaw("languages", f"be of those that the model knows: {known}. {self._catalogue.instead(vain)}")
        self._params["language_config"] = {"languages": list(languages), "code_switching": switching}
        self._switching = switching and len(languages) != 1
        return languages

    def _detects(self, languages: Sequence[str], switching: bool) -> bool:
        """Whether the caller says that the language is not known. To say nothing at all is no such thing: then a model
        of one language hears that."""
        return len(languages) > 1 or switching or self._fields.flag("detect_language")

    def _phrases(self, fields: Fields) -> Phrases:
        spoken = phrases(fields)
        self._unsupported("intensity", spoken.weighed)
        return spoken

    def _refuse(self, fields: Fields) -> None:
        for name, ability in REFUSED.items():
            if fields.raw(name) not in _OFF:
                fields.flaw(name, f"be left out: this server does not {ability}")
        for name, ability in UNSUPPORTED.items():
            if fields.raw(name) in _OFF:
                continue
            if self._policy == "refuse":
                fields.flaw(name, f"be left out: this server does not {ability}")
            self._missing.append(name)
            self._warnings.append(warning(name, "unsupported", f"This server does not {ability}."))

    def _unread(self, fields: Fields, *switches: str) -> None:
        """What configures something that is not switched on; a switch that is set to false says enough."""
        for name in switches:
            if f"{name}_config" in fields and name not in fields:
                why = f"Not read, because {name} is not true."
                self._warnings.append(warning(f"{name}_config", "unused", why))

    def _unsupported(self, name: str, asked: bool) -> None:
        if asked:
            self._warnings.append(warning(name, "unsupported", "Accepted, but this server cannot do it."))


class _RecordedReader(GladiaReader):
    """Reads a body that asks for the transcription of a recording."""

    def request(self, request_id: str, key_id: str | None, traceparent: str | None, event_names: str) -> Request:
        self._judge()
        languages = self._languages()
        spoken = self._phrases(self._fields)
        self._params |= spoken.params
        options = self._options(event_names, spoken.replace)
        return Request(
            id=request_id,
            dialect=RECORDED,
            model=self._model,
            recogniser=self._recogniser,
            language=languages[0] if len(languages) == 1 else None,
            languages=languages if len(languages) > 1 else (),
            code_switching=self._switching,
            # Gladia transcribes every channel that says something of its own.
            multichannel=True,
            speakers=self._speakers(),
            hotwords=spoken.listen,
            prompt=self._fields.text("context_prompt") or "",
            callback=_callback(self._fields),
            key_id=key_id,
            traceparent=traceparent,
            audio_url=_audio_url(self._fields),
            options=dict(options),
            warnings=tuple(self._warnings),
            keeps_audio=True,
        )

    def _speakers(self) -> SpeakerBounds | None:
        if not self._fields.flag("diarization"):
            return None
        if not self._catalogue.speakers:
            self._fields.flaw("diarization", f"be left out: this server does not offer {NO_SPEAKERS}")
        bounds, config = _bounds(self._fields.inner("diarization_config"))
        self._params |= {"diarization": True, "diarization_config": config}
        return bounds

    def _judge(self) -> None:
        fields = self._fields
        self._refuse(fields)
        self._unread(fields, *_SWITCHED)
        fields.only(*_KNOWN)
        if fields.flag("punctuation_enhanced"):
            why = "The recogniser punctuates as it does; nothing more is done to that."
            self._warnings.append(warning("punctuation_enhanced", "partly_supported", why))
        for name in ("accurate_words_timestamps", "words_accurate_timestamps"):
            fields.flag(name)

    def _options(self, event_names: str, replace: list[list[str]]) -> GladiaOptions:
        fields = self._fields
        options = GladiaOptions(event_names=event_names, params=self._params)
        if metadata := custom_metadata(fields):
            options["custom_metadata"] = metadata
        if replace:
            options["replace"] = replace
        if self._missing:
            options["missing"] = self._missing
            self._params |= dict.fromkeys(self._missing, True)
        if fields.flag("sentences"):
            options["sentences"] = self._params["sentences"] = True
        if fields.flag("subtitles"):
            options["subtitles"] = self._subtitles(fields.inner("subtitles_config"))
        if fields.flag("punctuation_enhanced"):
            self._params["punctuation_enhanced"] = True
        return options

    def _subtitles(self, config: Fields) -> Subtitles:
        subtitles, style = _subtitles(config)
        self._params["subtitles"] = True
        self._params["subtitles_config"] = {
            "formats": subtitles["formats"],
            "minimum_duration": subtitles["shortest"],
            "maximum_duration": subtitles["longest"],
            "maximum_characters_per_row": subtitles["characters"],
            "maximum_rows_per_caption": subtitles["rows"],
            "style": style,
        }
        return subtitles


def _model(fields: Fields, catalogue: Catalogue) -> tuple[str, str]:
    name = fields.text("model") or catalogue.default
    if name not in catalogue.models:
        fields.flaw("model", f"be one of {catalogue.choice()}")
        name = catalogue.default
    return name, catalogue.models[name]


def _audio_url(fields: Fields) -> str | None:
    if "audio_url" not in fields:
        fields.flaw("audio_url", "be a URL address")
    return fields.text("audio_url", MAX_URL)


def _code(code: str, known: frozenset[str]) -> str:
    """A language code as the recognisers know it, where Gladia has another."""
    lower = code.lower()
    return lower if lower in known else _OTHER_CODES.get(lower, lower)


def _old_languages(fields: Fields) -> list[str]:
    """The languages as they were sent before `language_config` came."""
    language = fields.text("language")
    return [language] if language else fields.inner("code_switching_config").texts("languages")


def _callback(fields: Fields) -> Callback | None:
    wanted, old = fields.flag("callback"), fields.text("callback_url", MAX_URL)
    config = fields.inner("callback_config")
    if not wanted:
        return Callback(old) if old else None
    config.only("url", "method")
    url = config.text("url", MAX_URL) or old
    if url is None:
        config.flaw("url", "be a URL address where callback is true")
        return None
    if old and url != old:
        fields.flaw("callback_url", "be left out where callback_config.url is sent")
    return Callback(url, _method(config))


def _method(config: Fields) -> str:
    method = str(config.raw("method") or "POST").upper()
    if method not in {"POST", "PUT"}:
        config.flaw("method", "be one of 'POST', 'PUT'")
    return method


def custom_metadata(fields: Fields) -> dict[str, Any]:
    """What the caller wants to find again in the answers."""
    value = fields.raw("custom_metadata")
    if value is None:
        return {}
    if not isinstance(value, dict):
        fields.flaw("custom_metadata", "be an object")
    elif _depth(value) > _MAX_DEPTH:
        fields.flaw("custom_metadata", f"be no more than {_MAX_DEPTH} objects deep")
    elif len(orjson.dumps(value).decode()) > MAX_METADATA:
        fields.flaw("custom_metadata", f"be no longer than {MAX_METADATA} characters as JSON")
    else:
        return value
    return {}


def _bounds(config: Fields) -> tuple[SpeakerBounds, dict[str, int]]:
    """How many speakers there may be, and what was said of that."""
    said = {name: config.whole(name, 1, MOST_SPEAKERS) for name in _BOUNDS}
    config.only(*_BOUNDS)
    count, least, most = (said[name] for name in _BOUNDS)
    if least and most and least > most:
        config.flaw("min_speakers", "be no more than max_speakers")
    bounds = SpeakerBounds(count or least or 1, count or most or MOST_SPEAKERS)
    return bounds, {name: number for name, number in said.items() if number}


def _subtitles(config: Fields) -> tuple[Subtitles, str]:
    """The subtitles and their style. Both styles are written alike: what is written complies."""
    config.only(
        *("formats", "style", "minimum_duration", "maximum_duration"),
        *("maximum_characters_per_row", "maximum_rows_per_caption"),
    )
    shortest, longest = config.number("minimum_duration", 0), config.number("maximum_duration", 1, 30)
    subtitles = Subtitles(
        formats=config.choices("formats", ("srt", "vtt")) or ["srt"],
        characters=config.whole("maximum_characters_per_row", 1, 1000) or DEFAULT.characters,
        rows=config.whole("maximum_rows_per_caption", 1, 5) or DEFAULT.rows,
        shortest=DEFAULT.shortest if shortest is None else shortest,
        longest=max(DEFAULT.longest, shortest or 0.0) if longest is None else longest,
    )
    if subtitles["shortest"] > subtitles["longest"]:
        config.flaw("minimum_duration", "be no more than maximum_duration")
    return subtitles, config.choice("style", ("default", "compliance")) or "default"


def _depth(value: object) -> int:
    """How deep a JSON value is, as far as that matters: without recursion, for it comes from a stranger."""
    level, depth = [value], 0
    while level and depth <= _MAX_DEPTH:
        level = [child for item in level for child in _children(item)]
        depth += 1
    return depth


def _children(value: object) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
