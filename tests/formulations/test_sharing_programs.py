"""Declared programs of the sharing market against brute force, the exact algorithms, and each other."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, product
from typing import Any

import cvxpy as cp
import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.functions import (
    AdditiveUtility,
    CappedUtility,
    EvaluatedGain,
    InverseSqrtUtility,
    LinearUtility,
    LogUtility,
    QuadraticGain,
    SaturatingUtility,
    SqrtUtility,
    TableUtility,
    ThresholdUtility,
    UserUtility,
    Utility,
)
from mechopt.formulations.sharing_market.model import SharingMarket
from mechopt.formulations.sharing_market.program import declare, declare_configurations
from mechopt.formulations.sharing_market.restrictions import Restrictions
from mechopt.formulations.sharing_market.welfare import recomputed
from mechopt.solvers.backend import Answer, Capability, Settings, available_backends
from mechopt.solvers.errors import InvalidInput, MechanismWarning, MissingCapability, NotApplicable
from mechopt.solvers.program import Program
from mechopt.solvers.solution import Solution, Status
from tests.oracles import sharing_welfare as oracle

Rng = np.random.Generator

CONCAVE = ("log", "sqrt", "inverse_sqrt", "saturating", "capped", "linear", "quadratic", "evaluated")
EVERY = (*CONCAVE, "threshold", "additive", "table", "user")


def utility(rng: Rng, kind: str, buyer: int, n: int) -> Utility:
    """Draw a utility of order ten."""
    a, s = float(rng.uniform(3, 20)), float(rng.uniform(1, 8))
    others = frozenset(range(n)) - {buyer}
    made: dict[str, Callable[[], Utility]] = {
        "log": lambda: LogUtility(a, s),
        "sqrt": lambda: SqrtUtility(a / 2),
        "inverse_sqrt": lambda: InverseSqrtUtility(2 * a),
        "saturating": lambda: SaturatingUtility(a, s),
        "capped": lambda: CappedUtility(a, 1.5 * s),
        "linear": lambda: LinearUtility(a / 8),
        "quadratic": lambda: QuadraticGain(a / 3, a / 30, 1.0),
        "evaluated": lambda: EvaluatedGain(
            lambda x: a * np.log1p(x / s), lambda x: a / (s + x), natural_scale=s
        ),
        "threshold": lambda: ThresholdUtility(a, 1.5 * s),
        "additive": lambda: AdditiveUtility(rng.uniform(0, a / 2, n).tolist()),
        "table": lambda: TableUtility.from_function(lambda S: float(rng.uniform(0, a)) if S else 0.0, others),
        "user": lambda: UserUtility(lambda D: a * D**2 / (s + D**2)),
    }
    return made[kind]()


def random_market(
    rng: Rng, n: int, kinds: tuple[str, ...], *, equal: bool = False, weighted: bool = False
) -> SharingMarket:
    """Draw a market in which some edges are worth their cost."""
    size = np.full(n, 2.0) if equal else rng.uniform(0.5, 3.0, n)
    chosen = [kinds[k] for k in rng.integers(0, len(kinds), n)]
    weight = None
    if weighted and "table" not in chosen:
        weight = rng.uniform(0.0, 2.0, (n, n)) * (rng.random((n, n)) < 0.8)
    return SharingMarket(
        size,
        rng.uniform(0.2, 2.5, (n, n)) * (1 - np.eye(n)),
        [utility(rng, kind, buyer, n) for buyer, kind in enumerate(chosen)],
        weight,
    )


LIMITS: dict[str, Callable[[Rng], dict[str, Any]]] = {
    "none": lambda rng: {},
    "forbidden": lambda rng: {"forbidden": rng.random((4, 4)) < 0.4},
    "buyer_cap": lambda rng: {"buyer_cap": rng.integers(0, 3, 4)},
    "buyer_budget": lambda rng: {"buyer_budget": rng.uniform(0, 3, 4)},
    "both_of_buyers": lambda rng: {"buyer_budget": rng.uniform(1, 4, 4), "buyer_cap": 2},
    "seller_cap": lambda rng: {"seller_cap": [0, 1, np.inf, 2]},
    "privacy_budget": lambda rng: {"privacy_budget": 1.2, "privacy_loss": rng.uniform(0.3, 1, (4, 4))},
    "platform_cap": lambda rng: {"platform_cap": 3},
    "platform_privacy": lambda rng: {
        "platform_privacy_budget": 2.0,
        "privacy_loss": rng.uniform(0.3, 1, (4, 4)),
    },
    "reciprocity": lambda rng: {"reciprocity": True},
    "upload_cost": lambda rng: {"upload_cost": rng.uniform(0, 5, 4)},
    "broadcast": lambda rng: {"broadcast": True, "forbidden": rng.random((4, 4)) < 0.3},
    "matching": lambda rng: {"reciprocity": True, "seller_cap": 1, "upload_cost": 0.5},
    "many": lambda rng: {
        "seller_cap": 2,
        "buyer_cap": 2,
        "buyer_budget": 2.5,
        "privacy_budget": 1.5,
        "platform_cap": 5,
        "upload_cost": 0.5,
        "forbidden": rng.random((4, 4)) < 0.2,
    },
}


# ------------------------------------------------------------ three roads


@pytest.mark.parametrize("name", LIMITS)
def test_programs_and_algorithms_meet_brute_force_over_whole_graphs(name: str) -> None:
    rng = np.random.default_rng(sorted(LIMITS).index(name))
    for instance in range(4):
        market = random_market(rng, 4, EVERY, equal=instance == 0, weighted=instance == 1)
        limits = LIMITS[name](rng)
        value, _ = oracle.best(market, limits)
        joint = Restrictions.of(4, limits).couplings
        for backend in (None,) if joint else (None, "outer"):
            solution = market.solve(backend, **limits)
            assert solution.status is Status.OPTIMAL, (market, solution)
            # Recomputed from the graph, so that rounding alone is left.
            assert solution.objective == pytest.approx(value, abs=1e-8)
            graph = solution["adjacency"]
            among = np.all(oracle.every_graph(4) == graph, axis=(1, 2))
            assert oracle.allowed(market, limits)[among].item()
            assert market.welfare(graph) - solution.objective == pytest.approx(
                np.sum(np.broadcast_to(limits.get("upload_cost", 0.0), 4) * graph.any(axis=1)), abs=1e-9
            )


@pytest.mark.parametrize("kind", EVERY)
def test_joint_program_meets_the_decomposition_for_each_family(kind: str) -> None:
    rng = np.random.default_rng(EVERY.index(kind))
    n = 6
    market = random_market(rng, n, (kind,), equal=kind == "user")
    for limits in ({"buyer_cap": 2, "forbidden": rng.random((n, n)) < 0.2}, {"buyer_budget": 2.0}):
        joint, alone = market.solve("outer", **limits), market.solve(**limits)
        assert (alone.backend, joint.backend) == ("exact", "outer")
        assert joint.status is alone.status is Status.OPTIMAL
        assert joint.objective == pytest.approx(alone.objective, abs=1e-8)


def test_expressions_of_the_program_are_the_markets_values_at_any_graph() -> None:
    rng = np.random.default_rng(2)
    for trial in range(8):
        market = random_market(rng, 5, EVERY, equal=trial % 2 == 0, weighted=trial % 3 == 0)
        program = market.program(upload_cost=1.0, broadcast=True)
        route = program.exact
        graph = (rng.random((5, 5)) < 0.5) * (1 - np.eye(5))
        program.set_values(route.complete(graph))  # type: ignore[union-attr]
        uploads = graph.any(axis=1).astype(float)
        for name, expected in (
            ("data", market.total_data(graph)),
            ("utility", market.buyer_value(graph)),
            ("cost", (graph * market.sharing_cost).sum(axis=1) + uploads),
            ("surplus", market.buyer_value(graph) - (graph * market.sharing_cost).sum(axis=0)),
            ("allocation_value", market.allocation_value(graph) - uploads),
            ("welfare", market.welfare(graph) - uploads.sum()),
        ):
            assert program[name].value == pytest.approx(expected, abs=1e-9), name


def test_all_capable_backends_agree() -> None:
    rng = np.random.default_rng(5)
    linear = random_market(rng, 5, ("additive", "capped", "threshold", "table"))
    curved = random_market(rng, 4, ("log", "sqrt"))
    every = ("highspy", "outer", "pyomo:scip", "scipy")
    for market, names in ((linear, every), (curved, ("outer", "pyomo:scip"))):
        values = {}
        for name in names:
            if name in available_backends():
                solution = market.solve(name, seller_cap=2, platform_cap=6)
                assert solution.status is Status.OPTIMAL, solution
                values[name] = solution.objective
        assert "outer" in values
        assert np.ptp(list(values.values())) < 1e-8, values


def test_default_backend_is_the_linear_one_where_everything_is_linear() -> None:
    rng = np.random.default_rng(6)
    assert random_market(rng, 5, ("capped", "threshold")).solve(seller_cap=1).backend == "highspy"
    assert random_market(rng, 5, ("log",)).solve(seller_cap=1).backend == "outer"


def test_equal_shapes_share_one_atom_whatever_their_parameters() -> None:
    rng = np.random.default_rng(7)
    market = random_market(rng, 40, ("log",))
    program = market.program()

    def logs(expression: Any) -> int:
        return isinstance(expression, cp.log) + sum(map(logs, expression.args))

    assert logs(program["utility"]) == 1
    graph = (rng.random((40, 40)) < 0.3) * (1 - np.eye(40))
    program["adjacency"].save_value(graph)
    assert program["utility"].value == pytest.approx(market.buyer_value(graph), rel=1e-12)


def test_scale_of_records_and_of_money_changes_nothing() -> None:
    rng = np.random.default_rng(8)
    a, s, size = rng.uniform(3, 20, 5), rng.uniform(1, 8, 5), rng.uniform(0.5, 3, 5)
    cost = rng.uniform(0.2, 2.5, (5, 5)) * (1 - np.eye(5))
    graphs = []
    for money, records in ((1.0, 1.0), (1e6, 1e5), (1e-5, 1e-4)):
        curves = [LogUtility(a[j] * money, s[j] * records) for j in range(4)]
        market = SharingMarket(
            size * records, cost * money, [*curves, SqrtUtility(a[4] / 2 * money / np.sqrt(records))]
        )
        solution = market.solve(seller_cap=2)
        assert solution.status is Status.OPTIMAL
        graphs.append((solution["adjacency"].tolist(), solution.objective / money))
    assert graphs[0][0] == graphs[1][0] == graphs[2][0]
    assert graphs[1][1] == pytest.approx(graphs[0][1], rel=1e-9)
    assert graphs[2][1] == pytest.approx(graphs[0][1], rel=1e-9)


def test_agents_may_be_renamed() -> None:
    rng = np.random.default_rng(9)
    market = random_market(rng, 6, ("log", "capped"))
    order = rng.permutation(6)
    other = SharingMarket(
        market.data_size[order],
        market.sharing_cost[np.ix_(order, order)],
        [market.utility[agent] for agent in order],
    )
    first, second = market.solve(seller_cap=1), other.solve(seller_cap=1)
    assert second["adjacency"].tolist() == first["adjacency"][np.ix_(order, order)].tolist()
    assert second.objective == pytest.approx(first.objective, rel=1e-12)


def test_limits_of_restrictions() -> None:
    rng = np.random.default_rng(10)
    market = random_market(rng, 5, ("log", "sqrt"))
    free = market.solve().objective
    for loose in (
        {"seller_cap": 4},
        {"privacy_budget": 100.0},
        {"platform_cap": 20},
        {"platform_privacy_budget": 99.0},
        {"upload_cost": 0.0},
    ):
        assert market.solve(**loose).objective == pytest.approx(free, abs=1e-8), loose
    alone = market.outside_option.sum()
    for tight in (
        {"seller_cap": 0},
        {"privacy_budget": 0.0},
        {"platform_cap": 0},
        {"upload_cost": 1e3},
        {"forbidden": np.ones((5, 5))},
        {"buyer_budget": 0.0},
    ):
        solution = market.solve(**tight)
        assert solution["adjacency"].sum() == 0, tight
        assert solution.objective == pytest.approx(alone, abs=1e-9)


# ------------------------------------------------------------ what couples buyers


def test_exact_refuses_couplings_by_name_and_says_who_can() -> None:
    market = random_market(np.random.default_rng(0), 4, ("log",))
    with pytest.raises(MissingCapability, match=r"'seller_cap'.*'upload_cost'.*outer"):
        market.solve("exact", seller_cap=1, upload_cost=1.0)
    assert market.solve(seller_cap=1).backend == "outer"
    assert market.solve(buyer_cap=1, buyer_budget=3.0).backend == "exact"


def test_a_coupling_that_is_dropped_couples_no_more() -> None:
    market = random_market(np.random.default_rng(1), 4, ("log",))
    program = market.program(seller_cap=1, buyer_cap=2)
    assert program.solve().backend == "outer"
    solution = program.drop("seller_cap").solve()
    assert solution.backend == "exact"
    assert solution.objective == pytest.approx(market.solve(buyer_cap=2).objective, abs=1e-9)
    assert program.drop("buyer_cap").solve().objective == pytest.approx(market.solve().objective, abs=1e-9)
    for name in ("upload_cost", "no_self_sharing"):
        changed = market.program(upload_cost=1.0)
        with pytest.raises(MissingCapability, match=name):
            changed.drop(name).solve("exact")


def test_added_rows_of_single_buyers_are_read() -> None:
    rng = np.random.default_rng(3)
    for trial in range(8):
        market = random_market(rng, 5, ("log", "additive", "threshold", "sqrt"))
        program = market.program(buyer_cap=3) if trial % 2 else market.program()
        edges, cost, rate = program["adjacency"], market.sharing_cost, float(rng.uniform(0.1, 5))
        budget = np.broadcast_to(3.0, 5)
        for name in rng.permutation(["one", "many", "cap", "caps", "budget", "budgets", "own"])[:4]:
            rows = {
                "one": [edges[0, 1] == 0],
                "many": [edges[2, :] <= 0, edges[3, 1:3] == 0],
                "cap": [cp.sum(edges[:, 4]) - 2.5 <= 0],
                "caps": [cp.sum(edges, axis=0) <= 2],
                "budget": [rate * cost[:, 2] @ edges[:, 2] - 1.5 * rate <= 0],
                "budgets": [cp.sum(cp.multiply(cost, edges), axis=0) <= budget],
                "own": [edges[4, 4] == 0],
            }[str(name)]
            program.add(str(name), *rows)
        exact, joint = program.solve("exact"), program.solve("outer")
        assert program.solve().backend == "exact"
        assert exact.status is joint.status is Status.OPTIMAL
        assert exact.objective == pytest.approx(joint.objective, abs=1e-6)


def test_added_rows_that_couple_or_say_more_are_refused_by_name() -> None:
    market = random_market(np.random.default_rng(4), 4, ("log",))
    weights = np.array([[1.0], [2.0], [3.0], [4.0]])
    base = market.program()
    edges = base["adjacency"]
    own = cp.Variable(name="own", nonneg=True)
    limit = cp.Parameter(name="limit", nonneg=True)
    limit.value = 2.0
    cases: dict[str, list[Any]] = {
        "seller": [cp.sum(edges[0, :]) <= 2],
        "mutual": [edges == edges.T],
        "wanted": [edges[0, 1] >= 1],
        "at_least": [cp.sum(edges[:, 0]) >= 1],
        "exactly": [cp.sum(edges[:, 0]) == 2],
        "weighted": [cp.sum(cp.multiply(weights, edges[:, 1:2])) <= 5],
        "some": [edges[0, 1] + edges[2, 1] <= 1],
        "nonlinear": [cp.sum_squares(edges[:, 1]) <= 2],
        "more": [cp.sum(edges[:, 0]) + own <= 2],
        "utility": [base["utility"][0] >= 1.0],
        "partly": [edges[0, 1] == 0, cp.sum(edges[:, 1:3]) <= 2],
    }
    for name, rows in cases.items():
        program = base.copy().add(name, *rows)
        with pytest.raises(MissingCapability, match=name):
            program.solve("exact")
    assert base.copy().add("parameter", cp.sum(edges[:, 0]) <= limit).solve().backend == "exact"
    changed = base.copy().maximize(base["welfare"] - edges[0, 1])
    with pytest.raises(MissingCapability, match="objective"):
        changed.solve("exact")


def test_backends_without_integers_or_cones_refuse() -> None:
    market = random_market(np.random.default_rng(0), 3, ("log",))
    with pytest.raises(MissingCapability, match="MIP"):
        market.solve("clarabel")
    with pytest.raises(MissingCapability, match="EXP"):
        market.solve("highspy")


# ------------------------------------------------------------ believing nothing


class Boaster(mo.Backend):
    """Returns a graph of its own, and whatever bound it likes."""

    name = "boaster"
    capabilities = frozenset(Capability)
    graph: Any = None
    bound: float | None = None
    status = Status.OPTIMAL

    def solve(self, program: Program, settings: Settings) -> Answer:
        answer = Answer(self.status, "I am sure")
        route = program.exact
        values = route.complete(np.round(self.graph))  # type: ignore[union-attr]
        answer.primal = program.inner_values(values | {"adjacency": self.graph})
        answer.bound = self.bound
        return answer


def test_answers_are_rounded_checked_and_valued_afresh(registered: Callable[..., Any]) -> None:
    market = random_market(np.random.default_rng(11), 4, ("log", "sqrt"))
    best = market.solve(seller_cap=1)
    boaster = registered(Boaster())

    def asked(graph: Any, bound: float | None, **limits: Any) -> Solution:
        boaster.graph, boaster.bound = graph, bound
        return market.solve("boaster", on_failure="return", **limits)

    nearly = np.abs(best["adjacency"] - 1e-5 * (1 - np.eye(4)))
    solution = asked(nearly, best.objective, seller_cap=1)
    assert solution.status is Status.OPTIMAL
    assert set(np.unique(solution["adjacency"])) <= {0.0, 1.0}
    assert solution.objective == pytest.approx(best.objective, abs=1e-12)
    assert asked(best["adjacency"], best.objective * 1.001, seller_cap=1).status is Status.INACCURATE
    assert asked(best["adjacency"], best.objective * 0.999, seller_cap=1).status is Status.INACCURATE
    assert "no bound" in asked(best["adjacency"], None, seller_cap=1).reason
    greedy = asked(1 - np.eye(4), market.welfare(1 - np.eye(4)), seller_cap=1)
    assert greedy.status is Status.INACCURATE
    assert "exceeds seller_cap by 2" in greedy.reason
    boaster.graph, boaster.bound = 1 - np.eye(4), None
    with pytest.warns(MechanismWarning, match="seller_cap"):
        market.solve("boaster", seller_cap=1)
    boaster.status = Status.LIMIT
    late = asked(np.zeros((4, 4)), best.objective, seller_cap=1)
    assert late.status is Status.LIMIT
    assert late.gap > 1e-3  # type: ignore[operator]


def test_budgets_that_solvers_meet_only_nearly_are_not_met() -> None:
    # 1 + 1 exceeds the budget by less than solvers see.
    market = SharingMarket([1.0, 1.0, 1.0], 1 - np.eye(3), AdditiveUtility([5.0, 5.0, 5.0]))
    limits = Restrictions.of(3, {"buyer_budget": 2.0 - 1e-8})
    both = Solution(Status.OPTIMAL, "", "x", values={"adjacency": 1 - np.eye(3)}, bound=24.0, tolerance=1e-6)
    found = recomputed(market, limits, both)
    assert found.status is Status.INACCURATE
    assert "buyer_budget" in found.reason
    assert market.solve(buyer_budget=2.0 - 1e-8).objective == pytest.approx(12.0)
    # And what is a sum of roundings alone is met.
    odd = SharingMarket([1.0] * 4, 0.1 * (1 - np.eye(4)), AdditiveUtility([5.0] * 4))
    assert odd.solve("highspy", buyer_budget=0.3)["adjacency"].sum() == 12


def test_time_limits_leave_an_honest_record() -> None:
    market = random_market(np.random.default_rng(12), 25, ("sqrt", "saturating"))
    solution = market.solve(seller_cap=4, time_limit=0.4, on_failure="return")
    assert solution.status in (Status.LIMIT, Status.OPTIMAL)
    if solution.status is Status.LIMIT and solution.values:
        assert solution.gap > solution.tolerance  # type: ignore[operator]
        assert solution.objective <= solution.bound + 1e-9  # type: ignore[operator]


# ------------------------------------------------------------ kinds of utility


def test_functions_of_any_shape_need_equal_sizes_or_few_sellers() -> None:
    rng = np.random.default_rng(13)
    steep = UserUtility(lambda D: np.floor(D / 4) * 5)
    small = SharingMarket(rng.uniform(1, 3, 5), 1 - np.eye(5), steep)
    assert "set_share" in small.program()
    assert small.solve(seller_cap=2).status is Status.OPTIMAL
    equal = SharingMarket(np.full(20, 2.0), 1 - np.eye(20), steep)
    assert "count_share" in equal.program()
    assert equal.solve("highspy").objective == pytest.approx(equal.solve().objective, abs=1e-8)
    large = SharingMarket(rng.uniform(1, 3, 20), 1 - np.eye(20), steep)
    with pytest.raises(NotApplicable, match="exact algorithms"):
        large.program()
    endless = UserUtility(lambda D: np.where(D > 1, 0.0, -np.inf))
    with pytest.raises(InvalidInput, match=r"utility\[0\] is -inf for sellers \[\]"):
        SharingMarket([1.0, 2.0, 3.0], 1 - np.eye(3), endless).program()
    with pytest.raises(InvalidInput, match=r"utility\[0\] is -inf for 1 records"):
        SharingMarket([1.0, 1.0], 1 - np.eye(2), endless).program()


@pytest.mark.parametrize("kind", ["threshold", "evaluated"])
def test_constraints_cannot_be_met_by_hiding_what_a_graph_is_worth(kind: str) -> None:
    market = random_market(np.random.default_rng(14), 4, (kind,))
    program = market.program()
    with pytest.raises(InvalidInput, match=r"family 'poor'.*lowering the variable"):
        program.add("poor", program["utility"] <= 1.0)
    with pytest.raises(InvalidInput, match="lowering the variable"):
        program.maximize(-cp.max(program["utility"]))
    with pytest.raises(InvalidInput, match="lowering the variable"):
        program.add("envy", program["surplus"][0] >= program["surplus"][1])
    # What wants them larger is welcome, through atoms that are no more than monotone too.
    program.add("floor", program["utility"] >= 0.0, program["welfare"] >= program["cost"][0])
    solution = program.maximize(cp.min(program["allocation_value"])).solve("outer")
    values = oracle.utilities(market) - oracle.costs(market, {})
    assert solution.objective == pytest.approx(values.min(axis=1).max(), abs=1e-6)


def test_uploads_serve_sales() -> None:
    market = random_market(np.random.default_rng(14), 4, ("log",))
    for program in (market.program(upload_cost=1.0), market.configuration_program(upload_cost=1.0)):
        with pytest.raises(InvalidInput, match="raising the variable 'uploads'"):
            program.add("active", cp.sum(program["uploads"]) >= 3)
        program.add("few", cp.sum(program["uploads"]) <= 1)
    few = market.program(upload_cost=1.0)
    solution = few.add("few", cp.sum(few["uploads"]) <= 1).solve()
    graphs = oracle.every_graph(4)
    welfare = oracle.utilities(market).sum(axis=1) - oracle.costs(market, {"upload_cost": 1.0}).sum(axis=1)
    assert solution.objective == pytest.approx(welfare[graphs.any(axis=2).sum(axis=1) <= 1].max(), abs=1e-6)


def test_utilities_that_are_exact_may_be_bounded_from_both_sides() -> None:
    for kind in ("table", "additive", "user"):
        market = random_market(np.random.default_rng(14), 4, (kind,), equal=kind == "user")
        values = oracle.utilities(market)
        level = 0.8 * float(values.max())
        program = market.program()
        found = program.add("equal", program["utility"] <= level).solve()
        welfare = values.sum(axis=1) - oracle.costs(market, {}).sum(axis=1)
        expected = welfare[values.max(axis=1) <= level].max()
        assert found.objective == pytest.approx(expected, abs=1e-6)
        assert expected < welfare.max()


# ------------------------------------------------------------ relaxations and prices


def relaxed(market: SharingMarket, **limits: Any) -> Program:
    """Declare shares of data instead of edges."""
    return declare(market, Restrictions.of(market.n_agents, limits), fractional=True)


@pytest.mark.parametrize("equal", [False, True])
def test_the_continuous_relaxation_is_not_integral(equal: bool) -> None:
    rng = np.random.default_rng(15)
    larger = 0
    for _ in range(20):
        market = random_market(rng, 4, ("log",), equal=equal)
        value, _ = oracle.best(market, {})
        bound = relaxed(market).solve("clarabel").objective
        assert bound >= value - 1e-5
        larger += bound > value + 1e-4
    assert 3 <= larger <= 17


def test_with_additive_utilities_and_caps_it_is_a_transport_problem_with_whole_vertices() -> None:
    rng = np.random.default_rng(16)
    for _ in range(12):
        market = random_market(rng, 5, ("additive",))
        limits = {"seller_cap": rng.integers(1, 3, 5), "buyer_cap": rng.integers(1, 4, 5)}
        linear = relaxed(market, **limits).solve("highspy")
        whole = market.solve(**limits)
        assert linear.objective == pytest.approx(whole.objective, abs=1e-7)
        assert np.abs(linear["adjacency"] - np.round(linear["adjacency"])).max() < 1e-7
        # Seller i's cap has the price lambda_i; at c + lambda buyers want what they get, sellers sell it.
        price = market.sharing_cost + linear.dual("seller_cap")[:, np.newaxis]  # type: ignore[index]
        graph = np.round(linear["adjacency"])
        sold = graph.sum(axis=1)
        assert np.all((linear.dual("seller_cap") <= 1e-9) | (sold == limits["seller_cap"]))
        for buyer in range(5):
            worth = np.array(market.utility[buyer].values) - price[:, buyer]  # type: ignore[union-attr]
            worth[buyer] = 0.0
            most = np.sort(np.maximum(worth, 0.0))[::-1][: limits["buyer_cap"][buyer]].sum()
            assert graph[:, buyer] @ worth == pytest.approx(most, abs=1e-7)


def test_configurations_without_couplings_give_the_optimum_and_equilibrium_prices() -> None:
    rng = np.random.default_rng(17)
    for trial in range(12):
        market = random_market(rng, 4, EVERY, equal=trial % 2 == 0)
        limits = {"buyer_cap": 2, "buyer_budget": 3.0} if trial % 3 == 0 else {}
        solution = market.configuration_program(**limits).solve("highspy")
        assert solution.objective == pytest.approx(oracle.best(market, limits)[0], abs=1e-7)
        if not limits:
            assert_equilibrium(market, solution, np.zeros(4))


def test_configurations_of_concave_utilities_with_one_buyer_a_seller_are_tight_and_price_data() -> None:
    rng = np.random.default_rng(18)
    for _ in range(15):
        market = random_market(rng, 4, ("log", "sqrt", "saturating", "capped"))
        solution = market.configuration_program(seller_cap=1).solve("highspy")
        value, _ = oracle.best(market, {"seller_cap": 1})
        assert solution.objective == pytest.approx(value, abs=1e-7)
        cap = solution.dual("seller_cap")
        assert np.all(np.asarray(cap) >= -1e-9)
        assert_equilibrium(market, solution, np.asarray(cap))


def assert_equilibrium(market: SharingMarket, solution: Solution, scarcity: Any) -> None:
    """By definition: no buyer gains by another set, and no seller by other sales, at the prices."""
    price, graph = np.asarray(solution.dual("clearing")), solution["adjacency"]
    for buyer in range(market.n_agents):
        gain = oracle.best_set(market, buyer, price[:, buyer])
        assert np.asarray(solution.dual("one_set"))[buyer] == pytest.approx(gain, abs=1e-6)
    edges = ~np.eye(market.n_agents, dtype=bool)
    profit = price - market.sharing_cost
    assert np.all((profit <= scarcity[:, np.newaxis] + 1e-6)[edges])
    assert np.all((np.abs(profit - scarcity[:, np.newaxis]) <= 1e-6)[graph > 1e-6])
    assert np.all((scarcity <= 1e-6) | (graph.sum(axis=1) >= 1 - 1e-6))
    # What buyers gain and sellers earn is the welfare: nothing is left on the table.
    earned = np.sum(graph * profit)
    gained = np.sum(np.asarray(solution.dual("one_set")))
    assert gained + earned == pytest.approx(solution.objective, abs=1e-6)


def monotone_table(rng: Rng, buyer: int, n: int) -> TableUtility:
    """Draw a table in which more data is never worth less."""
    values: dict[frozenset[int], float] = {}
    others = [agent for agent in range(n) if agent != buyer]
    for size in range(n):
        for chosen in combinations(others, size):
            key = frozenset(chosen)
            below = max((values[key - {seller}] for seller in key), default=0.0)
            values[key] = below + (float(rng.uniform(0, 4)) if key else 0.0)
    return TableUtility(values)


def test_some_tables_have_no_linear_prices() -> None:
    rng = np.random.default_rng(0)
    gaps = []
    for _ in range(30):
        cost = rng.uniform(0.2, 2.5, (4, 4)) * (1 - np.eye(4))
        market = SharingMarket(np.ones(4), cost, [monotone_table(rng, buyer, 4) for buyer in range(4)])
        solution = market.configuration_program(seller_cap=1).solve("highspy")
        gaps.append(solution.objective - oracle.best(market, {"seller_cap": 1})[0])
    assert min(gaps) > -1e-7
    assert 1 <= sum(gap > 1e-3 for gap in gaps) <= 20


def test_reciprocal_triangle_has_linear_value_three_and_whole_value_two() -> None:
    market = SharingMarket([1.0, 1.0, 1.0], np.zeros((3, 3)), AdditiveUtility([1.0, 1.0, 1.0]))
    limits = {"reciprocity": True, "seller_cap": 1}
    assert relaxed(market, **limits).solve("highspy").objective == pytest.approx(3.0, abs=1e-8)
    assert market.configuration_program(**limits).solve("highspy").objective == pytest.approx(3.0, abs=1e-8)
    assert market.solve(**limits).objective == 2.0
    assert oracle.best(market, limits)[0] == 2.0


def test_programs_over_sets_refuse_too_many() -> None:
    market = random_market(np.random.default_rng(0), 16, ("log",))
    with pytest.raises(NotApplicable, match="sets of sellers"):
        market.configuration_program()
    chosen = np.zeros((16, 16), dtype=bool)
    chosen[4:] = True
    few = declare_configurations(market, Restrictions.of(16, {"forbidden": chosen}))
    assert few.solve("highspy").objective == pytest.approx(market.solve(forbidden=chosen).objective, abs=1e-6)


def test_prices_of_shares_support_the_optimum_and_are_derivatives() -> None:
    rng = np.random.default_rng(19)
    for _ in range(3):
        market = random_market(rng, 5, ("log", "sqrt", "inverse_sqrt"))
        budget = np.full(5, 1.3)
        solution = relaxed(market, privacy_budget=budget).solve("clarabel", tolerance=1e-7)
        scarcity = np.asarray(solution.dual("privacy_budget"))
        price = market.sharing_cost + scarcity[:, np.newaxis]
        assert scarcity.max() > 0.05
        for buyer in range(5):
            # Most of the buyer's gain at the prices: sellers in the order of price per record, until the
            # marginal record costs more than it is worth.
            rate = np.delete(price[:, buyer] / market.data_size, buyer)
            size = np.delete(market.data_size, buyer)
            f, have, spent = market.utility[buyer], float(market.data_size[buyer]), 0.0
            for k in np.argsort(rate):
                amount = float(np.clip(f.inverse_derivative(rate[k]) - have, 0.0, size[k]))  # type: ignore[union-attr]
                have, spent = have + amount, spent + rate[k] * amount
            best = float(f(have)) - spent  # type: ignore[operator]
            paid = price[:, buyer] @ solution["adjacency"][:, buyer]
            assert solution["utility"][buyer] - paid == pytest.approx(best, abs=1e-4)
        seller, step = int(np.argmax(scarcity)), 1e-3
        up, down = (
            relaxed(market, privacy_budget=budget + sign * step * np.eye(5)[seller])
            .solve("clarabel", tolerance=1e-7)
            .objective
            for sign in (1, -1)
        )
        # Differences of values that are good to some 1e-7 of ten, over 2e-3.
        assert (up - down) / (2 * step) == pytest.approx(scarcity[seller], abs=5e-3)


def test_shares_need_utilities_of_shares() -> None:
    market = random_market(np.random.default_rng(1), 4, ("table",))
    with pytest.raises(NotApplicable, match=r"utility\[0\] = TableUtility"):
        relaxed(market)
    assert relaxed(random_market(np.random.default_rng(1), 4, ("log",))).exact is None


# ------------------------------------------------------------ restrictions as such


def test_restrictions_that_limit_nobody_are_none() -> None:
    limits = Restrictions.of(
        3,
        {
            "seller_cap": np.inf,
            "buyer_cap": [np.inf] * 3,
            "privacy_budget": np.inf,
            "platform_cap": np.inf,
            "platform_privacy_budget": np.inf,
            "reciprocity": False,
            "upload_cost": None,
        },
    )
    assert limits.in_force == ()
    assert limits.couplings == ()
    assert Restrictions.of(3, {"seller_cap": [1, np.inf, np.inf]}).couplings == ("seller_cap",)


def test_violations_are_those_of_the_oracle() -> None:
    rng = np.random.default_rng(20)
    for name, draw in LIMITS.items():
        limits = draw(rng) | {"upload_cost": None}
        market = random_market(rng, 4, ("log",))
        read = Restrictions.of(4, limits)
        given = {key: value for key, value in limits.items() if value is not None}
        kept = oracle.allowed(market, given)
        for graph, fine in list(zip(oracle.every_graph(4), kept, strict=True))[::37]:
            worst = max(read.violations(graph, market.sharing_cost).values(), default=0.0)
            assert (worst <= 1e-9) == fine, name


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"seler_cap": 1}, "no restriction 'seler_cap'; did you mean 'seller_cap'"),
        ({"seller_cap": 1.5}, r"seller_cap\[0\] = 1.5 must be a whole number"),
        ({"seller_cap": [1, -1, 1]}, r"seller_cap\[1\] = -1 must be >= 0"),
        ({"buyer_cap": [1, 1]}, r"buyer_cap has shape \(2,\)"),
        ({"privacy_loss": np.ones((3, 3))}, "privacy_loss needs privacy_budget"),
        ({"privacy_budget": 1.0, "privacy_loss": -np.ones((3, 3))}, r"privacy_loss\[0, 0\] = -1"),
        ({"platform_cap": 2.5}, "platform_cap must be a whole number"),
        ({"platform_privacy_budget": -1.0}, "platform_privacy_budget must be one number >= 0"),
        ({"upload_cost": np.inf}, r"upload_cost\[0\] is infinite"),
        ({"upload_cost": "much"}, "upload_cost must be numbers"),
        ({"buyer_budget": [1.0, np.nan, 1.0]}, r"buyer_budget has NaN at \[1\]"),
        ({"reciprocity": 1}, "reciprocity must be True or False"),
        ({"forbidden": np.zeros((2, 2))}, r"forbidden has shape \(2, 2\)"),
    ],
)
def test_bad_restrictions_are_named(limits: dict[str, Any], message: str) -> None:
    market = SharingMarket([1.0, 1.0, 1.0], 1 - np.eye(3), LogUtility(6.0, 1.0))
    with pytest.raises(InvalidInput, match=message):
        market.solve(**limits)
    with pytest.raises(InvalidInput):
        market.program(**limits)


# ------------------------------------------------------------ money and records of any size


def kinds_of_money(money: float) -> list[Utility]:
    """One utility of each kind that solvers see in a way of its own."""
    return [
        CappedUtility(20.0 * money, 9.0),
        LogUtility(9.0 * money, 3.0),
        EvaluatedGain(lambda D: 4 * money * np.sqrt(D), lambda D: 2 * money / np.sqrt(D)),
        ThresholdUtility(8.0 * money, 7.0),
        LinearUtility(0.6 * money),
    ]


@pytest.mark.parametrize("money", [1e-9, 1e9])
def test_joint_programs_of_tiny_and_huge_money(money: float) -> None:
    """Lines and tangents in plain money used to give wrong graphs that were called optimal."""
    rng = np.random.default_rng(17)
    size, cost = rng.uniform(0.5, 5, 5), rng.uniform(0, 2, (5, 5))
    np.fill_diagonal(cost, 0.0)
    market = SharingMarket(size, money * cost, kinds_of_money(money))
    same = SharingMarket(size, cost, kinds_of_money(1.0))
    assert market.program().solve("outer").objective == pytest.approx(market.solve().objective, rel=1e-8)
    for limits in ({"seller_cap": 2}, {"reciprocity": True}):
        found, known = market.solve(**limits), same.solve(**limits)
        assert found.objective == pytest.approx(money * known.objective, rel=1e-8)
        np.testing.assert_array_equal(found["adjacency"], known["adjacency"])


def test_joint_program_of_capped_utilities_equals_all_graphs_whatever_money_is_counted_in() -> None:
    rng = np.random.default_rng(18)
    for money in (1e-9, 1.0, 1e9):
        for _ in range(3):
            cost = money * rng.uniform(0, 3, (3, 3))
            np.fill_diagonal(cost, 0.0)
            utility = [CappedUtility(money * a, s) for a, s in rng.uniform(4, 12, (3, 2))]
            market = SharingMarket(rng.uniform(0.5, 5, 3), cost, utility)
            graphs = (
                np.insert(np.array(bits, dtype=float), [0, 3, 6], 0).reshape(3, 3)
                for bits in product((0, 1), repeat=6)
            )
            best = max(market.welfare(graph) for graph in graphs if np.all(graph.sum(axis=1) <= 1))
            assert market.solve(seller_cap=1).objective == pytest.approx(best, rel=1e-9)


def test_own_data_count_once_whatever_is_dropped() -> None:
    market = mo.SharingMarket(
        data_size=[8, 5, 3], sharing_cost=np.ones((3, 3)) - np.eye(3), utility=mo.LogUtility(10.0, 4.0)
    )
    program = market.program().drop("no_self_sharing")
    assert program.solve("outer").objective == pytest.approx(market.solve().objective, rel=1e-6)
