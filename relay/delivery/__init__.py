"""The moving parts: claim, attempt, settle, keep up."""
