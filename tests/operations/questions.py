"""PromQL as a tree: which series a question asks for, and whether the daemons have them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import promql_parser
import yaml

from grafana.exposed import Exposed, exposed
from tests.acceptance.stage import ROOT

PROMETHEUS = ROOT / "config" / "prometheus"
RULES = sorted(PROMETHEUS.glob("*.alerts.yml")) + sorted(PROMETHEUS.glob("*.recording.yml"))
# Of Prometheus itself, and of every Python process.
_OTHERS = re.compile(r"up|ALERTS|process_[a-z_]+|python_gc_[a-z_]+")
_TARGET = {"job", "instance"}
_OPERATORS = {"MatchOp.Equal": "=", "MatchOp.NotEqual": "!=", "MatchOp.Re": "=~", "MatchOp.NotRe": "!~"}


@dataclass(frozen=True, slots=True)
class Selector:
    """One series that is asked for: its name or a pattern of names, and the matchers as (label, operator, value)."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]

    def labels(self) -> set[str]:
        """The labels that it is narrowed down by."""
        return {label for label, _, _ in self.matchers}


def selectors(question: str) -> tuple[Selector, ...]:
    """All that a question asks for. Raises ValueError if it does not parse."""
    return tuple(_walk(promql_parser.parse(question)))


def _walk(node: Any) -> Iterator[Selector]:
    if isinstance(node, promql_parser.VectorSelector):
        matchers = tuple((one.name, _OPERATORS[str(one.op)], one.value) for one in node.matchers.matchers)
        names = [value for label, _, value in matchers if label == "__name__"]
        yield Selector(node.name or names[0], tuple(one for one in matchers if one[0] != "__name__"))
    for name in ("vector_selector", "expr", "lhs", "rhs", "param"):
        if (child := getattr(node, name, None)) is not None:
            yield from _walk(child)
    for child in getattr(node, "args", None) or ():
        yield from _walk(child)


@cache
def rules() -> list[dict[str, Any]]:
    """Every rule that is shipped, alerts and recordings."""
    files = (yaml.safe_load(path.read_text("utf-8")) for path in RULES)
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


@cache
def recorded() -> frozenset[str]:
    """The names under which rules record."""
    return frozenset(rule["record"] for rule in rules() if "record" in rule)


@cache
def series() -> Mapping[str, Exposed]:
    """Every series of the daemons by name."""
    return {name: one for one in exposed() for name in one.series()}


def faults(question: str) -> list[str]:
    """What a question asks for in vain: unknown names, labels and values."""
    known, own = series(), recorded()
    return [fault for selector in selectors(question) for fault in _faults(selector, known, own)]


def _faults(selector: Selector, known: Mapping[str, Exposed], own: frozenset[str]) -> Iterator[str]:
    if selector.name in own or _OTHERS.fullmatch(selector.name):
        return
    names = [name for name in known if re.fullmatch(selector.name, name)]
    if not names:
        yield f"nobody serves {selector.name}"
    for name in names:
        labels = known[name].labels
        for label, operator, value in selector.matchers:
            if label not in {*labels, *_TARGET, "le"}:
                yield f"{name} has no label {label}"
            elif labels.get(label) and not any(_matches(operator, value, one) for one in labels[label]):
                yield f"{name} never has {label}{operator}{value}"


def _matches(operator: str, wanted: str, value: str) -> bool:
    matched = re.fullmatch(wanted, value) is not None if "~" in operator else wanted == value
    return matched != operator.startswith("!")
