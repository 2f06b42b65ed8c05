"""Draft heads: one decoder layer that guesses a target's next states from those it has seen (EAGLE and its kin)."""
