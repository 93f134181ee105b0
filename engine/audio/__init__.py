"""Bytes in, PCM out: probing, decoding, fetching."""
