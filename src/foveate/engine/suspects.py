"""After a step that raised: which of its requests fails, found without the others losing anything.

Owns the search only: the engine runs the groups it draws, apart from all other requests, and says which raised.
Knows no model. Halves instead of one by one: among n requests one that always raises is found in about
2 log2 n steps, and a step that was merely too large for the memory goes through in parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence


class Suspects:
    """Groups of request ids still to be tried, the most urgent first."""

    def __init__(self) -> None:
        self._groups: list[tuple[str, ...]] = []

    def __bool__(self) -> bool:
        """Whether a search is on."""
        return bool(self._groups)

    def draw(self, is_here: Callable[[str], bool]) -> frozenset[str] | None:
        """The requests the next step is for; None for all. Those that ended meanwhile are left out."""
        while self._groups:
            group = frozenset(name for name in self._groups.pop(0) if is_here(name))
            if group:
                return group
        return None

    def split(self, names: Sequence[str]) -> str | None:
        """A step of these requests raised: the one to blame, or None where their halves are to be tried."""
        if len(names) == 1:
            return names[0]
        middle = len(names) // 2
        self._groups[:0] = [half for half in (tuple(names[:middle]), tuple(names[middle:])) if half]
        return None
