"""Attitudes to ambiguity and risk: by definition, in programs, and in the screening contract."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from numpy.typing import NDArray

import mechopt as mo
from mechopt.formulations.attitudes import (
    CARA,
    Ambiguity,
    Attitude,
    ChiSquared,
    CVaR,
    KullbackLeibler,
    Wasserstein,
)
from tests.oracles import attitudes as oracle
from tests.oracles.screening import random_contract

Array = NDArray[np.float64]

BALLS = (Wasserstein, KullbackLeibler, ChiSquared)
ALL = (*BALLS, CARA, CVaR)
STRENGTHS: dict[type[Attitude], tuple[float, ...]] = {
    Wasserstein: (1e-3, 0.02, 0.1, 0.4, 0.95, 1.0),
    KullbackLeibler: (1e-3, 0.02, 0.1, 0.7, 2.0, 8.0),
    ChiSquared: (1e-3, 0.02, 0.1, 1.0, 6.0, 1e3),
    CARA: (1e-2, 0.1, 1.0, 10.0, 300.0),
    CVaR: (1e-3, 0.1, 0.5, 0.9, 0.9999),
}
"""Weak to strong; an aversion to a utility of order one."""

each_attitude = pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
each_ball = pytest.mark.parametrize("kind", BALLS, ids=lambda kind: kind.__name__)


def make(kind: type[Attitude], strength: float, scale: float = 1.0) -> Attitude:
    """Attitude of a strength, for utilities of a size: only risk aversion has a unit."""
    return kind(strength / scale if kind is CARA else strength)  # type: ignore[call-arg]


@dataclass(frozen=True)
class Gamble:
    """Utilities by type, with their probabilities."""

    utility: Array
    probs: Array
    types: Array

    @property
    def mean(self) -> float:
        return float(self.probs @ self.utility)


def draw(rng: np.random.Generator, least: int = 1) -> Gamble:
    """1 to 12 uneven types, dispersed probabilities; a third of the utilities with ties."""
    k = int(rng.integers(least, 13))
    types = np.sort(rng.uniform(0.05, 1, k)) + 1e-3 * np.arange(1, k + 1)
    probs = rng.dirichlet(np.full(k, 0.7)) + 1e-3
    utility = rng.normal(size=k)
    if rng.random() < 1 / 3:
        utility = np.round(utility)
    return Gamble(utility, probs / probs.sum(), types)


def gambles(count: int, least: int = 1) -> list[Gamble]:
    rng = np.random.default_rng(zlib.crc32(f"gambles {count} {least}".encode()))
    return [draw(rng, least) for _ in range(count)]


def value(attitude: Attitude, gamble: Gamble, utility: Array | None = None) -> float:
    return attitude.value(gamble.utility if utility is None else utility, gamble.probs, gamble.types)


def distance(attitude: Ambiguity, q: Array, gamble: Gamble) -> float:
    """How far q is from the gamble's probabilities, by the definition of the ball."""
    if isinstance(attitude, Wasserstein):
        return oracle.earth_moved(q, gamble.probs, gamble.types)
    measure = oracle.entropy if isinstance(attitude, KullbackLeibler) else oracle.chi_squared
    return measure(q, gamble.probs)


# --------------------------------------------------------------------------------------------- definition


@each_attitude
def test_the_worst_case_is_a_distribution_in_the_set_and_attains_the_value(kind: type[Attitude]) -> None:
    for gamble in gambles(60):
        for strength in STRENGTHS[kind]:
            attitude = make(kind, strength)
            q = attitude.worst_case(gamble.utility, gamble.probs, gamble.types)
            assert q.shape == gamble.probs.shape
            assert np.all(q >= 0)
            assert q.sum() == pytest.approx(1.0, abs=1e-14)
            attained = float(q @ gamble.utility)
            if isinstance(attitude, Ambiguity):
                assert distance(attitude, q, gamble) <= strength * (1 + 1e-11) + 1e-14
            elif isinstance(attitude, CVaR):
                assert np.all(q * (1 - strength) <= gamble.probs * (1 + 1e-9))
            else:
                attained += oracle.entropy(q, gamble.probs) / strength
            # The entropy is divided by the aversion, and its rounding with it.
            assert value(attitude, gamble) == pytest.approx(attained, abs=1e-13)


@pytest.mark.parametrize("radius", [0.0, 1e-9, *STRENGTHS[Wasserstein]])
def test_wasserstein_is_the_transport_program(radius: float) -> None:
    for gamble in gambles(25):
        solved = oracle.transport(gamble.utility, gamble.probs, gamble.types, radius)
        # HiGHS meets its rows to 1e-10.
        assert value(Wasserstein(radius), gamble) == pytest.approx(solved, abs=1e-9)


@pytest.mark.parametrize("level", [0.0, *STRENGTHS[CVaR]])
def test_cvar_is_the_program_over_tails(level: float) -> None:
    for gamble in gambles(25):
        solved = oracle.tail(gamble.utility, gamble.probs, level)
        assert value(CVaR(level), gamble) == pytest.approx(solved, abs=1e-9)


@pytest.mark.parametrize("radius", STRENGTHS[KullbackLeibler])
def test_no_distribution_of_less_entropy_is_worse(radius: float) -> None:
    """A price for which the dual function, below all expectations in the ball, meets the value."""
    for gamble in gambles(60, least=2):
        v, p = gamble.utility, gamble.probs
        worst = KullbackLeibler(radius).worst_case(v, p, gamble.types)
        found = value(KullbackLeibler(radius), gamble)
        positive = worst > 1e-200
        fall = np.ptp(np.log(worst[positive] / p[positive]))
        if fall <= 1e-9:  # only the lowest are left, and nothing is worse
            assert found == pytest.approx(v.min(), abs=1e-15)
            continue
        price = float(np.ptp(v[positive]) / fall)  # log(q/p) falls by 1/price for each unit of utility
        assert oracle.entropy_bound(v, p, radius, price) == pytest.approx(found, abs=1e-12)


@pytest.mark.parametrize("radius", STRENGTHS[ChiSquared])
def test_no_distribution_of_less_chi_squared_divergence_is_worse(radius: float) -> None:
    for gamble in gambles(60, least=2):
        v, p = gamble.utility, gamble.probs
        ratio = ChiSquared(radius).worst_case(v, p, gamble.types) / p
        found = value(ChiSquared(radius), gamble)
        kept = ratio > 0
        if np.ptp(v[kept]) == 0:  # only the lowest are left, and nothing is worse
            assert found == pytest.approx(v.min(), abs=1e-15)
            continue
        # On the types that are left, v + shift = 2 price (1 - q/p).
        price = float(np.ptp(v[kept]) / (2 * np.ptp(ratio[kept])))
        k = int(np.argmin(v))
        shift = 2 * price * (1 - ratio[k]) - v[k]
        assert oracle.chi_squared_bound(v, p, radius, price, shift) == pytest.approx(found, abs=1e-12)


def test_values_by_hand() -> None:
    v, p, types = [1.0, 3.0], [0.5, 0.5], [1.0, 2.0]
    assert Wasserstein(0.25).value(v, p, types) == pytest.approx(2 - 0.25 * 2, rel=1e-15)
    assert ChiSquared(0.25).value(v, p, types) == pytest.approx(2 - 0.5, rel=1e-15)
    assert CVaR(0.25).value(v, p, types) == pytest.approx((0.5 * 1 + 0.25 * 3) / 0.75, rel=1e-15)
    assert CARA(1.0).value(v, p, types) == pytest.approx(2 - np.log(np.cosh(1.0)), rel=1e-15)
    q = 0.8  # its entropy to (1/2, 1/2) is that of the ball
    radius = q * np.log(2 * q) + (1 - q) * np.log(2 * (1 - q))
    assert KullbackLeibler(radius).value(v, p, types) == pytest.approx(q + 3 * (1 - q), rel=1e-14)
    # Mass moves where it falls most for each unit of distance: from the third type past the second.
    moved = Wasserstein(0.25).worst_case([0.0, 4.0, 5.0], [0.5, 0.0 + 0.25, 0.25], [0.0, 2.0, 2.0 + 1e-9])
    assert moved == pytest.approx([0.75, 0.0, 0.25], abs=1e-8) or moved == pytest.approx(
        [0.75, 0.25, 0.0], abs=1e-8
    )


# ----------------------------------------------------------------------------------------- laws and limits


@each_attitude
def test_values_fall_from_the_expectation_to_the_minimum(kind: type[Attitude]) -> None:
    for gamble in gambles(40):
        values = [value(make(kind, strength), gamble) for strength in STRENGTHS[kind]]
        assert values[0] <= gamble.mean + 1e-14
        assert np.all(np.diff(values) <= 1e-13)
        low = float(gamble.utility.min())
        # What is left of the minimum at aversion a is -log(p_min) / a, and p_min >= 1e-3 / 1.012.
        assert values[-1] == pytest.approx(low, abs=0.025 if kind is CARA else 1e-14)
        assert values[-1] >= low - 1e-14


@each_attitude
def test_the_weakest_is_the_expectation(kind: type[Attitude]) -> None:
    for gamble in gambles(20, least=2):
        if kind is not CARA:
            assert value(make(kind, 0.0), gamble) == pytest.approx(gamble.mean, abs=1e-15)
            worst = make(kind, 0.0).worst_case(gamble.utility, gamble.probs, gamble.types)
            assert worst == pytest.approx(gamble.probs, abs=1e-15)
        variance = float(gamble.probs @ (gamble.utility - gamble.mean) ** 2)
        # First order in the weakness: half the aversion times the variance; for a small ball around the
        # probabilities, the standard deviation times the root of the divergence, or of twice the entropy.
        small = 1e-10
        lost = gamble.mean - value(make(kind, small), gamble)
        if kind is CARA:
            assert lost == pytest.approx(small * variance / 2, abs=1e-15)
        elif kind in (KullbackLeibler, ChiSquared):
            order = 2 if kind is KullbackLeibler else 1
            assert lost == pytest.approx(np.sqrt(order * small * variance), rel=1e-3, abs=1e-15)
        else:
            assert 0 <= lost <= 1e-6


def test_tiny_and_huge_strengths_do_not_overflow() -> None:
    for gamble in gambles(15):
        for strength in (1e-300, 1e-30, 1e30, 1e300):
            for kind in (*BALLS, CARA):
                found = value(make(kind, strength), gamble)
                limit = gamble.mean if strength < 1 else float(gamble.utility.min())
                assert found == pytest.approx(limit, abs=1e-14)
        for size in (1e-150, 1e150):
            for kind in ALL:
                strength = STRENGTHS[kind][2]
                found = value(make(kind, strength, size), gamble, size * gamble.utility)
                assert found / size == pytest.approx(value(make(kind, strength), gamble), abs=1e-12)


@pytest.mark.parametrize("kind", [KullbackLeibler, ChiSquared])
def test_at_the_radius_of_the_lowest_types_no_more_is_lost(kind: type[Ambiguity]) -> None:
    for gamble in gambles(30, least=2):
        lowest = gamble.probs[gamble.utility == gamble.utility.min()].sum()
        edge = -np.log(lowest) if kind is KullbackLeibler else 1 / lowest - 1
        for radius in (edge * (1 - 1e-12), edge, edge * (1 + 1e-12)):
            found = value(kind(radius), gamble)
            # Entropy and utility meet their ends at the same exponential rate, chi-squared at its root.
            assert found == pytest.approx(float(gamble.utility.min()), abs=1e-5)
        assert value(kind(edge * 0.5), gamble) > gamble.utility.min() or np.ptp(gamble.utility) == 0


@each_attitude
def test_a_sure_utility_is_worth_itself_and_a_constant_moves_the_value(kind: type[Attitude]) -> None:
    for gamble in gambles(20):
        for strength in STRENGTHS[kind]:
            attitude = make(kind, strength)
            assert value(attitude, gamble, np.full(gamble.probs.size, -3.7)) == pytest.approx(-3.7, abs=1e-14)
            moved = value(attitude, gamble, gamble.utility + 5.5)
            assert moved == pytest.approx(value(attitude, gamble) + 5.5, abs=1e-12)


@each_attitude
def test_scale_of_utility_and_of_types(kind: type[Attitude]) -> None:
    for gamble in gambles(20):
        for strength in STRENGTHS[kind]:
            scaled = value(make(kind, strength, 40.0), gamble, 40 * gamble.utility)
            plain = value(make(kind, strength), gamble)
            assert scaled == pytest.approx(40 * plain, abs=1e-11)
            stretched = Gamble(gamble.utility, gamble.probs, 7 * gamble.types + 3)
            assert value(make(kind, strength), stretched) == pytest.approx(plain, abs=1e-12)


@each_attitude
def test_values_are_concave_and_monotone_in_the_utility(kind: type[Attitude]) -> None:
    rng = np.random.default_rng(3)
    for gamble in gambles(40):
        other = rng.normal(size=gamble.probs.size)
        share = rng.random()
        for strength in STRENGTHS[kind]:
            attitude = make(kind, strength)
            mixed = value(attitude, gamble, share * gamble.utility + (1 - share) * other)
            one, two = value(attitude, gamble), value(attitude, gamble, other)
            assert mixed >= share * one + (1 - share) * two - 1e-13
            assert value(attitude, gamble, gamble.utility + np.abs(other)) >= one - 1e-13


def test_order_of_types_matters_to_distances_only() -> None:
    gamble = gambles(20, least=4)[5]
    shuffle = np.random.default_rng(5).permutation(gamble.probs.size)
    for kind in (KullbackLeibler, ChiSquared, CARA, CVaR):
        attitude = make(kind, STRENGTHS[kind][2])
        q = attitude.worst_case(gamble.utility, gamble.probs, gamble.types)
        shuffled = attitude.worst_case(gamble.utility[shuffle], gamble.probs[shuffle], gamble.types[shuffle])
        assert shuffled == pytest.approx(q[shuffle], abs=1e-13)


def test_mass_goes_down_a_slope_that_is_straight_but_for_rounding() -> None:
    rng = np.random.default_rng(4)
    for k in (10, 30, 60):
        types = np.sort(rng.uniform(1, 2, k))
        probs = np.full(k, 1 / k)
        for radius in (0.03, 0.1, 0.3):
            q = Wasserstein(radius).worst_case(3 * types, probs, types)
            assert q.sum() == pytest.approx(1.0, abs=1e-13)
            assert oracle.earth_moved(q, probs, types) <= radius * (1 + 1e-12)
            # Each unit of distance loses as much, until all are at the lowest type.
            lost = 3 * min(radius * (types[-1] - types[0]), float(probs @ types) - types[0])
            assert 3 * float((probs - q) @ types) == pytest.approx(lost, rel=1e-12)


def test_many_types() -> None:
    rng = np.random.default_rng(8)
    k = 700
    gamble = Gamble(rng.normal(size=k), rng.dirichlet(np.ones(k)) + 1e-12, np.sort(rng.uniform(1, 2, k)))
    probs = gamble.probs / gamble.probs.sum()
    for kind in BALLS:
        attitude = kind(0.05)
        q = attitude.worst_case(gamble.utility, probs, gamble.types)
        assert distance(attitude, q, Gamble(gamble.utility, probs, gamble.types)) == pytest.approx(
            0.05, rel=1e-9
        )


# ------------------------------------------------------------------------------------------------ programs


@dataclass(frozen=True)
class Portfolio:
    """Shares of a budget in four assets, with a concave bonus; utilities differ by type."""

    gamble: Gamble
    returns: Array
    size: float
    concave: bool

    def utility(self, x: Array) -> Array:
        bonus = self.size * np.sqrt(np.maximum(x, 0.0)).sum() if self.concave else 0.0
        return np.asarray(self.returns @ x + bonus)

    def program(self, attitude: Attitude | None) -> mo.Program:
        program = mo.Program("portfolio", objective_scale=self.size)
        x = program.variable("x", 4, nonneg=True)
        utility = self.returns @ x
        if self.concave:
            utility = utility + self.size * cp.sum(cp.sqrt(x))
        program.add("budget", cp.sum(x) <= 1)
        probs, types = self.gamble.probs, self.gamble.types
        if attitude is None:
            return program.maximize(probs @ utility)
        return program.maximize(attitude.declare(program, utility, probs, types, self.size))


def portfolios(count: int, concave: bool = True, least: int = 1) -> list[Portfolio]:
    rng = np.random.default_rng(zlib.crc32(f"portfolios {count} {concave}".encode()))
    found = []
    for _ in range(count):
        gamble, size = draw(rng, least), 10 ** rng.uniform(-2, 3)
        returns = rng.normal(size=(gamble.probs.size, 4))
        found.append(
            Portfolio(gamble, size * (np.round(returns) if rng.random() < 0.3 else returns), size, concave)
        )
    return found


def agree(portfolio: Portfolio, attitude: Attitude, backend: str, tolerance: float = 1e-7) -> mo.Solution:
    solution = portfolio.program(attitude).solve(backend)
    assert solution.status is mo.Status.OPTIMAL
    found = value(attitude, portfolio.gamble, portfolio.utility(solution["x"]))
    assert solution.objective == pytest.approx(found, abs=tolerance * portfolio.size)
    return solution


@each_attitude
def test_programs_have_the_value(kind: type[Attitude]) -> None:
    for portfolio in portfolios(5):
        for strength in STRENGTHS[kind]:
            agree(portfolio, make(kind, strength, portfolio.size), "clarabel")


def least_likely_worst(gamble: Gamble) -> Gamble:
    """The least likely type alone has the lowest utility: only then must a ball be as large as it can be."""
    utility = gamble.utility.copy()
    utility[np.argmin(gamble.probs)] = -4.0
    return Gamble(utility, gamble.probs, gamble.types)


@each_attitude
def test_programs_for_fixed_utilities_have_the_value(kind: type[Attitude]) -> None:
    """Utilities that no choice evens out: whole types lose their probability, up to all but one."""
    for gamble in [*gambles(4, least=2), *map(least_likely_worst, gambles(4, least=2))]:
        least = float(gamble.probs.min())
        edge = {KullbackLeibler: -np.log(least), ChiSquared: 1 / least - 1, Wasserstein: 1.0}.get(kind, 0.0)
        strengths = (
            list(STRENGTHS[kind])
            if kind is CARA
            else [STRENGTHS[kind][3], 0.7 * edge, max(0.97 * edge, edge - 0.5)]
        )
        if kind is CVaR:
            strengths = [0.5, 1 - 1.7 * least, 1 - 1.1 * least]
        for strength in strengths:
            program = mo.Program("fixed")
            gift = program.variable("gift")
            program.add("none", gift <= 0)
            utility = gamble.utility + gift
            attitude = make(kind, strength)
            program.maximize(attitude.declare(program, utility, gamble.probs, gamble.types, 1.0))
            solution = program.solve("clarabel")
            assert solution.objective == pytest.approx(value(attitude, gamble), abs=1e-7)


@pytest.mark.parametrize("kind", [Wasserstein, CVaR])
def test_linear_programs_have_the_value(kind: type[Attitude]) -> None:
    for portfolio in portfolios(5, concave=False):
        for strength in STRENGTHS[kind]:
            attitude = make(kind, strength)
            needs = portfolio.program(attitude).requires()
            assert needs == {mo.Capability.LP}
            agree(portfolio, attitude, "highspy", 1e-9)


@each_attitude
def test_outer_approximation_has_the_value(kind: type[Attitude]) -> None:
    for portfolio in portfolios(2):
        agree(portfolio, make(kind, STRENGTHS[kind][2], portfolio.size), "outer")


def test_no_portfolio_is_better() -> None:
    """Values at random points are below the optimum of the program."""
    rng = np.random.default_rng(11)
    for kind in ALL:
        for portfolio in portfolios(2, least=3):
            attitude = make(kind, STRENGTHS[kind][2], portfolio.size)
            best = portfolio.program(attitude).solve("clarabel")
            centre = np.maximum(best["x"], 0.0)
            for _ in range(40):
                step = rng.dirichlet(np.full(4, 0.5))
                point = centre + rng.choice([1e-3, 0.1, 1.0]) * (step - centre)
                point /= max(point.sum(), 1.0)
                found = value(attitude, portfolio.gamble, portfolio.utility(point))
                assert found <= best.objective + 1e-7 * portfolio.size


@pytest.mark.parametrize("kind", [ChiSquared, KullbackLeibler])
def test_small_radii_are_solved(kind: type[Attitude]) -> None:
    # An interior-point method sees the curvature of the cone, which is the radius relative to its entries.
    for radius in (1e-8, 1e-6, 1e-4) if kind is ChiSquared else (1e-4,):
        for portfolio in portfolios(4, least=2):
            agree(portfolio, kind(radius), "clarabel")  # type: ignore[call-arg]


@each_attitude
def test_what_a_program_needs_and_adds(kind: type[Attitude]) -> None:
    portfolio = portfolios(6, concave=False, least=4)[0]
    program = portfolio.program(make(kind, STRENGTHS[kind][1], portfolio.size))
    cone = {
        KullbackLeibler: mo.Capability.EXP,
        CARA: mo.Capability.EXP,
        ChiSquared: mo.Capability.SOC,
    }.get(kind, mo.Capability.LP)
    assert program.requires() == {mo.Capability.LP, cone}
    added = [family for family in program.families if family != "budget"]
    expected = {
        CARA: [],
        CVaR: ["tail"],
        KullbackLeibler: ["worst_case", "worst_case_entropy"],
    }.get(kind, ["worst_case"])
    assert added == expected
    everything = portfolio.program(make(kind, STRENGTHS[kind][-1], portfolio.size))
    if kind is not CARA:  # so strong that nothing but the lowest utility counts
        assert everything.requires() == {mo.Capability.LP}
        assert everything.names == ("x", "lowest_utility")


@pytest.mark.parametrize("kind", [*BALLS, CVaR])
def test_a_neutral_attitude_is_declared_as_the_expectation(kind: type[Attitude]) -> None:
    portfolio = portfolios(6, concave=False, least=4)[0]
    program = portfolio.program(make(kind, 0.0))
    assert program.names == ("x",)
    assert tuple(program.families) == ("budget",)
    expected = portfolio.program(None).solve("highspy").objective
    assert program.solve("highspy").objective == pytest.approx(expected, rel=1e-14)


@each_attitude
def test_one_type_is_declared_as_its_utility(kind: type[Attitude]) -> None:
    program = mo.Program("sure")
    x = program.variable("x", 1)
    program.add("bound", x <= 3)
    program.maximize(make(kind, STRENGTHS[kind][1]).declare(program, 2 * x, [1.0], [0.4], 1.0))
    assert program.names == ("x",)
    assert program.solve("highspy").objective == pytest.approx(6.0)


@each_ball
def test_prices_are_the_worst_case(kind: type[Ambiguity]) -> None:
    for portfolio in portfolios(4, least=2):
        gamble = portfolio.gamble
        for radius in STRENGTHS[kind][1::2]:
            attitude = kind(radius)
            solution = portfolio.program(attitude).solve("clarabel")
            q = solution.duals["worst_case"][0]
            assert q.sum() == pytest.approx(1.0, abs=1e-6)
            assert np.all(q >= -1e-7)
            q = np.maximum(q, 0.0) / np.maximum(q, 0.0).sum()
            # The radius binds with a price; prices are as accurate as the point, not as the value.
            assert distance(attitude, q, gamble) <= radius + 1e-4
            found = float(q @ portfolio.utility(solution["x"]))
            assert found == pytest.approx(solution.objective, abs=1e-5 * portfolio.size)


def test_prices_of_the_tail_are_its_weights() -> None:
    for portfolio in portfolios(4, least=2):
        for level in (0.1, 0.5, 0.9):
            solution = portfolio.program(CVaR(level)).solve("clarabel")
            q = solution.duals["tail"][0]
            assert q.sum() == pytest.approx(1.0, abs=1e-6)
            assert np.all(q <= portfolio.gamble.probs / (1 - level) + 1e-6)
            found = float(q @ portfolio.utility(solution["x"]))
            assert found == pytest.approx(solution.objective, abs=1e-5 * portfolio.size)


@each_ball
def test_the_radius_has_its_price(kind: type[Ambiguity]) -> None:
    for portfolio in portfolios(3, least=3):
        radius, step = STRENGTHS[kind][2], 1e-3 * STRENGTHS[kind][2]
        solve = [portfolio.program(kind(r)).solve("clarabel") for r in (radius - step, radius, radius + step)]
        slope = (solve[2].objective - solve[0].objective) / (2 * step)
        low, high = ((solve[i + 1].objective - solve[i].objective) / step for i in (1, 0))
        price = float(solve[1]["radius_price"])
        # Objectives are known to 1e-9 of their size; a kink of the value leaves prices between two slopes.
        slack = 1e-3 * abs(slope) + 1e-8 * portfolio.size / step
        assert -max(low, high) - slack <= price <= -min(low, high) + slack


def test_several_attitudes_in_one_program() -> None:
    first, second = portfolios(10, least=3)[:2]
    for kind in ALL:
        program = mo.Program("two", objective_scale=first.size)
        total = cp.Constant(0.0)
        for name, portfolio in (("a_", first), ("b_", second)):
            x = program.variable(f"{name}x", 4, nonneg=True)
            program.add(f"{name}budget", cp.sum(x) <= 1)
            utility = portfolio.returns @ x / portfolio.size
            attitude = make(kind, STRENGTHS[kind][2])
            probs, types = portfolio.gamble.probs, portfolio.gamble.types
            total = total + attitude.declare(program, utility, probs, types, 1.0, prefix=name)
        together = program.maximize(total).solve("clarabel").objective
        apart = 0.0
        for portfolio in (first, second):
            linear = Portfolio(portfolio.gamble, portfolio.returns / portfolio.size, 1.0, concave=False)
            apart += linear.program(make(kind, STRENGTHS[kind][2])).solve("clarabel").objective
        assert together == pytest.approx(apart, abs=1e-7)


# -------------------------------------------------------------------------------------- screening contract


def screening(count: int, largest: int = 12) -> list[mo.ScreeningContract]:
    rng = np.random.default_rng(zlib.crc32(f"attitudes {largest}".encode()))
    found: list[mo.ScreeningContract] = []
    while len(found) < count:
        instance = random_contract(rng)
        if 2 <= len(instance["types"]) <= largest:
            found.append(mo.ScreeningContract(**instance))
    return found


def robust_program(c: mo.ScreeningContract, attitude: Attitude, form: str) -> mo.Program:
    program = c.program(form)  # type: ignore[arg-type]
    data, money = c.scales()
    gain = c.gain.in_units_of(data).expression(cp.multiply(c.types, program["quantity"]))
    utility = program.define("ex_post_utility", gain - program["payment"])
    return program.maximize(attitude.declare(program, utility, c.probs, c.types, money))


def worth(c: mo.ScreeningContract, attitude: Attitude, menu: Any) -> float:
    """Value of a menu, from its quantities and payments."""
    utility = c.gain(c.types * np.maximum(menu["quantity"], 0.0)) - menu["payment"]
    return attitude.value(utility, c.probs, c.types)


def value_at(c: mo.ScreeningContract, q: Array) -> float:
    """Optimum under other probabilities: types of none take what they like best, at no cost to anyone."""
    kept = q > 1e-9
    probs = q[kept] / q[kept].sum()
    other = mo.ScreeningContract(types=c.types[kept], probs=probs, gain=c.gain, unit_cost=c.unit_cost)
    return other.solve().objective


@pytest.mark.parametrize("form", ["reduced", "local"])
@each_ball
def test_the_robust_menu_and_the_worst_case_are_a_saddle_point(kind: type[Ambiguity], form: str) -> None:
    for c in screening(4):
        size = c.scales()[1]
        for radius in STRENGTHS[kind][1:5:2] if form == "local" else STRENGTHS[kind][2:5:2]:
            attitude = kind(radius)
            solution = robust_program(c, attitude, form).solve("clarabel")
            assert worth(c, attitude, solution) == pytest.approx(solution.objective, abs=1e-7 * size)
            q = np.broadcast_to(solution.duals["worst_case"][0], c.probs.shape)
            q = np.maximum(q, 0.0)
            # No menu does better against the worst case: an upper bound on every robust value.
            assert value_at(c, q) == pytest.approx(solution.objective, abs=1e-7 * size)
            if kind is not Wasserstein:
                # Of a strictly convex ball the worst case is unique, and can be had from the menu alone.
                utility = solution["ex_post_utility"]
                mine = attitude.worst_case(utility, c.probs, c.types)
                if np.ptp(utility) > 1e-2 * size and mine.min() > 1e-3:
                    assert value_at(c, mine) == pytest.approx(solution.objective, abs=1e-5 * size)


@pytest.mark.parametrize("level", [0.2, 0.6, 0.9])
def test_the_menu_for_the_tail(level: float) -> None:
    for c in screening(4, largest=6):
        size = c.scales()[1]
        instance = {"types": c.types, "probs": c.probs, "gain": c.gain, "unit_cost": c.unit_cost}
        solution = robust_program(c, CVaR(level), "reduced").solve("clarabel")
        assert worth(c, CVaR(level), solution) == pytest.approx(solution.objective, abs=1e-6 * size)
        q = np.maximum(np.broadcast_to(solution.duals["tail"][0], c.probs.shape), 0.0)
        assert value_at(c, q) == pytest.approx(solution.objective, abs=1e-6 * size)
        local = oracle.menu_under_risk(instance, level=level)
        assert local == pytest.approx(solution.objective, abs=1e-6 * size)


@pytest.mark.parametrize("aversion", [0.1, 1.0, 10.0])
def test_the_menu_under_risk_aversion(aversion: float) -> None:
    for c in screening(4, largest=6):
        size = c.scales()[1]
        instance = {"types": c.types, "probs": c.probs, "gain": c.gain, "unit_cost": c.unit_cost}
        attitude = CARA(aversion / size)
        solution = robust_program(c, attitude, "local").solve("clarabel")
        assert worth(c, attitude, solution) == pytest.approx(solution.objective, abs=1e-6 * size)
        # A saddle point too: against the tilted probabilities, with their entropy as the price.
        q = attitude.worst_case(solution["ex_post_utility"], c.probs, c.types)
        price = oracle.entropy(q, c.probs) / attitude.aversion
        assert value_at(c, q) + price == pytest.approx(solution.objective, abs=1e-6 * size)
        local = oracle.menu_under_risk(instance, aversion=attitude.aversion)
        assert local == pytest.approx(solution.objective, abs=1e-6 * size)


@each_attitude
def test_a_weak_attitude_gives_the_contract_itself(kind: type[Attitude]) -> None:
    for c in screening(3):
        size = c.scales()[1]
        weakest = 1e-2 / size if kind is CARA else 1e-4
        solution = robust_program(c, kind(weakest), "local").solve("clarabel")  # type: ignore[call-arg]
        base = c.solve()
        assert solution.objective <= base.objective + 1e-6 * size
        assert solution.objective >= worth(c, kind(weakest), base) - 1e-6 * size  # type: ignore[call-arg]


# ------------------------------------------------------------------------------------------------ bad input


@each_ball
@pytest.mark.parametrize("radius", [-0.1, np.nan, np.inf, "0.1", None, True])
def test_a_bad_radius_is_refused(kind: type[Ambiguity], radius: Any) -> None:
    with pytest.raises(mo.InvalidInput, match=r"radius must be a finite number >= 0, got"):
        kind(radius)


@pytest.mark.parametrize("aversion", [0.0, -1.0, np.nan, np.inf, "1", None])
def test_a_bad_aversion_is_refused(aversion: Any) -> None:
    with pytest.raises(
        mo.InvalidInput, match=r"aversion must be a finite number > 0, got .* the expectation"
    ):
        CARA(aversion)


@pytest.mark.parametrize(
    ("level", "message"), [(1.0, "below 1"), (1.5, "below 1"), (-0.1, ">= 0"), (np.nan, ">= 0")]
)
def test_a_bad_level_is_refused(level: float, message: str) -> None:
    with pytest.raises(mo.InvalidInput, match=rf"level .*{message}"):
        CVaR(level)


@each_attitude
def test_mismatched_lengths_are_refused(kind: type[Attitude]) -> None:
    attitude = make(kind, STRENGTHS[kind][1])
    with pytest.raises(mo.InvalidInput, match=r"utility has 3 entries for 2 types"):
        attitude.value([1, 2, 3], [0.5, 0.5], [1, 2])
    with pytest.raises(mo.InvalidInput, match=r"probs has 3 entries for 2 types"):
        attitude.worst_case([1, 2], [0.25, 0.25, 0.5], [1, 2])
    with pytest.raises(mo.InvalidInput, match=r"utility\[1\] is nan"):
        attitude.value([1, np.nan], [0.5, 0.5], [1, 2])
    with pytest.raises(mo.InvalidInput, match=r"types is empty"):
        attitude.value([], [], [])
    program = mo.Program()
    x = program.variable("x", 3)
    with pytest.raises(mo.InvalidInput, match=r"utility must have shape \(2,\).* got \(3,\)"):
        attitude.declare(program, x, [0.5, 0.5], [1, 2], 1.0)
    with pytest.raises(mo.InvalidInput, match=r"utility must be concave.* but it is convex"):
        attitude.declare(program, cp.exp(x[:2]), [0.5, 0.5], [1, 2], 1.0)
    with pytest.raises(mo.InvalidInput, match=r"scale must be a finite number > 0"):
        attitude.declare(program, x[:2], [0.5, 0.5], [1, 2], 0.0)
    assert program.names == ("x",)


def test_distances_need_ordered_types() -> None:
    with pytest.raises(mo.InvalidInput, match=r"strictly increasing .* types\[1\] = 1 follows 2"):
        Wasserstein(0.1).value([1, 2], [0.5, 0.5], [2, 1])
    with pytest.raises(mo.InvalidInput, match=r"types\[0\] is inf"):
        Wasserstein(0.1).value([1, 2], [0.5, 0.5], [np.inf, 1])
    assert KullbackLeibler(0.1).value([1, 2], [0.5, 0.5], [2, 1]) < 1.5


def test_kinds() -> None:
    assert [kind.kind for kind in ALL] == ["ambiguity"] * 3 + ["risk"] * 2
    assert Wasserstein(0.1) == Wasserstein(0.1) != Wasserstein(0.2)
    assert ChiSquared(0.0).is_neutral
    assert CVaR(0).is_neutral
    assert not CARA(1).is_neutral
