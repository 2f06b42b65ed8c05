"""How deep to draft: from what was accepted so far and what a step was seen to cost.

Owns two estimates and one decision. A step of n tokens costs base + n · token seconds, fitted to the steps seen; a
draft of an answer is right at each place with the share that was right lately. The depth that promises most tokens
a second wins, and 0 of them is among the choices: a batch large enough to fill the machine has nothing to gain. Knows
no engine and no clock. The answer does not depend on any of this: what is drafted changes its speed alone.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field

MEMORY = 0.95  # weight of the past in every estimate, per step
HOPE, TRUST = (
    0.7,
    2.0,
)  # share of right guesses assumed at first, and how many guesses' worth of weight it has
RETRY = 24  # steps from one to the next in which answers without a draft try one again, all at once
LEAST_VARIANCE = 0.1  # of the steps' tokens; after a step of another size it lasts for some 40 more
OUTLIER = 3.0  # a step this many times as long as expected was held up by something else


@dataclass
class StepCost:
    """Seconds of a decoding step by its tokens: a line through the steps seen, the latest counting most.

    Attributes:
        layer: seconds of drafting one place deeper, for however many answers: they share the calls.
        latest: tokens of the latest step.
    """

    layer: float = 0.0
    latest: int = 0
    _weight: float = 0.0
    _n: float = 0.0
    _t: float = 0.0
    _nn: float = 0.0
    _nt: float = 0.0

    def note(self, tokens: int, seconds: float) -> None:
        """A step that decoded and did nothing else."""
        self.latest = tokens
        if self._weight > 5:
            seconds = min(seconds, OUTLIER * self(tokens))
        self._weight = MEMORY * self._weight + 1
        self._n = MEMORY * self._n + tokens
        self._t = MEMORY * self._t + seconds
        self._nn = MEMORY * self._nn + tokens * tokens
        self._nt = MEMORY * self._nt + tokens * seconds

    def note_draft(self, layers: int, seconds: float) -> None:
        """Drafting that deep, for all answers together."""
        if layers:
            spent = seconds / layers
            self.layer = MEMORY * self.layer + (1 - MEMORY) * spent if self.layer else spent

    @property
    def _spread(self) -> float:
        return self._nn - self._n * self._n / self._weight if self._weight else 0.0

    @property
    def is_known(self) -> bool:
        """Whether steps of different sizes were seen lately: of one size alone says nothing of a token more."""
        return self._spread > LEAST_VARIANCE * self._weight

    @property
    def token(self) -> float:
        """Seconds one more token adds; 0 while that is not known."""
        spread = self._spread
        if not self.is_known:
            return 0.0
        mean = self._t / self._n  # what a token costs with its share of all else; it cannot add more
        return min(max((self._nt - self._n * self._t / self._weight) / spread, 0.0), mean)

    def __call__(self, tokens: float) -> float:
        """Seconds expected of such a step; 0 as long as none was seen."""
        if not self._weight:
            return 0.0
        return max(0.0, self._t / self._weight + self.token * (tokens - self._n / self._weight))


@dataclass
class Acceptance:
    """One answer's guesses.

    Args:
        hope: share of right guesses to begin with.
    """

    hope: InitVar[float] = HOPE
    _right: float = field(init=False)
    _wrong: float = field(init=False)

    def __post_init__(self, hope: float) -> None:
        self._right, self._wrong = hope * TRUST, (1 - hope) * TRUST

    @property
    def share(self) -> float:
        """Of places reached, those where a draft had the right token."""
        return self._right / (self._right + self._wrong)

    def note(self, depth: int, accepted: int) -> None:
        """A draft of this depth, of which so many places were right."""
        self._right = MEMORY * self._right + accepted
        self._wrong = MEMORY * self._wrong + (accepted < depth)


def expected_tokens(share: float, depth: int) -> float:
    """Of one pass of the target: accepted guesses, and the token that is the target's own (Leviathan et al. 2023)."""
    return depth + 1.0 if share >= 1 else (1 - share ** (depth + 1)) / (1 - share)


def best_depth(
    acceptance: Acceptance,
    cost: StepCost,
    *,
    most: int,
    nodes_per_depth: float,
    answers: int = 1,
    others: int = 0,
) -> int:
    """The depth, 0 to `most`, that promises most tokens a second.

    Args:
        nodes_per_depth: nodes a tree has for each layer; 1 for a chain.
        answers: those that may draft in the step; they are taken to be like this one, and pay once for each layer.
        others: answers that share the step and do not.
    """
    if most < 1:
        return 0
    if not cost.is_known:  # a draft and no draft in turn tell
        return 0 if cost.latest > answers + others else most
    step, deeper = cost(float(answers + others)), answers * nodes_per_depth * cost.token + cost.layer
    rates = [
        (others + answers * expected_tokens(acceptance.share, depth)) / (step + depth * deeper)
        for depth in range(most + 1)
    ]
    return max(range(most + 1), key=lambda depth: (rates[depth], -depth))
