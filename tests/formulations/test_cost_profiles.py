"""Cost profiles: against known costs, one agent, a second program, and the definition."""

from __future__ import annotations

import pickle
from itertools import chain, combinations, product
from typing import Any

import cvxpy as cp
import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.accuracy_shaping.cost_profiles import CostProfiles
from tests.oracles.accuracy import family_f
from tests.oracles.cost_profiles import by_loops, can_pay, random_profiles

UNIT = mo.SqrtAccuracy(1.0, 1.0)
CORRELATED = CostProfiles(UNIT, [0.01, 0.02], [[0.4, 0.1], [0.1, 0.4]])
# The verge of viability is at 1: two agents of cost 1.5 collect data together, and not alone.
HARD = UNIT.viability_cost * np.array([1.5, 2.9])

# Conic answers are asked for 1e-6 of the size of the objective's terms.
CLOSE = 3e-6
KINDS = list(product(("interim", "ex-post"), ("interim", "ex-post", "quitting")))


def value(
    design: CostProfiles, incentives: str = "interim", participation: str = "ex-post", **asked: Any
) -> Any:
    """Expected data, after an audit by the definition."""
    solution = design.solve(incentives=incentives, participation=participation, **asked)
    audit = design.audit(solution, incentives, participation=participation)
    assert audit.ok(1e-6), audit
    return solution.objective


def known_costs(design: CostProfiles) -> float:
    """Expectation of the data at known costs: the exact algorithm, by profile."""
    total = 0.0
    for profile, p in np.ndenumerate(design.probs):
        if p > 0:
            costs = design.costs[list(profile)]
            total += p * mo.AccuracyShaping(design.accuracy, costs, design.seed_data).solve().objective
    return total


# ---------------------------------------------------------------- a second program


@pytest.mark.parametrize(("incentives", "participation"), KINDS)
def test_loops_find_the_same(incentives: str, participation: str) -> None:
    rng = np.random.default_rng(1)
    for n_agents, n_types, zeros, seed in [(2, 2, 0, 0), (2, 3, 0.4, 0.5), (3, 2, 0.5, 0), (3, 2, 0, 2.0)]:
        highest = 0.1 if seed else -0.1  # some agents are not viable alone
        design = random_profiles(rng, n_agents, n_types, zeros=zeros, seed_share=seed, highest=highest)
        expected = by_loops(design, incentives, participation)
        assert value(design, incentives, participation) == pytest.approx(expected, rel=CLOSE)


def test_forms_agree() -> None:
    rng = np.random.default_rng(2)
    for n_agents, n_types in [(2, 4), (3, 3), (2, 3)]:
        design = random_profiles(rng, n_agents, n_types, zeros=0.2, seed_share=1.0, highest=0.5)
        full, local = (value(design, "ex-post", form=form) for form in ("full", "local"))
        assert full == pytest.approx(local, rel=CLOSE)


# ---------------------------------------------------------------- limits with an exact answer


@pytest.mark.parametrize("incentives", ["interim", "ex-post"])
def test_one_agent_is_cost_screening(incentives: str) -> None:
    rng = np.random.default_rng(3)
    for n_types in (1, 2, 3, 4):
        design = random_profiles(rng, 1, n_types, seed_share=float(rng.uniform(1, 5)), highest=0.3)
        menu = mo.CostScreening(
            design.accuracy, design.costs, design.probs if n_types > 1 else None, design.seed_data
        ).solve()
        assert value(design, incentives) == pytest.approx(design.seed_data + menu.objective, rel=CLOSE)


def test_one_agent_without_seed_does_as_alone() -> None:
    design = CostProfiles(UNIT, [0.01, 0.02, 0.03], [0.2, 0.3, 0.5])
    menu = mo.CostScreening(UNIT, design.costs, design.probs).solve()
    # A double root: the spare accuracy is flat there, and amounts have half of the digits.
    # The program's own value is sure to no more than that, and says so.
    found = design.solve(on_failure="return")
    np.testing.assert_allclose(found["contribution"][:, 0], menu["contribution"], rtol=1e-2)


def test_giving_up_is_cost_screenings_shutting_out() -> None:
    design = CostProfiles(UNIT, [0.04, 0.05], [0.95, 0.05], seed_data=3.0)
    screening = mo.CostScreening(UNIT, design.costs, design.probs, 3.0)
    served = screening.program(served=2).solve("clarabel")
    restricted = design.solve()
    assert restricted.objective == pytest.approx(3.0 + served.objective, rel=CLOSE)
    assert restricted.extra["doubtful"] == 2
    assert "restriction" in restricted.reason
    chosen = design.solve(branch="chosen")
    assert chosen.objective == pytest.approx(3.0 + screening.solve().objective, rel=CLOSE)
    assert chosen.extra["active"].tolist() == [True, False]
    assert chosen.extra["doubtful"] == 0


@pytest.mark.parametrize(("incentives", "participation"), KINDS)
def test_one_profile_is_the_known_cost(incentives: str, participation: str) -> None:
    rng = np.random.default_rng(4)
    for n_agents in (2, 3):
        design = random_profiles(rng, n_agents, 3, highest=0.2)
        probs = np.zeros_like(design.probs)
        probs[(0, 2, 1)[:n_agents]] = 1.0
        sure = CostProfiles(design.accuracy, design.costs, probs, 0.3 * design.accuracy.viability_data)
        assert value(sure, incentives, participation) == pytest.approx(known_costs(sure), rel=CLOSE)


@pytest.mark.parametrize("kind", ["sqrt", "power", "table", "bound"])
def test_perfect_correlation_reveals_costs(kind: str) -> None:
    rng = np.random.default_rng(5)
    accuracy, _ = family_f(rng, kind)
    for n_agents in (2, 3):
        costs = accuracy.viability_cost * np.array([0.1, 0.3, 1.2])
        probs = np.zeros((3,) * n_agents)
        probs[(range(3),) * n_agents] = [0.5, 0.3, 0.2]
        design = CostProfiles(accuracy, costs, probs)
        for participation in ("ex-post", "quitting"):
            assert value(design, "interim", participation) == pytest.approx(known_costs(design), rel=CLOSE)
        assert design.active_profiles().sum() == 3
    # Without beliefs, a lie is not seen through. (Alone, these agents get all that the table has to give.)
    mild = CostProfiles(accuracy, costs[:2], [[0.5, 0.0], [0.0, 0.5]])
    assert kind == "table" or value(mild, "ex-post") < 0.99 * known_costs(mild)


def test_accuracy_without_an_expression() -> None:
    bound = mo.GeneralizationBound(0.95, 10.0)
    design = CostProfiles(bound, bound.viability_cost * np.array([0.1, 0.5]), [[0.4, 0.2], [0.1, 0.3]])
    # A table of the same accuracy, 3% apart, is below it by some 1e-4 at most.
    sizes = bound.min_viable_data * np.geomspace(1.0, 100.0, 150)
    levels = np.maximum(bound(sizes), 0.0)
    table = CostProfiles(mo.TabulatedAccuracy(sizes.tolist(), levels.tolist()), design.costs, design.probs)
    for incentives in ("interim", "ex-post"):
        solution = design.solve("outer", incentives=incentives)
        assert design.audit(solution, incentives).ok(1e-6)
        assert solution.objective == pytest.approx(value(table, incentives), rel=1e-3)


# ---------------------------------------------------------------- order and symmetry


def test_what_incentives_cost() -> None:
    rng = np.random.default_rng(7)
    for n_agents, n_types in [(2, 2), (2, 3), (3, 2)]:
        design = random_profiles(rng, n_agents, n_types)
        own = design.own_probs
        independent = own[0]
        for table in own[1:]:
            independent = np.multiply.outer(independent, table)
        for joint in (design, CostProfiles(design.accuracy, design.costs, independent)):
            slack = CLOSE * known_costs(joint)
            ex_post, quitting = value(joint, "ex-post"), value(joint, "interim", "quitting")
            by_profile, bound = value(joint), value(joint, "interim", "interim")
            assert ex_post <= quitting + slack
            assert quitting <= by_profile + slack
            assert by_profile <= min(bound, known_costs(joint)) + slack
            assert value(joint, "ex-post", "quitting") == pytest.approx(ex_post, rel=CLOSE)


def test_correlation_helps_interim_incentives_alone() -> None:
    # Ex-post incentives do not depend on the distribution: what is best for a mixture of two is at most as
    # good as what is best for each. Interim incentives gain from knowing that costs go together.
    independent = CostProfiles(UNIT, CORRELATED.costs, np.full((2, 2), 0.25))
    opposite = CostProfiles(UNIT, CORRELATED.costs, [[0.1, 0.4], [0.4, 0.1]])
    mixture = value(independent, "ex-post")
    assert mixture <= (value(CORRELATED, "ex-post") + value(opposite, "ex-post")) / 2 * (1 + CLOSE)
    share = {d: value(d) / known_costs(d) for d in (CORRELATED, independent, opposite)}
    assert share[CORRELATED] > share[independent] + 1e-3
    nearly = CostProfiles(UNIT, CORRELATED.costs, [[0.49, 0.01], [0.01, 0.49]])
    assert value(nearly) / known_costs(nearly) > share[CORRELATED]


def test_agents_have_no_names() -> None:
    rng = np.random.default_rng(8)
    design = random_profiles(rng, 3, 2, zeros=0.2)
    order = (2, 0, 1)
    renamed = CostProfiles(design.accuracy, design.costs, design.probs.transpose(order))
    for incentives in ("interim", "ex-post"):
        solution = design.solve(incentives=incentives)
        assert value(renamed, incentives) == pytest.approx(solution.objective, rel=CLOSE)
        moved = {
            name: np.stack(
                [solution[name][:, i].reshape(2, 2, 2).transpose(order).ravel() for i in order], axis=1
            )
            for name in ("contribution", "allocated_accuracy")
        }
        assert renamed.audit(moved, incentives).ok(1e-6)


def test_units_of_data() -> None:
    design = CostProfiles(UNIT, [0.01, 0.03], [[0.3, 0.3], [0.1, 0.3]], seed_data=2.0)
    other = CostProfiles(mo.SqrtAccuracy(1.0, 1e4), design.costs / 1e4, design.probs, seed_data=2e4)
    for incentives in ("interim", "ex-post"):
        assert value(other, incentives) / 1e4 == pytest.approx(value(design, incentives), rel=CLOSE)


def test_nearly_impossible_profiles() -> None:
    # Interim incentives change at probability zero, where a lie becomes proof; ex-post ones go on smoothly.
    exact, nearly = (CostProfiles(UNIT, [0.01, 0.02], [[0.5, p], [p, 0.5 - 2 * p]]) for p in (0.0, 1e-7))
    assert value(nearly, "ex-post") == pytest.approx(value(exact, "ex-post"), rel=1e-5)
    assert exact.active_profiles("ex-post").all()
    assert exact.active_profiles().tolist() == [True, False, False, True]
    assert value(nearly) <= value(exact) * (1 + 1e-5)


# ---------------------------------------------------------------- profiles that are given up


def test_incentives_may_rule_out_a_viable_profile() -> None:
    # At known costs (1.5, 2.9) pays for itself, barely. Where both have cost 1.5, either could then say 2.9,
    # and two agents cannot be left with as much as that would be worth to each.
    design = CostProfiles(UNIT, HARD, [[0.4, 0.2], [0.2, 0.2]])
    assert design.active_profiles().tolist() == [True, True, True, False]
    for incentives in ("interim", "ex-post"):
        with pytest.raises(mo.Infeasible, match=r"3 profiles, in which .* branch='chosen'"):
            design.solve(incentives=incentives)
        failed = design.solve(incentives=incentives, on_failure="return")
        assert failed.status is mo.Status.INFEASIBLE


@pytest.mark.parametrize("incentives", ["interim", "ex-post"])
def test_chosen_profiles_are_the_best_of_all_sets(incentives: str) -> None:
    rng = np.random.default_rng(9)
    given_up = 0
    for costs in (HARD, UNIT.viability_cost * np.array([1.2, 1.9])):
        for seed in (0.0, 1.0):
            probs = rng.dirichlet(np.ones(4)).reshape(2, 2)
            design = CostProfiles(UNIT, costs, probs, seed)
            doubtful = [profile for profile in product(range(2), repeat=2) if can_pay(design, profile)]
            sets = chain.from_iterable(combinations(doubtful, n) for n in range(len(doubtful) + 1))
            found = [by_loops(design, incentives, "ex-post", set(on)) for on in sets]
            best = max(v for v in found if v is not None)
            solution = design.solve(incentives=incentives, branch="chosen")
            assert design.audit(solution, incentives).ok(1e-6)
            assert solution.objective == pytest.approx(best, rel=CLOSE)
            given_up += len(doubtful) - int(solution.extra["active"].sum())
    assert given_up


def test_nobody_is_tempted_out_of_a_profile_without_data() -> None:
    # Two agents of the high cost collect nothing. With participation by profile, a contract for the low cost
    # that either would take could be given to it outright. Bound agents may have to be kept from it.
    for low, high, probs in ((0.9, 2.1, [[0.25, 0.25]] * 2), (0.5, 3.0, [[0.05, 0.45]] * 2)):
        design = CostProfiles(UNIT, UNIT.viability_cost * np.array([low, high]), probs)
        assert design.active_profiles("ex-post").tolist() == [True, True, True, False]
        for participation in ("interim", "ex-post"):
            expected = by_loops(design, "ex-post", participation)
            assert value(design, "ex-post", participation) == pytest.approx(expected, rel=CLOSE)


@pytest.mark.parametrize("branch", ["viable", "chosen"])
def test_nobody_viable_is_an_answer(branch: Any) -> None:
    design = CostProfiles(UNIT, [0.2, 0.3], np.full((2, 2), 0.25), seed_data=1.0)
    solution = design.solve(branch=branch)
    assert solution.status is mo.Status.OPTIMAL
    assert solution.extra["not_viable"]
    assert solution.reason.startswith("not_viable")
    assert solution.objective == 1.0
    assert not solution["contribution"].any()
    assert design.audit(solution).relative == 0.0
    with pytest.raises(mo.NotApplicable, match="no profile of costs"):
        design.program(branch=branch)


# ---------------------------------------------------------------- the program as users change it


@pytest.mark.parametrize("incentives", ["interim", "ex-post"])
def test_prices_are_finite_differences(incentives: Any) -> None:
    def with_budget(budget: float) -> mo.Solution:
        program = CORRELATED.program(incentives)
        spent = cp.sum(program["allocated_accuracy"] - program["utility"], axis=1)
        return program.add("budget", CORRELATED.probs.ravel() @ spent <= budget).solve("clarabel")

    free = CORRELATED.solve(incentives=incentives)
    spent = float(CORRELATED.probs.ravel() @ (free["allocated_accuracy"] - free["utility"]).sum(axis=1))
    budget, step = 0.8 * spent, 2e-3 * spent
    solution = with_budget(budget)
    slope = (with_budget(budget + step).objective - with_budget(budget - step).objective) / (2 * step)
    assert float(solution.dual("budget")) == pytest.approx(slope, rel=1e-3)
    assert slope > 1.0
    assert CORRELATED.audit(solution, incentives).ok(1e-6)
    with pytest.raises(mo.MissingCapability):
        CORRELATED.solve("exact")


def test_price_of_the_outside_option() -> None:
    program = CORRELATED.program()
    price = np.asarray(program.solve("clarabel").dual("participation"))
    step = 1e-3
    values = []
    for sign in (1, -1):
        changed = CORRELATED.program().drop("participation")
        more = np.zeros((4, 2))
        more[3, 0] = sign * step
        outside = CORRELATED.standalone_utility[CORRELATED.profiles]
        changed.add("participation", changed["utility"] >= outside + more)
        values.append(changed.solve("clarabel").objective)
    assert price[3, 0] == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-3)
    assert price[3, 0] < 0


def test_withheld_accuracy_cannot_be_budgeted() -> None:
    program = CORRELATED.program()
    with pytest.raises(mo.InvalidInput, match="lowering `accuracy`"):
        program.add("withheld", program["accuracy"] - program["allocated_accuracy"][:, 0] <= 0.1)


# ---------------------------------------------------------------- the audit


def test_audit_finds_who_deviates() -> None:
    solution = CORRELATED.solve()
    assert CORRELATED.audit(solution).ok(1e-6)
    # What interim incentives allow, ex-post ones need not, nor an agent that may quit.
    assert CORRELATED.audit(solution, "ex-post").ic_violation > 0.01
    assert CORRELATED.audit(solution, participation="quitting").ic_violation > 0.01
    bound = CORRELATED.solve(participation="interim")
    assert CORRELATED.audit(bound).ir_violation > 0.01
    design = {name: np.array(solution[name]) for name in ("contribution", "allocated_accuracy")}
    poor = dict(design, allocated_accuracy=design["allocated_accuracy"] - [[0.0, 0.1]])
    worst = CORRELATED.audit(poor).worst
    assert worst is not None
    assert (worst.agent, worst.choice) == (1, None)
    # The second agent would say that it has the high cost, if that meant half the work.
    easy = dict(design, contribution=design["contribution"] * [[1, 1], [1, 0.5], [1, 1], [1, 0.5]])
    worst = CORRELATED.audit(easy).worst
    assert worst is not None
    assert (worst.agent, worst.choice) == (1, 1)
    # A promise beyond what all data give is worth what they give.
    lavish = dict(design, allocated_accuracy=np.ones((4, 2)), contribution=np.zeros((4, 2)))
    u = CORRELATED.standalone_utility
    assert CORRELATED.audit(lavish).ir_violation == pytest.approx(u[0], abs=1e-12)


def test_audit_by_hand() -> None:
    rng = np.random.default_rng(10)
    design = random_profiles(rng, 3, 2, zeros=0.3, seed_share=1.0)
    m, alpha = rng.uniform(0, 20, (8, 3)), rng.uniform(0, 1, (8, 3))
    table = dict(zip(product(range(2), repeat=3), range(8), strict=True))
    delivered = np.minimum(alpha, design.accuracy(design.seed_data + m.sum(axis=1))[:, None])
    for incentives in ("interim", "ex-post"):
        gains = [0.0]
        for i, k, report in product(range(3), range(2), range(2)):
            by_case = []
            for profile, row in table.items():
                if profile[i] == k:
                    other = table[(*profile[:i], report, *profile[i + 1 :])]
                    gain = (delivered[other, i] - design.costs[k] * m[other, i]) - (
                        delivered[row, i] - design.costs[k] * m[row, i]
                    )
                    by_case.append((float(design.probs[profile]), gain))
            if incentives == "interim":
                weight = sum(p for p, _ in by_case)
                gains.append(sum(p * gain for p, gain in by_case) / weight if weight else 0.0)
            else:
                gains += [gain for _, gain in by_case]
        audit = design.audit({"contribution": m, "allocated_accuracy": alpha}, incentives)
        assert audit.ic_violation == pytest.approx(max(gains), rel=1e-12)


def test_impossible_costs_cannot_be_reported() -> None:
    # The second agent never has the middle cost. Bound before it knows the profile, it works at a loss in
    # some, and would say anything to be rid of it; what it cannot be is no way out.
    probs = [[0.3, 0.0, 0.1], [0.0, 0.0, 0.1], [0.1, 0.0, 0.4]]
    design = CostProfiles(UNIT, [0.005, 0.01, 0.02], probs)
    solution = design.solve(incentives="ex-post", participation="interim")
    assert design.audit(solution, "ex-post", participation="interim").ok(1e-6)
    assert solution["utility"].min() < -0.01
    assert solution.objective == pytest.approx(by_loops(design, "ex-post", "interim"), rel=CLOSE)
    assert design.active_profiles("ex-post").reshape(3, 3)[:, 1].tolist() == [False, False, False]


# ---------------------------------------------------------------- bad input and records


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accuracy": np.sqrt}, "accuracy must be an AccuracyFunction"),
        ({"costs": [0.02, 0.01]}, "costs must be strictly increasing"),
        ({"costs": [0.0, 0.01]}, r"costs\[0\] = 0 must be > 0"),
        ({"seed_data": -1.0}, "seed_data must be a finite number >= 0"),
        ({"probs": 1.0}, "probs is one number"),
        ({"probs": [["a", 0], [0, 1]]}, "probs must be an array of numbers"),
        ({"probs": np.full((2, 3), 1 / 6)}, r"probs has shape \(2, 3\): axis 1 has 3 entries for 2 costs"),
        ({"probs": [[0.5, 0.5], [0.5, 0.5]]}, "probs must sum to 1, but they sum to 2"),
        ({"probs": [[0.5, -0.5], [0.5, 0.5]]}, r"probs\[0, 1\] = -0.5 is negative"),
        ({"probs": [[0.5, 0.5], [np.nan, 0.0]]}, r"probs\[1, 0\] = nan must be a finite number"),
        ({"probs": np.full((2,) * 13, 2.0**-13)}, "8192 profiles of costs, more than the 5000"),
    ],
)
def test_bad_input(change: dict[str, Any], message: str) -> None:
    good = {"accuracy": UNIT, "costs": [0.01, 0.02], "probs": np.full((2, 2), 0.25)}
    with pytest.raises(mo.InvalidInput, match=message):
        CostProfiles(**{**good, **change})


def test_bad_requests() -> None:
    for change, message in (
        ({"incentives": "none"}, "incentives must be one of 'interim', 'ex-post'"),
        ({"participation": "never"}, "participation must be one of"),
        ({"form": "reduced", "incentives": "ex-post"}, "form must be one of"),
        ({"form": "local"}, "form='local' is for incentives='ex-post'"),
        ({"branch": "best"}, "branch must be one of"),
        ({"branch": "chosen", "participation": "interim"}, "branch='chosen' needs participation='ex-post'"),
    ):
        with pytest.raises(mo.InvalidInput, match=message):
            CORRELATED.program(**change)  # type: ignore[arg-type]
    with pytest.raises(mo.InvalidInput, match="a design needs 'allocated_accuracy'"):
        CORRELATED.audit({"contribution": np.zeros((4, 2))})
    with pytest.raises(mo.InvalidInput, match=r"contribution has shape \(3, 2\); give one row"):
        CORRELATED.audit({"contribution": np.zeros((3, 2)), "allocated_accuracy": np.zeros((3, 2))})
    with pytest.raises(mo.InvalidInput, match=r"contribution\[1, 0\] is nan"):
        CORRELATED.audit(
            {"contribution": [[0, 0], [np.nan, 0], [0, 0], [0, 0]], "allocated_accuracy": np.zeros((4, 2))}
        )
    many = CostProfiles(UNIT, np.linspace(0.01, 0.03, 70), np.full((70, 70), 1 / 4900))
    with pytest.raises(mo.InvalidInput, match="676200 incentive rows are more than the 200000"):
        many.program("ex-post", form="full")


def test_records() -> None:
    solution = CORRELATED.solve()
    assert solution["contribution"].shape == (4, 2)
    assert CORRELATED.profiles.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    np.testing.assert_allclose(CORRELATED.own_probs, 0.5)
    again = pickle.loads(pickle.dumps(solution))
    np.testing.assert_array_equal(again["total_data"], solution["total_data"])
    with pytest.raises(ValueError, match="read-only"):
        CORRELATED.probs[0, 0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        solution["contribution"][0, 0] = 1.0
