"""Types in the cells of a grid: their Gauss rules, and the contract with gains averaged over cells."""

from itertools import pairwise
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import brentq

import mechopt as mo

LO, HI = 0.1, 1.0
X, W = np.polynomial.legendre.leggauss(200)
LAWS = {
    "uniform": stats.uniform(LO, HI - LO),
    "beta(2, 2)": stats.beta(2, 2, loc=LO, scale=HI - LO),
    "beta(.5, .5)": stats.beta(0.5, 0.5, loc=LO, scale=HI - LO),
    "beta(2, .5)": stats.beta(2, 0.5, loc=LO, scale=HI - LO),
    "normal": stats.norm(0.4, 0.1),
    "spike": stats.norm(0.55, 2e-3),
    "bumps": stats.Mixture([stats.Normal(mu=0.35, sigma=0.05), stats.Normal(mu=0.8, sigma=0.05)]),
}


def contract(name: str, **changes: Any) -> mo.ContinuousContract:
    return mo.ContinuousContract(
        LAWS[name], **{"lo": LO, "hi": HI, "gain": mo.LogGain(weight=20, scale=1), **changes}
    )


def paper() -> mo.ContinuousContract:
    return mo.ContinuousContract(stats.uniform(0.01, 0.2), lo=0.01, hi=0.21, gain=mo.LogGain(100, 2))


def conditional_mean(c: mo.ContinuousContract, function: Any, left: float, right: float) -> float:
    """Mean over the types in [left, right]; in the angle, densities like those at the ends are smooth."""
    start, stop = np.arcsin(np.sqrt((np.array([left, right]) - LO) / (HI - LO)))
    angle = (start + stop) / 2 + (stop - start) / 2 * X
    eps = LO + (HI - LO) * np.sin(angle) ** 2
    mass = W * c.pdf(eps) * np.sin(angle) * np.cos(angle)
    return float(mass @ function(eps) / mass.sum())


# ------------------------------------------------------------ the rule


@pytest.mark.parametrize("n_types", [1, 4])
def test_uniform_types_give_the_rule_of_gauss_and_legendre(n_types: int) -> None:
    nodes, weights = contract("uniform").cell_nodes(n_types, n_nodes=6)
    x, w = np.polynomial.legendre.leggauss(6)
    edges = np.linspace(LO, HI, n_types + 1)
    expected = (edges[:-1, None] + edges[1:, None]) / 2 + np.diff(edges)[:, None] / 2 * x
    assert nodes == pytest.approx(expected, rel=1e-12)
    assert weights == pytest.approx(np.broadcast_to(w / 2, weights.shape), rel=1e-11)


@pytest.mark.parametrize("n_types", [1, 3])
def test_arcsine_law_gives_the_rule_of_gauss_and_chebyshev(n_types: int) -> None:
    """On the whole range all nodes of the arcsine law weigh the same; within cells nothing is so simple."""
    nodes, weights = contract("beta(.5, .5)").cell_nodes(n_types, n_nodes=5)
    if n_types == 1:
        angles = np.pi * (2 * np.arange(5, 0, -1) - 1) / 10
        assert nodes[0] == pytest.approx((HI + LO) / 2 + (HI - LO) / 2 * np.cos(angles), rel=1e-11)
        assert weights[0] == pytest.approx(np.full(5, 0.2), rel=1e-10)
    else:
        assert weights[0] == pytest.approx(weights[2][::-1], rel=1e-10)
        assert np.ptp(weights[0]) > 0.01


@pytest.mark.parametrize("name", LAWS)
def test_nodes_lie_in_their_cells_and_weights_are_probabilities(name: str) -> None:
    c = contract(name)
    for n_types, n_nodes in [(1, 8), (5, 8), (7, 1), (40, 3)]:
        if name == "spike" and n_types > 1:
            continue  # other cells have no probability to machine precision
        nodes, weights = c.cell_nodes(n_types, n_nodes)
        edges = np.linspace(LO, HI, n_types + 1)
        assert nodes.shape == weights.shape == (n_types, n_nodes)
        assert np.all((nodes > edges[:-1, None]) & (nodes < edges[1:, None]))
        assert np.all(np.diff(nodes, axis=1) > 0)
        assert weights.min() > 0
        assert weights.sum(axis=1) == pytest.approx(np.ones(n_types), abs=1e-14)


@pytest.mark.parametrize("name", [name for name in LAWS if name != "spike"])
@pytest.mark.parametrize("n_types", [1, 3])
def test_polynomials_of_degree_below_twice_the_nodes_are_exact(name: str, n_types: int) -> None:
    c, n_nodes = contract(name), 3
    nodes, weights = c.cell_nodes(n_types, n_nodes)
    edges = np.linspace(LO, HI, n_types + 1)
    for k in range(n_types):
        # Powers of the distance from a corner, relative to the cell: all terms count.
        def power(eps: Any, degree: int, k: int = k) -> Any:
            return ((eps - edges[k]) / (edges[k + 1] - edges[k])) ** degree

        for degree in range(2 * n_nodes):
            truth = conditional_mean(c, lambda eps, d=degree: power(eps, d), edges[k], edges[k + 1])
            assert weights[k] @ power(nodes[k], degree) == pytest.approx(truth, rel=1e-9, abs=1e-9)
        beyond = conditional_mean(c, lambda eps: power(eps, 2 * n_nodes), edges[k], edges[k + 1])
        assert abs(weights[k] @ power(nodes[k], 2 * n_nodes) - beyond) > 1e-7


def test_one_node_is_the_conditional_mean() -> None:
    c = contract("normal")
    nodes, weights = c.cell_nodes(4, n_nodes=1)
    edges = np.linspace(LO, HI, 5)
    means = [conditional_mean(c, lambda e: e, a, b) for a, b in pairwise(edges)]
    assert nodes[:, 0] == pytest.approx(means, rel=1e-10)
    assert weights.tolist() == [[1.0]] * 4


def test_a_spike_inside_one_cell_is_seen() -> None:
    """Nearly all types sit in a hundredth of the range: a rule for smooth densities would miss them."""
    nodes, weights = contract("spike").cell_nodes(1, n_nodes=4)
    mean = float(weights[0] @ nodes[0])
    assert mean == pytest.approx(0.55, abs=1e-12)
    assert float(weights[0] @ (nodes[0] - mean) ** 2) == pytest.approx(4e-6, rel=1e-9)


@pytest.mark.parametrize("name", ["uniform", "beta(2, 2)", "beta(.5, .5)", "bumps"])
def test_cells_add_up_to_the_realised_value_of_a_grid_menu(name: str) -> None:
    c, n_types = contract(name), 12
    grid = c.discretize(n_types)
    menu = grid.solve()
    nodes, weights = c.cell_nodes(n_types)
    gain = np.sum(weights * c.gain(nodes * menu["quantity"][:, None]), axis=1)
    value = float(grid.probs @ (gain - menu["payment"]))
    assert value == pytest.approx(c.realised_value(menu), rel=1e-11)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"n_types": 0}, "n_types must be a whole number >= 1"),
        ({"n_types": 2.5}, "n_types must be a whole number >= 1"),
        ({"n_types": 3, "n_nodes": 0}, "n_nodes must be a whole number >= 1"),
        ({"n_types": 3, "n_nodes": True}, "n_nodes must be a whole number >= 1"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(mo.InvalidInput, match=match):
        contract("uniform").cell_nodes(**arguments)


def test_cells_without_types() -> None:
    with pytest.raises(mo.InvalidInput, match="makes cell 0"):
        contract("spike").cell_nodes(5)


# ------------------------------------------------------------ the contract with averaged gains


def averaged_program(c: mo.ContinuousContract, n_types: int, n_nodes: int = 8) -> mo.Program:
    """Declare the best menu of a contract a cell, for all types in the cells."""
    grid = c.discretize(n_types)
    nodes, weights = c.cell_nodes(n_types, n_nodes)
    program = grid.program("reduced")
    quantity = cp.reshape(program["quantity"], (n_types, 1), order="C")
    gain = grid.gain.expression(cp.multiply(nodes, quantity @ np.ones((1, n_nodes))))
    gain = cp.sum(cp.multiply(grid.probs[:, None] * weights, gain))
    return program.maximize(gain - program["expected_payment"])


def averaged_oracle(c: mo.ContinuousContract, n_types: int) -> tuple[np.ndarray, float]:
    """Min-max formula with marginal gains averaged over cells by a plain rule in the density."""
    edges = np.linspace(c.lo, c.hi, n_types + 1)
    x, w = np.polynomial.legendre.leggauss(60)
    eps = (edges[:-1, None] + edges[1:, None]) / 2 + np.diff(edges)[:, None] / 2 * x
    mass = np.diff(edges)[:, None] / 2 * w * c.pdf(eps)
    probs = mass.sum(axis=1)
    below = np.concatenate(([0.0], np.cumsum(probs)[:-1]))
    cost = c.unit_cost * (probs * edges[1:] + below * np.diff(edges))

    def root(i: int, j: int) -> float:
        def net(q: float) -> float:
            block = slice(i, j + 1)
            return float(
                np.sum(mass[block] * eps[block] * c.gain.derivative(eps[block] * q)) - cost[block].sum()
            )

        most = float(c.gain.inverse_derivative(c.unit_cost)) / c.lo
        return 0.0 if net(0.0) <= 0 else float(brentq(net, 0, most, xtol=1e-12 * most, rtol=1e-14))

    roots = {(i, j): root(i, j) for i in range(n_types) for j in range(i, n_types)}
    quantity = np.array(
        [max(min(roots[i, j] for i in range(k + 1)) for j in range(k, n_types)) for k in range(n_types)]
    )
    value = np.sum(mass * c.gain(eps * quantity[:, None])) - cost @ quantity
    return quantity, float(value)


@pytest.mark.parametrize(("n_types", "value"), [(5, 366.53906), (50, 369.72706)])
def test_numbers_of_the_paper(n_types: int, value: float) -> None:
    c = paper()
    answer = averaged_program(c, n_types).solve("clarabel", tolerance=1e-8)
    assert answer.objective == pytest.approx(value, abs=6e-6)
    # What the program says the menu is worth, types off the grid make of it.
    menu = c.discretize(n_types).repair({"quantity": answer["quantity"]})
    assert c.realised_value(menu) == pytest.approx(answer.objective, rel=1e-8)


def test_values_rise_to_the_continuum() -> None:
    c = paper()
    values = [averaged_program(c, k).solve("clarabel", tolerance=1e-8).objective for k in (5, 10, 20, 40, 80)]
    lost = c.solve().objective - np.array(values)
    assert np.all(lost > 0)
    # The best menu of K cells loses like 1 / K²: twice the cells, a quarter of the loss.
    assert np.all((lost[:-1] / lost[1:])[1:] > 3)
    assert lost[-1] < 0.03


@pytest.mark.parametrize("name", ["uniform", "beta(2, 2)", "bumps"])
@pytest.mark.parametrize("r", [1.5, 20.0])
def test_program_against_the_averaged_minmax_formula(name: str, r: float) -> None:
    c = contract(name, gain=mo.LogGain(weight=r, scale=1))
    for n_types in (1, 4, 12):
        quantity, value = averaged_oracle(c, n_types)
        answer = averaged_program(c, n_types, n_nodes=12).solve("clarabel", tolerance=1e-8)
        assert answer.objective == pytest.approx(value, rel=1e-7, abs=1e-8 * r)
        # The objective is flat: quantities are accurate to about the root of its accuracy.
        assert answer["quantity"] == pytest.approx(quantity, abs=2e-3 * (r - 1) / LO)
        if name == "bumps" and n_types == 12:
            assert np.any(np.diff(quantity) == 0)  # the example has types that must be pooled


@pytest.mark.parametrize("name", ["uniform", "beta(.5, .5)", "bumps"])
def test_averaging_beats_the_grid_that_ignores_the_cells(name: str) -> None:
    c, n_types = contract(name), 8
    best = averaged_program(c, n_types).solve("clarabel", tolerance=1e-8).objective
    careless = c.realised_value(c.discretize(n_types).solve())
    assert careless < best < c.solve().objective


# ------------------------------------------------------------ the program of a continuum


def test_program_of_a_continuum_gives_the_known_values() -> None:
    c = paper()
    values = {}
    for n_types, known in ((5, 366.53906), (50, 369.72706), (200, None)):
        program = c.program(n_types)
        solution = program.solve("clarabel", tolerance=1e-7)
        grid = c.discretize(n_types)
        repaired = grid.repair(solution, program=program)
        assert repaired.status is mo.Status.OPTIMAL, repaired.reason
        assert grid.audit(repaired).ok(1e-12)
        # The continuum itself chooses from the menu.
        assert c.realised_value(repaired) == pytest.approx(repaired.objective, rel=1e-7)
        if known is not None:
            assert repaired.objective == pytest.approx(known, abs=5e-6)
        assert repaired.objective > c.realised_value(grid.solve())
        values[n_types] = repaired.objective
    assert values[5] < values[50] < values[200] < c.solve().objective
    # Order two: an eighth of the cells' width squared.
    errors = [c.solve().objective - values[n] for n in (50, 200)]
    assert 1.8 < np.log(errors[0] / errors[1]) / np.log(4) < 2.2


@pytest.mark.parametrize("name", ["beta(2, .5)", "bumps"])
def test_program_of_a_continuum_in_every_form(name: str) -> None:
    c = contract(name)
    objectives = []
    for form in ("reduced", "local-monotone", "local", "full"):
        program = c.program(8, form)
        objectives.append(program.solve("clarabel", tolerance=1e-8).objective)
        with pytest.raises(mo.MissingCapability, match="objective"):
            program.solve("exact")
    assert objectives == pytest.approx([objectives[0]] * 4, rel=1e-6)


def test_program_of_a_continuum_with_extensions() -> None:
    c = paper()
    free = c.program(6).solve("clarabel")
    few = c.program(6, max_menu_size=2)
    assert few.solve("outer").objective < free.objective
    wary = c.program(6, risk=mo.CVaR(0.5)).solve("clarabel")
    assert wary.objective < free.objective
    budget = c.program(6)
    budget.add("budget", budget["expected_payment"] <= 40)
    solution = budget.solve()
    assert solution.objective < free.objective
    assert float(solution["expected_payment"]) == pytest.approx(40, rel=1e-6)
    assert c.discretize(6).repair(solution, program=budget).status is mo.Status.OPTIMAL


def test_program_of_a_continuum_with_an_evaluated_gain() -> None:
    log = mo.LogGain(100, 2)
    own = mo.EvaluatedGain(log, log.derivative, natural_scale=0.5)
    c = mo.ContinuousContract(stats.uniform(0.01, 0.2), lo=0.01, hi=0.21, gain=own)
    program = c.program(5, n_nodes=4)
    solution = program.solve("outer")
    same = paper().program(5, n_nodes=4).solve("clarabel")
    assert solution.objective == pytest.approx(same.objective, rel=1e-6)
    assert c.discretize(5).repair(solution, program=program).status is mo.Status.OPTIMAL


def test_one_node_a_cell_is_the_contract_of_its_mean() -> None:
    """A cell that stands for its mean type: the gain is that of a contract whose types are the means."""
    c = paper()
    nodes, weights = c.cell_nodes(4, n_nodes=1)
    assert weights == pytest.approx(np.ones((4, 1)))
    assert nodes[:, 0] == pytest.approx(0.01 + 0.05 * (np.arange(4) + 0.5), rel=1e-12)
    assert c.program(4, n_nodes=1).solve("clarabel").objective > 0
