"""What a Whisper model hears of recordings, and of speech while it is spoken."""
