"""Turns speech into text and leaves the result in the outbox."""
