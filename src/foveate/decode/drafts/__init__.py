"""What guesses the next tokens: one file a kind of draft, behind the contract in `base.py`."""
