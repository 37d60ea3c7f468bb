"""The accuracy-shaping paper's results at known costs, as corrected: all of them hold."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from mechopt.formulations.accuracy_shaping import closed_form as oracle
from mechopt.formulations.accuracy_shaping.claims.roads import (
    LEDGER,
    conic,
    gains,
    pool_rule,
    relative,
    search_alone,
    search_most,
    search_pool,
    search_viability,
    shaped_reward,
    shaped_rule,
    worst_of,
)
from mechopt.formulations.accuracy_shaping.families import (
    HARD,
    MIXED,
    UNIT,
    Case,
    EqualCase,
    OthersCase,
    Rng,
    cases,
    equal_cases,
    others_cases,
    random_accuracy,
    short,
)
from mechopt.formulations.accuracy_shaping.mechanism import UserMechanism
from mechopt.formulations.accuracy_shaping.model import AccuracyShaping
from mechopt.formulations.functions import SqrtAccuracy
from mechopt.solvers.solution import Status
from mechopt.verification.claim import Finding
from mechopt.verification.evidence import largest, row

Array = NDArray[np.float64]


def _outside(case: Case) -> Array:
    """Outside options, by search."""
    return np.array([search_alone(case.accuracy, cost)[1] for cost in case.costs])


def _profiles(case: Case, mechanism: Any, n: int = 24) -> Array:
    """Profiles of all sizes, and with agents at the points where mechanism (13) changes."""
    rng, shape = np.random.default_rng(0), (n, len(case.costs))
    ceiling = case.accuracy.max_accuracy / np.array(case.costs)
    profiles = ceiling * 10 ** rng.uniform(-3, 0.1, shape)
    alone = case.shaping().standalone().contribution
    led = mechanism.max_incentivized_contribution(profiles.sum(axis=1, keepdims=True) - profiles)
    some = rng.integers(4, size=shape)
    return np.select([some == 1, some == 2, some == 3], [np.broadcast_to(alone, shape), led, 0.0], profiles)


# ------------------------------------------------------------ mechanisms and equilibria


@LEDGER.claim(
    "accuracy-shaping/R3",
    source="Definitions 3.1 and 3.2; (8)",
    statement="(10), and (13) with the minimum, never promise more than a(M), nor less than a(m_i)",
    instances=cases("sqrt", "bound", "power", seeded=True),
    tolerance=1e-12,
    n_instances=60,
)
def feasible_and_rational(case: Case) -> Finding:
    """Evaluate rewards at profiles of all sizes and where the mechanism changes, with two margins."""
    accuracy, shaping = case.accuracy, case.shaping()
    gaps: dict[str, float] = {}
    for margin in (0.0, 0.1 * min(case.costs)):
        shaped = shaping.mechanism(margin)
        profiles = _profiles(case, shaped)
        pool = accuracy(case.seed_data + profiles.sum(axis=1, keepdims=True))
        for name, mechanism in (("(13)", shaped), ("(10)", shaping.standard_mechanism())):
            reward = mechanism.reward(profiles)
            gaps[f"{name} above a(M)"] = float(np.max(reward - pool)) / accuracy.max_accuracy
            gaps[f"{name} below a(m)"] = float(np.max(accuracy(profiles) - reward)) / accuracy.max_accuracy
    return worst_of(gaps, f"margin {margin:.3g}")


@LEDGER.claim(
    "accuracy-shaping/R4",
    source="Theorem 3.3, repaired",
    statement="Where best responses never fall, iteration from nothing and from above finds equilibria: "
    "(13) at margin 0, or if all are viable alone",
    instances=cases("sqrt", "bound", "power", min_agents=2, max_agents=6),
    tolerance=1e-8,
    n_instances=40,
)
def monotone_best_responses(case: Case) -> Finding:
    """Raise the others' data and watch best responses; then iterate, and try all deviations."""
    accuracy, shaping, costs = case.accuracy, case.shaping(), np.array(case.costs)
    all_viable = max(case.costs) < accuracy.viability_cost * (1 - 1e-9)
    margin = 0.02 * min(case.costs) if all_viable else 0.0
    mechanism = shaping.mechanism(margin)
    limits = accuracy.max_accuracy / costs
    given = np.append(0.0, np.geomspace(1e-3 * accuracy.min_viable_data, 10 * limits.sum(), 120))
    responses = np.empty((given.size, costs.size))
    for giver in (0, 1):
        profiles = np.zeros((given.size, costs.size))
        profiles[:, giver] = given
        others = np.arange(costs.size) != giver
        responses[:, others] = mechanism.best_response(profiles)[:, others]
    fall = float(np.max(-np.diff(responses, axis=0) / limits))
    rule = shaped_rule(accuracy, costs, margin)
    least, greatest = (mechanism.find_equilibrium(start) for start in ("zero", "above"))
    regret = [largest(gains(rule, costs, limits, found.contribution)) for found in (least, greatest)]
    gaps = {
        "best response falls": fall,
        "regret": max(regret) / accuracy.max_accuracy,
        "order": float(np.max((least.contribution - greatest.contribution) / limits)),
        "not found": float(not (least.found and greatest.found)),
    }
    return worst_of(gaps, f"from nothing {row(least.contribution)}, from above {row(greatest.contribution)}")


def _one_cheapest(case: Case) -> bool:
    lowest = sorted(case.costs)[:2]
    return len(lowest) == 1 or lowest[0] < lowest[1] * (1 - 1e-9)


@LEDGER.claim(
    "accuracy-shaping/R5",
    source="(10), Theorem 3.4, Remark 3.5, for one cheapest agent",
    statement="If everybody gets the best model and one agent is cheapest, only it contributes, m_1*: "
    "a(M) - sum c_i m_i is an exact potential",
    instances=cases("sqrt", "bound", "power", suits=_one_cheapest),
    tolerance=1e-8,
    n_instances=40,
)
def free_riding(case: Case) -> Finding:
    """Iterate best responses from random profiles, try deviations, compare utilities with the potential."""
    accuracy, shaping, costs = case.accuracy, case.shaping(), np.array(case.costs)
    found, mechanism = shaping.standard_federated(), shaping.standard_mechanism()
    alone, size = search_alone(accuracy, float(costs.min())), accuracy.viability_data
    expected = np.where(costs == costs.min(), shaping.standalone().contribution, 0.0)
    rng, limits = np.random.default_rng(0), accuracy.max_accuracy / costs
    starts = rng.uniform(0, 1, (4, costs.size)) * limits * rng.uniform(0, 0.3, (4, 1))
    reached = [mechanism.find_equilibrium(start, tolerance=0.0).contribution for start in starts]

    def potential(profile: Array) -> float:
        return float(accuracy(profile.sum()) - costs @ profile)

    unlike = 0.0
    for before, after in pairwise(starts):
        agent = int(rng.integers(costs.size))
        moved = before.copy()
        moved[agent] = after[agent]
        change = mechanism.utility(moved)[agent] - mechanism.utility(before)[agent]
        unlike = max(unlike, abs(float(change) - (potential(moved) - potential(before))))
    regret = gains(pool_rule(accuracy), costs, limits, found.contribution)
    gaps = {
        "contribution": largest(found.contribution - expected) / max(size, float(expected.max())),
        "utility of the cheapest": abs(float(found.utility[int(costs.argmin())]) - alone[1]),
        "other equilibrium": max(largest(m - expected) for m in reached) / max(size, float(expected.max())),
        "regret": largest(regret),
        "potential": unlike / max(1.0, float(costs @ limits)),
    }
    return worst_of(
        gaps, f"contributions {row(found.contribution)}, m_1* {alone[0]:.8g}; reached {reached[0]}"
    )


@LEDGER.claim(
    "accuracy-shaping/R5-conic",
    source="(10), Theorem 3.4",
    statement="The maximum of the potential's program is u_1*, also if the costs are tied",
    instances=cases("sqrt", "power"),
    tolerance=1e-6,
    n_instances=20,
)
def potential_program(case: Case) -> Finding:
    """Solve the convex program, and compare its value with the best utility of the cheapest agent alone."""
    found = conic(case.shaping().potential_program().solve)
    _, utility = search_alone(case.accuracy, min(case.costs))
    value = max(found.objective, 0.0)
    told = f"the program {found.objective:.9g}, alone {utility:.9g}"
    return Finding(abs(value - utility) / case.accuracy.max_accuracy, told)


def _split_cases(rng: Rng, n: int) -> Iterator[EqualCase]:
    """Equal agents around the cost at which sharing the work is just worth it, and 1 % on both sides."""
    yield from (EqualCase(UNIT, 0.05, 2), EqualCase(UNIT, 0.064, 2), EqualCase(UNIT, 0.0647, 2))[:n]
    for turn in range(n - 3):
        accuracy = random_accuracy(rng, "sqrt")
        assert isinstance(accuracy, SqrtAccuracy)
        n_agents = int(rng.integers(2, 12))
        border = (accuracy.max_accuracy / (2 + 1 / n_agents)) ** 3 / accuracy.difficulty
        factor = (0.99, 1.01, 10 ** rng.uniform(-0.7, 0.3))[turn % 3]
        yield EqualCase(accuracy, short(border * factor), n_agents)


@LEDGER.claim(
    "accuracy-shaping/R5-equal",
    source="Theorem 3.4 and Remark 3.5, for equal costs under (3)",
    statement="n agents of one cost can share the work in an equilibrium of (10) exactly if "
    "k c <= (a/(2 + 1/n))³: also where nobody would work alone",
    instances=_split_cases,
    tolerance=1e-9,
    n_instances=60,
)
def shared_work(case: EqualCase) -> Finding:
    """Split the optimal pool equally, try all deviations, and compare with the criterion and the answer."""
    accuracy, n = case.accuracy, case.n_agents
    pool = (accuracy.difficulty / case.cost**2) ** (1 / 3)
    costs, profile = np.full(n, case.cost), np.full(n, pool / n)
    limit = accuracy.max_accuracy / case.cost
    regret = largest(gains(pool_rule(accuracy), costs, limit, profile)) / accuracy.max_accuracy
    border = (accuracy.max_accuracy / (2 + 1 / n)) ** 3
    margin = accuracy.difficulty * case.cost / border - 1
    answer = case.shaping().standard_federated().shared
    stable = regret <= 1e-9
    told = f"k c is {1 + margin:.6g} of the border; splitting {pool:.6g} has regret {regret:.3g}"
    wrong = stable != (margin <= 0) or (answer is not None) != (margin <= 0)
    gap = float(wrong) if abs(margin) > 1e-9 else 0.0
    if answer is not None:
        gap = max(gap, largest(answer - profile) / pool)
    return Finding(gap, told, applies=abs(margin) > 1e-9)


# ------------------------------------------------------------ the most data


@LEDGER.claim(
    "accuracy-shaping/R6",
    source="Definition 4.1; (12)",
    statement="The most data is a convex program whose solution is the same for all positive weights: the "
    "largest pool with M = sum (b(M) - u_i*)/c_i",
    instances=cases("sqrt", "power", min_agents=2, max_agents=6),
    tolerance=1e-6,
    n_instances=24,
)
def data_maximum(case: Case) -> Finding:
    """Solve with equal and with random weights; search for the pool; a draw without pool must give zeros."""
    shaping, outside = case.shaping(), _outside(case)
    plain, pool = conic(shaping.solve), search_pool(case.accuracy, case.costs, outside)
    # Next to a double root an interior-point method finds half of the digits.
    strain = float(np.sum(1 / np.array(case.costs))) * search_viability(case.accuracy)
    clear = case.viable or abs(strain - 1) > 0.01
    if pool is None or plain.extra.get("not_viable"):
        gap = float((pool is None) != (plain.objective == 0)) + largest(plain["contribution"])
        return Finding(gap, f"pool by search {pool}, the program {plain.objective:.6g}", applies=clear)
    weights = np.random.default_rng(0).uniform(0.2, 5, len(case.costs))
    program = shaping.program()
    program.maximize(weights @ program["contribution"])
    weighted = conic(program.solve)
    gaps = {
        "total": relative(plain.objective, pool),
        "weights": largest(plain["contribution"] - weighted["contribution"]) / pool,
        "utility": largest(plain["utility"] - outside) / case.accuracy.max_accuracy,
        "accuracy": largest(plain["allocated_accuracy"] - case.accuracy(pool)),
    }
    told = f"the program {plain.objective:.9g}, by search {pool:.9g}; weights {row(weights)}"
    return worst_of(gaps, told, applies=clear)


@LEDGER.claim(
    "accuracy-shaping/R6-menu",
    source="(12), sufficiency",
    statement="Every point of the program is an equilibrium of a feasible and individually rational "
    "mechanism: own model below m_i, alpha_i from there on",
    instances=cases("sqrt", "bound", "power", max_agents=6, suits=lambda case: case.viable),
    tolerance=1e-9,
    n_instances=40,
)
def step_menus_implement(case: Case) -> Finding:
    """Mix the optimum with the standalone profile, offer the step menu, and try all deviations."""
    accuracy, costs = case.accuracy, np.array(case.costs)
    best, alone = case.shaping().solve(), case.shaping().standalone()
    gaps: dict[str, float] = {}
    for share in (0.0, 0.3, 0.7, 1.0):
        target = share * best["contribution"] + (1 - share) * alone.contribution
        promised = alone.utility + costs * target
        level = float(accuracy(target.sum()))

        def rule(
            agent: int, tried: Array, others: float, target: Any = target, promised: Any = promised
        ) -> Any:
            step = np.minimum(promised[agent], accuracy(tried + others))
            # The last bit of an agent's own target must not decide.
            return np.where(tried >= target[agent] * (1 - 1e-12), step, accuracy(tried))

        gaps[f"promise at {share}"] = float(np.max(promised) - level)
        regret = gains(rule, costs, accuracy.max_accuracy / costs, target)
        gaps[f"regret at {share}"] = largest(regret)
    return worst_of(gaps, f"optimum {row(best['contribution'])}, alone {row(alone.contribution)}")


@LEDGER.claim(
    "accuracy-shaping/R7",
    source="(13), with the minimum",
    statement="An agent can be led to the largest m with a(m*) + (c + ε)(m - m*) <= a(m + S), and its reward "
    "is the lesser of both sides",
    instances=others_cases("sqrt", "bound", "power"),
    tolerance=1e-7,  # where the line nearly touches, a root has half of the digits
    n_instances=120,
)
def largest_root_and_minimum(case: OthersCase) -> Finding:
    """Find the last crossing by trying; evaluate the rewards of both; there may be three crossings."""
    accuracy, slope = case.accuracy, case.cost + case.margin
    mechanism = AccuracyShaping(accuracy, np.full(2, case.cost)).mechanism(case.margin)
    start, _ = search_alone(accuracy, case.cost)
    level = float(accuracy(start)) - slope * start
    tried = search_most(accuracy, slope, level - 1e-15, case.others_data, start)
    tried = start if tried is None else tried
    led = float(mechanism.max_incentivized_contribution(case.others_data)[0])
    amounts = np.linspace(0, 1.2 * max(led, start, 1e-3 * accuracy.max_accuracy / case.cost), 50)
    profiles = np.column_stack([amounts, np.full(50, case.others_data)])
    reward = mechanism.reward(profiles)[:, 0]
    by_definition = shaped_reward(accuracy, start, slope, amounts, case.others_data)
    size = accuracy.max_accuracy / case.cost
    gaps = {
        "m^max": abs(led - tried) / size,
        "reward": largest(reward - by_definition) / accuracy.max_accuracy,
        "feasible": float(np.max(reward - accuracy(amounts + case.others_data))),
    }
    return worst_of(gaps, f"led to {led:.9g}, by trying {tried:.9g}; m* {start:.6g}")


@LEDGER.claim(
    "accuracy-shaping/R8",
    source="Theorem 4.2, as the margin vanishes",
    statement="m_i = m_i^max is an equilibrium, and its pool the largest root of M = sum (b(M) - u_i*)/c_i; "
    "a margin costs data",
    instances=cases("sqrt", "bound", "power", min_agents=2),
    tolerance=1e-8,
    n_instances=50,
)
def data_maximising_equilibrium(case: Case) -> Finding:
    """Root, search, and best responses from above; deviations tried; two margins."""
    accuracy, shaping, costs = case.accuracy, case.shaping(), np.array(case.costs)
    best, pool = shaping.solve(), search_pool(accuracy, costs, _outside(case)) or 0.0
    mechanism = shaping.mechanism(0.0)
    found = mechanism.find_equilibrium("above")
    led = mechanism.max_incentivized_contribution(best.objective - best["contribution"])
    size = float(np.sum(accuracy.max_accuracy / costs))
    margins = (1e-4 * min(case.costs), 1e-2 * min(case.costs))
    totals = [shaping.mechanism(margin).find_equilibrium("above").total_data for margin in margins]
    roots = [max((e.total_data for e in shaping.equilibria(margin)), default=0.0) for margin in margins]
    limits = accuracy.max_accuracy / costs
    regret = gains(shaped_rule(accuracy, costs, 0.0), costs, limits, best["contribution"])
    gaps = {
        "search": abs(best.objective - pool) / size,
        "iteration": largest(best["contribution"] - found.contribution) / size,
        "m^max": largest(led - best["contribution"]) / size,
        "regret": largest(regret) / accuracy.max_accuracy,
        "less than alone": float(np.max(shaping.standalone().contribution - best["contribution"])) / size,
        "margins": max(totals[0] - best.objective, totals[1] - totals[0]) / size,
        "with margins": largest(np.subtract(totals, roots)) / size,
    }
    told = f"exact {best.objective:.10g}, search {pool:.10g}, iteration {found.total_data:.10g}; {totals}"
    return worst_of(gaps, told)


@LEDGER.claim(
    "accuracy-shaping/R8-tangents",
    source="Theorem 4.2, under (2)",
    statement="Under the bound (2), which has no conic form, the program by tangents has the same value",
    instances=cases("bound", worked=(), min_agents=2),
    tolerance=1e-7,
    n_instances=12,
)
def data_maximum_by_tangents(case: Case) -> Finding:
    """Solve the declared program by outer approximation."""
    exact = case.shaping().solve()
    found = conic(case.shaping().solve, "outer")
    size = float(np.sum(case.accuracy.max_accuracy / np.array(case.costs)))
    told = f"tangents {found.objective:.10g}, exact {exact.objective:.10g}"
    return Finding(abs(found.objective - exact.objective) / size, told)


def _other_mechanisms(accuracy: Any) -> dict[str, Any]:
    """Rules that are feasible and individually rational, of contributions with agents on the last axis."""

    def pool(m: Array) -> Array:
        return np.asarray(accuracy(m.sum(axis=-1, keepdims=True)))

    return {
        "own model": lambda m: accuracy(m),
        "half of the pool's": lambda m: np.maximum(accuracy(m), 0.5 * pool(m)),
        "most of the pool's": lambda m: np.maximum(accuracy(m), 0.9 * pool(m)),
        "between": lambda m: 0.5 * (accuracy(m) + pool(m)),
        "by share": lambda m: np.maximum(
            accuracy(m), pool(m) * np.minimum(1, 2 * m / np.maximum(m.sum(axis=-1, keepdims=True), 1e-300))
        ),
    }


@LEDGER.claim(
    "accuracy-shaping/R8-most",
    source="Theorem 4.2, domination",
    statement="In no equilibrium of another feasible and individually rational mechanism does any agent "
    "contribute more",
    instances=cases("sqrt", "power", worked=(MIXED, HARD), min_agents=2, max_agents=3),
    tolerance=1e-6,
    n_instances=12,
)
def no_mechanism_collects_more(case: Case) -> Finding:
    """Find equilibria of six other mechanisms by best responses; those certified count."""
    shaping, costs = case.shaping(), np.array(case.costs)
    most = shaping.solve()["contribution"]
    limits = case.accuracy.max_accuracy / costs
    found = {"(10)": shaping.standard_mechanism().find_equilibrium()}
    for name, rule in _other_mechanisms(case.accuracy).items():
        found[name] = UserMechanism(rule, costs, limits).find_equilibrium(max_rounds=40)
    gaps = {n: float(np.max((e.contribution - most) / limits)) for n, e in found.items() if e.found}
    told = "; ".join(f"{n} {row(e.contribution)}" for n, e in found.items() if e.found)
    return worst_of(gaps or {"none": 0.0}, f"most {row(most)}; {told}", applies=bool(gaps))


@LEDGER.claim(
    "accuracy-shaping/R9",
    source="Remark 4.3",
    statement="To an infinite pool an agent gives (a_opt - u*)/c, under (3) three times m*; equal agents "
    "give between m* and that",
    instances=cases("sqrt", "power", max_agents=3),
    tolerance=1e-9,
    n_instances=60,
)
def contribution_ceiling(case: Case) -> Finding:
    """Put the ceiling into its equation; replicate each agent, and see contributions rise towards it."""
    accuracy, costs = case.accuracy, np.array(case.costs)
    ceiling = oracle.contribution_ceiling(costs, accuracy)
    alone = np.array([search_alone(accuracy, cost) for cost in case.costs])
    start = accuracy(alone[:, 0])
    reached = start + costs * (ceiling - alone[:, 0])
    gaps = {"equation": largest(reached - accuracy.max_accuracy) / accuracy.max_accuracy}
    together = case.shaping().solve()["contribution"]
    gaps["exceeded"] = float(np.max((together - ceiling) / ceiling))
    if isinstance(accuracy, SqrtAccuracy):
        own = case.shaping().standalone().contribution
        gaps["three times"] = largest((ceiling - 3 * own)[own > 0] / ceiling[own > 0])
    for cost, most, (own, _) in zip(case.costs, ceiling, alone, strict=True):
        each = [
            float(AccuracyShaping(accuracy, np.full(n, cost)).solve()["contribution"][0])
            for n in (2, 40, 800)
        ]
        short_of = (accuracy.max_accuracy - float(accuracy(800 * each[-1]))) / cost
        gaps["order"] = max(gaps.get("order", 0.0), *(-np.diff([0.999999 * own, *each, most]) / most))
        if each[-1] > 0:
            gaps["limit"] = max(gaps.get("limit", 0.0), abs(each[-1] + short_of - most) / most)
    return worst_of(gaps, f"ceilings {row(ceiling)}, m* {row(alone[:, 0])}")


@LEDGER.claim(
    "accuracy-shaping/R10",
    source="Remark 4.4, for any costs",
    statement="If nobody is viable alone, there is a pool exactly if sum 1/c_i >= 1/c_max; nobody "
    "contributing is an equilibrium besides",
    instances=cases("sqrt", "power", low=0.02, high=1.5, suits=lambda case: not case.viable),
    tolerance=1e-9,
    n_instances=100,
)
def hard_problems(case: Case) -> Finding:
    """Compare the criterion, the exact answer and a search for the pool; try deviations from nothing."""
    accuracy, shaping, costs = case.accuracy, case.shaping(), np.array(case.costs)
    found = shaping.solve()
    pool = search_pool(accuracy, costs, np.zeros(costs.size))
    criterion = float(np.sum(1 / costs)) * search_viability(accuracy)
    clear = abs(criterion - 1) > 1e-9
    answers = {criterion >= 1, pool is not None, found.objective > 0, oracle.viable_together(costs, accuracy)}
    rule, limits = shaped_rule(accuracy, costs, 1e-3 * float(costs.min())), accuracy.max_accuracy / costs
    gaps = {
        "criterion": float(len(answers) > 1),
        "zero profile": largest(gains(rule, costs, limits, np.zeros(costs.size))),
    }
    if pool is not None and found.objective > 0:
        gaps["pool"] = relative(found.objective, pool) * min(1.0, 10 * (criterion - 1))
        level = float(accuracy.concave_part(found.objective))
        gaps["equation"] = relative(level * float(np.sum(1 / costs)), found.objective)
    told = f"sum c_max/c = {criterion:.8g}, pool by search {pool}, exact {found.objective:.8g}"
    return worst_of(gaps, told, applies=clear)


@LEDGER.claim(
    "accuracy-shaping/R10-conic",
    source="Remark 4.4",
    statement="The program is feasible exactly then, and has that pool",
    instances=cases("sqrt", "power", low=0.02, high=1.5, suits=lambda case: not case.viable),
    tolerance=1e-6,
    n_instances=20,
)
def hard_problems_by_program(case: Case) -> Finding:
    """Read feasibility off an interior-point method, away from the border."""
    criterion = float(np.sum(1 / np.array(case.costs))) * search_viability(case.accuracy)
    found = conic(case.shaping().program().solve)
    if found.status is Status.INFEASIBLE:
        gap = float(criterion > 1)
        return Finding(gap, f"sum c_max/c = {criterion:.6g}, infeasible", applies=abs(criterion - 1) > 0.01)
    pool = search_pool(case.accuracy, case.costs, np.zeros(len(case.costs))) or 0.0
    told = (
        f"sum c_max/c = {criterion:.6g}, pool {pool:.9g}, the program {found.objective:.9g}, {found.status}"
    )
    return Finding(relative(found.objective, pool), told, applies=abs(criterion - 1) > 0.01)


@LEDGER.claim(
    "accuracy-shaping/R11",
    source="Example 4.5, viable agents",
    statement="Under (3) each of n equal, viable agents gives x m*, x = 4 cos²(arccos(-1/√n)/3), which "
    "solves x + 2/√(nx) = 3: between 2 and 3 from n = 2 on",
    instances=equal_cases(-1.5, -0.01, worked=tuple(EqualCase(UNIT, 0.01, n) for n in (1, 2, 3, 10, 100))),
    tolerance=1e-9,
    n_instances=60,
)
def equal_viable_agents(case: EqualCase) -> Finding:
    """Formula, root of the equation, exact pool, and the closed form for any costs."""
    n, shaping = case.n_agents, case.shaping()
    ratio = float(oracle.homogeneous_ratio(n))
    exact = shaping.solve().objective
    root = (
        1.0 if n == 1 else float(brentq(lambda x: x + 2 / np.sqrt(n * x) - 3, n ** (-1 / 3), 3, xtol=1e-14))
    )
    standalone = float(shaping.standalone().contribution[0])
    gaps = {
        "equation": abs(ratio - root),
        "exact": relative(n * ratio * standalone, exact),
        "m*": relative(standalone, (case.accuracy.difficulty / case.cost**2) ** (1 / 3)),
        "bounds": max(0.0, ratio - 3, (2 if n > 1 else 1) - ratio - 1e-12),
        # For one agent the root is double, and the cosine's argument loses half of its digits.
        "any costs": relative(shaping.closed_form().total_data, exact) * (1e-3 if n == 1 else 1.0),
    }
    return worst_of(gaps, f"x = {ratio:.10g}, root {root:.10g}; total {exact:.10g}, m* {standalone:.8g}")


@LEDGER.claim(
    "accuracy-shaping/R11-hard",
    source="Example 4.5, hard problems",
    statement="Under (3) n equal agents, none viable, pool (4an/3c) cos²(arccos(-√(27kc/(na³)))/3) if "
    "n >= 27kc/a³: at least na/(3c), and na/(2c) exactly if n >= 32kc/a³",
    instances=equal_cases(
        0.01, 1.3, worked=(EqualCase(UNIT, 0.2, 100), EqualCase(UNIT, 0.1, 3)), max_agents=300
    ),
    tolerance=1e-8,
    n_instances=80,
)
def equal_hard_agents(case: EqualCase) -> Finding:
    """Formula, exact pool and search; the bounds and the numbers of agents at which they begin."""
    accuracy, n, c = case.accuracy, case.n_agents, case.cost
    a, k = accuracy.max_accuracy, accuracy.difficulty
    formula = oracle.hard_problem_total(c, n, accuracy)
    exact = case.shaping().solve().objective
    tried = search_pool(accuracy, [c / n], [0.0]) or 0.0
    enough = n * a**3 / (27 * k * c)
    size = a * n / c
    gaps = {
        "exact": abs(formula - exact) / size,
        "search": abs(formula - tried) / size,
        "viable": float((formula > 0) != (enough >= 1)),
    }
    if formula > 0:
        gaps["na/(3c)"] = max(0.0, 1 / 3 - formula / size)
        gaps["na/(2c)"] = float((formula / size >= 0.5) != (enough >= 32 / 27))
    told = f"n a³/(27kc) = {enough:.6g}: {formula:.9g}, exact {exact:.9g}, search {tried:.9g}"
    return worst_of(gaps, told, applies=min(abs(enough - 1), abs(enough - 32 / 27)) > 1e-6)


@LEDGER.claim(
    "accuracy-shaping/R12",
    source="Theorem 4.6, Remark 4.7",
    statement="In equilibrium all have the best model and u_i = u_i* + ε(m_i - m_i*): the surplus becomes "
    "data; a lower cost means no less utility",
    instances=cases("sqrt", "bound", "power"),
    tolerance=1e-8,
    n_instances=60,
)
def surplus_becomes_data(case: Case) -> Finding:
    """Rewards at the equilibrium that best responses find, less costs, against what agents have alone."""
    accuracy, costs = case.accuracy, np.array(case.costs)
    alone = np.array([search_alone(accuracy, cost) for cost in case.costs])
    start = case.shaping().standalone().contribution
    gaps: dict[str, float] = {}
    for margin in (0.0, 1e-3 * min(case.costs)):
        found = case.shaping().mechanism(margin).find_equilibrium("above")
        owed = alone[:, 1] + margin * (found.contribution - start)
        falls = np.diff(found.utility[np.argsort(costs)])
        pool = float(accuracy(found.total_data))
        received = case.shaping().mechanism(margin).reward(found.contribution)
        gaps[f"withheld, margin {margin:.3g}"] = float(np.max(pool - received)) / accuracy.max_accuracy
        gaps[f"utility, margin {margin:.3g}"] = largest(found.utility - owed) / accuracy.max_accuracy
        gaps[f"order, margin {margin:.3g}"] = float(np.max(falls, initial=0.0)) / accuracy.max_accuracy
    return worst_of(gaps, f"utilities {row(found.utility)}, alone {row(alone[:, 1])}")
