"""How many files and sockets a daemon may have open at once."""

from __future__ import annotations

import resource

from relay.outbox.errors import ConfigError

_RAISE = "`ulimit -n`, `LimitNOFILE=` of a systemd unit, or `--ulimit nofile=` of a container"


def provide_descriptors(least: int, most: int, otherwise: str = "") -> None:
    """Raise this process's own limit towards the `most` that it will ever use. Raises ConfigError where it may not have
    the `least`; `otherwise` says what takes fewer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = most if hard == resource.RLIM_INFINITY else min(hard, most)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < least:
        raise ConfigError(
            f"RLIMIT_NOFILE: {hard} files and sockets may be open at once, and {least} are wanted at least, {most} at "
            f"best: raise it ({_RAISE}){otherwise and f', or {otherwise}'}"
        )
