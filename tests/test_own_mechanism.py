"""The newcomer's mechanism of the docs: its roads agree, and it needs nothing that is not public."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import cvxpy as cp
import numpy as np
import pytest

import mechopt as mo

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "data_auction.py"
PAGE = ROOT / "docs" / "own_mechanism.md"
LINEAR = 1e-8
"""Of the top value: HiGHS solves these small linear programs to about 1e-9."""
ROUNDING = 1e-12
"""Of the top value: a few hundred additions."""


@pytest.fixture(scope="module")
def example() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("data_auction", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["data_auction"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["data_auction"]


@pytest.fixture(scope="module")
def auctions(example: ModuleType) -> list[Any]:
    rng = np.random.default_rng(5)
    bounds = [
        example.DataAuction((7.0,), (1.0,), 3, 2.0),
        example.DataAuction((0.0, 1.0), (0.5, 0.5), 1, 0.0),
    ]
    return [*bounds, *example.draw(rng, 25)]


def sells_ex_post(auction: Any) -> float:
    """Best profit with an assignment for each profile of values: no Border, no interim chances."""
    values, n = np.array(auction.values), auction.n_bidders
    profiles = list(itertools.product(range(values.size), repeat=n))
    chance = np.array([np.prod([auction.probs[k] for k in profile]) for profile in profiles])
    given = cp.Variable((len(profiles), n), nonneg=True)
    payment = cp.Variable((n, values.size))
    constraints, profit = (
        [cp.sum(given, axis=1) <= 1],
        -auction.privacy_cost * (chance @ cp.sum(given, axis=1)),
    )
    for bidder in range(n):
        own = np.array([profile[bidder] for profile in profiles])
        weights = np.stack([np.where(own == k, chance / auction.probs[k], 0.0) for k in range(values.size)])
        win = weights @ given[:, bidder]
        paid = payment[bidder]
        profit += np.array(auction.probs) @ paid
        for k, value in enumerate(values):
            constraints += [value * win[k] - paid[k] >= 0, value * win - paid <= value * win[k] - paid[k]]
    return float(cp.Problem(cp.Maximize(profit), constraints).solve(solver=cp.HIGHS))


def test_three_roads_agree(auctions: list[Any]) -> None:
    n_regular = 0
    for auction in auctions:
        exact, declared = auction.program().solve(), auction.program().solve("highs")
        assert (exact.backend, exact.status) == ("exact", mo.Status.OPTIMAL)
        assert exact.objective == pytest.approx(declared.objective, abs=LINEAR * auction.values[-1]), auction
        try:
            form = auction.closed_form()
        except mo.NotApplicable:
            continue
        n_regular += 1
        assert exact.objective == pytest.approx(form["objective"], abs=ROUNDING * auction.values[-1]), auction
        served = np.array(auction.values)[exact["win"] > 0]
        assert float(np.min(served, initial=np.inf)) == form["reserve"]
    assert 8 <= n_regular <= len(auctions) - 8  # both kinds are among them


def test_interim_program_is_the_auction(example: ModuleType) -> None:
    for auction in example.draw(np.random.default_rng(6), 8):
        small = replace(auction, n_bidders=min(auction.n_bidders, 2))
        assert small.program().solve().objective == pytest.approx(
            sells_ex_post(small), abs=LINEAR * small.values[-1]
        ), small


def test_audit_by_the_definition(auctions: list[Any]) -> None:
    for auction in auctions:
        answer = auction.program().solve()
        assert auction.audit(answer).ok(ROUNDING)
        assert auction.audit(auction.program().solve("highs")).ok(LINEAR)
    answer = dict(auctions[-1].program().solve())
    answer["payment"] = answer["payment"] + 0.1 * auctions[-1].values[-1]
    audit = auctions[-1].audit(answer)
    assert audit.ir_violation == pytest.approx(0.1 * auctions[-1].values[-1])
    assert audit.worst.choice is None


def test_price_is_a_finite_difference(example: ModuleType) -> None:
    auction = example.DataAuction((1.0, 2.0, 3.0, 4.0), (0.4, 0.3, 0.2, 0.1), 3, 0.5)
    step, profits, price = 1e-3, [], 0.0
    for most in (0.5, 0.5 - step, 0.5 + step):
        program = auction.program()
        program.add("consent", program["sold"] <= most)
        solution = program.solve("highs")
        profits.append(solution.objective)
        price = price or float(solution.dual("consent"))
    # Piecewise linear in the bound, and 0.5 is inside of a piece.
    assert price == pytest.approx((profits[2] - profits[1]) / (2 * step), rel=1e-6)
    assert price == pytest.approx(2.0, rel=1e-9)
    # By duality it is the cost at which the seller would stop there of its own accord.
    sold = [
        float(replace(auction, privacy_cost=0.5 + price + shift).program().solve()["sold"])
        for shift in (-1e-6, 1e-6)
    ]
    assert sold[0] > 0.5 > sold[1]


def test_dropping_a_slack_family_changes_nothing(example: ModuleType) -> None:
    auction = example.DataAuction((1.0, 2.0, 3.0), (0.2, 0.3, 0.5), 2, 0.0)
    program = auction.program()
    program.add("slack", program["payment"] <= 100.0)
    with_it = program.solve("highs").objective
    assert program.solve("highs").dual("slack") == pytest.approx(0.0, abs=1e-9)
    assert program.drop("slack").solve("highs").objective == pytest.approx(with_it, rel=1e-9)


def test_exact_algorithm_steps_aside(example: ModuleType) -> None:
    program = example.DataAuction((1.0, 2.0), (0.5, 0.5)).program()
    program.add("consent", program["sold"] <= 0.2)
    assert program.solve().backend != "exact"
    with pytest.raises(mo.MissingCapability, match="consent"):
        program.solve("exact")
    assert program.drop("consent").solve().backend == "exact"
    assert program.maximize(program["sold"]).solve().backend != "exact"


@pytest.mark.parametrize("claim", ["profit", "reserve"])
def test_claims_hold(example: ModuleType, claim: str) -> None:
    outcome = mo.run_claim(getattr(example, claim))
    assert outcome.verdict is mo.Verdict.HOLDS
    assert outcome.n_checked >= 10


def test_claims_can_fail(example: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    right = example.DataAuction.closed_form

    def without_cost(auction: Any) -> Any:
        return right(replace(auction, privacy_cost=0.0))

    monkeypatch.setattr(example.DataAuction, "closed_form", without_cost)
    assert mo.run_claim(example.profit).verdict is mo.Verdict.REFUTED
    monkeypatch.undo()
    solve = example.ByHull.__call__

    def dearer_with_rivals(self: Any, *arguments: Any) -> Any:
        cost = self.auction.privacy_cost + self.auction.n_bidders
        return solve(example.ByHull(replace(self.auction, privacy_cost=cost)), *arguments)

    monkeypatch.setattr(example.ByHull, "__call__", dearer_with_rivals)
    assert mo.run_claim(example.reserve).verdict is mo.Verdict.REFUTED


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (((2, 1), (0.5, 0.5)), r"values must be >= 0 and increase.*\(2, 1\)"),
        (((), ()), "values"),
        (((1, float("nan")), (0.5, 0.5)), "values"),
        (([[1, 2]], [[0.5, 0.5]]), "values"),
        (((1, 2), (0.5, 0.6)), r"probs must be 2 numbers > 0 that sum to 1; got \(0.5, 0.6\)"),
        (((1, 2), (1.0,)), "probs"),
        (((1, 2), (0.5, 0.5), 1.5), "n_bidders must be a whole number"),
        (((1, 2), (0.5, 0.5), 2, -1.0), "privacy_cost >= 0"),
    ],
)
def test_bad_input(example: ModuleType, bad: Any, told: str) -> None:
    with pytest.raises(mo.InvalidInput, match=told):
        example.DataAuction(*bad)


def test_plot(example: ModuleType) -> None:
    auction = example.DataAuction((1.0, 2.0, 3.0), (0.3, 0.3, 0.4))
    (axes,) = auction.plot().axes
    (line,) = axes.lines
    assert line.get_xdata() == pytest.approx(auction.values)
    assert line.get_ydata() == pytest.approx(auction.program().solve()["win"])
    assert axes.get_xlabel() == "value (money)"


def test_under_a_hundred_lines() -> None:
    lines = [line for line in EXAMPLE.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(lines) < 100
    assert max(map(len, lines)) <= 110


def public_names_only(source: str) -> None:
    """Fail on an import or an attribute of ``mo`` that is no public name."""
    tree = ast.parse(source)
    allowed = {"dataclasses", "cvxpy", "numpy", "matplotlib.figure", "mechopt"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert {alias.name for alias in node.names} <= allowed
        if isinstance(node, ast.ImportFrom):
            assert node.module in allowed - {"mechopt"}
        if isinstance(node, ast.Attribute):
            assert not re.match(r"_(?!_)", node.attr), node.attr
            if isinstance(node.value, ast.Name) and node.value.id == "mo":
                assert node.attr in mo.__all__, node.attr


def python_blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_only_public_names() -> None:
    public_names_only(EXAMPLE.read_text(encoding="utf-8"))
    for block in python_blocks():
        public_names_only(block)
    for private in ("from mechopt.solvers import Program", "mo.solvers", "program._named", "import scipy"):
        with pytest.raises(AssertionError):
            public_names_only(private)


def test_page_shows_the_example_whole() -> None:
    shown = "\n\n\n".join(block.strip() for block in python_blocks()[1:4])
    assert shown == EXAMPLE.read_text(encoding="utf-8").strip()


def test_template_has_every_part() -> None:
    template = python_blocks()[0]
    assert template.count("FILL IN") >= 6
    defined = {node.name for node in ast.walk(ast.parse(template)) if isinstance(node, ast.FunctionDef)}
    assert {"__post_init__", "program", "closed_form", "audit", "refuses", "__call__"} <= defined
