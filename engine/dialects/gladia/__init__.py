"""Gladia's pre-recorded API, in and out: a JSON body becomes a Request, a Transcript the vendor's documents."""

from engine.dialects.gladia.fields import Fields
from engine.dialects.gladia.listing import Listing, parse_listing
from engine.dialects.gladia.names import clean_filename, extension_of, filename_of, upload_id_of, upload_url
from engine.dialects.gladia.parameters import File, parse
from engine.dialects.gladia.render import callback_headers, job, render, render_failure, result, started, uploaded
from engine.dialects.gladia.reply import Problem, invalid, render_problem

__all__ = [
    "Fields",
    "File",
    "Listing",
    "Problem",
    "callback_headers",
    "clean_filename",
    "extension_of",
    "filename_of",
    "invalid",
    "job",
    "parse",
    "parse_listing",
    "render",
    "render_failure",
    "render_problem",
    "result",
    "started",
    "upload_id_of",
    "upload_url",
    "uploaded",
]
