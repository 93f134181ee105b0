"""A relay as `relay run` starts it, but with the aiohttp transport, which otherwise only a forward proxy brings.

The proxy would be measured with it; so this program, and nothing else, decides on the transport by itself.
"""

from __future__ import annotations

import os

import uvloop

from relay.app import daemon as app
from relay.app import settings
from relay.app.settings import RelaySettings
from relay.guard.resolver import Resolver
from relay.service.log import configure
from relay.transports.aiohttp_client import AiohttpTransport
from relay.transports.exchange import Bounds


def by_aiohttp(relay: RelaySettings, resolver: Resolver) -> AiohttpTransport:
    """What `relay.app` would build, had a proxy been configured, without the proxy."""
    return AiohttpTransport(resolver, Bounds(idle_per_origin=relay.per_destination, idle_in_all=relay.concurrency))


if __name__ == "__main__":
    chosen = settings.read(None, os.environ)
    configure(chosen.relay.log.level, chosen.relay.log.format, "relay")
    uvloop.run(app.run(chosen, by_aiohttp))
