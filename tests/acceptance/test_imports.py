"""What is imported when: nobody who types a command waits for what it does not use."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cases import cases

pytestmark = pytest.mark.acceptance


def loaded_of(libraries: set[str], code: str) -> str:
    """Which of these a program has loaded at its end."""
    watched = f"import sys; print(sorted({libraries} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{watched}"], capture_output=True, check=True, text=True)
    return done.stdout.strip()


@cases("daemon", ["import relay.app.worker", "import engine.app.daemon"])
def test_a_daemon_carries_no_terminal_with_it(daemon: str) -> None:
    code = f"from relay.service.extras import without_rich\nwith without_rich():\n    {daemon}\nimport structlog"
    assert loaded_of({"rich", "pygments", "structlog"}, code) == "['structlog']"


def test_what_a_daemon_does_without_is_there_for_everybody_else() -> None:
    code = "from relay.service.extras import without_rich\nwith without_rich():\n    import structlog\nimport rich"
    assert loaded_of({"rich"}, code) == "['rich']"


def test_a_command_that_looks_waits_for_no_event_loop() -> None:
    code = "from relay.app.settings import read\nimport relay.cli.inspection\nread(None, {}).outbox.database.now()"
    assert loaded_of({"aiohttp", "asyncio", "rich", "structlog", "uvloop"}, code) == "[]"
