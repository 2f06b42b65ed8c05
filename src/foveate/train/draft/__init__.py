"""Draft heads learn from their target in the loop: prompts, teaching, objective, accepted length, runs."""
