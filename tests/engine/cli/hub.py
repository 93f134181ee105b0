"""A hub of models on a real socket: as much of its API as fetching takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256

from aiohttp import web

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(slots=True)
class Hub:
    """Repositories by name, each with its files. `breaks` are offsets at which coming downloads of model.bin end:
    the connection is dropped there, or refused with 500 for None. `ranges` are those that were asked for."""

    repositories: dict[str, dict[str, bytes]]
    breaks: list[int | None] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    files_sent: list[str] = field(default_factory=list)

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/api/models/{org}/{name}", self._info)
        app.router.add_get("/api/models/{org}/{name}/tree/{commit}", self._tree)
        app.router.add_get("/{org}/{name}/resolve/{commit}/{file}", self._file)
        return app

    def _files(self, request: web.Request) -> dict[str, bytes]:
        name = f"{request.match_info['org']}/{request.match_info['name']}"
        if name not in self.repositories:
            raise web.HTTPNotFound(headers={"X-Error-Code": "RepoNotFound"})
        return self.repositories[name]

    async def _info(self, request: web.Request) -> web.Response:
        siblings = [{"rfilename": name, "size": len(data)} for name, data in self._files(request).items()]
        return web.json_response({"id": "x/y", "sha": COMMIT, "siblings": siblings})

    async def _tree(self, request: web.Request) -> web.Response:
        files = self._files(request).items()
        return web.json_response(
            [{"type": "file", "path": name, "size": len(data), "oid": sha256(data).hexdigest()} for name, data in files]
        )

    async def _file(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["file"]
        data = self._files(request)[name]
        known = {"ETag": f'"{sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
        if request.method == "HEAD":
            return web.Response(headers=known | {"Content-Length": str(len(data))})
        self.files_sent.append(name)
        start = request.http_range.start or 0
        if start:
            self.ranges.append(request.headers["Range"])
            known["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        response = web.StreamResponse(status=206 if start else 200, headers=known)
        response.content_length = len(data) - start
        end = self._break(name, len(data))
        await response.prepare(request)
        await response.write(data[start:end])
        if end < len(data) and request.transport:
            request.transport.close()
        return response

    def _break(self, name: str, size: int) -> int:
        if name != "model.bin" or not self.breaks:
            return size
        end = self.breaks.pop(0)
        if end is None:
            raise web.HTTPInternalServerError
        return end
