"""Observers of an attempt: log and metrics. None is on the path of a delivery."""
