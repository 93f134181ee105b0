"""Gladia's API, in and out: a JSON body becomes a Request, a Transcript the vendor's documents, and what is heard live
its messages."""

from engine.dialects.gladia.errors import GladiaProblem, invalid, render_problem
from engine.dialects.gladia.fields import Fields
from engine.dialects.gladia.listing import Listing, parse_listing
from engine.dialects.gladia.live_messages import GladiaProtocol, live_filename, live_job, live_started, running_job
from engine.dialects.gladia.live_parameters import LIVE, parse_live
from engine.dialects.gladia.recorded_parameters import RECORDED, parse
from engine.dialects.gladia.results import callback_headers, job, render, render_failure, result, started
from engine.dialects.gladia.uploads import (
    UploadedFile,
    clean_filename,
    extension_of,
    filename_of,
    upload_id_of,
    upload_url,
    uploaded,
)

__all__ = [
    "LIVE",
    "RECORDED",
    "Fields",
    "GladiaProblem",
    "GladiaProtocol",
    "Listing",
    "UploadedFile",
    "callback_headers",
    "clean_filename",
    "extension_of",
    "filename_of",
    "invalid",
    "job",
    "live_filename",
    "live_job",
    "live_started",
    "parse",
    "parse_listing",
    "parse_live",
    "render",
    "render_failure",
    "render_problem",
    "result",
    "running_job",
    "started",
    "upload_id_of",
    "upload_url",
    "uploaded",
]
