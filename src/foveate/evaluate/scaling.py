"""The scaling law of visual tokens against model size, and the plan that follows from it.

error = A * N^-alpha * T^-beta + D, with N the language model's parameters in billions and T its input tokens (Li et
al. 2024, arXiv 2411.03312, whose separate factors A and B no data can tell apart). Owns the fit, its intervals and
the recommendation for a compute budget. Knows no models and no reducers: `foveate bench` measures the errors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foveate.evaluate.statistics import Interval

Numbers = NDArray[np.float64]
HUBER = 1e-3  # of log error, where squares become absolute values; as Hoffmann et al. 2022 (arXiv 2203.15556)
_STARTS = 12  # values of D, from none to nearly the smallest error, from which the search begins
_ITERATIONS, _ITERATIONS_RESAMPLED = 200, 60


@dataclass(frozen=True, kw_only=True)
class ScalingLaw:
    """error = scale * N^-alpha * T^-beta + floor, for N in billions of parameters."""

    scale: float
    alpha: float
    beta: float
    floor: float

    def error(self, billions: ArrayLike, tokens: ArrayLike) -> Numbers:
        """Predicted error for parameters and tokens of any shapes that broadcast."""
        size, count = np.asarray(billions, dtype=np.float64), np.asarray(tokens, dtype=np.float64)
        return self.scale * size**-self.alpha * count**-self.beta + self.floor


@dataclass(frozen=True, kw_only=True)
class ScalingFit:
    """A law with 95 % percentile intervals of its exponents and floor, and its root mean squared error.

    `prefers_tokens` is None where the resamples do not agree in 95 % on which exponent is larger.
    """

    law: ScalingLaw
    alpha: Interval
    beta: Interval
    floor: Interval
    rmse: float
    prefers_tokens: bool | None


def fit_scaling_law(
    billions: ArrayLike, tokens: ArrayLike, errors: ArrayLike, *, resamples: int = 500, seed: int = 0
) -> ScalingFit:
    """Fits the law to measured errors [n] of models of `billions` [n] parameters at `tokens` [n].

    Huber loss of log errors from several starts; intervals by resampling residuals, which keeps the design (few
    sizes, few budgets) as it is. alpha and floor trade against each other: over a narrow range of sizes, a smaller
    exponent with no floor fits as well as a larger one above a floor. The intervals show it.

    Args:
        tokens: text and visual tokens, or visual ones alone (as the paper's released script has it); the same count
            must be used with the law afterwards.

    Raises:
        ValueError: fewer than 5 points, fewer than 2 sizes or token counts, or numbers that are not positive.
    """
    size, count, error = (np.asarray(x, dtype=np.float64) for x in (billions, tokens, errors))
    _check(size, count, error)
    design = np.stack([np.ones_like(size), -np.log(size), -np.log(count)], axis=1)
    law = _fit(design, np.log(error), starts=_STARTS, iterations=_ITERATIONS)
    fitted = np.log(law.error(size, count))
    residuals = np.log(error) - fitted
    # Four fitted numbers have taken up some of the scatter; give it back before resampling.
    residuals = (residuals - residuals.mean()) * math.sqrt(len(error) / (len(error) - 4))
    generator = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        noisy = fitted + generator.choice(residuals, len(error))
        again = _fit(design, noisy, starts=3, iterations=_ITERATIONS_RESAMPLED)
        drawn.append((again.alpha, again.beta, again.floor))
    samples = np.array(drawn)
    share = float(np.mean(samples[:, 1] > samples[:, 0]))
    return ScalingFit(
        law=law,
        alpha=_interval(law.alpha, samples[:, 0]),
        beta=_interval(law.beta, samples[:, 1]),
        floor=_interval(law.floor, samples[:, 2]),
        rmse=float(np.sqrt(np.mean((law.error(size, count) - error) ** 2))),
        prefers_tokens=None if 0.05 < share < 0.95 else share >= 0.95,
    )


def _check(size: Numbers, count: Numbers, error: Numbers) -> None:
    if not size.shape == count.shape == error.shape or size.ndim != 1:
        raise ValueError(
            f"sizes {size.shape}, tokens {count.shape} and errors {error.shape} are not one row each"
        )
    if len(error) < 5:
        raise ValueError(f"{len(error)} points for a law with 4 unknowns; 5 or more are needed")
    for name, values in (("sizes", size), ("token counts", count), ("errors", error)):
        if not (np.isfinite(values).all() and (values > 0).all()):
            raise ValueError(f"{name} must be positive numbers")
    for name, values in (("model sizes", size), ("token counts", count)):
        if len(np.unique(values)) < 2:
            raise ValueError(f"one value of {name}: its exponent cannot be told")


def _interval(value: float, samples: Numbers) -> Interval:
    low, high = np.quantile(samples, (0.025, 0.975))
    return Interval(value=value, low=float(low), high=float(high), method="residual bootstrap")


def _huber(residuals: Numbers) -> float:
    size = np.abs(residuals)
    return float(np.sum(np.where(size <= HUBER, 0.5 * size**2, HUBER * (size - 0.5 * HUBER))))


def _fit(design: Numbers, log_error: Numbers, *, starts: int, iterations: int) -> ScalingLaw:
    """The best of several searches. Given D, the rest is a straight line in logarithms: that is each start."""
    best, loss = None, math.inf
    smallest = math.exp(float(log_error.min()))
    for share in np.linspace(0, 0.95, starts):
        floor = share * smallest
        start, *_ = np.linalg.lstsq(design, np.log(np.exp(log_error) - floor), rcond=None)
        # D is searched as a square: it can be nothing, but never less.
        found, reached = _descend(
            design, log_error, np.append(start, math.sqrt(max(floor, 1e-6))), iterations
        )
        if reached < loss:
            best, loss = found, reached
    assert best is not None, "the first start has a finite loss"
    return ScalingLaw(
        scale=math.exp(best[0]), alpha=float(best[1]), beta=float(best[2]), floor=float(best[3]) ** 2
    )


def _descend(design: Numbers, log_error: Numbers, theta: Numbers, iterations: int) -> tuple[Numbers, float]:
    """Levenberg-Marquardt with Huber's weights, from theta = (log A, alpha, beta, sqrt D) [4]."""

    def residuals(at: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        power = np.exp(np.clip(design @ at[:3], -50, 50))
        total = power + at[3] ** 2
        return np.log(total) - log_error, power, total

    distance, power, total = residuals(theta)
    loss, damping = _huber(distance), 1e-3
    for _ in range(iterations):
        slope = np.column_stack([design * (power / total)[:, None], 2 * theta[3] / total])
        weight = HUBER / np.maximum(np.abs(distance), HUBER)
        curvature = (slope * weight[:, None]).T @ slope
        gradient = slope.T @ (weight * distance)
        step = np.linalg.solve(
            curvature + damping * (np.diag(np.diag(curvature)) + 1e-12 * np.eye(4)), gradient
        )
        moved = theta - step
        result = residuals(moved)
        reached = _huber(result[0])
        if reached < loss:
            small = loss - reached < 1e-10 * loss
            theta, loss, damping = moved, reached, max(damping / 5, 1e-9)
            distance, power, total = result
            if small:
                break
        else:
            damping *= 5
            if damping > 1e9:
                break
    return theta, loss


# -- the plan ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A model size (billions of parameters) and visual budget, what they cost, and why they were chosen.

    `compute` is 2 * N * (text + visual tokens) in billions of operations: prefill alone, attention left out.
    """

    billions: float
    visual_tokens: int
    error: float
    compute: float
    reason: str


def best_visual_tokens(law: ScalingLaw, text_tokens: int, *, most: int) -> int:
    """Visual tokens of least error when N may be chosen freely and N * (text + visual) is fixed.

    For a law fitted on visual tokens alone: V = beta * Q / (alpha - beta), at least 1; where beta >= alpha every
    token beats any parameter, and the answer is `most`. Rounded to a whole number.
    """
    if law.beta >= law.alpha:
        return most
    return min(most, max(1, round(law.beta * text_tokens / (law.alpha - law.beta))))


def recommend(
    law: ScalingLaw,
    *,
    compute: float,
    sizes: Sequence[float],
    visual_budgets: Sequence[int],
    text_tokens: int,
    counts_text: bool = False,
) -> Plan:
    """The pair of least predicted error among those that the compute budget allows; the cheaper of equals.

    Args:
        compute: billions of operations a question may cost (see `Plan`).
        sizes: models at hand, billions of parameters.
        visual_budgets: visual tokens a question may keep.
        counts_text: whether the law was fitted on text and visual tokens together.

    Raises:
        ValueError: no candidates, or none within the budget; the message names the cheapest.
    """
    if not sizes or not visual_budgets:
        raise ValueError("no sizes or no visual budgets to choose from")
    candidates = []
    for size in sizes:
        for visual in visual_budgets:
            tokens = visual + text_tokens if counts_text else visual
            candidates.append(
                (float(law.error(size, tokens)), 2 * size * (text_tokens + visual), size, visual)
            )
    within = [candidate for candidate in candidates if candidate[1] <= compute]
    if not within:
        cheapest = min(candidate[1] for candidate in candidates)
        raise ValueError(f"{compute:g} billion operations a question; the cheapest choice takes {cheapest:g}")
    error, cost, size, visual = min(within)
    side = "parameters" if law.alpha > law.beta else "tokens"
    reason = (
        f"of {len(candidates)} choices {len(within)} cost at most {compute:g} billion operations; {size:g} billion "
        f"parameters with {visual} visual tokens promise the least error, {error:.3f} "
        f"(the fit prefers {side}: alpha {law.alpha:.3f}, beta {law.beta:.3f})"
    )
    return Plan(billions=size, visual_tokens=visual, error=error, compute=cost, reason=reason)
