"""Fetching a model from the hub: each file over HTTP, continued where an earlier pull was cut off, and checked.

The hub's own library is loaded only here, when it is needed: it takes a while.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import urlsplit

from engine.errors import EngineError
from engine.recognisers.models.files import FILES, NEEDED, OUT_OF_REACH, ModelDamaged
from engine.recognisers.models.integrity import sha256
from engine.recognisers.models.lock import HUB, FileDigest, Lock
from engine.recognisers.models.names import short
from engine.recognisers.models.staging import Counted, Meter, PullProgress, need_room


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file to fetch: its size, and its SHA-256 where it is known beforehand, as the hub tells it of large files."""

    size: int
    sha256: str | None


class Unreachable(EngineError):
    """The hub could not be reached, or broke off. What came before lies in the staging folder still."""


class Repository:
    """A repository of the hub, as something to pull."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = Path(name)

    def fetch(self, folder: Path, known: Lock | None, progress: PullProgress) -> Lock:
        """Bring the files into the folder: those of the known lock, or of the newest revision where there is none.

        Raises Unreachable, NoRoom, ModelDamaged, EngineError for a repository without a Whisper model, and OSError.
        """
        with _hub_errors(self.name):
            revision, files = self._ask(known)
            for other in {file.name for file in folder.iterdir()} - files.keys() - {f"{name}.part" for name in files}:
                (folder / other).unlink()
            meter = Meter(sum(file.size for file in files.values()), progress)
            need_room(folder, meter.total)
            for name, file in files.items():
                self._bring(folder / name, file, revision, meter)
        pinned = {name: FileDigest((folder / name).stat().st_size, sha256(folder / name)) for name in files}
        return Lock(self.name, HUB, revision, pinned)

    def _ask(self, known: Lock | None) -> tuple[str, Mapping[str, RemoteFile]]:
        """The revision, and its files by name."""
        from huggingface_hub import HfApi

        if known and known.revision is None:
            raise EngineError(
                f"{self.name} was pulled from {known.source}: pull it from there, or say --update to take the hub's"
            )
        hub = HfApi().model_info(self.name, revision=known.revision if known else None, files_metadata=True)
        files = {
            file.rfilename: RemoteFile(file.size or 0, file.lfs.sha256 if file.lfs else None)
            for file in hub.siblings or ()
            if any(fnmatch(file.rfilename, form) for form in FILES) and "/" not in file.rfilename
        }
        if known and known.revision:
            return known.revision, {name: self._same(name, file, files) for name, file in known.files.items()}
        if lacking := [form for form in NEEDED if not any(fnmatch(name, form) for name in files)]:
            raise EngineError(f"{self.name} is no Whisper model for CTranslate2: it has no {', '.join(lacking)}")
        return str(hub.sha), files

    def _same(self, name: str, known: FileDigest, files: Mapping[str, RemoteFile]) -> RemoteFile:
        """A known file, if the hub has one of its name and size. Raises ModelDamaged."""
        if name not in files or files[name].size not in {0, known.size}:
            size = f"{files[name].size} bytes" if name in files else "not there"
            raise ModelDamaged(
                self.path / name,
                f"is {size} on the hub, and must be {known.size} bytes, SHA-256 {known.sha256}",
                "set HF_ENDPOINT to another mirror",
            )
        return RemoteFile(known.size, known.sha256)

    def _bring(self, path: Path, file: RemoteFile, revision: str, meter: Meter) -> None:
        """One file, unless it is there; what an earlier pull began is continued if it can be checked afterwards."""
        part = path.with_name(f"{path.name}.part")
        if file.sha256 and path.is_file() and sha256(path) == file.sha256:
            part.unlink(missing_ok=True)
            meter.add(file.size)
            return
        begun = part.stat().st_size if file.sha256 and part.is_file() else 0
        if not 0 < begun <= file.size:
            begun = 0
        meter.add(begun)
        self._download(part, begun, file, revision, meter)
        if begun and sha256(part) != file.sha256:  # what was there may have been of another revision
            self._download(part, 0, file, revision, meter)
        if file.sha256 and (digest := sha256(part)) != file.sha256:
            part.unlink()
            problem = f"came damaged from the hub: its SHA-256 is {digest}, expected {file.sha256}"
            raise ModelDamaged(self.path / path.name, problem, "try again, or set HF_ENDPOINT to another mirror")
        part.replace(path)

    def _download(self, part: Path, begun: int, file: RemoteFile, revision: str, meter: Meter) -> None:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        with Counted(part, meter, begun) as target:
            http_get(
                hf_hub_url(self.name, part.stem, revision=revision),
                target,
                resume_size=begun,
                headers=build_hf_headers(),
                expected_size=file.size or None,
            )


@contextmanager
def _hub_errors(repository: str) -> Iterator[None]:
    """The hub's many exceptions in a sentence that says what to do."""
    try:
        from huggingface_hub import constants, errors
        from huggingface_hub.utils import logging
        from huggingface_hub.utils.tqdm import disable_progress_bars

        host = urlsplit(constants.ENDPOINT).hostname or "HF_ENDPOINT"  # what else stands in it may be secret
    except ValueError:
        raise EngineError("HF_ENDPOINT is no URL: take it away, or set it to a mirror of the hub") from None
    disable_progress_bars()  # they would stand beside ours
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # and so would its words on every try
    # Its HTTP library differs from version to version; what that raises is a base of its own errors, as OSError is.
    unreachable: tuple[type[Exception], ...] = errors.HfHubHTTPError.__bases__
    try:
        yield
    except errors.GatedRepoError:
        raise EngineError(f"{repository}: accept its terms on the hub first, and set HF_TOKEN") from None
    except errors.RevisionNotFoundError:
        raise EngineError(
            f"{repository}: the hub has the locked revision no longer; --update takes the newest"
        ) from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise EngineError(
            f"{repository}: the hub has no such model, or it is private and HF_TOKEN is not set"
        ) from None
    except unreachable as error:
        if isinstance(error, OSError) and error.errno and not isinstance(error, ConnectionError):
            raise  # of our own disk
        reason = type(error).__name__
        if isinstance(error, errors.HfHubHTTPError):
            reason = f"HTTP {error.response.status_code}"
        raise Unreachable(
            f"{repository}: the hub at {host} could not be reached ({reason}). Try again: what came is "
            f"kept. {OUT_OF_REACH.format(name=short(repository))}"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(
            f"{repository}: what answers is no hub, or cannot be asked ({type(error).__name__}); look at HF_ENDPOINT "
            "and HTTPS_PROXY"
        ) from None
