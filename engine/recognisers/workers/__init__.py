"""The processes that recognisers live in: who has which task, what is loaded where, and what is said to them."""
