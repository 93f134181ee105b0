"""What hears speech while it is spoken, inside a worker process."""
