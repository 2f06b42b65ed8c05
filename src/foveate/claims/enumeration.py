"""All outcomes of a random procedure with their probabilities: the rules are held to distributions, not to samples."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch

VOCABULARY = 4
LENGTH = 4  # tokens of the sequences whose joint distribution is compared


class _Script:
    """Plays prescribed outcomes, then the first possible one; remembers what else could have come."""

    def __init__(self, outcomes: Sequence[int]) -> None:
        self._outcomes = list(outcomes)
        self.taken: list[int] = []
        self.open: list[list[int]] = []  # at each point, outcomes not yet tried
        self.weight = 1.0

    def _choose(self, probabilities: Sequence[float]) -> int:
        place = len(self.taken)
        possible = [index for index, probability in enumerate(probabilities) if probability > 0]
        if place < len(self._outcomes):
            outcome = self._outcomes[place]
            self.open.append([])
        else:
            outcome = possible[0]
            self.open.append(possible[1:])
        self.taken.append(outcome)
        self.weight *= probabilities[outcome]
        return outcome

    def accept(self, probability: float) -> bool:
        return bool(self._choose([1 - probability, probability]))

    def draw(self, probabilities: torch.Tensor) -> int:
        return self._choose(probabilities.tolist())


def outcomes(procedure: Callable[[_Script], list[int]]) -> Iterator[tuple[list[int], float]]:
    """(result, probability) of every way the procedure's randomness may fall."""
    waiting: list[list[int]] = [[]]
    while waiting:
        prefix = waiting.pop()
        script = _Script(prefix)
        result = procedure(script)
        yield result, script.weight
        for place in range(len(prefix), len(script.taken)):
            waiting += [[*script.taken[:place], other] for other in script.open[place]]


class Language:
    """A random distribution of the next token after every sequence of up to LENGTH tokens."""

    def __init__(self, seed: int, *, vocabulary: int = VOCABULARY, sharpness: float = 1.5) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._sharpness, self.vocabulary = sharpness, vocabulary
        self._table: dict[tuple[int, ...], torch.Tensor] = {}

    def __call__(self, past: Sequence[int]) -> torch.Tensor:
        key = tuple(past)
        if key not in self._table:
            noise = torch.randn(self.vocabulary, dtype=torch.double, generator=self._generator)
            self._table[key] = (self._sharpness * noise).softmax(dim=-1)
        return self._table[key]

    def near(self, other: Language, noise: float) -> Language:
        """This one, moved towards noise of its own: a draft that is right half of the time."""
        mixed = Language(0, vocabulary=self.vocabulary)
        for length in range(LENGTH):
            for past in itertools.product(range(self.vocabulary), repeat=length):
                mixed._table[past] = (1 - noise) * self(past) + noise * other(past)
        return mixed


def joint(procedure: Callable[[_Script], list[int]], target: Language) -> torch.Tensor:
    """Probability of every sequence of LENGTH tokens that begins with what the procedure emits and goes on as the
    target does."""
    total = torch.zeros((target.vocabulary,) * LENGTH, dtype=torch.double)
    for emitted, weight in outcomes(procedure):
        assert 1 <= len(emitted) <= LENGTH
        total[tuple(emitted)] += weight * plain(target, emitted)
    return total


def plain(target: Language, past: Sequence[int] = ()) -> torch.Tensor:
    """Probability of every continuation to LENGTH tokens, one token after the other."""
    left = LENGTH - len(past)
    if left == 0:
        return torch.ones((), dtype=torch.double)
    return torch.stack([p * plain(target, [*past, token]) for token, p in enumerate(target(past))])


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Total variation."""
    return float((one - other).abs().sum() / 2)
