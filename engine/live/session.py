"""A live session: what the caller may say, what it is told, and when it ends. Pure."""
