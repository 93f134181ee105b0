"""`/v2/live`: begin a session, connect to it and come back to it, look at what became of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import structlog
from aiohttp import web

from engine.api.admission import Body
from engine.api.auth import authenticate_gladia, traceparent
from engine.api.context import ApiContext
from engine.api.errors import REQUEST_ID, Rejected
from engine.api.gladia.documents import (
    MAX_JSON,
    answer,
    base_url,
    download,
    find,
    judge_url,
    page,
    read_json,
    rendered,
)
from engine.api.gladia.pending import PendingSession, PendingSessions
from engine.api.socket import REFUSALS, CallerSocket, refusal
from engine.audio.pcm import bytes_per_second, integers, raw_format
from engine.audio.recording import AudioRecording
from engine.dialects.gladia import (
    LIVE,
    GladiaProblem,
    GladiaProtocol,
    callback_headers,
    live_filename,
    live_job,
    live_started,
    parse_live,
    running_job,
)
from engine.dialects.live import EndReason, Goodbye, LiveRequest
from engine.dialects.warnings import Unsupported
from engine.errors import StorageFull
from engine.live.conversation import Conversation, SessionEnded
from engine.live.session import SessionLimits
from engine.live.sessions import LiveSessions
from engine.record import JobState, Record
from engine.request import Failed, FailureCode
from engine.transcript import Model
from relay.outbox.errors import StoreUnavailable

_NO_SESSION = GladiaProblem(
    404, "There is no such session: it was deleted, or is no longer kept, or another key made it."
)
_NO_FILE = GladiaProblem(404, "The audio of this session is not here: it was not kept, or is no longer.")
_UNDER_WAY = GladiaProblem(409, "The session is under way. Send stop_recording on its WebSocket first.")
_NO_TOKEN = GladiaProblem(
    401, "The token is not known: begin a session with POST /v2/live, and connect within ten minutes."
)
_OVER = Goodbye(4403, "The session has ended. Start another.")
_MOST_PARAMETERS = 50
_TOO_SLOW = 429  # the one of the vendor's statuses that comes nearest
_FAILED = {EndReason.UNDECODABLE: FailureCode.AUDIO, EndReason.FAILED: FailureCode.INTERNAL}

log = structlog.get_logger()


class GladiaLive:
    """A session outlives its sockets: whoever has its token may come back, until it is over."""

    def __init__(
        self,
        api: ApiContext,
        sessions: LiveSessions,
        limits: SessionLimits,
        max_message: int,
        *,
        unsupported: Unsupported = "warn",
        keeps_audio: bool = True,
    ) -> None:
        """`max_message` is in bytes; `unsupported` is what becomes of fields that cannot be honoured and do no harm
        when they are missing; `keeps_audio` says whether audio can be fetched when its session is over."""
        self._api = api
        self._sessions = sessions
        self._limits = limits
        self._max_message = max_message
        self._unsupported: Unsupported = unsupported
        self._keeps_audio = keeps_audio
        self._pending = PendingSessions()
        self._savings: set[asyncio.Task[None]] = set()

    async def create(self, http: web.Request) -> web.Response:
        """Admit a session, and say where to connect."""
        asked = await self._read(http)
        if asked.request.callback:
            url = asked.request.callback.url
            await judge_url(self._api.resolver, "callback_config.url", url, asked.request.key_id, must_resolve=True)
        now = self._api.clock()
        try:
            await self._sessions.check(asked)
            token = self._pending.admit(asked, now)
        except REFUSALS as error:
            raise refusal(error, _TOO_SLOW) from None
        base = base_url(self._api, http)
        return answer(live_started(asked.request, now, f"ws{base.removeprefix('http')}/v2/live?token={token}"), 201)

    async def connect(self, http: web.Request) -> web.StreamResponse:
        """A socket for a session, its first or another; without a token, the list of those that ended."""
        token = http.query.get("token")
        if token is None:
            return await self._index(http)
        socket = CallerSocket(http, self._max_message)
        pending = self._pending.by_token(token)
        if pending is None:
            raise Rejected(_NO_TOKEN)
        async with pending.turn:
            conversation = pending.conversation or await self._begin(pending)
        await socket.open()
        if conversation.is_over:
            await socket.close(_OVER)
        else:
            if pending.protocol:
                pending.protocol.reconnected()
            await conversation.attend(socket)
        return socket.response

    async def get(self, http: web.Request) -> web.Response:
        """A session as it stands now, with its result once it is over."""
        key_id = await authenticate_gladia(http, self._api.keys)
        if pending := await self._under_way(http, key_id):
            begun = pending.conversation is not None
            return answer(running_job(pending.asked.request, pending.created_at, has_begun=begun))
        record = await self._find(http, key_id)
        return await rendered(lambda: live_job(record))

    async def delete(self, http: web.Request) -> web.Response:
        """Forget a session that is over."""
        key_id = await authenticate_gladia(http, self._api.keys)
        if await self._under_way(http, key_id):
            raise Rejected(_UNDER_WAY)
        record = await self._find(http, key_id)
        if not await self._api.archive.delete(record.request.id, key_id):
            raise Rejected(_NO_SESSION)  # somebody else was faster
        return web.Response(status=202)

    async def file(self, http: web.Request) -> web.StreamResponse:
        """The audio of a session that is over, as it came; samples without a container are in a WAV."""
        key_id = await authenticate_gladia(http, self._api.keys)
        if await self._under_way(http, key_id):
            raise Rejected(_UNDER_WAY)
        record = await self._find(http, key_id)
        return await download(self._api, http, record.request.id, key_id, live_filename(record.request), _NO_FILE)

    async def close(self) -> None:
        """Wait until every session that is over has been written down."""
        if self._savings:
            await asyncio.wait(self._savings)

    async def _index(self, http: web.Request) -> web.Response:
        key_id = await authenticate_gladia(http, self._api.keys)
        return await page(self._api, http, key_id, LIVE, "live", live_job)

    async def _read(self, http: web.Request) -> LiveRequest:
        key_id = await authenticate_gladia(http, self._api.keys)
        asked = parse_live(
            await read_json(Body(http, MAX_JSON, self._api.limits.stall)),
            request_id=http[REQUEST_ID],
            catalogue=self._api.catalogue,
            raw_format=raw_format,
            integers=integers,
            byte_rate=bytes_per_second,
            key_id=key_id,
            traceparent=traceparent(http),
            unsupported=self._unsupported,
            keeps_audio=self._keeps_audio,
            query=tuple(http.query)[:_MOST_PARAMETERS],
        )
        if isinstance(asked, GladiaProblem):
            raise Rejected(asked)
        return asked

    async def _begin(self, pending: PendingSession) -> Conversation:
        asked = pending.asked
        recording = self._recording(asked)
        protocols: list[GladiaProtocol] = []

        def protocol(model: Model, now: float) -> GladiaProtocol:
            protocols.append(GladiaProtocol(asked, model, now))
            return protocols[0]

        def ended(record: SessionEnded) -> None:
            saving = asyncio.create_task(self._save(pending, protocols[0], recording, record))
            self._savings.add(saving)
            saving.add_done_callback(self._savings.discard)

        try:
            conversation = await self._sessions.open(
                asked,
                self._limits,
                protocol,
                callback_headers(asked.request),
                ended,
                resumable=True,
                recorder=recording,
            )
        except BaseException as error:
            await self._forget_recording(recording, asked.request.id)
            if isinstance(error, REFUSALS):
                raise refusal(error, _TOO_SLOW) from None
            raise
        return pending.begin(conversation, protocols[0])

    def _recording(self, asked: LiveRequest) -> AudioRecording | None:
        if not asked.request.keeps_audio:
            return None
        path = self._api.spool.path(asked.request.id)
        try:
            return AudioRecording(path, asked.request.raw, self._api.limits.upload)
        except OSError as error:
            log.error("live.recording.failed", request_id=asked.request.id, detail=error.strerror)
            return None

    async def _forget_recording(self, recording: AudioRecording | None, request_id: str) -> None:
        if recording:
            await recording.close()
        self._api.spool.path(request_id).unlink(missing_ok=True)

    async def _save(
        self,
        pending: PendingSession,
        protocol: GladiaProtocol,
        recording: AudioRecording | None,
        ended: SessionEnded,
    ) -> None:
        """A store that is full of audio still has room for what was said."""
        record, request_id = _record(pending, protocol, ended), pending.asked.request.id
        try:
            audio = await self._recorded(recording, request_id)
            try:
                await self._api.archive.add_session(_with_audio(record, kept=audio is not None), audio)
            except StorageFull:
                await self._api.archive.add_session(_with_audio(record, kept=False))
        except StoreUnavailable as error:
            log.error("store.error", operation="live.keep", kind=error.kind)
        finally:
            await self._forget_recording(recording, request_id)
            pending.end(ended.ended_at)

    async def _recorded(self, recording: AudioRecording | None, request_id: str) -> Path | None:
        """The file with the session's audio, where there is one and it is whole."""
        if recording is None:
            return None
        if await recording.close():
            return self._api.spool.path(request_id)
        if recording.flaw:
            log.warning("live.recording.dropped", request_id=request_id, reason=recording.flaw)
        return None

    async def _under_way(self, http: web.Request, key_id: str | None) -> PendingSession | None:
        """The session, unless it is over: then it has been written down once this returns."""
        pending = self._pending.by_id(http.match_info["id"], key_id)
        if pending is None or pending.conversation is None or not pending.conversation.is_over:
            return pending
        await pending.saved.wait()
        return None

    async def _find(self, http: web.Request, key_id: str | None) -> Record:
        return await find(self._api, http, key_id, LIVE, _NO_SESSION)


def _with_audio(record: Record, *, kept: bool) -> Record:
    return replace(record, request=replace(record.request, keeps_audio=kept))


def _record(pending: PendingSession, protocol: GladiaProtocol, ended: SessionEnded) -> Record:
    code = _FAILED.get(ended.ending)
    transcript = protocol.transcript()
    return Record(
        request=pending.asked.request,
        media=protocol.media,
        state=JobState.FAILED if code else JobState.DONE,
        created_at=pending.created_at,
        started_at=ended.began_at,
        finished_at=ended.ended_at,
        duration=transcript.duration,
        result=Failed(code, protocol.goodbye(ended.ending, "").reason) if code else transcript,
    )
