"""The watch on answers: exact against a slow reference, quiet on ordinary text, awake to what it is for."""

from __future__ import annotations

import itertools
import math
import random
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveate.evaluate.nano import SCORED_FAMILIES
from foveate.models import load
from foveate.serve.safety.digests import DigestSettings, DigestStatistics
from foveate.serve.safety.energy import OutputHistory, OutputWatch, WatchSettings
from foveate.serve.safety.guard import OutputGuard
from foveate.serve.safety.limits import SafetySettingsError
from foveate.serve.safety.population import Population
from foveate.serve.safety.repetition import PeriodDetector

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from output_watch import over_answers, over_texts


def slow_period(tokens, max_period, min_repeats, min_tokens):
    """By definition: the shortest p whose suffix of the needed length has it."""
    for period in range(1, max_period + 1):
        length = max(min_tokens, min_repeats * period)
        end = tokens[-length:]
        if len(end) == length and all(end[i] == end[i - period] for i in range(period, length)):
            return period
    return None


TOKENS = st.lists(st.integers(0, 2), max_size=120)
PERIODIC = st.builds(
    lambda start, piece, times, rest, cut: start + piece * times + piece[:cut] + rest,
    st.lists(st.integers(0, 4), max_size=30),
    st.lists(st.integers(0, 2), min_size=1, max_size=12),
    st.integers(1, 12),
    st.lists(st.integers(0, 4), max_size=10),
    st.integers(0, 12),
)


@given(TOKENS | PERIODIC, st.integers(1, 12), st.integers(2, 5), st.integers(2, 30))
def test_the_detector_agrees_with_the_definition_after_every_token(tokens, span, repeats, least):
    detector = PeriodDetector(max_period=span, min_repeats=repeats, min_tokens=least)
    for end, token in enumerate(tokens, start=1):
        assert detector.feed(token) == slow_period(tokens[:end], span, repeats, least), (end, tokens)


@pytest.mark.parametrize("piece", [1, 2, 7, 31, 32, 33, 100, 256])
def test_a_loop_is_found_at_the_token_that_completes_it(piece):
    generator = random.Random(piece)
    start = [generator.randrange(1000) for _ in range(5000)]
    loop = [1000 + number for number in range(piece)]
    watch = OutputWatch(WatchSettings())
    found = [
        index
        for index, token in enumerate(itertools.chain(start, loop * (2000 // piece)))
        if watch.observe(token)
    ]
    assert found[0] == 5000 + max(128, 4 * piece) - 1
    assert watch.finding.reason == "periodic" and f" {piece} token" in watch.finding.detail
    assert watch.finding.tokens == found[0] + 1


def test_longer_pieces_than_allowed_and_near_repeats_are_not_found():
    watch = OutputWatch()
    assert not any(watch.observe(token) for token in list(range(257)) * 10)
    watch = OutputWatch()  # a numbered list of the same line
    assert not any(watch.observe(token) for number in range(200) for token in (5, 6, 7, 1000 + number, 8))


def test_switched_off_it_finds_nothing():
    watch = OutputWatch(WatchSettings(enabled=False))
    assert not any(watch.observe(1, 50.0) for _ in range(5000))


def unlike(count: int):
    """Tokens that repeat nothing."""
    return (1000 + number for number in range(count))


def test_long_noise_is_found_and_long_or_noisy_alone_is_not():
    noisy, calm, short = OutputWatch(), OutputWatch(), OutputWatch()
    assert not any(short.observe(token, 6.0) for token in unlike(512))
    assert not any(calm.observe(token, 1.5) for token in unlike(5000))
    found = [noisy.observe(token, 6.0) for token in unlike(600)]
    assert noisy.finding.reason == "unpredictable" and found.index(noisy.finding) == 512
    silent = OutputWatch()
    assert not any(silent.observe(token) for token in unlike(5000))  # nothing known, nothing claimed


def history(
    *, length: float = 60, spread: float = 0.8, surprisal: float = 0.4, count: int = 300
) -> OutputHistory:
    """Of ordinary answers: lengths log-normal, unpredictability normal."""
    generator, known = np.random.default_rng(0), OutputHistory()
    for _ in range(count):
        tokens = max(1, round(length * math.exp(generator.normal(0, spread))))
        watch = OutputWatch(history=known)
        each = max(0.0, generator.normal(surprisal, 0.1))
        for token in unlike(tokens):
            watch.observe(token, each)
        watch.finish()
    return known


def test_with_a_history_answers_are_held_against_the_others():
    known = history()
    watch = OutputWatch(history=known)
    assert any(
        watch.observe(token, 1.5) for token in unlike(2000)
    )  # below the absolute limit, far above these
    watch.finish()
    assert known.findings == {"unpredictable": 1} and known.answers == 301 and len(known.lengths) == 300
    calm = OutputWatch(history=known)
    assert not any(calm.observe(token, 0.9) for token in unlike(2000))


def test_where_answers_are_long_by_nature_long_is_ordinary():
    known = history(length=1000, spread=0.2, count=110)
    watch = OutputWatch(history=known)
    assert not any(watch.observe(token, 9.0) for token in unlike(1500))


def test_numbers_that_are_none_are_left_out():
    watch = OutputWatch()
    for token in unlike(2000):
        assert not watch.observe(token, math.inf if token % 2 else math.nan)


# -- pictures ------------------------------------------------------------------------------------------------


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def ordinary(generator) -> int:
    """A length from a heavy tail: median 60, one in a hundred above 380."""
    return max(1, round(60 * math.exp(generator.normal(0, 0.8))))


def known_pictures(clock=None, **settings) -> tuple[DigestStatistics, np.random.Generator]:
    statistics, generator = (
        DigestStatistics(DigestSettings(**settings), clock=clock or Clock()),
        np.random.default_rng(1),
    )
    for number in range(200):
        statistics.record("web", [f"picture {number}"], ordinary(generator))
    return statistics, generator


def test_a_verbose_picture_is_capped_on_its_fourth_use_and_then_throttled():
    clock = Clock()
    statistics, _ = known_pictures(clock, per_minute=2)
    for _ in range(3):
        assert statistics.assess("mallory", ["verbose"]).action == "allow"
        statistics.record("mallory", ["verbose"], 4000)
    for _ in range(2):
        verdict = statistics.assess("mallory", ["other", "verbose"])
        assert verdict.action == "cap" and 128 <= verdict.max_tokens < 1000 and "longer" in verdict.reason
        statistics.record("mallory", ["other", "verbose"], verdict.max_tokens, cut=True)
    throttled = statistics.assess("mallory", ["verbose"])
    assert throttled.action == "throttle" and throttled.retry_after == pytest.approx(30.0)
    clock.now += 31
    assert statistics.assess("mallory", ["verbose"]).action == "cap"
    assert statistics.verdicts == {"allow": 3, "cap": 3, "throttle": 1}


def test_one_caller_cannot_have_the_picture_of_another_capped():
    statistics, _ = known_pictures()
    for _ in range(20):
        statistics.record("mallory", ["logo"], 4000)
    assert statistics.assess("mallory", ["logo"]).action == "cap"
    assert statistics.assess("web", ["logo"]).action == "allow"


def test_replaying_one_picture_does_not_make_long_answers_ordinary():
    statistics, _ = known_pictures()
    for _ in range(5000):
        statistics.record("mallory", ["verbose"], 4000)
    assert statistics.assess("mallory", ["verbose"]).action == "cap"


def test_a_picture_becomes_ordinary_again():
    statistics, _ = known_pictures()
    for _ in range(3):
        statistics.record("web", ["chart"], 4000)
    assert statistics.assess("web", ["chart"]).action == "cap"
    for _ in range(5):
        statistics.record("web", ["chart"], 80)
    assert statistics.assess("web", ["chart"]).action == "allow"


def test_little_knowledge_and_short_answers_condemn_nobody():
    statistics = DigestStatistics()
    for number in range(40):
        statistics.record("web", [str(number % 20)], 4000 if number % 20 == 0 else 20)
    assert statistics.assess("web", ["0"]).action == "allow"  # too few to compare with
    for number in range(200):
        statistics.record("web", [f"short {number}"], 3)
    for _ in range(5):
        statistics.record("web", ["longer"], 120)
    assert statistics.assess("web", ["longer"]).action == "allow"  # 40 times the others, and still short
    assert DigestStatistics(DigestSettings(enabled=False)).assess("web", ["0"]).action == "allow"


def test_ordinary_pictures_asked_again_and_again_are_let_through():
    """The rate of false alarms among 2,000 pictures with 8 answers each, lengths from the same heavy tail."""
    statistics, generator = known_pictures()
    alarms = 0
    for number in range(2000):
        for _ in range(8):
            alarms += statistics.assess("web", [f"asked {number}"]).action != "allow"
            statistics.record("web", [f"asked {number}"], ordinary(generator))
    assert alarms <= 8  # of 16,000: one in two thousand


def test_only_so_many_pictures_are_remembered():
    statistics, _ = known_pictures(max_pictures=50)
    for _ in range(3):
        statistics.record("web", ["verbose"], 4000)
    for number in range(49):
        statistics.record("web", [f"new {number}"], 50)
    assert statistics.is_outlier("web", "verbose")
    statistics.record("web", ["one more"], 50)
    assert not statistics.is_outlier("web", "verbose")


# -- the population ------------------------------------------------------------------------------------------


# Without subnormal numbers: compiled code of the engine may have made this process round them to zero.
@given(st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=100))
def test_robust_figures_are_those_of_numpy(values):
    known = Population(least_spread=0.5)
    for value in values:
        known.add(value)
    median = np.median(values)
    assert known.centre == pytest.approx(median)
    assert known.spread == pytest.approx(max(0.5, 1.4826 * np.median(np.abs(np.array(values) - median))))


def test_an_attacker_with_less_than_half_moves_the_centre_little():
    known, generator = Population(least_spread=0.1), np.random.default_rng(3)
    for number in range(1000):
        known.add(1000.0 if number % 5 < 2 else generator.normal(10, 1))
    assert known.centre < 13 and known.score(1000.0) > 100


def test_figures_follow_new_values():
    known = Population(size=100, least_spread=0.1)
    for value in range(1000):
        known.add(float(value))
    assert len(known) == 100 and 880 <= known.centre <= 960


@pytest.mark.parametrize(
    "settings", [{"min_repeats": 1}, {"window": 0}, {"surprisal": -1.0}, {"long_tokens": None}]
)
def test_settings_that_mean_nothing_are_errors(settings):
    with pytest.raises(SafetySettingsError):
        WatchSettings(**settings)


# -- together, and on real text ------------------------------------------------------------------------------


def test_a_guard_keeps_kinds_apart_and_adds_up_findings():
    guard = OutputGuard(WatchSettings(min_population=5))
    for kind in ("chat", "completion"):
        looping = guard.watch(kind)
        assert [looping.observe(1) is not None for _ in range(128)] == [False] * 127 + [True]
        looping.finish()
    assert guard.findings == {"periodic": 2}
    assert guard.pictures.assess("web", ["any"]).action == "allow"


def test_ordinary_text_is_left_alone_and_a_model_that_runs_on_is_not():
    """The benchmark's own functions on a part of its text; the whole is in results/benchmarks/output_watch.json."""
    model = load()
    prose = over_texts(model, (".md",))
    assert prose["texts"] > 10 and prose["tokens"] > 50_000 and prose["alarms"] <= prose["texts"] // 20
    answers = over_answers(model, 1, run_on=False)
    assert answers["texts"] == len(SCORED_FAMILIES) and answers["alarms"] == 0
    running = over_answers(model, 1, run_on=True)
    assert running["alarms"] > running["texts"] // 2 and running["tokens_saved"] > running["tokens"] // 4
