"""Whisper: PCM to words, recorded and live, in worker processes."""
