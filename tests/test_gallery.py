"""The gallery's scripts run, are short, and show what they say; each draws figures without a window."""

import io
import runpy
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import mechopt as mo

GALLERY = Path(__file__).parents[1] / "docs" / "gallery"
SCRIPTS = sorted(GALLERY.glob("*.py"))
LONGEST = 60


def menu_is_pooled(shown: dict[str, Any]) -> None:
    quantity = shown["menu"]["quantity"]
    (first, last), *_ = shown["menu"].extra["pools"]
    assert np.ptp(quantity[first:last]) == 0
    assert not shown["form"].valid
    assert shown["solved"].objective == pytest.approx(shown["menu"].objective, rel=1e-6)


def price_is_the_slope(shown: dict[str, Any]) -> None:
    # Of a concave function; prices fall, to nothing once the budget is what the demander spends anyway.
    prices, slopes = np.array(shown["prices"]), shown["slopes"]
    assert np.all(prices[1:] <= slopes + 1e-9)
    assert np.all(slopes <= prices[:-1] + 1e-9)
    assert prices[0] > 1
    assert prices[-1] == pytest.approx(0, abs=1e-9)


def shaping_collects_more(shown: dict[str, Any]) -> None:
    shaping = shown["shaping"]
    alone, free_riding = shaping.standalone().contribution.sum(), shaping.standard_federated().total_data
    assert free_riding < alone < shaping.solve().objective
    assert shown["found"].found


def graphs_are_what_the_page_says(shown: dict[str, Any]) -> None:
    market = shown["market"]
    assert market.is_equilibrium(shown["best"], shown["prices"])
    assert shown["capped"]["adjacency"].sum(axis=1).max() == 1
    assert shown["capped"].objective < shown["best"].objective
    assert shown["network"].is_stable(shown["graph"])


def mixed_payments_balance(shown: dict[str, Any]) -> None:
    excluded, dropped, mixed = shown["outcomes"].values()
    assert excluded.sum() < 0 < dropped.sum()
    assert mixed.sum() == pytest.approx(0, abs=1e-9)
    assert shown["audit"].ic_violation <= 1e-6


def values_add_up(shown: dict[str, Any]) -> None:
    whole, users = shown["whole"], shown["with_platform"]
    assert shown["among_users"].user_values.sum() == pytest.approx(whole, rel=1e-12)
    assert users.user_values.sum() + users.platform_value == pytest.approx(whole, rel=1e-12)
    assert np.all(np.diff(shown["among_users"].user_values) > 0)


def regimes_and_bound(shown: dict[str, Any]) -> None:
    numbers, solution = shown["numbers"], shown["solution"]
    low, high = numbers["cost_threshold_low"], numbers["cost_threshold_high"]
    chance, costs = numbers["share_probability"], numbers["privacy_cost"]
    assert np.all(chance[costs < low - 1e-9] == 1)
    assert np.all(chance[costs > high + 1e-9] == 0)
    assert np.all((chance > 0) & (chance < 1), where=(costs > low + 1e-9) & (costs < high - 1e-9))
    assert solution.objective <= solution.bound <= solution.objective * (1 + 1e-6)


def market_does_harm(shown: dict[str, Any]) -> None:
    market = shown["market"]
    assert market.objective > 0 > shown["model"].data_surplus(market["sharing"])
    assert mo.should_shut(shown["model"]).mediator_surplus > 0


def conflict_is_named(shown: dict[str, Any]) -> None:
    with pytest.raises(mo.Infeasible) as caught:
        shown["declare"](10, 300).solve()
    assert set(caught.value.families) == {"budget", "coverage", "ir"}
    assert np.all(np.diff(shown["least"]) > 0)
    # Just above the frontier there is a menu.
    assert shown["declare"](shown["least"][6] + 1e-3, shown["floors"][6]).solve("clarabel").status.ok


def backends_agree(shown: dict[str, Any]) -> None:
    assert {"exact", "clarabel", "outer", "scs", "slsqp"} <= set(shown["names"])
    # Solvers are asked for a hundredth of the default tolerance, 1e-6.
    assert max(shown["errors"]) < 1e-6


CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "01_contract_menu": menu_is_pooled,
    "02_own_constraint": price_is_the_slope,
    "03_federated_learning": shaping_collects_more,
    "04_sharing_graph": graphs_are_what_the_page_says,
    "05_vcg_payments": mixed_payments_balance,
    "06_fair_value": values_add_up,
    "07_platform_regimes": regimes_and_bound,
    "08_data_externality": market_does_harm,
    "09_infeasible": conflict_is_named,
    "10_backends_compared": backends_agree,
}


def test_every_script_has_a_check() -> None:
    assert [script.stem for script in SCRIPTS] == sorted(CHECKS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_script_runs_and_shows_what_it_says(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(script.read_text(encoding="utf-8").splitlines()) < LONGEST
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with redirect_stdout(printed):
        shown = runpy.run_path(str(script))
    assert printed.getvalue().strip()
    assert "False" not in printed.getvalue().replace("False non_monotone", "")
    figures = [value for value in shown.values() if isinstance(value, Figure)]
    assert isinstance(shown["figure"], Figure)
    for figure in figures:
        figure.savefig(io.BytesIO())
        assert any(axes.has_data() for axes in figure.axes)
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()
    assert not list(tmp_path.iterdir())
    CHECKS[script.stem](shown)
