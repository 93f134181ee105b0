"""The connections that producers hold: told apart without importing their libraries, and how statements run on each."""
