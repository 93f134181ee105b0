"""Where somebody speaks, where to cut there, and what words and sentences are."""
