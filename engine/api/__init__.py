"""The HTTP surface: thin, one module per vendor."""
