"""The `engine` command, also as `python -m engine`."""

from __future__ import annotations

from relay.service.extras import extra


def main() -> None:
    with extra("engine"):
        from engine.cli import main as run

        run()


if __name__ == "__main__":
    main()
