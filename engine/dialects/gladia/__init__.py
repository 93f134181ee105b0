"""Gladia's pre-recorded API, in and out: a JSON body becomes a Request, a Transcript the vendor's documents."""

from engine.dialects.gladia.reply import Problem, invalid, render_problem

__all__ = [
    "Problem",
    "invalid",
    "render_problem",
]
