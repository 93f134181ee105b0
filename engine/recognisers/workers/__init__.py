"""The processes that recognisers live in: who hears what, what is loaded where, and what is said to them."""
