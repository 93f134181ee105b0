"""Tables of cases that are one test: all are looked at, and each that fails is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from inspect import iscoroutinefunction, signature
from typing import Any


def cases(names: str | tuple[str, ...], rows: Iterable[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """In place of `pytest.mark.parametrize`, for what asks a pure function: a test of pytest's own for each row takes a
    hundred times as long. What fixtures the test asks for, all rows share."""
    columns = names.replace(",", " ").split() if isinstance(names, str) else [*names]
    table = [dict(zip(columns, row if len(columns) > 1 else [row], strict=True)) for row in rows]

    def together(test: Callable[..., Any]) -> Callable[..., Any]:
        assert table, "no case"

        @wraps(test)
        def check(**fixtures: Any) -> None:
            _tell([failed for row in table if (failed := _failure(test, row | fixtures, row))], len(table))

        @wraps(test)
        async def check_async(**fixtures: Any) -> None:
            failures = []
            for row in table:
                try:
                    await test(**row, **fixtures)
                except Exception as error:  # noqa: BLE001 (told below, with the others)
                    failures.append(_noted(error, row))
            _tell(failures, len(table))

        made: Any = check_async if iscoroutinefunction(test) else check
        asked = signature(test)
        made.__signature__ = asked.replace(parameters=[*_others(asked.parameters, columns)])
        return made  # type: ignore[no-any-return]

    return together


def _others(parameters: Any, columns: list[str]) -> Iterator[Any]:
    assert {*columns} <= parameters.keys(), f"the test has no {columns}"
    return (one for name, one in parameters.items() if name not in columns)


def _failure(test: Callable[..., Any], given: dict[str, Any], row: dict[str, Any]) -> Exception | None:
    try:
        test(**given)
    except Exception as error:  # noqa: BLE001 (told with the others)
        return _noted(error, row)
    return None


def _noted(error: Exception, row: dict[str, Any]) -> Exception:
    error.add_note(f"case: {row!r}")
    return error


def _tell(failures: list[Exception], count: int) -> None:
    if failures:
        raise ExceptionGroup(f"{len(failures)} of {count} cases", failures)
