"""The destination that an operator means: an origin, or any URL from which it follows."""

from __future__ import annotations

from ipaddress import ip_network

from relay.admin.errors import Refused
from relay.model import Refusal
from relay.policy import destination

# Whether it may be called is the guard's question; here it only has to be named.
_ANYWHERE = destination.Rules(
    ports=frozenset(range(1, 65536)), networks=(ip_network("0.0.0.0/0"), ip_network("::/0")), max_url_bytes=65536
)


def origin_of(text: str) -> str:
    """`https://Host/path` -> `https://host:443`. Raises Refused, without repeating what may hold a password."""
    target = destination.read(text, _ANYWHERE, destination.LIVE)
    if isinstance(target, Refusal):
        raise Refused(f"destination: {target.message} Name it as scheme://host:port.")
    return target.origin
