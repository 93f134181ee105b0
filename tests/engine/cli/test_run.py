"""`engine migrate`, as it is typed; `engine run` is in tests/engine/app."""

from __future__ import annotations

from tests.engine.cli.stage import Engine, Said


def test_who_migrates_a_file_that_others_may_read_is_told(engine: Engine) -> None:
    file = engine.folder / "one.db"
    engine.set(outbox__url=f"sqlite:///{file}")
    assert engine.here("migrate").err == ""
    file.chmod(0o644)
    assert engine.here("migrate") == Said(0, "up to date\n", f"engine: others may read the database: chmod o= {file}\n")
