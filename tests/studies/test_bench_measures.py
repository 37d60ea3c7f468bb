"""Formulas of the benchmark's report, on tables small enough to work out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mechopt import InvalidInput
from mechopt.studies.bench.measures import (
    Growth,
    growth,
    growths,
    judged,
    performance_profile,
    profiles,
    rates,
    shifted_geometric_mean,
)


def rows(*given: dict[str, Any]) -> pd.DataFrame:
    """Rows that differ from a good one in what is given."""
    good = {
        "family": "f",
        "mechanism": "f",
        "size": 1,
        "seed": 0,
        "setting": "default",
        "backend": "a",
        "sense": "maximize",
        "status": "optimal",
        "success": True,
        "checked": True,
        "objective": 2.0,
        "reference": 2.0,
        "reference_kind": "closed form",
        "residual": 0.0,
        "correct_tolerance": 1e-6,
        "time_limit": 10.0,
        "seconds": 1.0,
    }
    return pd.DataFrame([good | each for each in given])


def test_shifted_geometric_mean_by_hand() -> None:
    # (1 + 1)(7 + 1)(31 + 1) = 512 = 8^3
    assert shifted_geometric_mean([1, 7, 31], shift=1) == pytest.approx(7)
    assert shifted_geometric_mean([3.5], shift=0.1) == pytest.approx(3.5)
    assert math.isnan(shifted_geometric_mean([]))


def test_shift_decides_how_much_short_times_count() -> None:
    short, shorter = [1e-3, 1.0], [1e-6, 1.0]
    assert shifted_geometric_mean(short, 1e-9) > 20 * shifted_geometric_mean(shorter, 1e-9)
    assert shifted_geometric_mean(short, 0.1) == pytest.approx(shifted_geometric_mean(shorter, 0.1), rel=0.02)


@pytest.mark.parametrize(("times", "shift"), [([1.0, -1.0], 0.1), ([math.nan], 0.1), ([1.0], 0.0)])
def test_shifted_geometric_mean_refuses(times: list[float], shift: float) -> None:
    with pytest.raises(InvalidInput):
        shifted_geometric_mean(times, shift)


def test_performance_profile_by_hand() -> None:
    # Three instances: a fastest on the first two, fails on the third; b twice and four times as slow.
    curves = performance_profile({"a": [1.0, 2.0, np.inf], "b": [2.0, 8.0, 5.0]})
    assert [x.tolist() for x in curves["a"]] == [[1.0], [2 / 3]]
    assert [x.tolist() for x in curves["b"]] == [[1.0, 2.0, 4.0], [1 / 3, 2 / 3, 1.0]]


def test_profile_measures_a_backend_on_what_it_was_asked() -> None:
    curves = performance_profile({"a": [1.0, np.nan], "b": [np.inf, 3.0]})
    assert curves["a"][1].tolist() == [1.0]
    assert curves["b"][1].tolist() == [0.5]


def test_profile_where_nobody_answers() -> None:
    curves = performance_profile({"a": [np.inf], "b": [np.inf]})
    assert curves["a"][1].tolist() == curves["b"][1].tolist() == [0.0]
    assert performance_profile({}) == {}
    with pytest.raises(InvalidInput, match="one time for each"):
        performance_profile({"a": [1.0], "b": [1.0, 2.0]})


def test_growth_finds_the_exponent_and_its_interval() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        size = np.array([10.0, 30, 100, 300, 1000])
        fit = growth(size, 0.01 * size**1.7 * np.exp(rng.normal(scale=0.3, size=5)))
        covered += fit.low <= 1.7 <= fit.high
    # 95% of 400, give or take four standard deviations of a binomial
    assert abs(covered - 380) <= 18


def test_growth_of_few_points() -> None:
    assert math.isnan(growth([10, 10], [1, 2]).exponent)
    two = growth([1, 10], [1, 100])
    assert two.exponent == pytest.approx(2)
    assert math.isnan(two.low)
    assert str(two) == "2.00"
    assert str(growth([], [])) == ""
    assert str(Growth(1.234, 1.0, 1.5, 4)) == "1.23 (1.0 to 1.5)"


def test_growth_leaves_wrong_answers_out() -> None:
    table = judged(
        rows(
            {"size": 1, "seconds": 1.0},
            {"size": 2, "seconds": 4.0},
            {"size": 4, "seconds": 1e-9, "objective": 3.0},
        )
    )
    assert growths(table)["f", "a"].exponent == pytest.approx(2)


def test_correct_is_more_than_success() -> None:
    table = judged(
        rows(
            {},
            {"objective": 2.0 + 1e-5},  # better than possible
            {"objective": 1.9},  # a local optimum, say
            {"residual": 1e-3},
            {"checked": False, "status": "inaccurate"},
            {"success": False, "checked": False, "status": "crash", "objective": math.nan},
            {"objective": 2.0 - 1e-7},
        )
    )
    assert table["correct"].tolist() == [True, False, False, False, False, False, True]
    (found,) = rates(table, ["backend"]).to_dict("records")
    assert (found["asked"], found["success"], found["correct"], found["wrong"]) == (
        7,
        pytest.approx(6 / 7),
        pytest.approx(2 / 7),
        4,
    )
    # two of one second, five that count as the limit of ten
    assert found["seconds"] == pytest.approx(shifted_geometric_mean([1.0] * 2 + [10.0] * 5))


def test_each_setting_is_held_to_its_own_tolerance() -> None:
    off = {"objective": 2.0 + 1e-5}
    table = judged(
        rows(
            off | {"setting": "loose", "correct_tolerance": 1e-4},
            off | {"setting": "default", "correct_tolerance": 1e-6},
        )
    )
    assert rates(table, ["setting"])["correct"].tolist() == [1.0, 0.0]


@pytest.mark.parametrize(("sense", "best"), [("maximize", 3.0), ("minimize", 2.0)])
def test_best_checked_answer_stands_in_for_a_reference(sense: str, best: float) -> None:
    unknown = {"reference": math.nan, "reference_kind": "", "sense": sense}
    table = judged(
        rows(
            unknown | {"backend": "a", "objective": 2.0},
            unknown | {"backend": "b", "objective": 3.0},
            unknown | {"backend": "liar", "objective": 9.0 if sense == "maximize" else 0.0, "checked": False},
            unknown | {"backend": "none", "objective": math.nan, "checked": False, "sense": ""},
        )
    )
    assert table["reference"].tolist() == [best] * 4
    assert table["own"].tolist() == [best == 2.0, best == 3.0, False, False]
    assert table["correct"].tolist() == [best == 2.0, best == 3.0, False, False]
    assert table["error"].iloc[0 if best == 3.0 else 1] < 0  # worse is negative in either sense


def test_no_reference_and_no_checked_answer() -> None:
    table = judged(rows({"reference": math.nan, "reference_kind": "", "checked": False}))
    assert math.isnan(table["reference"].iloc[0])
    assert table["reference_kind"].iloc[0] == ""
    assert not table["correct"].any()


def test_the_exact_algorithm_is_not_its_own_judge() -> None:
    table = judged(
        rows(
            {"backend": "exact", "reference_kind": "exact algorithm"},
            {"backend": "exact", "reference_kind": "closed form"},
            {"backend": "a", "reference_kind": "exact algorithm"},
        )
    )
    assert table["own"].tolist() == [True, False, False]


def test_profiles_count_wrong_answers_as_failures() -> None:
    table = judged(
        rows(
            {"backend": "a", "seconds": 2.0},
            {"backend": "fast and wrong", "seconds": 0.1, "objective": 1.0},
        )
    )
    curves = profiles(table)
    assert curves["a"][1].tolist() == [1.0]
    assert curves["fast and wrong"][1].tolist() == [0.0]
