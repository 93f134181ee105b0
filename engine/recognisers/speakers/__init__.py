"""Who speaks: sound to embeddings of voices, and these to speakers."""
