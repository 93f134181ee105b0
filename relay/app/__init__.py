"""Puts the relay together: its settings, one daemon, or several workers."""
