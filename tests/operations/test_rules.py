"""Every rule that is shipped: sound, proved, and of help to whoever is called by it."""

from __future__ import annotations

import re
import subprocess
import tomllib
from typing import Any

import pytest
import typer
import yaml

from relay.admin.console.rendering import runbooks
from relay.cli import application
from tests.acceptance.stage import ROOT
from tests.operations.questions import PROMETHEUS, RULES, faults, rules

ALERTS = [rule for rule in rules() if "alert" in rule]
PROOF = yaml.safe_load((PROMETHEUS / "alerts.test.yml").read_text("utf-8"))
COMMAND = re.compile(r"`relay ([^`]+)`")
SETTING = re.compile(r"\b(?:relay|engine|outbox)(?:\.[a-z_]+)+\b")


def run(*command: str) -> str:
    done = subprocess.run(command, cwd=PROMETHEUS, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def name(rule: dict[str, Any]) -> str:
    return str(rule.get("alert") or rule["record"]) + str(rule.get("labels", {}).get("window", ""))


@pytest.mark.needs("promtool")
def test_prometheus_accepts_the_rules_and_the_example_that_loads_them() -> None:
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", *(path.name for path in RULES))
    assert f"{len(RULES)} rule files found" in run("promtool", "check", "config", "prometheus.yml")


@pytest.mark.needs("promtool")
def test_every_alert_fires_when_it_should_and_is_silent_otherwise() -> None:
    assert "SUCCESS" in run("promtool", "test", "rules", "alerts.test.yml")


@pytest.mark.needs("prometheus-alertmanager")
def test_alertmanager_accepts_its_example() -> None:
    assert "3 receivers" in run("amtool", "check-config", "alertmanager.yml")


def proved() -> set[tuple[str, str]]:
    samples = [
        sample["labels"]
        for group in PROOF["tests"]
        for question in group["promql_expr_test"]
        for sample in question.get("exp_samples") or ()
    ]
    named = {(alert, "") for text in samples for alert in re.findall(r'alertname="(\w+)"', text)}
    return named | {
        ("RelayPickupBudgetBurn", window) for text in samples for window in re.findall(r'window="(\w+)"', text)
    }


def test_an_alert_is_proved_by_a_case_of_its_own() -> None:
    alerts = {(alert["alert"], alert["labels"].get("window", "")) for alert in ALERTS}
    assert alerts - proved() == set()


def test_an_alert_says_how_bad_it_is_what_is_the_matter_and_where_to_look() -> None:
    for alert in ALERTS:
        assert alert["labels"]["severity"] in {"page", "ticket", "none"}, name(alert)
        assert {"summary", "runbook"} < set(alert["annotations"]) <= {"summary", "runbook", "runbook_url", "console"}
        for sentence in (alert["annotations"]["summary"], alert["annotations"]["runbook"]):
            assert sentence.endswith("."), name(alert)
            assert len(sentence) > 20, name(alert)


def test_an_alert_leads_to_its_runbook_and_where_there_is_one_to_a_page() -> None:
    told = {runbook.alert for runbook in runbooks()}
    assert told == {alert["alert"] for alert in ALERTS}
    labels = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text("utf-8"))["global"]["external_labels"]
    for alert in ALERTS:
        links = alert["annotations"]
        assert links["runbook_url"] == "{{ $externalLabels.runbooks }}#" + alert["alert"].lower()
        assert links.get("console", "{{ $externalLabels.console }}/").startswith("{{ $externalLabels.console }}/")
    assert set(labels) == {"console", "runbooks"}


def test_an_alert_names_units_as_they_are_installed_and_counts_in_whole_numbers() -> None:
    units = {unit.stem for unit in (ROOT / "config" / "systemd").glob("*.service")}
    for alert in ALERTS:
        text = " ".join(alert["annotations"].values())
        assert set(re.findall(r"(?:systemctl status|journalctl -u) (\S+?)[;,. ]", text + " ")) <= units, name(alert)
        assert "humanize }}" not in text, name(alert)


def test_what_a_receiver_does_wrong_is_a_ticket() -> None:
    text = (PROMETHEUS / "relay.alerts.yml").read_text("utf-8")
    receivers = next(group for group in yaml.safe_load(text)["groups"] if group["name"] == "relay-receivers")
    assert {rule["labels"]["severity"] for rule in receivers["rules"]} == {"ticket"}


def test_a_rule_asks_for_nothing_that_the_daemons_do_not_serve() -> None:
    assert {name(rule): found for rule in rules() if (found := faults(rule["expr"]))} == {}


def test_the_commands_of_a_runbook_exist() -> None:
    group: Any = typer.main.get_command(application)
    for line in (line for alert in ALERTS for line in COMMAND.findall(alert["annotations"]["runbook"])):
        verb, *words = line.split()
        options = {option for one in group.commands[verb].params for option in one.opts}
        assert {word for word in words if word.startswith("--")} <= options, line


def test_the_settings_of_a_runbook_exist() -> None:
    configuration = tomllib.loads((ROOT / "config" / "outspoken.toml").read_text("utf-8"))
    for setting in (setting for alert in ALERTS for setting in SETTING.findall(alert["annotations"]["runbook"])):
        value: Any = configuration
        for key in setting.split("."):
            assert key in value, setting
            value = value[key]
