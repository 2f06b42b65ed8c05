"""A load generator for any OpenAI-compatible server: how fast it answers when so many ask at once.

Owns the requests, their timing and the figures. Knows no model and no engine: it sees what a client sees.
"""

from foveate.evaluate.load.figures import DEFINITIONS, summarise
from foveate.evaluate.load.runner import measure
from foveate.evaluate.load.settings import LoadError, LoadSettings

__all__ = ["DEFINITIONS", "LoadError", "LoadSettings", "measure", "summarise"]
