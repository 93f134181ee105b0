"""The vendors' wire formats, in and out. Pure."""
