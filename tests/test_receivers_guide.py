"""The receivers' guide under test: its programs verify what the relay signs, and refuse what it did not."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from relay.policy.signing import parse_key, signature
from tests.acceptance.stage import ROOT

KEY = f"whsec_{base64.b64encode(bytes(range(32))).decode()}"
OLDER = f"whsec_{base64.b64encode(bytes(range(24))).decode()}"
BODY = '{"transcript": "grüß Gott"}'.encode()

Verify = Callable[[str, dict[str, str], bytes], bool]


def program(language: str) -> str:
    """The guide's own lines."""
    found = re.search(rf"```{language}\n(.*?)```", (ROOT / "RECEIVERS.md").read_text("utf-8"), re.DOTALL)
    assert found
    return found[1]


def in_python(key: str, headers: dict[str, str], body: bytes) -> bool:
    names: dict[str, Any] = {}
    exec(program("python"), names)
    return bool(names["verify"](key, headers, body))


def in_javascript(key: str, headers: dict[str, str], body: bytes) -> bool:
    given = json.dumps([key, headers, base64.b64encode(body).decode()])
    call = f"const [key, headers, body] = {given}; console.log(verify(key, headers, Buffer.from(body, 'base64')));"
    told = subprocess.check_output(["node", "-e", program("javascript") + call], text=True)
    return {"true": True, "false": False}[told.strip()]


def signed(*keys: str, age: float = 0.0) -> dict[str, str]:
    stamp = int(time.time() - age)
    value = signature([parse_key(key) for key in keys], "id-1", stamp, BODY)
    return {"webhook-id": "id-1", "webhook-timestamp": str(stamp), "webhook-signature": value}


@pytest.mark.parametrize("verify", [in_python, pytest.param(in_javascript, marks=pytest.mark.needs("node"))])
def test_the_guides_programs_accept_what_the_relay_signed_and_nothing_else(verify: Verify) -> None:
    assert verify(KEY, signed(KEY), BODY)
    assert verify(KEY, signed(OLDER, KEY), BODY)
    assert not verify(OLDER, signed(KEY), BODY)
    assert not verify(KEY, signed(KEY), BODY + b" ")
    assert not verify(KEY, signed(KEY) | {"webhook-id": "id-2"}, BODY)
    assert not verify(KEY, signed(KEY, age=600), BODY)
