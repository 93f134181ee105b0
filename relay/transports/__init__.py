"""One attempt leaves the building."""
