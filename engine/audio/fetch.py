"""Downloads the audio that a caller named by URL, through the same guard as callbacks, bounded in size and time."""

from __future__ import annotations

import asyncio
import ssl
import time
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from socket import AF_INET, AF_INET6, AddressFamily
from urllib.parse import urljoin

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from engine.audio.sink import Stored, store
from engine.errors import TooLarge
from engine.request import Failed, FailureCode
from relay.guard.resolver import Addresses, LookupShortage, Resolver, Unresolved
from relay.guard.rules import Refusal
from relay.guard.url import Target, read
from relay.service.retry_after import retry_after

NOT_PUBLIC = "URL for media download must be publicly routable."
UNDETERMINED = "Could not determine if URL for media download is publicly routable."

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# What a client error says about the moment, and not about the request: any other would be the same next time.
_TRANSIENT = frozenset({408, 425, 429})
_CHUNK = 64 * 1024
_INFLATED_CHUNK = 256 * 1024
# gzip makes a third less of speech, and a thousandth of silence.
_MOST_INFLATED, _INFLATED_AT_ALL = 50, 16 * 1024**2
_BOMB = f"The remote server hosting the media sent it packed more than {_MOST_INFLATED} times: send it as it is."


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """How much of a remote server we take: bytes, seconds to connect and for the whole download, redirects."""

    size: int = 2 * 1024**3
    connect: float = 5.0
    total: float = 600.0
    redirects: int = 5


@dataclass(frozen=True, slots=True)
class TransientFailure(Failed):
    """A failure that may be over next time; `wait` is how many seconds the remote server asked for, `unknown` why it is
    not known whether its host has an address."""

    wait: float | None = None
    unknown: Unresolved | LookupShortage | None = None


class HttpFetcher:
    """Fetches over HTTP. Every hop is judged anew by the `resolver`, and every connection goes to an address that was
    judged for it."""

    def __init__(
        self, resolver: Resolver, limits: FetchLimits | None = None, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        self.resolver = resolver
        self._limits = limits or FetchLimits()
        self._ssl: ssl.SSLContext | bool = ssl_context or True

    async def fetch(self, url: str, path: Path) -> Stored | Failed:
        """Download to a new file at `path`, which is there only on success. A failure that is worth another try is
        `TransientFailure`.

        Raises StorageFull: a full disk is ours to mend, not the caller's.
        """
        try:
            async with self._session() as session, asyncio.timeout(self._limits.total):
                return await self._follow(session, url, path)
        except _FetchFailed as error:
            return error.failed
        except TooLarge as error:
            return Failed(FailureCode.TOO_LARGE, f"url: the media is larger than {error.limit} bytes, send less.")
        except TimeoutError:
            return _transient("The remote server hosting the media did not deliver it in time.")
        except aiohttp.ClientError as error:
            return _transient(f"The remote server hosting the media could not be read: {_kind(error)}.")

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[aiohttp.ClientSession]:
        connector = aiohttp.TCPConnector(
            resolver=_Guarded(self.resolver), use_dns_cache=False, force_close=True, ssl=self._ssl
        )
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(sock_connect=self._limits.connect),
            headers={"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "outspoken-engine"},
            auto_decompress=False,
        ) as session:
            yield session

    async def _follow(self, session: aiohttp.ClientSession, url: str, path: Path) -> Stored:
        target = self._judge(url)
        for _ in range(self._limits.redirects + 1):
            async with _get(session, target) as response:
                if response.status not in _REDIRECTS:
                    return await self._save(response, path)
                target = self._next(target, response.headers)
        raise _FetchFailed(
            _failed(f"The remote server hosting the media sent too many redirects, more than {self._limits.redirects}.")
        )

    def _judge(self, url: str) -> Target:
        target = read(url, self.resolver.rules)
        if isinstance(target, Refusal):
            raise _FetchFailed(refused(target))
        return target

    def _next(self, target: Target, headers: Mapping[str, str]) -> Target:
        if not (location := headers.get("Location")):
            raise _FetchFailed(_failed("The remote server hosting the media sent a redirect that leads nowhere."))
        following = self._judge(urljoin(target.origin + target.path, location))
        if following.authorization is None and following.origin == target.origin:
            return replace(following, authorization=target.authorization)
        return following

    async def _save(self, response: aiohttp.ClientResponse, path: Path) -> Stored:
        if response.status != 200:
            raise _FetchFailed(_no_media(response.status, response.headers))
        if (response.content_length or 0) > self._limits.size:
            raise TooLarge(self._limits.size)
        stored = await store(_decoded(response), path, self._limits.size)
        if stored.size == 0:
            await asyncio.to_thread(path.unlink)
            raise _FetchFailed(_failed("The remote server hosting the media returned no content."))
        return stored


def _decoded(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The media as it is, though it was asked for without a coding."""
    coding = response.headers.get("Content-Encoding", "identity").strip().lower()
    received = response.content.iter_chunked(_CHUNK)
    match coding:
        case "identity" | "":
            return aiter(received)
        case "gzip" | "x-gzip":
            return _inflated(received, zlib.decompressobj(16 + zlib.MAX_WBITS))
        case "deflate":
            return _inflated(received, zlib.decompressobj())
        case _:
            raise _FetchFailed(
                _failed("The remote server hosting the media sent it in a coding that was not asked for.")
            )


async def _inflated(received: AsyncIterable[bytes], inflating: zlib._Decompress) -> AsyncIterator[bytes]:
    """In small pieces, and at most so many times what was received: more is no audio, but a disk filled cheaply."""
    came = made = 0
    async for chunk in received:
        came += len(chunk)
        while chunk:
            try:
                piece = inflating.decompress(chunk, _INFLATED_CHUNK)
            except zlib.error:
                raise _FetchFailed(_failed("The remote server hosting the media sent it broken: no gzip.")) from None
            chunk = inflating.unconsumed_tail
            made += len(piece)
            if made > _INFLATED_AT_ALL + _MOST_INFLATED * came:
                raise _FetchFailed(_failed(_BOMB))
            yield piece
    if not inflating.eof:
        raise _FetchFailed(_transient("The remote server hosting the media did not send all of it."))


def refused(refusal: Refusal) -> Failed:
    """The failure of a URL that the guard turned down."""
    return _failed(f"{NOT_PUBLIC} url: {refusal.message}")


class _Guarded(AbstractResolver):
    """Answers aiohttp with judged addresses only. Addresses written in a URL were judged when it was read."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: AddressFamily = AF_INET,  # noqa: ARG002
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host)
        if isinstance(found, Refusal):
            raise _FetchFailed(refused(found))
        if not isinstance(found, Addresses):
            raise _FetchFailed(_undetermined(found))
        return [_result(host, port, address) for address in found.values]

    async def close(self) -> None:
        """Holds nothing."""


class _FetchFailed(Exception):
    """The guard said no, or the remote server's answer is not the media. Not an OSError, so that aiohttp lets it pass
    as it is."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.message)
        self.failed = failed


def _no_media(status: int, headers: Mapping[str, str]) -> Failed:
    party = "client" if 400 <= status < 500 else "server"
    message = f"The remote server hosting the media returned a {party} error: {status}."
    if status not in _TRANSIENT and status < 500:
        return _failed(message)
    return _transient(message, retry_after(headers.get("Retry-After"), time.time()))


def _get(session: aiohttp.ClientSession, target: Target) -> aiohttp.client._RequestContextManager:
    headers = {"Authorization": target.authorization} if target.authorization else {}
    return session.get(URL(target.origin + target.path, encoded=True), headers=headers, allow_redirects=False)


def _result(host: str, port: int, address: str) -> ResolveResult:
    family = AF_INET6 if ":" in address else AF_INET
    return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)


def _failed(message: str) -> Failed:
    return Failed(FailureCode.REMOTE_CONTENT, message)


def _transient(message: str, wait: float | None = None) -> TransientFailure:
    return TransientFailure(FailureCode.REMOTE_CONTENT, message, wait)


def _undetermined(found: Unresolved | LookupShortage) -> TransientFailure:
    unknown = None if isinstance(found, Unresolved) and found.answered else found
    return replace(_transient(f"{UNDETERMINED} url: {found.detail}"), unknown=unknown)


def _kind(error: aiohttp.ClientError) -> str:
    # aiohttp's own messages spell out hosts and URLs.
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return "its TLS certificate or handshake failed"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "the connection failed"
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError | aiohttp.ClientOSError):
        return "the connection ended early"
    return "its answer is not valid HTTP"
