"""Live speech: sessions, and where their messages go."""
