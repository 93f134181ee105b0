"""The image, built as its Dockerfile says: on a Debian put together out of packages instead of one that a registry has,
and from the packages of this virtual environment instead of an index. So what is in it is what the tests ran with."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import Distribution, distribution
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.acceptance.stage import ROOT

DOCKERFILE = ROOT / "config" / "docker" / "Dockerfile"
IMAGE = "outspoken"
_BASE = re.compile(r"^FROM (\S+)", re.MULTILINE)
_EXTRAS = re.compile(r"'\.\[(\S+)\]'")
_ONLY_THE_HOUSE = "[global]\nno-index = true\nfind-links = /wheels\n"
_LEFT_OUT = ("doc", "locale", "man")


class Store:
    """Images and containers in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._buildah = ("buildah", "--root", f"{folder}/storage", "--runroot", f"{folder}/run")

    def command(self, *words: str) -> list[str]:
        return [*self._buildah, *words]

    def __call__(self, *words: str) -> str:
        """What it prints. Raises AssertionError with its complaints."""
        return run(*self.command(*words)).strip()


def run(*command: str, **options: object) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert ended.returncode == 0, f"{command}: {ended.stdout[-2000:]}{ended.stderr[-4000:]}"
    return str(ended.stdout)


@contextmanager
def built() -> Iterator[Store]:
    """Where the image lies, until the block ends."""
    with TemporaryDirectory(prefix="outspoken-image-") as place:
        store = Store(Path(place))
        try:
            _build(store)
            yield store
        finally:
            store("rm", "--all")
            store("umount", "--all")


def _build(store: Store) -> None:
    house, pip = store.folder / "wheels", store.folder / "pip.conf"
    house.mkdir()
    pip.write_text(_ONLY_THE_HOUSE)
    text = DOCKERFILE.read_text("utf-8")
    (base,) = set(_BASE.findall(text))
    extras = _EXTRAS.search(text)
    assert extras
    _make_base(store, base)
    for name in needed(Requirement(f"outspoken[{extras[1]}]")) - {"outspoken"}:
        as_wheel(distribution(name), house)
    run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(house), "setuptools>=77")
    mounts = ("--volume", f"{house}:/wheels:ro", "--volume", f"{pip}:/etc/pip.conf:ro")
    ignored = ("--ignorefile", f"{DOCKERFILE}.dockerignore")
    at = ("--file", str(DOCKERFILE), "--tag", IMAGE, str(ROOT))
    store("build", "--pull-never", "--isolation", "chroot", *ignored, *mounts, *at)


def _make_base(store: Store, name: str) -> None:
    """A Debian of this machine's release, with its Python, and of what the real one has what an image builds upon."""
    container = store("from", "scratch")
    root = Path(store("mount", container))
    release = run("sh", "-c", ". /etc/os-release; echo $VERSION_CODENAME").strip()
    mirror = run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", f"Codename: {release}")
    without = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _LEFT_OUT]
    packages = "--include=ca-certificates,libstdc++6,passwd,python3,python3-venv"
    quick = ("--variant=essential", "--dpkgopt=force-unsafe-io", *without, packages)
    archive = store.folder / "base.tar"
    run("mmdebstrap", "--quiet", *quick, release, str(archive), mirror.split()[0])
    run("tar", "--extract", "--file", str(archive), "--directory", str(root))
    archive.unlink()
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    store("umount", container)
    store("commit", "--quiet", container, name)
    store("rm", container)


def needed(wanted: Requirement, known: frozenset[str] = frozenset()) -> set[str]:
    """The names of what it needs, itself among them, as far as they are for this Python and this system."""
    found: set[str] = {canonicalize_name(wanted.name)}
    for text in distribution(wanted.name).requires or ():
        other = Requirement(text)
        environments = [{"extra": extra} for extra in wanted.extras or {""}]
        asked = other.marker is None or any(map(other.marker.evaluate, environments))
        if asked and str(other) not in known:
            found |= needed(other, known | found | {str(other)})
    return found


def as_wheel(installed: Distribution, folder: Path) -> Path:
    """The wheel that it was installed from: without what installing made of it."""
    files = [file for file in installed.files or () if file.parts[0] != ".." and file.suffix != ".pyc"]
    info = next(file.parts[0] for file in files if file.parts[0].endswith(".dist-info"))
    tags = re.findall(r"^Tag: (\S+)-(\S+)-(\S+)", installed.read_text("WHEEL") or "", re.MULTILINE)
    kinds = [".".join(sorted(set(column))) for column in zip(*tags, strict=True)]
    assert set(tags) == set(product(*(kind.split(".") for kind in kinds))), f"{info}: {tags}"
    path = folder / "-".join((info.removesuffix(".dist-info"), *kinds))
    path = path.with_name(f"{path.name}.whl")
    made = {f"{info}/{name}" for name in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")}
    kept = [file for file in files if str(file) not in made]
    with zipfile.ZipFile(path, "w") as wheel:
        for file in kept:
            wheel.write(str(file.locate()), str(file))
        wheel.writestr(f"{info}/RECORD", "".join(f'"{file}",,\n' for file in kept) + f"{info}/RECORD,,\n")
    return path
