"""One worker process at a time, replaced when it is gone, and what is said to it."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import PIPE, Process
from contextlib import suppress

from engine.errors import WorkerDied
from engine.recognisers.base import Progress
from engine.recognisers.workers import wire
from engine.recognisers.workers.memory import peak_memory
from relay.service.interpreter import module_command

WORKER = "engine.recognisers.workers.worker"
"""The module that a worker process runs; whoever brings another speaks the frames of `workers.wire`."""


class WorkerProcess:
    """A process at a time, started when there is work and none lives. It runs a `module`, such as WORKER."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._command = module_command(module, *arguments)
        self._process: Process | None = None
        self._ending: set[asyncio.Task[int]] = set()
        self._stopped = False

    @property
    def holds(self) -> bool:
        """Whether there is a process: what it has loaded is still there."""
        return self._process is not None

    def peak_memory(self) -> int | None:
        """The most that the process ever had resident, in bytes; None where that is not known."""
        return peak_memory(self._process.pid) if self._process else None

    async def start(self) -> None:
        """Start the process now, so that the first task need not wait for it."""
        self._process = await asyncio.create_subprocess_exec(*self._command, stdin=PIPE, stdout=PIPE, env=environment())

    async def end(self) -> None:
        """Kill the process and wait until it is gone, with its memory. The next task has another one."""
        self._kill()
        if self._ending:
            await asyncio.wait(self._ending)

    async def stop(self) -> None:
        """End it for good."""
        self._stopped = True
        await self.end()

    async def ask(self, task: wire.Task, progress: Progress | None = None) -> wire.Answer:
        """Anything but an answer, cancellation included, costs the process its life: it may be in any state.

        Raises WorkerDied when the process ended in the middle.
        """
        try:
            return await self._exchange(task, progress)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            self._kill()
            raise WorkerDied("the worker process ended in the middle of its work") from error
        except BaseException:
            self._kill()
            raise

    async def _exchange(self, task: wire.Task, progress: Progress | None) -> wire.Answer:
        process = await self._living()
        assert process.stdin and process.stdout
        process.stdin.write(wire.pack_task(task))
        await process.stdin.drain()
        while isinstance(answer := await _read(process.stdout), wire.ProgressReport):
            if progress:
                progress(answer.seconds, answer.words)
        return answer

    async def _living(self) -> Process:
        if self._stopped:
            raise WorkerDied("the workers were stopped")
        if self._process and ended(self._process):
            self._kill()  # it died while it was idle, and nobody's work with it
        if self._process is None:
            await self.start()
        assert self._process
        return self._process

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.kill()
        ending = asyncio.create_task(process.wait())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


async def _read(answers: asyncio.StreamReader) -> wire.Answer | wire.ProgressReport:
    head = await answers.readexactly(wire.HEAD_BYTES)
    body = await answers.readexactly(wire.body_bytes(head))
    return await asyncio.to_thread(wire.unpack_answer, body)  # megabytes for hours of audio


def environment() -> dict[str, str]:
    """What a worker process finds in its environment. Its arrays are small: numpy's threads would wait for one another,
    and take several times as much of the processor for it."""
    return {"OPENBLAS_NUM_THREADS": "1", **os.environ}


def ended(process: Process) -> bool:
    """Ask the kernel, because the event loop may not have heard of it yet; the child is left for the loop to reap."""
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True
