"""What grafana/README.md asks Prometheus for, the daemons do serve."""

from __future__ import annotations

import re

from tests.acceptance.stage import ROOT
from tests.cases import cases
from tests.operations.questions import faults

TABLE = re.compile(r"^\|[^|]+\| `([^`]+)`", re.MULTILINE)
QUESTIONS = TABLE.findall((ROOT / "grafana" / "README.md").read_text("utf-8"))


@cases("question", QUESTIONS)
def test_a_question_of_the_readme_can_be_answered(question: str) -> None:
    assert faults(question) == []


def test_there_are_questions() -> None:
    assert len(QUESTIONS) >= 9
