"""A run on disk: what was asked, every reply with its score, and what failed. Knows no model."""
