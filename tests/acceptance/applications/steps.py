"""What the applications are asked for: the steps of one transaction, and how it is to be begun.

["order", NAME]            store an order
["orphan", NAME]           store one for a customer whom nobody knows: the commit fails
["flush"]                  have a session send what it keeps for later
["callback", NAME]         add a delivery of that id to the outbox
["below", NAME]            the same on the driver's own connection
["savepoint", [STEP...]]   do these in a savepoint, which alone is undone if they give up
["break"]                  have a statement fail, and go on as if nothing was
["give up"]                change one's mind: the transaction is rolled back
"""

from __future__ import annotations

import json
import sys
from typing import Any

from relay.outbox import NewDelivery

KNOWN, UNKNOWN = "ada", "nobody"
Steps = list[list[Any]]


class GivenUp(Exception):
    """The application changed its mind."""


def delivery(name: str) -> NewDelivery:
    """The result of an order."""
    return NewDelivery(name, callback_url(), json.dumps({"order": name}).encode())


def database_url() -> str:
    """The application's database, in which the outbox is too."""
    return sys.argv[1]


def callback_url() -> str:
    """Where its results go."""
    return sys.argv[2]


def ready(port: int) -> None:
    """Say that requests are answered."""
    print(json.dumps({"event": "application.ready", "url": f"http://127.0.0.1:{port}"}), flush=True)
