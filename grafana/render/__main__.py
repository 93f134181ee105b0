"""Draws a dashboard with Grafana's own components, without a Grafana: the answers come from a Prometheus.

    python -m grafana.render overview --prometheus http://127.0.0.1:9090 --minutes 30 --out overview.png

Needs npm, Chromium and Playwright's Python package; the components (430 MB) go to build/grafana-render once. Legends,
units, colours, thresholds and stacking are Grafana's; tooltips, annotations, variables and provisioning are not
exercised.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "grafana-render"
_LOADERS = [f"--loader:.{kind}=dataurl" for kind in ("svg", "ttf", "woff", "woff2")]
_POINTS = 240


def main() -> None:
    """Ask, bundle, draw."""
    wanted = _arguments()
    dashboard = json.loads((ROOT / "grafana" / "dashboards" / f"{wanted.dashboard}.json").read_text("utf-8"))
    end = wanted.end or time.time()
    span = (end - wanted.minutes * 60, end)
    page = {
        "page": {"width": wanted.width, "mode": wanted.mode},
        "start": span[0] * 1000,
        "end": span[1] * 1000,
        "panels": [_answered(panel, wanted.prometheus, span) for panel in dashboard["panels"]],
    }
    _bundle()
    _draw(page, wanted.width, wanted.out)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("dashboard", choices=("overview", "slo", "process", "destinations"))
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--end", type=float, help="epoch seconds; now, if it is not given")
    parser.add_argument("--width", type=int, default=1600)
    parser.add_argument("--mode", choices=("dark", "light"), default="dark")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def _answered(panel: dict[str, Any], prometheus: str, span: tuple[float, float]) -> dict[str, Any]:
    """The panel with the answers to its questions."""
    step = max(1.0, (span[1] - span[0]) / _POINTS)
    times = [span[0] + number * step for number in range(_POINTS + 1)]
    series = []
    for target in panel.get("targets", []):
        expression = target["expr"].replace("$__rate_interval", f"{max(4, int(4 * step))}s")
        expression = expression.replace("$job", ".+").replace("$instance", ".+")
        for one in _ask(prometheus, expression, span, step):
            if target.get("instant") and round(one["values"][-1][0]) < round(span[1] - step):
                continue  # a question about now
            found = {round(at - span[0]): float(value) for at, value in one["values"]}
            values = [_finite(found.get(round(at - span[0]))) for at in times]
            series.append({"name": _legend(target["legendFormat"], one["metric"]), "values": values})
    return panel | {"series": [one | {"times": [at * 1000 for at in times]} for one in series]}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _legend(pattern: str, labels: dict[str, str]) -> str:
    for label, value in labels.items():
        pattern = pattern.replace("{{" + label + "}}", value)
    return pattern


def _ask(prometheus: str, expression: str, span: tuple[float, float], step: float) -> list[dict[str, Any]]:
    query = urllib.parse.urlencode({"query": expression, "start": span[0], "end": span[1], "step": step})
    with urllib.request.urlopen(f"{prometheus}/api/v1/query_range?{query}", timeout=30) as answer:  # noqa: S310
        found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return found


def _bundle() -> None:
    BUILD.mkdir(parents=True, exist_ok=True)
    for file in ("package.json", "page.jsx"):
        shutil.copy(HERE / file, BUILD)
    if not (BUILD / "node_modules").exists():
        subprocess.run(["npm", "install", "--no-package-lock", "--no-audit", "--no-fund"], cwd=BUILD, check=True)
    esbuild = BUILD / "node_modules" / ".bin" / "esbuild"
    options = ["--bundle", "--minify", "--jsx=transform", "--log-level=error"]
    options.append('--define:process.env.NODE_ENV="production"')
    subprocess.run([esbuild, "page.jsx", "--outfile=page.js", *options, *_LOADERS], cwd=BUILD, check=True)


def _draw(page: dict[str, Any], width: int, out: Path) -> None:
    (BUILD / "page.html").write_text(
        '<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="page.css"><body style="margin:0">'
        f'<div id="page"></div><script>window.PAGE={json.dumps(page)}</script><script src="page.js"></script>',
        "utf-8",
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        window = browser.new_page(viewport={"width": width, "height": 900})
        window.on("pageerror", lambda error: print(str(error).splitlines()[0]))
        window.goto((BUILD / "page.html").as_uri())
        window.wait_for_selector("#page canvas")
        window.wait_for_timeout(1500)  # the graphs are drawn in frames of their own
        window.locator("#page > div").last.screenshot(path=out)
        browser.close()


if __name__ == "__main__":
    main()
