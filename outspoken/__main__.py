"""The `outspoken` command, also as `python -m outspoken`."""

from __future__ import annotations

from relay.service.extras import extra


def main() -> None:
    with extra("outspoken", "relay", "engine"):
        from outspoken.cli import main as run

        run()


if __name__ == "__main__":
    main()
