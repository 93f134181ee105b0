"""Pure rules: what may leave, when to try again, what an answer means. now and dice are arguments."""
