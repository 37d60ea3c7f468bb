"""Menus of at most M contracts: every division by brute force, mixed-integer programs, limits."""

from itertools import combinations, pairwise
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

import mechopt as mo
from mechopt.formulations.screening import exact
from mechopt.formulations.screening.menu_size import solve_menu_size
from mechopt.solvers.backend import get_backend
from tests.oracles.screening import GAINS, block_root, minmax_quantities, random_contract

# Values are sums of a dozen terms, and flat in the quantities: rounding alone.
ROUNDING = 1e-11

POOLED = {"types": [1.0, 1.8, 1.9], "probs": [1 / 3] * 3, "gain": mo.LogGain(50, 2), "unit_cost": 1.0}


class Runs:
    """Quantity and worth of every run of types, each by a scalar root, and all divisions into runs."""

    def __init__(self, types: Any, probs: Any, gain: Any, unit_cost: float) -> None:
        types, probs = np.asarray(types, dtype=float), np.asarray(probs, dtype=float)
        self.n = len(types)
        earlier = np.concatenate(([0.0], np.cumsum(probs)[:-1]))
        cost = unit_cost * (probs * types + earlier * np.diff(types, prepend=types[0]))
        mass = probs * types
        own = gain.inverse_derivative(cost / mass) / types
        self.root, self.worth = np.zeros((2, self.n, self.n + 1))
        for i, j in combinations(range(self.n + 1), 2):
            run = slice(i, j)
            q = block_root(types[run], mass[run], cost[run].sum(), gain, own[run].min(), own[run].max())
            self.root[i, j] = q
            self.worth[i, j] = probs[run] @ gain(types[run] * q) - cost[run].sum() * q

    def best(
        self, max_runs: int, *, monotone: bool = True, cuts: set[int] | None = None
    ) -> tuple[float, list[float]]:
        """Best worth, and the quantities of the runs, over divisions that cut nowhere but at ``cuts``."""
        found: tuple[float, list[float]] = (0.0, [])
        for m in range(1, max_runs + 1):
            for ends in combinations(range(1, self.n + 1), m):
                if cuts is not None and not cuts.issuperset(ends):
                    continue
                starts = (0, *ends[:-1])
                quantities = [float(self.root[run]) for run in zip(starts, ends, strict=True)]
                if monotone and any(a < b for a, b in pairwise(quantities)):
                    continue
                worth = sum(float(self.worth[run]) for run in zip(starts, ends, strict=True))
                if worth > found[0]:
                    found = worth, quantities
        return found


def n_contracts(menu: exact.ExactMenu) -> int:
    return len(np.unique(menu.quantity[menu.quantity > 0]))


def ends_of_pools(parameters: dict[str, Any]) -> set[int]:
    quantity = minmax_quantities(**parameters)
    inner = np.flatnonzero(quantity[:-1] - quantity[1:] > 1e-10 * quantity[:-1]) + 1
    return {*inner.tolist(), len(quantity)}


@pytest.mark.parametrize("kind", GAINS)
def test_best_of_all_divisions(kind: str) -> None:
    rng = np.random.default_rng(7)
    for n_types in [1, 2, 3, 4, 5, 6, 7] * 3:
        parameters = random_contract(rng, kind, n_types)
        runs = Runs(**parameters)
        for limit in (1, 2, 3, 5):
            menu = solve_menu_size(**parameters, max_contracts=limit)
            worth, _ = runs.best(limit)
            assert menu.objective == pytest.approx(worth, rel=ROUNDING, abs=ROUNDING)
            assert n_contracts(menu) <= limit
            assert np.all(np.diff(menu.quantity) <= 0)


@pytest.mark.parametrize("kind", GAINS)
def test_menus_are_incentive_compatible_and_valued_by_their_payments(kind: str) -> None:
    rng = np.random.default_rng(8)
    for _ in range(10):
        parameters = random_contract(rng, kind, 12)
        contract = mo.ScreeningContract(**parameters)
        for limit in (1, 3):
            menu = solve_menu_size(**parameters, max_contracts=limit)
            audit = contract.audit(menu)
            size = max(float(np.abs(menu.payment).max()), 1e-12)
            assert max(audit.ic_violation, audit.ir_violation) <= 1e-12 * size
            profit = contract.gain(contract.types * menu.quantity) - menu.payment
            assert menu.objective == pytest.approx(float(contract.probs @ profit), rel=1e-12, abs=1e-12)
            assert menu.rent[-1] == 0
            assert menu.n_excluded == np.count_nonzero(menu.quantity == 0)
            for start, stop in menu.pools:
                assert stop - start > 1
                assert len(np.unique(menu.quantity[start:stop])) == 1


@pytest.mark.parametrize("kind", GAINS)
def test_more_contracts_are_worth_more_until_there_are_enough(kind: str) -> None:
    rng = np.random.default_rng(9)
    for _ in range(6):
        parameters = random_contract(rng, kind, 12)
        unlimited = exact.solve_exact(**parameters)
        enough = n_contracts(unlimited)
        menus = [solve_menu_size(**parameters, max_contracts=m) for m in range(1, enough + 3)]
        values = [menu.objective for menu in menus]
        assert np.all(np.diff(values) >= -ROUNDING * max(values[-1], 1.0))
        assert all(a < unlimited.objective for a in values[: max(enough - 1, 0)])
        for menu in menus[max(enough - 1, 0) :]:
            for name in ("quantity", "payment", "rent", "pools"):
                assert np.array_equal(getattr(menu, name), getattr(unlimited, name))
            assert (menu.objective, menu.regular) == (unlimited.objective, unlimited.regular)


def one_price(parameters: dict[str, Any], n_served: int) -> float:
    """Best value of one quantity for the first types, priced at what the last of them bears."""
    types, probs = parameters["types"][:n_served], parameters["probs"][:n_served]
    gain, unit_cost = parameters["gain"], parameters["unit_cost"]
    most = float(gain.inverse_derivative(unit_cost)) / types[0]

    def loss(q: float) -> float:
        return -float(probs @ (gain(types * q) - unit_cost * types[-1] * q))

    return -float(
        minimize_scalar(loss, bounds=(0, most), method="bounded", options={"xatol": 1e-9 * most}).fun
    )


@pytest.mark.parametrize("kind", ["log", "power", "saturating", "quadratic"])
def test_one_contract_is_a_scalar_problem(kind: str) -> None:
    rng = np.random.default_rng(10)
    for _ in range(8):
        parameters = random_contract(rng, kind, 6)
        values = [one_price(parameters, n_served) for n_served in range(1, 7)]
        menu = solve_menu_size(**parameters, max_contracts=1)
        # The search over q ends at a relative accuracy of 1e-8, where the value is flat.
        assert menu.objective == pytest.approx(max(0.0, *values), rel=1e-9, abs=1e-12)


def test_worked_example_with_a_pool() -> None:
    menu = solve_menu_size(**POOLED, max_contracts=2)
    assert menu.objective == pytest.approx(172.862405, abs=5e-7)
    assert menu.pools.tolist() == [[1, 3]]
    alone = solve_menu_size(**POOLED, max_contracts=1)
    # One contract for all, paid as type 1.9 must be: the mean of 1 / (1 / (2 δ) + q) is 1.9 / 50.
    q = float(alone.quantity[0])
    assert alone.quantity.tolist() == [q] * 3
    types = np.array(POOLED["types"])
    assert np.mean(50 / (1 / (2 * types) + q)) == pytest.approx(1.9, rel=1e-12)


def test_cuts_anywhere_would_overstate() -> None:
    """Why the optima of the runs must fall: here the best division without that rule is not a menu."""
    runs = Runs(**POOLED)
    truth, _ = runs.best(3)
    fake, quantities = runs.best(3, monotone=False)
    assert truth == pytest.approx(172.862405, abs=5e-7)
    assert fake == pytest.approx(173.0533, abs=5e-5)
    assert quantities[1] < quantities[2]
    # Nor is it a matter of having a contract for each type: among limited menus it happens as well.
    rng, overstated = np.random.default_rng(11), 0
    for _ in range(30):
        parameters = random_contract(rng, "log", 7)
        runs = Runs(**parameters)
        truth, fake = runs.best(3)[0], runs.best(3, monotone=False)[0]
        menu = solve_menu_size(**parameters, max_contracts=3)
        assert menu.objective == pytest.approx(truth, rel=ROUNDING)
        overstated += fake > truth * (1 + 1e-6)
    assert overstated >= 4


@pytest.mark.parametrize("kind", ["log", "power", "saturating", "quadratic"])
def test_cuts_at_the_ends_of_pools_suffice_where_risk_aversion_never_falls(kind: str) -> None:
    rng, with_pools = np.random.default_rng(12), 0
    for _ in range(15):
        parameters = random_contract(rng, kind, 7)
        runs, cuts = Runs(**parameters), ends_of_pools(parameters)
        with_pools += len(cuts) < 7
        for limit in (1, 2, 3):
            menu = solve_menu_size(**parameters, max_contracts=limit)
            assert menu.objective == pytest.approx(runs.best(limit, cuts=cuts)[0], rel=ROUNDING, abs=ROUNDING)
    assert with_pools >= 8


def test_gains_with_kinks_need_a_cut_through_a_pool() -> None:
    """Types 2 and 3 share a contract if there may be two; if one only, type 2 gets it and type 3 does not.

    f(x) = min(12 x, 56 + 4 x, 108) has kinks at 7 and 13. One contract of 13/3 records for the first two
    types brings 108 from each, and costs 3/4 (3) + 1/8 (6) + 3/4 (3) = 21/4 a record:
    7/8 (108) - 21/4 (13/3) = 71.75. For the first type alone, 3/4 (108) - 9/4 (13/3) = 71.25.
    """
    gain = mo.PiecewiseLinearGain(slopes=[12, 4, 0], intercepts=[0, 56, 108], scale=1)
    parameters = {"types": [3.0, 6.0, 9.0], "probs": [0.75, 0.125, 0.125], "gain": gain, "unit_cost": 1.0}
    arrays = {name: np.array(value) for name, value in parameters.items() if name in ("types", "probs")}
    assert ends_of_pools({**parameters, **arrays}) == {1, 3}
    menu = solve_menu_size(**parameters, max_contracts=1)
    assert menu.quantity == pytest.approx([13 / 3, 13 / 3, 0], rel=1e-12)
    assert (menu.objective, menu.n_excluded) == (pytest.approx(71.75, rel=1e-12), 1)
    assert Runs(**parameters).best(1, cuts={1, 3})[0] == pytest.approx(71.25, rel=1e-12)


def limited_program(contract: mo.ScreeningContract, limit: int) -> mo.Program:
    """Declare a menu with at most ``limit`` falls of the quantity, the last one to nothing.

    No type of a limited menu gets more than the first type's own first best.
    """
    program = contract.program("reduced")
    quantity = program["quantity"]
    most = float(contract.gain.inverse_derivative(contract.unit_cost)) / contract.types[0]
    falls = program.variable("falls", contract.n_types, boolean=True)
    following = cp.hstack([quantity[1:], np.zeros(1)]) if contract.n_types > 1 else np.zeros(1)
    program.add("menu_size", quantity - following <= most * falls, cp.sum(falls) <= limit)
    return program


@pytest.mark.parametrize("kind", ["log", "quadratic", "piecewise"])
def test_mixed_integer_program(kind: str) -> None:
    rng = np.random.default_rng(13)
    for n_types, limit in [(1, 1), (3, 2), (5, 1), (6, 3), (8, 2)]:
        contract = mo.ScreeningContract(**random_contract(rng, kind, n_types))
        menu = solve_menu_size(
            contract.types, contract.probs, contract.gain, contract.unit_cost, max_contracts=limit
        )
        answer = limited_program(contract, limit).solve("outer")
        size = max(abs(menu.objective), contract.scales()[1])
        assert abs(answer.objective - menu.objective) <= 1e-6 * size
        assert answer.bound is not None
        assert answer.bound >= menu.objective - 1e-6 * size


def test_mixed_integer_program_on_scip() -> None:
    reason = get_backend("pyomo:scip").available()
    if reason is not None:
        pytest.skip(f"pyomo:scip: {reason}")
    contract = mo.ScreeningContract(types=[0.1, 0.2, 0.3, 0.4], gain=mo.LogGain(5, 1))
    menu = solve_menu_size(contract.types, contract.probs, contract.gain, 1.0, max_contracts=2)
    answer = limited_program(contract, 2).solve("pyomo:scip", time_limit=60)
    assert answer.objective == pytest.approx(menu.objective, rel=1e-6)
    assert answer["quantity"] == pytest.approx(menu.quantity, rel=1e-3)  # flat at the top


@pytest.mark.parametrize("kind", GAINS)
def test_no_limited_menu_gives_more_than_the_first_types_first_best(kind: str) -> None:
    """The big-M of the program above."""
    rng = np.random.default_rng(14)
    for _ in range(8):
        parameters = random_contract(rng, kind, 7)
        most = float(parameters["gain"].inverse_derivative(parameters["unit_cost"])) / parameters["types"][0]
        for limit in (1, 2):
            assert solve_menu_size(**parameters, max_contracts=limit).quantity[0] <= most * (1 + 1e-12)


def test_units() -> None:
    """Money times 10, and types in other units: the same menu."""
    base = random_contract(np.random.default_rng(15), "log", 9)
    menu = solve_menu_size(**base, max_contracts=3)
    gain = mo.LogGain(10 * base["gain"].weight, base["gain"].scale)
    dear = solve_menu_size(base["types"], base["probs"], gain, 10 * base["unit_cost"], 3)
    assert dear.quantity == pytest.approx(menu.quantity, rel=1e-12)
    assert dear.objective == pytest.approx(10 * menu.objective, rel=1e-12)
    gain = mo.LogGain(base["gain"].weight, base["gain"].scale / 4)
    other = solve_menu_size(4 * base["types"], base["probs"], gain, base["unit_cost"] / 4, 3)
    assert other.quantity == pytest.approx(menu.quantity, rel=1e-12)
    assert other.objective == pytest.approx(menu.objective, rel=1e-12)


def test_nobody_trades() -> None:
    menu = solve_menu_size([1.0, 2.0], [0.5, 0.5], mo.LogGain(weight=1, scale=1), 2.0, max_contracts=1)
    assert menu.quantity.tolist() == [0.0, 0.0]
    assert (menu.objective, menu.n_excluded) == (0.0, 2)


def test_gain_that_is_not_zero_at_nothing() -> None:
    """What the demander has without any data counts for all types alike, excluded or not."""
    with pytest.warns(mo.MechanismWarning, match="value at 0"):
        gain = mo.PiecewiseLinearGain(slopes=[12, 4, 0], intercepts=[5, 61, 113], scale=1)
    menu = solve_menu_size([3.0, 6.0, 9.0], [0.75, 0.125, 0.125], gain, 1.0, max_contracts=1)
    assert menu.objective == pytest.approx(76.75, rel=1e-12)


def test_many_types() -> None:
    """A fine grid needs few contracts for nearly all of the value: what is lost falls like 1 / M²."""
    types = np.linspace(0.012, 0.21, 100)
    gain = mo.LogGain(100, 2)
    probs = np.full(100, 1 / 100)
    whole = exact.solve_exact(types, probs, gain, 1.0).objective
    lost = [whole - solve_menu_size(types, probs, gain, 1.0, limit).objective for limit in (3, 6, 12)]
    assert 3 < lost[0] / lost[1] < 5
    assert 3 < lost[1] / lost[2] < 5


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "2"])
def test_bad_limits(limit: Any) -> None:
    with pytest.raises(mo.InvalidInput, match="max_contracts must be a whole number >= 1"):
        solve_menu_size(**POOLED, max_contracts=limit)


def test_bad_shapes_and_unbounded_gains() -> None:
    with pytest.raises(mo.InvalidInput, match="one axis"):
        solve_menu_size([[1.0, 2.0]], [0.5, 0.5], mo.LogGain(1, 1), 1.0, max_contracts=1)
    endless = mo.PiecewiseLinearGain(slopes=[3, 2], intercepts=[0, 1], scale=1)
    with pytest.raises(mo.Unbounded):
        solve_menu_size([1.0, 2.0], [0.5, 0.5], endless, 1.0, max_contracts=1)
