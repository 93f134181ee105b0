"""The durable job queue and its runner."""
