"""Cost screening: formula, program and recursion against one another, and against the definition."""

from __future__ import annotations

import contextlib
import pickle
from collections import Counter
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest

import mechopt as mo
from mechopt import Status
from mechopt.formulations.accuracy_shaping.cost_screening import REGIMES, CostScreening, exact
from mechopt.formulations.functions import (
    GeneralizationBound,
    SqrtAccuracy,
    TabulatedAccuracy,
)
from tests.oracles.cost_screening import ACCURACIES, best_on_grid, by_iteration, random_screening

FORMS = ("full", "local", "local-monotone")
UNIT = SqrtAccuracy(1.0, 1.0)


def two_types(costs: tuple[float, float], p: float, others_data: float, **accuracy: float) -> CostScreening:
    return CostScreening(SqrtAccuracy(**accuracy), costs, [p, 1 - p], others_data)


def relative(a: Any, b: Any) -> float:
    return float(np.max(np.abs(np.asarray(a) - b)) / max(float(np.max(np.abs(b))), 1e-12))


# ---------------------------------------------------------------- two types


@pytest.mark.parametrize("kind", ACCURACIES)
def test_formula_and_recursion_agree_and_no_type_deviates(kind: str) -> None:
    rng = np.random.default_rng(1)
    for _ in range(150):
        screening = random_screening(rng, kind, least_data=0.03)
        formula, menu = screening.closed_form(), screening.solve()
        assert menu.status is mo.Status.OPTIMAL
        assert relative(menu["contribution"], formula.contribution) < 1e-7  # contracts at a double root: 1e-8
        assert relative(menu.objective, formula.objective) < 1e-7
        np.testing.assert_allclose(menu["utility"], formula.utility, atol=1e-9)
        np.testing.assert_allclose(screening.rents, formula.rent, atol=1e-9)
        assert screening.audit(menu).relative < 1e-12
        assert screening.audit(formula).relative < 1e-12


def test_formula_equals_the_program() -> None:
    rng = np.random.default_rng(2)
    seen: Counter[str] = Counter()
    for _ in range(215):
        screening = random_screening(rng)
        formula = screening.closed_form()
        seen[formula.regime] += 1
        answer = screening.solve("clarabel", tolerance=1e-5)
        # Relative to a menu; the solver is asked for 1e-8 in units of order one.
        assert relative(answer.objective, formula.objective) < 3e-6
        assert screening.audit(answer).ok(1e-6)
        # The objective is flat at its top: contributions themselves need a closer solve.
        closer = screening.solve("clarabel", tolerance=1e-8, on_failure="return")
        assert relative(closer["contribution"], formula.contribution) < 1e-5
    assert all(seen[regime] for regime in ("first-best", "low-max", "interior", "pooling", "low-only")), seen


def test_every_regime_occurs_and_the_definition_finds_nothing_better() -> None:
    rng = np.random.default_rng(3)
    wanted = dict.fromkeys(REGIMES, 3)
    for _ in range(9000):
        if not any(wanted.values()):
            break
        if wanted["high-min"] and not any(n for regime, n in wanted.items() if regime != "high-min"):
            costs = UNIT.viability_cost * np.sort(rng.uniform(1.05, 2.5, 2))
            p = rng.uniform(0.2, 0.9)
            screening = CostScreening(UNIT, costs, [p, 1 - p], rng.uniform(2.5, 4))
        else:
            screening = random_screening(rng, least_data=0.03)
        regime = screening.regime
        if not wanted[regime]:
            continue
        wanted[regime] -= 1
        found, most = best_on_grid(screening)
        value = screening.closed_form().objective
        assert found - 1e-9 * found <= value <= most + 1e-9 * most, (regime, screening)
        assert most - found <= 1e-3 * most
        assert screening.solve().objective == pytest.approx(value, rel=1e-7)
    assert not any(wanted.values()), wanted


def test_small_data_of_others_are_feasible() -> None:
    # As printed, (15)-(16) ask 64.43 of the costly type, which can be made to give 56.03 at most.
    screening = two_types((0.0012661, 0.0027613), 0.5, 0.432)
    menu = screening.solve()
    assert menu["contribution"][1] == pytest.approx(56.03, abs=5e-3)
    no_rent = -np.diff(screening.standalone_utility)[0] / np.diff(screening.costs)[0]
    assert no_rent == pytest.approx(64.43, abs=5e-3)
    assert screening.regime == "first-best"


def test_lower_end_is_the_low_types() -> None:
    screening = two_types((0.00254628, 0.00420005), 0.09407, 1.41787)
    menu = screening.solve()
    np.testing.assert_allclose(menu["contribution"], [58.67677, 46.33502], atol=1e-4)
    assert menu.objective == pytest.approx(47.49599, abs=1e-4)
    assert screening.regime == "high-max"
    assert screening.solve("clarabel").objective == pytest.approx(menu.objective, rel=1e-6)


@pytest.mark.parametrize(
    ("costs", "p", "others", "rent", "printed"),
    [((0.01, 0.012), 0.5, 100.0, 0.046129, 0.002591), ((0.05, 0.08), 0.3, 60.0, 0.285037, 0.0)],
)
def test_rent(costs: tuple[float, float], p: float, others: float, rent: float, printed: float) -> None:
    screening = two_types(costs, p, others)
    assert screening.rents[0] == pytest.approx(rent, abs=1e-6)
    assert screening.rents[1] == pytest.approx(0.0, abs=1e-15)
    assert screening.solve("clarabel")["rent"][0] == pytest.approx(rent, abs=1e-6)
    # Theorem B.3 as printed: the curve at what the cheap type does alone, less what that is worth alone.
    alone = screening.standalone_contribution[0]
    assert screening.menu()(alone) - screening.accuracy(alone) == pytest.approx(printed, abs=1e-6)


@pytest.mark.parametrize("ratio", [2.0, 2.5, 4.0])
def test_costly_type_gives_less_than_half(ratio: float) -> None:
    # Example B.4: at p = 1/2 and at least double the cost, the cheap type gives all it can, for no rent.
    screening = two_types((0.005, 0.005 * ratio), 0.5, 500.0)
    contribution = screening.solve()["contribution"]
    alone = screening.standalone_contribution[0]
    assert contribution[1] / alone == pytest.approx(3 * (ratio ** (1 / 3) - 1) / (ratio - 1), rel=1e-9)
    if ratio == 2.0:
        assert contribution[1] / alone == pytest.approx(0.77976, abs=5e-6)
    assert screening.regime == "low-max"
    assert screening.rents.tolist() == pytest.approx([0.0, 0.0], abs=1e-12)
    single = CostScreening(UNIT, [0.005], others_data=500.0)
    assert contribution[0] == pytest.approx(single.solve().objective, rel=1e-9)


def test_low_type_may_give_less_when_others_give_more() -> None:
    # Remark B.2: inside the interior regime the total of the cheap type's pool stays what (15) says.
    costs, p = (0.01, 0.015), 0.6
    total = ((costs[0] - p * costs[1]) / (1 - p)) ** (-2 / 3)
    given = {}
    for others in np.linspace(5.0, 25.0, 41):
        screening = two_types(costs, p, others)
        if screening.regime == "interior":
            given[others] = screening.solve()["contribution"][0]
            assert given[others] + others == pytest.approx(total, rel=1e-9)
    assert len(given) > 5
    # A cheap type as likely as the ratio of costs gives all that it can.
    for ratio in (0.66, 0.75):
        assert two_types(costs, max(ratio, 2 / 3), 100.0).regime == "low-max"


def test_pooled_type_may_give_less_than_alone() -> None:
    rng = np.random.default_rng(11)
    less = 0
    for _ in range(400):
        screening = random_screening(rng, highest=0.0)
        formula = screening.closed_form()
        less += formula.regime == "pooling" and formula.contribution[0] < screening.standalone_contribution[0]
    assert less


def test_shutting_out_beats_the_branch() -> None:
    # Nobody is viable alone, and others' data give no accuracy yet. To serve the rare costly type takes so
    # much data of it that the cheap one must be left a rent; the paper's program has no way not to.
    screening = two_types((0.04, 0.05), 0.95, 3.0)
    assert screening.regime == "low-only"
    menu = screening.solve()
    branch = screening.program(served=2).solve("clarabel")
    assert menu["contribution"][1] == 0.0
    assert menu.extra["served"] == 1
    assert menu.objective > 1.005 * branch.objective
    assert screening.solve("clarabel").objective == pytest.approx(menu.objective, rel=1e-6)
    assert two_types((0.04, 0.05), 0.95, 4.0).solve().extra["served"] == 2  # some accuracy: no difference


@pytest.mark.parametrize("backend", [None, "clarabel"])
def test_nobody_viable_is_an_answer(backend: str | None) -> None:
    screening = two_types((0.2, 0.3), 0.5, 1.0)
    assert screening.regime == "not_viable"
    menu = screening.solve(backend)
    assert menu.status is mo.Status.OPTIMAL
    assert menu.reason.startswith("not_viable")
    assert not menu["contribution"].any()
    assert screening.audit(menu).relative == 0.0
    with pytest.raises(mo.NotApplicable, match="no type gains"):
        screening.program()


# ---------------------------------------------------------------- any number of types


def test_four_types_with_bunching() -> None:
    screening = CostScreening(UNIT, [0.01, 0.015, 0.03, 0.05], others_data=100.0)
    expected = [37.97305, 37.97305, 12.82041, 3.39151]
    np.testing.assert_allclose(screening.solve()["contribution"], expected, atol=1e-5)
    for form in FORMS:
        answer = screening.program(form).solve("clarabel")
        np.testing.assert_allclose(answer["contribution"], expected, atol=2e-5)


def test_forms_and_recursion_agree() -> None:
    rng = np.random.default_rng(4)
    for n_types in rng.integers(3, 7, 20):
        screening = random_screening(rng, n_types=int(n_types), evenness=2.0, highest=0.0)
        menu = screening.solve()
        for form in FORMS:
            answer = screening.program(form).solve("clarabel")
            assert relative(answer.objective, menu.objective) < 1e-6, form
        assert screening.audit(menu).relative < 1e-12


def test_types_are_tied_where_contributions_would_rise() -> None:
    rng = np.random.default_rng(5)
    tied = 0
    for _ in range(60):
        screening = random_screening(rng, n_types=int(rng.integers(4, 10)), evenness=0.5)
        menu = screening.solve()
        tied += bool(menu.extra["ties"].any())
        assert screening.audit(menu).relative < 1e-12
        assert np.all(np.diff(menu["contribution"]) <= 1e-9 * menu["contribution"][0])
        answer = screening.solve("clarabel", tolerance=1e-5)
        assert relative(answer.objective, menu.objective) < 5e-6
    assert tied > 15


@pytest.mark.parametrize("kind", ACCURACIES)
def test_shortcuts_change_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages walked one by one, and ties tried one by one, give the menu of runs and multipliers."""
    rng = np.random.default_rng(31)
    drawn = [
        random_screening(rng, kind, int(rng.integers(4, 12)), highest=rng.uniform(-1.0, 0.0))
        for _ in range(12)
    ]
    fast = [screening.solve() for screening in drawn]
    asked: Counter[str] = Counter()
    multipliers = exact._Chain.multipliers

    def unknown(chain: Any, i: int, *at: Any) -> None:
        asked["told" if multipliers(chain, i, *at) is not None else "not told"] += 1

    monkeypatch.setattr(exact._Chain, "_shared", lambda chain, i, u, m, end: i)
    monkeypatch.setattr(exact._Chain, "multipliers", unknown)
    for screening, menu in zip(drawn, fast, strict=True):
        slow = screening.solve()
        assert relative(slow.objective, menu.objective) < 1e-12
        np.testing.assert_allclose(slow["contribution"], menu["contribution"], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(slow["utility"], menu["utility"], atol=1e-12)
    assert asked["told"] >= 5


def test_ties_with_negative_multipliers_are_those_that_untied_types_do_not_need() -> None:
    rng = np.random.default_rng(8)
    seen: Counter[tuple[int, bool]] = Counter()
    for turn in range(150):
        screening = random_screening(rng, ACCURACIES[turn % 3], 6, highest=-0.2)
        types = exact._Types(
            screening.accuracy,
            screening.costs,
            screening.probs,
            screening.standalone_utility,
            screening.others_data,
        )
        tie = int(rng.integers(5))
        tied, untied = np.arange(5) == tie, np.zeros(5, dtype=bool)
        chain = exact._Chain(types, tied)
        contribution, utility, ends = chain.allocate()
        found = chain.multipliers(tie, float(utility[tie + 1]), float(contribution[tie + 1]), ends[tie])
        if found is None or abs(found[0]) < 1e-6:
            continue
        free, _, _ = exact._Chain(types, untied).allocate()
        needless = bool(found[0] < 0)
        assert (free[tie] > free[tie + 1]) == needless
        gain = screening.probs @ (free - contribution)
        assert gain > -1e-9 * contribution.max()
        seen[ends[tie], needless] += 1
    assert min(seen[end, needless] for end in (0, 1) for needless in (False, True)) >= 3, seen


def test_fifty_types_are_the_program() -> None:
    rng = np.random.default_rng(2)
    costs = np.cumsum(rng.uniform(0.5, 1.5, 50))
    screening = CostScreening(UNIT, 0.01 + 0.04 * costs / costs[-1], rng.dirichlet(np.full(50, 2.0)), 20.0)
    menu = screening.solve()
    assert menu.extra["ties"].sum() >= 20
    assert relative(screening.solve("clarabel").objective, menu.objective) < 1e-6
    assert screening.audit(menu).ok(1e-12)


def test_one_type_is_the_known_cost() -> None:
    rng = np.random.default_rng(6)
    for _ in range(30):
        screening = random_screening(rng, n_types=1, highest=0.0)
        (m,), (c,), (u,) = screening.solve()["contribution"], screening.costs, screening.standalone_utility
        spare = float(screening.accuracy(m + screening.others_data)) - c * m - u
        assert abs(spare) < 1e-12
        assert m >= screening.standalone_contribution[0]


def test_without_others_everyone_does_as_alone() -> None:
    screening = CostScreening(UNIT, [0.01, 0.02, 0.03])
    # A double root: the spare accuracy is flat there, and amounts have half of the digits.
    np.testing.assert_allclose(
        screening.solve()["contribution"], screening.standalone_contribution, rtol=1e-6
    )


def test_without_others_the_only_menu_is_found_to_all_digits() -> None:
    """S = 0 leaves one menu; programs can be met to 1e-8 by amounts that are wrong by 1e-4, and say so."""
    accuracy = SqrtAccuracy(0.64, 9.8)
    screening = CostScreening(
        accuracy, 0.00066378 * (1 - 1e-3 * np.arange(4)[::-1]), [0.45, 0.25, 0.25, 0.05]
    )
    with localcontext() as context:
        context.prec = 50
        k, top = Decimal(accuracy.difficulty), Decimal(accuracy.max_accuracy)
        costs = [Decimal(c) for c in screening.costs]
        # b(m) - c m is highest at m^3 = k / c^2, and staying out is worth just that much.
        amounts = [((k / c**2).ln() / 3).exp() for c in costs]
        outside = [top - 2 * (k / m).sqrt() - c * m for m, c in zip(amounts, costs, strict=True)]
        np.testing.assert_allclose([float(u) for u in outside], screening.standalone_utility, rtol=1e-13)
        menu = screening.solve()
        np.testing.assert_allclose(menu["contribution"], [float(m) for m in amounts], rtol=1e-13)
        answer = screening.solve("clarabel", on_failure="return")
        if abs(answer.objective / menu.objective - 1) > 1e-6:
            assert answer.status is Status.INACCURATE
            assert "is sure to" in answer.reason
            given = [Decimal(float(m)) for m in answer["contribution"]]
            short = [
                u - (top - 2 * (k / m).sqrt() - c * m) for u, m, c in zip(outside, given, costs, strict=True)
            ]
            assert max(short) > Decimal("1e-9")  # what the answer promises cannot be delivered


@pytest.mark.parametrize("spacing", [1e-3, 1e-8, 1e-10, 1e-12])
def test_without_others_types_may_be_as_close_as_numbers_are(spacing: float) -> None:
    rng = np.random.default_rng(9)
    for n_types in (2, 6, 10):
        probs = rng.dirichlet(np.full(n_types, 2.0))
        costs = 0.0001353 * (1 - spacing * np.cumsum(rng.uniform(0.3, 1.0, n_types))[::-1])
        menu = CostScreening(SqrtAccuracy(0.81, 16.0), costs, probs).solve()
        np.testing.assert_allclose(menu["contribution"], (16.0 / costs**2) ** (1 / 3), rtol=1e-13)
        assert menu.status is Status.OPTIMAL


def test_without_others_the_most_of_equally_good_amounts_is_asked() -> None:
    """Where a straight piece of the accuracy is as steep as the cost, all of it is as good as alone."""
    table = TabulatedAccuracy([1.0, 2.0, 4.0, 8.0], [0.25, 0.5, 0.75, 0.875])
    menu = CostScreening(table, [0.03125, 0.125]).solve()
    assert menu["contribution"].tolist() == [8.0, 4.0]


def test_units_of_data() -> None:
    rng = np.random.default_rng(7)
    for _ in range(20):
        screening = random_screening(rng, n_types=4, evenness=0.5)
        k = screening.accuracy.difficulty  # type: ignore[attr-defined]
        other = CostScreening(
            SqrtAccuracy(screening.accuracy.max_accuracy, 1e4 * k),
            screening.costs / 1e4,
            screening.probs,
            1e4 * screening.others_data,
        )
        np.testing.assert_allclose(
            other.solve()["contribution"] / 1e4, screening.solve()["contribution"], rtol=1e-7, atol=1e-12
        )


def test_evaluated_and_tabulated_accuracies() -> None:
    rng = np.random.default_rng(8)
    bound = GeneralizationBound(0.95, 10.0)
    costs = bound.viability_cost * np.array([0.1, 0.2, 0.7])
    screening = CostScreening(bound, costs, [0.3, 0.3, 0.4], 2000.0)
    menu, answer = screening.solve(), screening.solve("outer")
    assert answer.backend == "outer"
    assert relative(answer["contribution"], menu["contribution"]) < 1e-5
    assert screening.program().solve("exact").objective == pytest.approx(menu.objective, rel=1e-12)
    sizes = np.geomspace(5, 5000, 30)
    table = TabulatedAccuracy(sizes, UNIT(sizes))
    for _ in range(25):
        cost = np.sort(UNIT.viability_cost * 10 ** rng.uniform(-1.0, 0.3, 3))
        screening = CostScreening(table, cost, rng.dirichlet(np.full(3, 2.0)), 10 ** rng.uniform(1, 2.5))
        menu, answer = screening.solve(), screening.solve("highspy")
        assert relative(menu.objective, answer.objective) < 1e-7
        assert screening.audit(menu).relative < 1e-12


# ---------------------------------------------------------------- the program as users change it


def test_exact_route_and_its_limits() -> None:
    screening = CostScreening(UNIT, [0.01, 0.015, 0.03], others_data=50.0)
    program = screening.program("local")
    assert program.solve().backend == "exact"
    program.add("cap", program["contribution"] <= 20.0)
    with pytest.raises(mo.MissingCapability, match="cap"):
        program.solve("exact")
    capped = program.solve("clarabel")
    assert capped["contribution"][0] == pytest.approx(20.0, rel=1e-6)
    assert screening.audit(capped).ok(1e-6)
    raised = screening.program("local")
    raised.add("cap", raised["contribution"] <= 20.01)
    rise = raised.solve("clarabel").objective - capped.objective
    assert np.sum(capped.dual("cap")) == pytest.approx(rise / 0.01, rel=1e-2)
    monotone = screening.program("local-monotone")
    with pytest.raises(mo.InvalidInput, match="local-monotone"):
        monotone.add("cap", monotone["contribution"] <= 20.0)


# ---------------------------------------------------------------- the published curve and the audit


def test_reward_curve() -> None:
    rng = np.random.default_rng(9)
    for n_types in (1, 2, 2, 3, 5, 8):
        screening = random_screening(rng, n_types=n_types, highest=0.2)
        menu, curve = screening.solve(), screening.menu()
        np.testing.assert_allclose(curve(menu["contribution"]), menu["allocated_accuracy"], atol=1e-12)
        x = np.linspace(0, 2 / screening.costs[0], 4001)
        assert np.all(curve(x) <= screening.accuracy(x + screening.others_data) + 1e-15)
        assert np.all(curve(x) >= screening.accuracy(x) - 1e-12)
        assert np.all(np.diff(curve(x)) >= -1e-12)


def test_audit_finds_who_deviates() -> None:
    screening = two_types((0.01, 0.02), 0.5, 100.0)
    menu = {name: np.array(value) for name, value in screening.solve().values.items()}
    assert screening.audit(menu).ok(1e-12)
    cheaper = dict(menu, contribution=menu["contribution"] * [1.0, 0.5])
    worst = screening.audit(cheaper).worst
    assert worst is not None
    assert (worst.agent, worst.choice) == (0, 1)
    poor = dict(menu, allocated_accuracy=menu["allocated_accuracy"] - 0.1)
    assert screening.audit(poor).ir_violation == pytest.approx(0.1, abs=1e-12)
    # A promise beyond what all data give is worth what they give.
    promised = dict(
        menu, contribution=menu["contribution"] * [2.0, 1.0], allocated_accuracy=np.array([5.0, 0.8])
    )
    assert screening.audit(promised).ir_violation > 0.3


# ---------------------------------------------------------------- mean field


def test_mean_field_is_the_greatest_fixed_point() -> None:
    rng = np.random.default_rng(10)
    for n_types in (2, 2, 3, 4, 5):
        screening = random_screening(rng, n_types=n_types, highest=0.0, evenness=2.0)
        n_agents = int(rng.integers(2, 12))
        menu = screening.mean_field(n_agents)
        others = float(menu["others_data"])
        assert others == pytest.approx((n_agents - 1) * menu.objective, rel=1e-9)
        assert others == pytest.approx(by_iteration(screening, n_agents, 150), rel=1e-7)
        answer = screening.mean_field(n_agents, "clarabel")
        assert relative(answer["others_data"], others) < 1e-6
        assert relative(answer.objective, menu.objective) < 1e-6
        assert screening.audit(menu).relative < 1e-12


def test_mean_field_has_the_best_number_of_served_types() -> None:
    """Few agents, of whom few are viable alone, make too few data for the others to get a model."""
    rng = np.random.default_rng(5)
    chosen: Counter[int] = Counter()
    for _ in range(24):
        costs = UNIT.viability_cost * np.cumprod([0.9, *rng.uniform(1.02, 2.0, 3)])
        screening = CostScreening(UNIT, costs, rng.dirichlet([0.5, 1.0, 1.0, 1.0]))
        parameters = (UNIT, screening.costs, screening.probs, screening.standalone_utility, 2)
        others, menu = exact.solve_mean_field(*parameters)
        searched = []
        for served in range(1, 5):
            with contextlib.suppress(mo.NotApplicable):
                searched.append(exact.solve_mean_field(*parameters, served)[0])
        assert relative(max(searched), others) < 1e-12
        chosen[menu.served] += 1
    assert len(chosen) > 2


def test_mean_field_of_a_hard_problem() -> None:
    costs = UNIT.viability_cost * np.array([1.2, 1.5])
    screening = CostScreening(UNIT, costs)
    assert screening.mean_field(1).objective == 0.0
    none = screening.mean_field(2)
    assert none.objective in (0.0, pytest.approx(screening.mean_field(2, "clarabel").objective, rel=1e-5))
    together = screening.mean_field(10)
    assert together.objective > 5.0
    assert together.objective == pytest.approx(screening.mean_field(10, "clarabel").objective, rel=1e-6)
    # Equal costs, nearly: 10 agents solve 10 a(M) = c M in the known-cost model.
    same = CostScreening(UNIT, [0.05, 0.05 * (1 + 1e-7)]).mean_field(10)
    total = 10 * same.objective
    assert 10 * float(UNIT(total)) == pytest.approx(0.05 * total, rel=1e-5)


def test_mean_field_alone_is_standalone() -> None:
    screening = CostScreening(UNIT, [0.01, 0.02], others_data=77.0)
    for backend in (None, "clarabel"):
        # No menu keeps clear of its constraints, so that the solver's own word is not enough.
        menu = screening.mean_field(1, backend, tolerance=1e-4, on_failure="return")
        assert menu.status in ((Status.OPTIMAL,) if backend is None else (Status.OPTIMAL, Status.INACCURATE))
        # At a double root, half of the digits.
        np.testing.assert_allclose(menu["contribution"], screening.standalone_contribution, rtol=1e-2)
        assert float(menu["others_data"]) == 0.0


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"others_data": -1.0}, r"others_data must be .* >= 0, got -1"),
        ({"others_data": np.nan}, "others_data must be a finite number"),
        ({"costs": []}, "costs is empty"),
        ({"costs": [0.01, 0.0]}, r"costs\[1\] = 0 must be > 0"),
        ({"costs": [0.02, 0.01]}, r"costs must be strictly increasing, but costs\[1\] = 0.01"),
        ({"costs": [0.01, 0.01]}, r"costs\[1\] = costs\[0\] = 0.01; merge"),
        ({"costs": [0.01, np.inf]}, r"costs\[1\] is inf"),
        ({"probs": [0.5, 0.6]}, "probs must sum to 1"),
        ({"probs": [1.0, 0.0]}, r"probs\[0\] is 1, .* mo.AccuracyShaping"),
        ({"probs": [0.0, 1.0]}, r"probs\[1\] is 1, .* mo.AccuracyShaping"),
        ({"probs": [1.5, -0.5]}, r"probs\[1\] = -0.5 is negative"),
        ({"probs": [1.0]}, "probs has 1 entries for 2 types"),
        ({"accuracy": np.sqrt}, "accuracy must be an AccuracyFunction"),
    ],
)
def test_bad_input(change: dict[str, Any], message: str) -> None:
    with pytest.raises(mo.InvalidInput, match=message):
        CostScreening(**{"accuracy": UNIT, "costs": [0.01, 0.02], **change})


def test_bad_requests() -> None:
    screening = CostScreening(UNIT, [0.01, 0.02, 0.03], others_data=50.0)
    with pytest.raises(mo.NotApplicable, match="two types, and there are 3"):
        screening.closed_form()
    with pytest.raises(mo.InvalidInput, match="form must be one of"):
        screening.program("reduced")  # type: ignore[arg-type]
    with pytest.raises(mo.InvalidInput, match="served = 4 is more than the 3"):
        screening.program(served=4)
    with pytest.raises(mo.InvalidInput, match="n_agents must be a whole number >= 1"):
        screening.mean_field(0)
    with pytest.raises(mo.InvalidInput, match="no options"):
        screening.solve(max_iter=3)
    with pytest.raises(mo.InvalidInput, match="a menu needs 'allocated_accuracy'"):
        screening.audit({"contribution": [1.0, 1.0, 1.0]})
    with pytest.raises(mo.InvalidInput, match="contribution has 2 entries for 3 types"):
        screening.audit({"contribution": [1.0, 1.0], "allocated_accuracy": [1.0, 1.0]})


def test_records() -> None:
    screening = CostScreening(UNIT, [0.01, 0.02], others_data=50.0)
    assert screening.probs.tolist() == [0.5, 0.5]
    again = pickle.loads(pickle.dumps(screening.solve()))
    assert again["contribution"].tolist() == screening.solve()["contribution"].tolist()
    with pytest.raises(ValueError, match="read-only"):
        screening.costs[0] = 1.0
    frame = screening.solve().to_frame("contribution", "rent")
    assert list(frame.columns) == ["contribution", "rent"]
