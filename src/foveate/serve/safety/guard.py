"""The watches on energy as the server holds them: one history for each kind of answer, one account of pictures.

Owns no rule; see energy.py and digests.py. A request goes: `pictures.assess` before it runs, `watch` for each of its
answers, `observe` for each token, `finish` and `pictures.record` at its end.
"""

from __future__ import annotations

import time
from collections import Counter

from foveate.serve.safety.digests import DigestSettings, DigestStatistics
from foveate.serve.safety.energy import OutputHistory, OutputWatch, WatchSettings
from foveate.serve.safety.quotas import Clock


class OutputGuard:
    """All that is remembered of answers.

    Attributes:
        pictures: what each picture does over many requests.
    """

    def __init__(
        self,
        watch: WatchSettings | None = None,
        digests: DigestSettings | None = None,
        *,
        clock: Clock = time.monotonic,
    ) -> None:
        self._settings = watch or WatchSettings()
        self.pictures = DigestStatistics(digests or DigestSettings(), clock=clock)
        self._histories: dict[str, OutputHistory] = {}

    def watch(self, kind: str) -> OutputWatch:
        """For one answer, compared with finished ones of the same kind.

        Args:
            kind: what answers differ in by nature, as "chat with pictures": a few words of the server's, never a
                caller's, since each is remembered.
        """
        return OutputWatch(self._settings, self._histories.setdefault(kind, OutputHistory()))

    @property
    def findings(self) -> Counter[str]:
        """Answers that were ended, by reason, over all kinds."""
        return sum((history.findings for history in self._histories.values()), Counter())
