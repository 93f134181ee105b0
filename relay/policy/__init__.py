"""Pure rules: when to try again, what an answer means, who goes next. now and dice are arguments."""
