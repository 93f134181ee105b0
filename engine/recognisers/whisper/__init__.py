"""Whisper: recordings to words, and speech to words while it is spoken."""
