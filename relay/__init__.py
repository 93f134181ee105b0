"""Carries deliveries from the outbox to their destinations."""
