"""Writes the dashboards and the list of metrics: `python -m grafana.generate`, and commit what changed."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana import destinations, overview, process, slo
from grafana.exposed import listing

HERE = Path(__file__).parent
_TITLES = {"Starts": "{{job}} {{instance}} started", "Firing alerts": "{{alertname}}"}


def dashboards() -> dict[str, str]:
    """The text of each dashboard by the name of its file."""
    built = {"overview": overview, "slo": slo, "process": process, "destinations": destinations}
    return {f"{name}.json": _render(module.build().build()) for name, module in built.items()}


def _render(dashboard: object) -> str:
    document: dict[str, Any] = json.loads(JSONEncoder(sort_keys=True, indent=2).encode(dashboard))
    for number, panel in zip(count(1), document["panels"], strict=False):
        panel["id"] = number  # the SDK leaves them empty, and links to a panel need them
        for link in panel.get("fieldConfig", {}).get("defaults", {}).get("links", ()):
            for of_dashboards in link.keys() - {"title", "url", "targetBlank"}:  # the SDK has one kind of links
                del link[of_dashboards]
    for annotation in document["annotations"]["list"]:
        annotation["titleFormat"] = _TITLES[annotation["name"]]  # the SDK has no word for it
    for variable in document["templating"]["list"]:
        for of_intervals in ("auto", "auto_count", "auto_min"):  # the SDK gives them to every variable
            variable.pop(of_intervals)
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    (HERE / "metrics.txt").write_text(listing(), "utf-8")
    for file, document in dashboards().items():
        (HERE / "dashboards" / file).write_text(document, "utf-8")
