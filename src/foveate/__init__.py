"""Foveate: an engine for vision-language models that spends compute where the question looks.

Importing the package imports no torch; each room is imported by the code that needs it.
"""

__version__ = "0.1.0"
