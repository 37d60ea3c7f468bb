"""The laws for accuracy shaping, at known and at private costs: amounts of "money" are accuracies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from scipy.optimize import brentq

import mechopt as mo
from tests.properties import laws
from tests.properties.laws import Bounded, Expected, Outcome, Part, Wing

FLAT = laws.CONIC
"""Relative, for amounts of data: an agent that is left with its own optimum has a utility that is flat there,
and rounding of 1e-15 in it is 3e-8 in data."""
FREE = 1e-10
"""Share of the cost that is left where data are nearly free."""


def accuracies() -> st.SearchStrategy[Any]:
    return st.one_of(
        st.builds(mo.SqrtAccuracy, laws.numbers(0.6, 1.0), laws.numbers(0.5, 12.5)),
        st.builds(mo.PowerLawAccuracy, laws.numbers(0.6, 2.6), laws.numbers(0.3, 0.9)),
    )


def best_alone(accuracy: Any, cost: float) -> tuple[float, float]:
    """Data m* and utility b(m*) - c m* of an agent alone, by the first-order condition."""
    if isinstance(accuracy, mo.SqrtAccuracy):
        data = (np.sqrt(accuracy.difficulty) / cost) ** (2 / 3)
    else:
        data = (accuracy.coefficient * accuracy.exponent / cost) ** (1 / (accuracy.exponent + 1))
    utility = level(accuracy, data) - cost * data
    return (float(data), float(utility)) if utility > 0 else (0.0, 0.0)


def level(accuracy: Any, data: float) -> float:
    """Accuracy b(m), where it is positive."""
    if isinstance(accuracy, mo.SqrtAccuracy):
        return float(accuracy.max_accuracy - 2 * np.sqrt(accuracy.difficulty / data))
    return float(1 - accuracy.threshold - accuracy.coefficient * data**-accuracy.exponent)


def most_wanted(accuracy: Any, cost: float, others: float) -> float:
    """Most data of an agent who gets the model of all and is left what it has alone: b(m + S) - c m = u*."""
    data, utility = best_alone(accuracy, cost)

    def left(m: float) -> float:
        return level(accuracy, m + others) - cost * m - utility

    return float(brentq(left, data, 1.01 / cost, xtol=1e-14, rtol=1e-14)) if left(data) > 0 else data


def in_smaller_units(accuracy: Any, factor: float) -> Any:
    """Every accuracy times the factor, which must be below 1."""
    if isinstance(accuracy, mo.SqrtAccuracy):
        return mo.SqrtAccuracy(accuracy.max_accuracy * factor, accuracy.difficulty * factor**2)
    top = 1 - accuracy.threshold
    return mo.PowerLawAccuracy(accuracy.coefficient * factor, accuracy.exponent, 1 - top * factor)


# ------------------------------------------------------------ known costs


@st.composite
def shapings(draw: Any) -> mo.AccuracyShaping:
    accuracy = draw(accuracies())
    shares = draw(st.lists(laws.numbers(0.05, 0.85), min_size=1, max_size=5))
    seed = draw(laws.numbers(0.0, 40.0, steps=4))
    return mo.AccuracyShaping(accuracy, np.array(shares) * accuracy.viability_cost, seed)


def shaping_outcome(shaping: mo.AccuracyShaping) -> Outcome:
    answer = shaping.solve()
    return {
        "objective": Part(answer.objective),
        "contribution": Part(answer["contribution"], axes=1),
        "allocated_accuracy": Part(answer["allocated_accuracy"], money=True, axes=1),
        "utility": Part(answer["utility"], money=True, axes=1),
    }


def shaping_in_money(shaping: mo.AccuracyShaping, factor: float) -> mo.AccuracyShaping:
    smaller = in_smaller_units(shaping.accuracy, factor)
    return mo.AccuracyShaping(smaller, shaping.marginal_costs * factor, shaping.seed_data)


def shaping_permuted(shaping: mo.AccuracyShaping, order: laws.Order) -> mo.AccuracyShaping:
    return replace(shaping, marginal_costs=shaping.marginal_costs[order])


def shaping_alone(shaping: mo.AccuracyShaping) -> Iterator[Expected]:
    cost = float(shaping.marginal_costs[0])
    one = mo.AccuracyShaping(shaping.accuracy, [cost]).solve()
    wanted = best_alone(shaping.accuracy, cost)
    yield Expected("what it collects alone", one.objective, wanted[0], FLAT)
    yield Expected("and what it is left with", one["utility"], [wanted[1]])
    seeded = mo.AccuracyShaping(shaping.accuracy, [cost], 50.0).solve()
    mine = most_wanted(shaping.accuracy, cost, 50.0)
    yield Expected("with data of others", seeded["contribution"], [mine], FLAT)


def shaping_free(shaping: mo.AccuracyShaping) -> Iterator[Expected]:
    free = replace(shaping, marginal_costs=FREE * shaping.marginal_costs)
    # An agent alone has nearly the best accuracy then, and so has the pool; power laws are slow to get there.
    accuracy = free.solve()["accuracy"]
    alone = free.standalone().utility.max()
    yield Expected("nobody loses by the pool", min(float(accuracy), alone), alone)
    top = free.accuracy.max_accuracy
    yield Expected("the best accuracy", accuracy, top, 2 * shortfall(free.accuracy, FREE))


def shortfall(accuracy: Any, cost: float) -> float:
    """Accuracy that an agent alone goes without at such a share of the viability cost."""
    return accuracy.max_accuracy - level(accuracy, best_alone(accuracy, cost * accuracy.viability_cost)[0])


def shaping_limits(shaping: mo.AccuracyShaping) -> Iterator[Expected]:
    costs, accuracy = shaping.marginal_costs, shaping.accuracy
    # A pool M must pay for itself: b(M) >= M / sum(1 / c).
    dear = costs * (1.01 * accuracy.viability_cost * np.sum(1 / costs))
    nothing = mo.AccuracyShaping(accuracy, dear).solve()
    yield Expected("no pool pays for itself", nothing["contribution"], np.zeros(costs.size))
    alike = mo.AccuracyShaping(accuracy, np.full(3, costs[0])).solve()
    pool = alike.objective
    yield Expected("the same from all who are alike", alike["contribution"], np.full(3, pool / 3))
    left = level(accuracy, pool) - costs[0] * pool / 3 - best_alone(accuracy, float(costs[0]))[1]
    yield Expected("who are held to what they have alone", left, 0.0, size=1.0)
    before, dull = shaping.solve(), np.append(costs, 1e16 * accuracy.viability_cost)
    with_dull = mo.AccuracyShaping(accuracy, dull, shaping.seed_data).solve()
    yield Expected("who is too dear adds little", with_dull.objective, before.objective, FLAT)


def shaping_bounded(shaping: mo.AccuracyShaping) -> Bounded:
    # With a seed, so that agents may contribute more or less: alone they have no such choice.
    seed = shaping.seed_data + 10 + shaping.standalone().contribution.sum()
    return Bounded(replace(shaping, seed_data=seed).program, "cost")


SHAPING = Wing(
    "AccuracyShaping",
    shapings(),
    shaping_outcome,
    in_money=shaping_in_money,
    money_factor=0.1,
    permuted=shaping_permuted,
    n_agents=lambda shaping: shaping.n_agents,
    alone=shaping_alone,
    free_data=shaping_free,
    limits=shaping_limits,
    bounded=shaping_bounded,
    tolerance=FLAT,
)


# ------------------------------------------------------------ private costs


@st.composite
def screenings(draw: Any) -> mo.CostScreening:
    accuracy = draw(accuracies())
    shares = np.array(draw(laws.increasing(0.05, 0.85, 4)))
    probs = draw(laws.weights(len(shares)))
    return mo.CostScreening(
        accuracy, shares * accuracy.viability_cost, probs, draw(laws.numbers(0.0, 200.0, 8))
    )


def screening_outcome(screening: mo.CostScreening) -> Outcome:
    menu = screening.solve()
    return {
        "objective": Part(menu.objective),
        "contribution": Part(menu["contribution"]),
        "allocated_accuracy": Part(menu["allocated_accuracy"], money=True),
        "rent": Part(menu["rent"], money=True),
    }


def screening_in_money(screening: mo.CostScreening, factor: float) -> mo.CostScreening:
    smaller = in_smaller_units(screening.accuracy, factor)
    return mo.CostScreening(smaller, screening.costs * factor, screening.probs, screening.others_data)


def screening_alone(screening: mo.CostScreening) -> Iterator[Expected]:
    cost = float(screening.costs[-1])
    one = mo.CostScreening(screening.accuracy, [cost], None, screening.others_data).solve()
    wanted = most_wanted(screening.accuracy, cost, screening.others_data)
    yield Expected("all that it can be asked for", one["contribution"], [wanted], FLAT)
    yield Expected("and no rent", one["rent"], [0.0], size=1.0)


def screening_free(screening: mo.CostScreening) -> Iterator[Expected]:
    cheap = mo.CostScreening(
        screening.accuracy, FREE * screening.costs, screening.probs, screening.others_data
    )
    top = screening.accuracy.max_accuracy
    wanted = np.full(screening.n_types, top)
    least = 2 * shortfall(screening.accuracy, FREE)
    yield Expected("the best accuracy", cheap.solve()["allocated_accuracy"], wanted, least)


def screening_limits(screening: mo.CostScreening) -> Iterator[Expected]:
    accuracy, others, n = screening.accuracy, screening.others_data, screening.n_types
    # Closer than 1e-7 and without data of others, rounding may hide which types share a contract.
    close = screening.costs[-1] * (1 - 1e-6 * np.arange(n)[::-1])
    alike = mo.CostScreening(accuracy, close, screening.probs, others).solve()
    wanted = most_wanted(accuracy, float(screening.costs[-1]), others)
    yield Expected("types nearly alike are known", alike.objective, wanted, laws.LIMIT)
    # Others' data are worth all there is, and a type is asked for what its utility allows.
    cost, endless = float(screening.costs[-1]), 1e12
    most = (accuracy.max_accuracy - best_alone(accuracy, cost)[1]) / cost
    one = mo.CostScreening(accuracy, [cost], None, endless).solve()
    missing = accuracy.max_accuracy - level(accuracy, endless)
    yield Expected("a pool that needs nobody", one.objective, most, 2 * missing + laws.EXACT, size=1 / cost)
    many = mo.CostScreening(accuracy, screening.costs, screening.probs, endless)
    served = many.solve()["contribution"]
    yield Expected("asks more of the cheap", np.minimum.accumulate(served), served)


def screening_bounded(screening: mo.CostScreening) -> Bounded:
    others = screening.others_data + 10 + best_alone(screening.accuracy, float(screening.costs[0]))[0]
    more = mo.CostScreening(screening.accuracy, screening.costs, screening.probs, others)
    return Bounded(lambda: more.program("local"), "contribution", weights=np.eye(1, screening.n_types)[0])


SCREENING = Wing(
    "CostScreening",
    screenings(),
    screening_outcome,
    in_money=screening_in_money,
    money_factor=0.1,
    alone=screening_alone,
    free_data=screening_free,
    limits=screening_limits,
    bounded=screening_bounded,
    tolerance=FLAT,
    reasons={"permutation": "types are in increasing order of cost by definition"},
)

WINGS = (SHAPING, SCREENING)
