"""Whisper models and the voice encoder as files: what a name means, where the files lie, whether they are whole, and
how they come here.

Nothing large is imported, and only `pull` ever reaches out to the hub.
"""
