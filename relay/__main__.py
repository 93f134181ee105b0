"""The `relay` command, also as `python -m relay`."""

from __future__ import annotations

from relay.service.extras import extra


def main() -> None:
    with extra("relay"):
        from relay.cli import main as run

        run()


if __name__ == "__main__":
    main()
