"""The dial: what it accepts, what it refuses and why, what `auto` decides."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made import raster

from foveate.errors import ReductionError
from foveate.reduce import Budget, get_reducer
from foveate.reduce.budget import FEWEST_BY_AUTO, TEXT_RICH_EDGES, question_kind
from foveate.reduce.edges import edge_share
from foveate.reduce.shapes import shape_for


@pytest.mark.parametrize(
    ("value", "kept", "total"),
    [
        ("full", 576, 576),
        (" FULL ", 576, 576),
        ("25%", 144, 576),
        ("12.5 %", 72, 576),
        ("10%", 57, 576),
        ("10%", 1, 10),  # not 0: 0.1 x 10 is exactly 1
        ("0.1%", 1, 576),
        ("100%", 576, 576),
        ("144", 144, 576),
        (144, 144, 576),
        (1, 1, 576),
        ("576", 576, 576),
    ],
)
def test_what_the_dial_means(value: str | int, kept: int, total: int) -> None:
    plan = Budget.parse(value).plan(total)
    assert (plan.kept, plan.total) == (kept, total)
    assert plan.reason


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "keeps no token"),
        ("0", "keeps no token"),
        ("0%", "keeps no token"),
        (-3, "keeps no token"),
        ("-5%", "keeps no token"),
        ("101%", "more than all tokens"),
        ("100.1%", "more than all tokens"),
        ("0.25", "write 25%"),
        ("1.5", "neither a whole number"),
        ("ful", "Did you mean 'full'"),
        ("atuo", "Did you mean 'auto'"),
        ("", "cannot be read"),
        ("25 tokens", "cannot be read"),
        ("%", "cannot be read"),
        ("1e3", "cannot be read"),
        ("²", "cannot be read"),
        (0.5, "is a float"),
        (None, "is a NoneType"),
        (True, "is a bool"),
    ],
)
def test_what_is_refused(value: object, words: str) -> None:
    with pytest.raises(ReductionError, match=words) as caught:
        Budget.parse(value)  # type: ignore[arg-type]
    assert caught.value.fix


def test_more_than_the_image_has_is_refused_at_plan_time() -> None:
    budget = Budget.parse(577)
    with pytest.raises(ReductionError, match="more than the image has: it becomes 576 visual tokens"):
        budget.plan(576)
    with pytest.raises(ReductionError, match="at most 6,"):
        get_reducer("strided").plan(raster(2, 3), "7")


@given(st.one_of(st.integers(1, 10**6), st.fractions(Fraction(1, 1000), 1)))
def test_a_budget_writes_itself_down(value: int | Fraction) -> None:
    if isinstance(value, Fraction):
        value = f"{float(round(value * 100, 3)):g}%" if round(value * 100, 3) else "1%"
    budget = Budget.parse(value)
    assert Budget.parse(str(budget)) == budget


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("What does the sign say?", "reading"),
        ("Read the text.", "reading"),
        ("How many red squares are there?", "counting"),
        ("Where is the star?", "place"),
        ("Describe the picture.", "description"),
        ("Is there a triangle?", "presence or attribute"),
        ("What colour is the circle?", "presence or attribute"),
        ("Hm.", "other"),
    ],
)
def test_question_kinds(question: str, kind: str) -> None:
    assert question_kind(question)[0] == kind


def test_auto_says_why() -> None:
    plan = Budget.parse("auto").plan(576, question="Is there a cat?")
    assert plan.kept == 144
    assert "presence" in plan.reason
    rich = Budget.parse("auto").plan(576, question="Is there a cat?", edges=TEXT_RICH_EDGES)
    assert rich.kept == 288
    assert "rich in text" in rich.reason
    assert Budget.parse("auto").plan(576, question="Read it").kept == 576
    assert Budget.parse("auto").plan(FEWEST_BY_AUTO - 1, question="Is there a cat?").is_full


def test_print_has_more_edges_than_a_smooth_picture() -> None:
    smooth = torch.linspace(-1, 1, 64).expand(1, 3, 64, 64)
    print_like = torch.where(torch.arange(64) % 4 < 2, 1.0, -1.0).expand(1, 3, 64, 64)
    assert edge_share(smooth) == 0
    assert edge_share(print_like) == pytest.approx(31 / 63)


@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_smaller_rasters_fit_and_keep_the_shape(rows: int, cols: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, rows * cols))
    height, width = shape_for(rows, cols, k)
    assert 1 <= height <= rows
    assert 1 <= width <= cols
    assert height * width <= k
    if k == rows * cols:
        assert (height, width) == (rows, cols)
    if rows == cols:
        assert height * width >= k - 2 * int(k**0.5), "a square wastes less than two rows"
