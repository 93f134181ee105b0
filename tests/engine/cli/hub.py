"""A hub of models on a real socket: as much of its API as fetching takes, with every revision that there ever was."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha1, sha256

from aiohttp import web
from aiohttp.typedefs import Handler


@dataclass(slots=True)
class Hub:
    """`publish` puts models there. Each of `breaks` is for one coming download of model.bin: the offset at which the
    connection is dropped, or 500 for None. With `stalls_at`, model.bin goes no further than there; with `alters`, its
    last byte is another; with `claims`, every file is said to have so many bytes. `requests` are all that came, and
    `files_sent` and `ranges` what was asked for."""

    breaks: list[int | None] = field(default_factory=list)
    stalls_at: int | None = None
    alters: bool = False
    claims: int | None = None
    requests: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    files_sent: list[str] = field(default_factory=list)
    _newest: dict[str, str] = field(default_factory=dict)
    _revisions: dict[tuple[str, str], Mapping[str, bytes]] = field(default_factory=dict)

    def publish(self, name: str, files: Mapping[str, bytes], commit: str = "") -> str:
        """The files are what the repository holds from now on. Returns the commit's name."""
        commit = commit or sha1(repr(files).encode(), usedforsecurity=False).hexdigest()
        self._newest[name] = commit
        self._revisions[name, commit] = files
        return commit

    def forget(self, name: str) -> None:
        """No revision of that repository is there any longer."""
        self._revisions = {key: files for key, files in self._revisions.items() if key[0] != name}

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._noted])
        app.router.add_get("/api/models/{org}/{name}", self._info)
        app.router.add_get("/api/models/{org}/{name}/revision/{commit}", self._info)
        app.router.add_get("/{org}/{name}/resolve/{commit}/{file}", self._file)
        return app

    @web.middleware
    async def _noted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.requests.append(request.path)
        return await handler(request)

    def _wanted(self, request: web.Request) -> tuple[str, Mapping[str, bytes]]:
        name = f"{request.match_info['org']}/{request.match_info['name']}"
        if name not in self._newest:
            raise web.HTTPNotFound(headers={"X-Error-Code": "RepoNotFound"})
        commit = request.match_info.get("commit", self._newest[name])
        if (name, commit) not in self._revisions:
            raise web.HTTPNotFound(headers={"X-Error-Code": "RevisionNotFound"})
        return commit, self._revisions[name, commit]

    async def _info(self, request: web.Request) -> web.Response:
        commit, files = self._wanted(request)
        siblings = [
            _sibling(name, data) | ({"size": self.claims} if self.claims else {}) for name, data in files.items()
        ]
        return web.json_response({"id": "x/y", "sha": commit, "siblings": siblings})

    async def _file(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["file"]
        data = self._wanted(request)[1][name]
        if self.alters and name == "model.bin":
            data = data[:-1] + b"!"
        self.files_sent.append(name)
        start, headers = request.http_range.start or 0, {}
        if start:
            self.ranges.append(request.headers["Range"])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        response = web.StreamResponse(status=206 if start else 200, headers=headers)
        response.content_length = len(data) - start
        end = self._end(name, len(data))
        await response.prepare(request)
        await response.write(data[start:end])
        if end < len(data) and self.stalls_at is not None:
            await asyncio.Event().wait()  # until the client is gone, which cancels it
        if end < len(data) and request.transport:
            request.transport.close()
        return response

    def _end(self, name: str, size: int) -> int:
        if name != "model.bin" or not (self.breaks or self.stalls_at):
            return size
        end = self.breaks.pop(0) if self.breaks else self.stalls_at
        if end is None:
            raise web.HTTPInternalServerError
        return end


def _sibling(name: str, data: bytes) -> dict[str, object]:
    """A file as the API tells of it: only of large ones with their SHA-256."""
    large = {"lfs": {"size": len(data), "sha256": sha256(data).hexdigest(), "pointerSize": 100}}
    return {"rfilename": name, "size": len(data)} | (large if name == "model.bin" else {})
