"""The outbox in one SQLite file, for everything that runs on one machine."""
