"""The examples that operators start from, each held against the tool that it is written for."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose
from pydantic import BaseModel, ValidationError

from engine.settings import EngineSettings
from engine.settings import read as read_engine
from relay.app.settings import RelaySettings
from relay.app.settings import read as read_relay
from tests.acceptance.stage import ROOT, Process

UNITS = sorted((ROOT / "config" / "systemd").glob("*.service"))
SAFE = 2.0  # of 10, as systemd-analyze rates exposure: "OK" begins above that


def told(*command: str) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


@pytest.fixture(params=UNITS, ids=lambda path: path.stem)
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A unit whose program is there, since systemd looks for it."""
    text = request.param.read_text("utf-8")
    program = re.search(r"^ExecStart=(\S+)", text, re.MULTILINE)
    assert program
    path: Path = tmp_path / request.param.name
    path.write_text(text.replace(program[1], "/bin/true").replace("file:/opt/outspoken/README.md", "man:true"))
    return path


@pytest.mark.needs("systemd-analyze")
def test_a_unit_is_one_that_systemd_takes(unit: Path) -> None:
    complaints = [
        line for line in told("systemd-analyze", "verify", "--man=no", str(unit)).splitlines() if unit.name in line
    ]
    assert complaints == []


@pytest.mark.needs("systemd-analyze")
def test_a_unit_leaves_little_exposed(unit: Path) -> None:
    report = told("systemd-analyze", "security", "--offline=true", str(unit))
    rating = re.search(r"Overall exposure level for \S+: ([\d.]+)", report)
    assert rating, report
    assert float(rating[1]) <= SAFE, report


@pytest.mark.needs("nginx")
def test_the_proxy_is_one_that_nginx_takes(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    told(
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=speech.example.com"),
        *("-keyout", str(key), "-out", str(certificate)),
    )
    text = (ROOT / "config" / "nginx" / "outspoken.conf").read_text("utf-8")
    text = text.replace("/etc/ssl/outspoken.crt", str(certificate)).replace("/etc/ssl/outspoken.key", str(key))
    (tmp_path / "outspoken.conf").write_text(text)
    whole = tmp_path / "nginx.conf"
    whole.write_text(f"pid {tmp_path}/pid; error_log stderr; events {{}} http {{ include {tmp_path}/outspoken.conf; }}")
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    subprocess.run(["nginx", "-t", "-c", str(whole), "-p", str(tmp_path)], check=True, env=os.environ | {"PATH": path})


def test_what_the_composition_mounts_and_copies_is_there() -> None:
    folder = ROOT / "config" / "docker"
    mounts = re.findall(r"^\s*- (\.\./\S+?):/", (folder / "compose.yaml").read_text("utf-8"), re.MULTILINE)
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", (folder / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    paths = [folder / mount for mount in mounts] + [ROOT / name for line in copied for name in line.split()]
    assert len(paths) >= 8
    assert [path for path in paths if not path.exists()] == []


@pytest.mark.acceptance
@pytest.mark.parametrize(("daemon", "workers"), [("relay", "1"), ("relay", "2"), ("engine", "1")])
async def test_a_daemon_tells_its_service_manager_how_it_is(daemon: str, workers: str, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        environment = {
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": "900000",
            "OUTSPOKEN_OUTBOX__URL": f"sqlite:///{tmp_path}/outspoken.db",
            "OUTSPOKEN_ENGINE__AUDIO_DIR": str(tmp_path / "audio"),
            "OUTSPOKEN_ENGINE__PORT": "0",
            "OUTSPOKEN_ENGINE__PRELOAD": "[]",
            "OUTSPOKEN_RELAY__PORT": "0",
            "OUTSPOKEN_RELAY__ADMIN__PORT": "0",
            "OUTSPOKEN_RELAY__WORKERS": workers,
        }
        process = await Process.start(daemon, "run", env=environment)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(30):
            heard = [(await loop.sock_recv(manager, 100)).decode() for _ in range(3)]
        await process.event(f"{daemon}.ready")
        assert await process.stop() == 0
        assert heard == ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]
        rest: list[str] = []
        with suppress(BlockingIOError):
            while True:
                rest.append(manager.recv(100).decode())
        assert rest.pop() == "STOPPING=1"
        assert set(rest) <= {"WATCHDOG=1"}


@pytest.mark.needs("systemd-analyze")
def test_the_user_and_the_folders_are_made_as_systemd_reads_them(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("folders of another user are made by root")
    (tmp_path / "etc").mkdir()
    folder = ROOT / "config" / "systemd"
    told("systemd-sysusers", f"--root={tmp_path}", str(folder / "outspoken.sysusers.conf"))
    told("systemd-tmpfiles", "--create", f"--root={tmp_path}", str(folder / "outspoken.tmpfiles.conf"))
    user = re.search(r"^outspoken:x:(\d+):", (tmp_path / "etc" / "passwd").read_text(), re.MULTILINE)
    assert user
    state, settings = ((tmp_path / place).stat() for place in ("var/lib/outspoken", "etc/outspoken"))
    assert (state.st_uid, state.st_mode & 0o777) == (int(user[1]), 0o700)
    assert (settings.st_uid, settings.st_mode & 0o777) == (0, 0o750)


def settings_in(environ: dict[str, str]) -> None:
    """Raises ConfigError for one that neither program knows, or takes."""
    ours = {name: str(value) for name, value in environ.items() if name.startswith("OUTSPOKEN_")}
    read_engine(None, ours)
    read_relay(None, ours)


def test_the_composition_sets_what_there_is_to_set() -> None:
    composition = yaml.safe_load((ROOT / "config" / "docker" / "compose.yaml").read_text("utf-8"))
    assert set(composed(composition)) == {*composition["services"]}
    services = composition["services"]
    for name in ("engine", "relay"):
        settings_in(services[name]["environment"])
        assert "postgres:5432" in services[name]["environment"]["OUTSPOKEN_OUTBOX__URL"]
    assert {"postgres", "prometheus", "alertmanager", "grafana"} <= services.keys()
    assert all(port.startswith("127.0.0.1:") for port in services["engine"]["ports"])


def composed(composition: dict[str, Any]) -> list[str]:
    """The services of a composition. Raises ValueError for a key or a value that the specification does not have."""
    return list(PyCompose.from_yaml(yaml.safe_dump(composition)).service_names())


def test_a_composition_that_no_tool_would_take_is_found() -> None:
    for flaw in ({"restart": "sometimes"}, {"comand": ["relay", "run"]}, {"depends_on": {"a": {"condition": "well"}}}):
        with pytest.raises(ValueError, match=r"services\.relay"):
            composed({"services": {"relay": {"image": "outspoken", **flaw}}})


def taken_by_a_cluster(manifest: dict[str, Any]) -> dict[str, Any]:
    """As much of a manifest as a cluster knows. Raises ValidationError for a value of another kind."""
    kind = manifest["kind"]
    group = manifest["apiVersion"] if "/" in manifest["apiVersion"] else f"core/{manifest['apiVersion']}"
    module = re.sub(r"(?<!^)(?=[A-Z])", "_", kind).lower()
    model: type[BaseModel] = getattr(import_module(f"kubex.k8s.v1_36.{group.replace('/', '.')}.{module}"), kind)
    return model.model_validate(manifest).model_dump(mode="json", by_alias=True, exclude_unset=True)


def test_a_cluster_takes_the_manifests_and_knows_all_that_stands_in_them() -> None:
    for manifest in manifests():
        assert taken_by_a_cluster(manifest) == manifest
    spec = {"replicas": 2, "templat": {}}
    with pytest.raises(ValidationError, match="template"):
        taken_by_a_cluster({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "relay"}, "spec": spec})


def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((ROOT / "config" / "kubernetes" / "outspoken.yaml").read_text("utf-8")))


def test_the_manifests_fit_together_and_to_what_the_daemons_serve() -> None:
    of = {(one["kind"], one["metadata"]["name"]): one for one in manifests()}
    settings_in(of["ConfigMap", "outspoken"]["data"])
    for name, port in (("relay", RelaySettings().relay.port), ("engine", EngineSettings().engine.port)):
        template = of["Deployment", name]["spec"]["template"]
        (container,) = template["spec"]["containers"]
        ports = {one["name"]: one["containerPort"] for one in container["ports"]}
        probes = {kind: container[kind]["httpGet"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
        assert {ports[probe["port"]] for probe in probes.values()} == {port}
        assert [probe["path"] for probe in probes.values()] == ["/livez", "/livez", "/readyz"]
        assert template["metadata"]["annotations"]["prometheus.io/port"] == str(port)
        for kind in ("Deployment", "PodDisruptionBudget"):
            assert of[kind, name]["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"]
        assert of["Service", name]["spec"]["ports"][0]["targetPort"] in ports
        assert template["spec"]["terminationGracePeriodSeconds"] > 2 * RelaySettings().relay.drain_seconds
    scaler = of["HorizontalPodAutoscaler", "relay"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == "relay"
    metric = scaler["metrics"][0]["external"]["metric"]["name"]
    assert re.search(rf"^{metric}\b", (ROOT / "grafana" / "metrics.txt").read_text("utf-8"), re.MULTILINE)
