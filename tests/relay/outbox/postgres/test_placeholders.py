"""Statements as PostgreSQL's drivers take them: placeholders, and names in the outbox's schema."""

from __future__ import annotations

from relay.outbox.postgres.placeholders import in_schema, named, numbered, pyformat
from tests.cases import cases


@cases(
    ("sql", "placed"),
    [
        ("SELECT id FROM outspoken_deliveries AS d", "SELECT id FROM outspoken.deliveries AS d"),
        ("SELECT outspoken_add_v1('a')", "SELECT outspoken.add_v1('a')"),
        ("SELECT pg_notify('outspoken', '')", "SELECT pg_notify('outspoken', '')"),
        ("SELECT 'outspoken_deliveries'", "SELECT 'outspoken_deliveries'"),
        ("SELECT 'it''s outspoken_x', \"outspoken_y\"", "SELECT 'it''s outspoken_x', \"outspoken_y\""),
        ("SELECT 1 -- outspoken_deliveries\n", "SELECT 1 -- outspoken_deliveries\n"),
        ("SELECT my_outspoken_table FROM mine", "SELECT my_outspoken_table FROM mine"),
    ],
)
def test_our_names_are_those_of_the_schema_and_others_are_left_alone(sql: str, placed: str) -> None:
    assert in_schema(sql) == placed
    assert numbered(sql).text == placed
    assert pyformat(sql) == placed


def test_values_are_numbered_or_named() -> None:
    sql = "SELECT :a, :b, :a, a::text, 5 % 2 FROM outspoken_jobs"
    assert numbered(sql).text == "SELECT $1, $2, $1, a::text, 5 % 2 FROM outspoken.jobs"
    assert numbered(sql).arguments({"b": 2, "a": 1, "c": 3}) == [1, 2]
    assert pyformat(sql) == "SELECT %(a)s, %(b)s, %(a)s, a::text, 5 %% 2 FROM outspoken.jobs"
    assert named(sql) == "SELECT %(a)s, %(b)s, %(a)s, a::text, 5 %% 2 FROM outspoken_jobs"
