"""Local agreement: of a guess that is made again and again, what two passes in a row agree on is settled. Pure."""
