"""`make demo`: real speech in, a delivered callback out, between real processes. Where the voice encoder was
pulled, it tells who speaks, too."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import textwrap
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import aiohttp

from engine.recognisers.models.names import SPEAKERS
from tests.acceptance.stage import DEFAULTS, ROOT, Line, Process, Stage
from tests.clips.dialogues import dialogue
from tests.ports import free_callback_port

MODELS = ROOT / "var" / "models"
CLIP = ROOT / "tests" / "clips" / "demo.flac"
SPOKEN = CLIP.with_suffix(".txt")


async def demo() -> None:
    """Start everything, send the clip, wait for its callback, tell what happened, and stop everything."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="outspoken-demo-")))
        models = {"engine__models_dir": MODELS} if (MODELS / SPEAKERS).is_dir() else {}
        stage = Stage(folder, free_callback_port(), engine__preload='["default"]', **DEFAULTS, **models)
        receiver, _, relay = await _start(stack, stage)
        _title(f"1. Submit {CLIP.relative_to(ROOT)}")
        request_id = await _submit(stage, CLIP.read_bytes(), punctuate="true")
        _show_callback(await _called_back(receiver, request_id))
        await _show_attempt(stage, relay, request_id)
        _title("5. Who speaks")
        if models:
            two = dialogue(("en/adler", 2), ("en/bennet", 3), ("en/adler", 3)).wav()
            request_id = await _submit(stage, two, punctuate="true", diarize="true", paragraphs="true")
            _show_speakers(await _called_back(receiver, request_id))
        else:
            print("`.venv/bin/engine models pull speakers` (6 MB), and the demo tells two voices apart, too.")


async def _start(stack: AsyncExitStack, stage: Stage) -> tuple[Process, Process, Process]:
    key = await stage.signing_key()
    started = []
    for start in (partial(stage.receiver, "--verify-key", key), stage.engine, stage.relay):
        process = await start()
        stack.push_async_callback(process.stop)
        started.append(process)
    print(f"engine    {stage.engine_url}\nrelay     {stage.metrics_url}\nreceiver  {stage.callback_url}")
    return started[0], started[1], started[2]


async def _submit(stage: Stage, audio: bytes, **wishes: str) -> str:
    query = {"callback": stage.callback_url, **wishes, "tag": "demo"}
    print(f"POST {stage.engine_url}/v1/listen?{'&'.join(f'{name}={value}' for name, value in query.items())}")
    async with aiohttp.request("POST", f"{stage.engine_url}/v1/listen", params=query, data=audio) as response:
        answer = await response.json()
        if response.status != 200:
            raise AssertionError(f"the engine answered {response.status}: {answer}")
    print(f"200 {json.dumps(answer)}")
    return str(answer["request_id"])


async def _called_back(receiver: Process, request_id: str) -> Line:
    return await receiver.said(lambda line: line.get("headers", {}).get("webhook-id") == request_id)


def _show_callback(callback: Line) -> None:
    _title("2. The callback arrives")
    print(f"{callback['method']} {callback['path']}")
    for name, value in callback["headers"].items():
        print(f"  {name}: {value}")
    print(f"  (the receiver says that the signature is {callback['signature']})")
    heard = json.loads(callback["body"])["results"]["channels"][0]["alternatives"][0]["transcript"]
    _quote("transcript", heard)
    _quote("spoken", SPOKEN.read_text("utf-8").strip())
    if not heard:
        raise AssertionError("the callback has no transcript")
    if callback["signature"] != "valid":
        raise AssertionError("the callback is not signed as it should be")


def _show_speakers(callback: Line) -> None:
    said = json.loads(callback["body"])["results"]["channels"][0]["alternatives"][0]["paragraphs"]["transcript"]
    if "Speaker 1: " not in said:
        raise AssertionError("the callback tells of one speaker, and two speak")
    for paragraph in said.split("\n\n"):
        print(textwrap.fill(paragraph.strip(), 110, initial_indent="  ", subsequent_indent=" " * 14))


def _quote(what: str, words: str) -> None:
    print(textwrap.fill(f"{what + ':':<12}{words}", 110, initial_indent="  ", subsequent_indent=" " * 14))


async def _show_attempt(stage: Stage, relay: Process, request_id: str) -> None:
    _title("3. What the relay logged about the attempt")
    line = await relay.said(lambda line: line.get("delivery.id") == request_id)
    print(json.dumps(line))
    if line["outcome"] != "success":
        raise AssertionError("the attempt did not succeed")
    _title(f"4. Metrics are at {stage.metrics_url}")
    async with aiohttp.ClientSession() as session, session.get(stage.metrics_url) as response:
        wanted = 'relay_deliveries_finished_total{reason="none",result="delivered"}'
        print(*(row for row in (await response.text()).splitlines() if row.startswith(wanted)), sep="\n")


def _title(text: str) -> None:
    print(f"\n{text}", flush=True)


def main() -> int:
    """0 when the callback arrived, 1 with the reason when anything failed."""
    try:
        asyncio.run(demo())
    except (AssertionError, aiohttp.ClientError, OSError, KeyError, ValueError) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    print("\nThe callback arrived. `make up` runs the same to stay in, with a console.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
