"""Models that turn PCM into words, and the processes they run in."""
