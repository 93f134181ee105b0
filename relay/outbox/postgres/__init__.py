"""The outbox on PostgreSQL, for any number of engines and relays on any number of machines. Needs asyncpg, an extra."""
