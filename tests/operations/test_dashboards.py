"""The dashboards as they are committed: what Grafana's own linter asks of them, and that they ask for what there is."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest
import yaml
from grafana_foundation_sdk.models import units

from grafana.exposed import exposed
from grafana.generate import dashboards
from relay.admin.auth import Authenticator
from relay.admin.console.serving import COOKIE
from relay.admin.destinations import destinations
from relay.outbox import OUTBOX
from relay.outbox.sqlite.database import SqliteDatabase
from tests.acceptance.stage import ROOT
from tests.operations.questions import faults, recorded, rules, selectors
from tests.relay.admin.served import TOKEN, context, served
from tests.relay.deliveries import new, put

FOLDER = ROOT / "grafana" / "dashboards"
DOCUMENTS = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.json"))}
UNITS = {value for name, value in vars(units).items() if isinstance(value, str) and not name.startswith("_")}
SOURCES = ROOT / "grafana" / "provisioning" / "datasources" / "prometheus.yml"
SAID = {"[1h]": "hour", "[24h]": "24 h"}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
# As Grafana writes them into a question before it goes to Prometheus.
WRITTEN = {"$__rate_interval": "1m", "$__interval": "15s", "$job": ".+", "$instance": ".+"}


@dataclass(frozen=True, slots=True)
class Question:
    """One target of one panel."""

    dashboard: str
    panel: str
    expression: str

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.panel}: {self.expression}"


def panels(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in document["panels"] if panel["type"] != "row"]


def asking(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in panels(document) if panel["type"] != "text"]


def questions() -> Iterator[Question]:
    """Every question of every panel, variables written out."""
    for name, document in DOCUMENTS.items():
        for panel in asking(document):
            for target in panel["targets"]:
                yield Question(name, panel["title"], written(target["expr"]))


def written(expression: str) -> str:
    """A question as Prometheus gets it."""
    for variable, value in WRITTEN.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression, expression
    return expression


every_dashboard = pytest.mark.parametrize("document", list(DOCUMENTS.values()), ids=list(DOCUMENTS))


def test_the_dashboards_are_what_the_script_makes() -> None:
    committed = {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.json")}
    assert committed == dashboards(), "run python -m grafana.generate, and commit what it writes"


def test_there_are_four() -> None:
    assert set(DOCUMENTS) == {"overview", "slo", "process", "destinations"}


def test_no_two_have_the_same_name() -> None:
    assert len({document["uid"] for document in DOCUMENTS.values()}) == len(DOCUMENTS)
    assert len({document["title"] for document in DOCUMENTS.values()}) == len(DOCUMENTS)


@every_dashboard
def test_the_data_source_is_chosen_and_nowhere_written_down(document: dict[str, Any]) -> None:
    source, *_ = document["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    asked = [one for one in document["templating"]["list"] if one["type"] == "query"]
    named = [*asking(document), *document["annotations"]["list"], *asked]
    assert [one["datasource"] for one in named] == [SOURCE] * len(named)
    assert "__inputs" not in document


@every_dashboard
def test_job_and_instance_are_chosen(document: dict[str, Any]) -> None:
    _, job, instance, _ = document["templating"]["list"]
    for variable, name in ((job, "job"), (instance, "instance")):
        assert (variable["name"], variable["type"], variable["label"]) == (name, "query", name.title())
        assert (variable["multi"], variable["includeAll"], variable["allValue"]) == (True, True, ".+")
        assert variable["refresh"] == 2  # when the time range changes
        assert variable["current"]["value"] == ["$__all"]
        query = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
        assert query is not None
        assert query[2] == name
        assert faults(written(query[1])) == []


@every_dashboard
def test_a_dashboard_is_made_by_the_script_alone_and_leads_to_its_sisters(document: dict[str, Any]) -> None:
    assert document["editable"] is False
    assert "id" not in document
    link, console = document["links"]
    assert (console["type"], console["url"]) == ("link", "${console:raw}/")
    assert (link["type"], link["tags"], link["asDropdown"], link["keepTime"]) == (
        "dashboards",
        document["tags"],
        True,
        True,
    )
    assert document["graphTooltip"] == 1  # a crosshair in all panels


@every_dashboard
def test_starts_and_alerts_are_marked_in_every_graph(document: dict[str, Any]) -> None:
    marks = document["annotations"]["list"]
    assert [mark["name"] for mark in marks] == ["Starts", "Firing alerts"]
    for mark in marks:
        assert faults(written(mark["expr"])) == []
        assert all("job" in selector.labels() for selector in selectors(written(mark["expr"])))


@every_dashboard
def test_a_panel_says_what_it_shows(document: dict[str, Any]) -> None:
    for panel in panels(document):
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
    titles = [panel["title"] for panel in panels(document)]
    assert len(set(titles)) == len(titles)


@every_dashboard
def test_a_panel_has_a_question_and_a_unit_that_grafana_knows(document: dict[str, Any]) -> None:
    for panel in asking(document):
        assert panel["targets"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters)
        assert all(target["legendFormat"] for target in panel["targets"])


@every_dashboard
def test_panels_have_their_own_numbers_and_places(document: dict[str, Any]) -> None:
    numbers = [panel["id"] for panel in document["panels"]]
    assert len(set(numbers)) == len(numbers)
    assert [one for one in document["panels"] if one["gridPos"]["x"] + one["gridPos"]["w"] > 24] == []
    assert [(a["title"], b["title"]) for a, b in combinations(document["panels"], 2) if overlap(a, b)] == []


def overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    a, b = one["gridPos"], other["gridPos"]
    beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
    return not (beside or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"])


def test_questions_ask_for_what_the_daemons_serve() -> None:
    assert {str(one): found for one in questions() if (found := faults(one.expression))} == {}


def test_questions_are_about_the_job_and_the_instances_that_were_chosen() -> None:
    without_instance = recorded()  # see .lint
    for question in questions():
        for selector in selectors(question.expression):
            wanted = {("job", "=~", ".+"), ("instance", "=~", ".+")}
            if selector.name in without_instance:
                wanted = {("job", "=~", ".+")}
            assert wanted <= set(selector.matchers), question


def test_a_counter_is_asked_for_its_rate_over_an_interval_that_grafana_chooses() -> None:
    panels = [panel for document in DOCUMENTS.values() for panel in asking(document)]
    for expression in (target["expr"] for panel in panels for target in panel["targets"]):
        for counter in re.findall(r"\w+_(?:total|bucket|count|sum)\b\{[^}]*\}", expression):
            before, _, after = expression.partition(counter)
            assert re.search(r"(rate|increase)\($", before), expression
            assert after.startswith(("[$__rate_interval]", *SAID)), expression


def test_a_fixed_range_is_one_that_the_panel_speaks_of_and_any_other_grafana_chooses() -> None:
    """So there is something to see however far out or in somebody looks."""
    for panel in (panel for document in DOCUMENTS.values() for panel in asking(document)):
        said = f"{panel['title']} {panel['description']}"
        for span in re.findall(r"\[[^]]+\]", " ".join(target["expr"] for target in panel["targets"])):
            assert span == "[$__rate_interval]" or (span in SAID and SAID[span] in said), f"{span}: {said}"
    scraped = yaml.safe_load((ROOT / "config" / "prometheus" / "prometheus.yml").read_text("utf-8"))["global"]
    (source,) = yaml.safe_load(SOURCES.read_text("utf-8"))["datasources"]
    assert source["jsonData"]["timeInterval"] == scraped["scrape_interval"], "of which $__rate_interval takes four"


@every_dashboard
def test_the_console_is_where_the_alerts_have_it_until_somebody_says_another(document: dict[str, Any]) -> None:
    scraped = yaml.safe_load((ROOT / "config" / "prometheus" / "prometheus.yml").read_text("utf-8"))["global"]
    console = document["templating"]["list"][-1]
    assert (console["name"], console["type"]) == ("console", "textbox")
    assert console["query"] == console["current"]["value"] == scraped["external_labels"]["console"]


def test_panels_lead_to_pages_of_the_console_and_these_back_to_a_dashboard(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "outspoken.db")
    database.migrate([OUTBOX])
    put(database, new())
    (place,) = destinations(database, database.now())
    labels = {"destination": place.id, "outcome": "http_413", "state": "paused", "cause": "unreachable"}
    leads = [
        link["url"]
        for document in DOCUMENTS.values()
        for panel in asking(document)
        for link in panel["fieldConfig"]["defaults"].get("links", ())
    ]
    assert len(leads) > 10
    back: set[str] = set()
    with served(replace(context(database), grafana="https://grafana.example")) as address:
        cookie = {"Cookie": f"{COOKIE}={Authenticator(TOKEN).session('Ada', time.time())}"}
        for url in set(leads):
            page = url.replace("${console:raw}", address)
            for name, value in labels.items():
                page = page.replace(f"${{__field.labels.{name}}}", value)
            with urlopen(Request(page, headers=cookie), timeout=20) as answer:
                assert (answer.status, urlsplit(answer.url).path) == (200, urlsplit(page).path)
                back.update(re.findall(r'href="https://grafana\.example/d/([\w-]+)"', answer.read().decode()))
    assert back == {"outspoken-overview", "outspoken-destinations"} <= {one["uid"] for one in DOCUMENTS.values()}


def exceptions() -> dict[str, set[tuple[str, str]]]:
    said = yaml.safe_load((FOLDER / ".lint").read_text("utf-8"))["exclusions"]
    return {
        rule: {(entry["dashboard"], entry["panel"]) for entry in exclusion["entries"]}
        for rule, exclusion in said.items()
        if exclusion["reason"]
    }


def test_the_exceptions_from_the_linters_rules_are_those_that_are_needed() -> None:
    titles = {name: document["title"] for name, document in DOCUMENTS.items()}
    without_instance = {
        (titles[one.dashboard], one.panel)
        for one in questions()
        if any(selector.name in recorded() for selector in selectors(one.expression))
    }
    assert exceptions()["target-instance-rule"] == without_instance


def test_every_metric_stands_in_a_dashboard_or_in_a_rule() -> None:
    asked = [selector for one in questions() for selector in selectors(one.expression)]
    asked += [selector for rule in rules() for selector in selectors(rule["expr"])]
    unasked = [
        metric.name
        for metric in exposed()
        if not any(re.fullmatch(one.name, series) for one in asked for series in metric.series())
    ]
    assert unasked == []


def test_provisioning_loads_the_dashboards_and_lets_nobody_change_them() -> None:
    folder = ROOT / "grafana" / "provisioning"
    (provider,) = yaml.safe_load((folder / "dashboards" / "outspoken.yml").read_text("utf-8"))["providers"]
    assert (provider["type"], provider["disableDeletion"], provider["allowUiUpdates"]) == ("file", True, False)
    assert provider["options"]["path"]
    (source,) = yaml.safe_load(SOURCES.read_text("utf-8"))["datasources"]
    assert (source["type"], source["isDefault"], source["access"]) == ("prometheus", True, "proxy")
