"""The laws for fair values, the two estimation problems behind them, and a platform's payments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

import mechopt as mo
from tests.properties import laws
from tests.properties.laws import Bounded, Expected, Outcome, Part, Wing

FIRST = np.eye(1, 9)[0]

# ------------------------------------------------------------ fair values


@st.composite
def values(draw: Any) -> mo.FairValue:
    n = draw(st.integers(1, 4))
    table = [0.0, *draw(st.lists(laws.numbers(0.0, 10.0), min_size=2**n - 1, max_size=2**n - 1))]
    if draw(st.booleans()):
        return mo.FairValue(table, include_platform=True)
    return mo.FairValue(table, payment_share=draw(laws.numbers(0.0, 1.0)))


def with_table(fair: mo.FairValue, table: Any, **changes: Any) -> mo.FairValue:
    kept = {"include_platform": fair.include_platform, "payment_share": fair.payment_share}
    return mo.FairValue(np.asarray(table, dtype=float), **{**kept, **changes})


def values_outcome(fair: mo.FairValue) -> Outcome:
    division = fair.solve()
    return {
        "objective": Part(division.total_utility, money=True),
        "user_values": Part(division.user_values, money=True, axes=1),
        "platform_value": Part(division.platform_value, money=True),
    }


def values_in_money(fair: mo.FairValue, factor: float) -> mo.FairValue:
    return with_table(fair, factor * fair.table())


def values_permuted(fair: mo.FairValue, order: laws.Order) -> mo.FairValue:
    table, members = fair.table(), np.arange(2**fair.n_users)[:, None] >> np.arange(fair.n_users) & 1
    return with_table(fair, table[members @ (1 << order)])


def values_alone(fair: mo.FairValue) -> Iterator[Expected]:
    worth = float(fair.table()[1])
    division = with_table(fair, [0.0, worth]).solve()
    paid = worth / 2 if fair.include_platform else fair.payment_share * worth
    yield Expected("what is paid", division.user_values, [paid], laws.ROUNDING)
    yield Expected("what the platform has", division.platform_value, worth - paid, size=worth)


def values_limits(fair: mo.FairValue) -> Iterator[Expected]:
    table, n = fair.table(), fair.n_users
    division, size = fair.solve(), float(table.max())
    nothing = mo.FairValue(table, payment_share=0.0).solve()
    yield Expected("nothing is paid", nothing.user_values, np.zeros(n), size=size)
    everything = mo.FairValue(table, payment_share=1.0).solve()
    yield Expected("all is paid", everything.user_values.sum(), table[-1], size=size)
    idle = with_table(fair, np.tile(table, 2)).solve()
    yield Expected("who adds nothing gets nothing", idle.user_values[n], 0.0, size=size)
    yield Expected("from nobody", idle.user_values[:n], division.user_values, size=size)
    worth = np.arange(1.0, n + 1)
    members = np.arange(2**n)[:, None] >> np.arange(n) & 1
    additive = mo.FairValue(members @ worth, payment_share=1.0).solve()
    yield Expected("what one adds to everybody", additive.user_values, worth)
    # The core is what nobody leaves: for an additive utility that is its only point.
    core = mo.FairValue(members @ worth).core()
    yield Expected("is the core too", core.user_values, worth, laws.CONIC)


def values_bounded(fair: mo.FairValue) -> Bounded:
    shares = 1 / np.arange(1.0, fair.n_users + 1)
    return Bounded(fair.core_program, "user_values", shares, upper=False, backend="highs", binding=1.3)


FAIR_VALUE = Wing(
    "FairValue",
    values(),
    values_outcome,
    in_money=values_in_money,
    permuted=values_permuted,
    n_agents=lambda fair: fair.n_users,
    alone=values_alone,
    limits=values_limits,
    bounded=values_bounded,
    reasons={"free_data": "users have chosen what to share, and a division knows no costs"},
)

# ------------------------------------------------------------ the mean of a population


def levels() -> st.SearchStrategy[float]:
    return st.one_of(laws.numbers(0.0, 4.0), st.sampled_from([0.0, np.inf]))


def estimations() -> st.SearchStrategy[mo.MeanEstimation]:
    return st.lists(levels(), min_size=1, max_size=5).map(mo.MeanEstimation)


def estimation_outcome(estimation: mo.MeanEstimation) -> Outcome:
    answer = estimation.solve()
    return {
        "objective": Part(answer.objective),
        "weights": Part(answer["weights"], axes=1),
        "noise_scale": Part(answer["noise_scale"]),
        "utility": Part(estimation.utility()),
    }


def estimation_alone(estimation: mo.MeanEstimation) -> Iterator[Expected]:
    level = float(estimation.privacy_levels[0])
    answer = mo.MeanEstimation([level]).solve()
    # min_w  w^2 (1/4 + 2/eps^2) - w/6 + 1/12
    bend = 0.25 + 2 / level**2 if level else np.inf
    yield Expected("weight", answer["weights"], [1 / 12 / bend], laws.ROUNDING, size=1.0)
    yield Expected("risk", answer.objective, 1 / 12 - 1 / 144 / bend, laws.ROUNDING)


def estimation_free(estimation: mo.MeanEstimation) -> Iterator[Expected]:
    n = estimation.n_users
    free = mo.MeanEstimation(np.full(n, np.inf))
    yield Expected("all that data can tell", free.utility(), 1.0, laws.ROUNDING)
    yield Expected("equal weights", free.solve()["weights"], np.full(n, 1 / (n + 2)), laws.ROUNDING)
    yield Expected("no noise", free.solve()["noise_scale"], 0.0)


def estimation_limits(estimation: mo.MeanEstimation) -> Iterator[Expected]:
    given, before = estimation.privacy_levels, estimation.solve()
    silent = mo.MeanEstimation(np.zeros(given.size))
    yield Expected("the prior's variance", silent.solve().objective, 1 / 12, laws.ROUNDING)
    yield Expected("is worth nothing", silent.utility(), 0.0, laws.ROUNDING, size=1.0)
    absent = mo.MeanEstimation(np.append(given, 0.0)).solve()
    yield Expected("who gives nothing does not matter", absent.objective, before.objective, laws.ROUNDING)
    nearly = mo.MeanEstimation(np.append(given, 1e-9)).solve()
    yield Expected("nor who gives next to nothing", nearly.objective, before.objective, laws.LIMIT)
    finite = mo.MeanEstimation(np.minimum(given, 1e9)).solve()
    yield Expected("a level of 1e9 is no privacy", finite.objective, before.objective, laws.LIMIT)


def estimation_bounded(estimation: mo.MeanEstimation) -> Bounded:
    return Bounded(estimation.program, "total_weight")


MEAN = Wing(
    "MeanEstimation",
    estimations(),
    estimation_outcome,
    permuted=lambda estimation, order: mo.MeanEstimation(estimation.privacy_levels[order]),
    n_agents=lambda estimation: estimation.n_users,
    alone=estimation_alone,
    free_data=estimation_free,
    limits=estimation_limits,
    bounded=estimation_bounded,
    reasons={"money": "the risk is a squared error of numbers of +-1/2, and the utility a share of it"},
)

# ------------------------------------------------------------ the means of users


@st.composite
def federations(draw: Any) -> mo.FederatedMeanEstimation:
    n = draw(st.integers(1, 4))

    def each(entries: Any) -> Any:
        return draw(st.lists(entries, min_size=n, max_size=n))

    return mo.FederatedMeanEstimation(
        each(st.integers(0, 2)),
        each(st.integers(1, 40)),
        draw(laws.numbers(0.2, 4.2)),
        draw(laws.numbers(0.5, 20.5)),
        np.array(each(laws.numbers(0.0, 2.0))),
    )


def federation_outcome(estimation: mo.FederatedMeanEstimation) -> Outcome:
    return {
        "objective": Part(estimation.utility(), money=True),
        "emse": Part(estimation.emse(), axes=1),
        "fair_value": Part(estimation.fair_value(), money=True, axes=1),
    }


def federation_permuted(
    estimation: mo.FederatedMeanEstimation, order: laws.Order
) -> mo.FederatedMeanEstimation:
    return replace(
        estimation,
        levels=estimation.levels[order],
        num_samples=estimation.num_samples[order],
        importance=estimation.importance[order],
    )


def unknown(estimation: mo.FederatedMeanEstimation) -> float:
    """Error that counts for no data at all."""
    return estimation.within_user_variance + 2 * estimation.between_user_variance


def federation_alone(estimation: mo.FederatedMeanEstimation) -> Iterator[Expected]:
    samples, importance = estimation.num_samples[0], float(estimation.importance[0])
    error = estimation.within_user_variance / samples
    for level in (1, 2):
        one = replace(estimation, levels=[level], num_samples=[samples], importance=[importance])
        yield Expected("the error of its mean", one.emse(), [error], laws.ROUNDING)
        wanted = importance * np.log(unknown(estimation) / error)
        yield Expected("utility", one.utility(), wanted, laws.ROUNDING)
        yield Expected("which is its own", one.fair_value(), [wanted])


def federation_free(estimation: mo.FederatedMeanEstimation) -> Iterator[Expected]:
    n, size = estimation.n_users, unknown(estimation)
    direct = replace(estimation, levels=np.full(n, 2))
    best, given = direct.emse(), estimation.emse()
    yield Expected("no error grows by more data", np.minimum(best, given), best)
    endless = replace(direct, num_samples=np.full(n, 10**9))
    yield Expected("every mean is known", endless.emse(), np.zeros(n), laws.LIMIT, size=size)


def federation_limits(estimation: mo.FederatedMeanEstimation) -> Iterator[Expected]:
    n, within = estimation.n_users, estimation.within_user_variance
    silent = replace(estimation, levels=np.zeros(n, dtype=int))
    yield Expected("nothing is known", silent.emse(), np.full(n, unknown(estimation)), laws.ROUNDING)
    yield Expected("nor worth anything", silent.utility(), 0.0, size=1.0)
    direct = replace(estimation, levels=np.full(n, 2))
    alike = replace(direct, between_user_variance=1e-9)
    pooled = np.full(n, within / estimation.num_samples.sum())
    yield Expected("users alike are one sample", alike.emse(), pooled, laws.LIMIT)
    strangers = replace(direct, between_user_variance=1e9)
    own = within / estimation.num_samples
    yield Expected("strangers tell nothing of each other", strangers.emse(), own, laws.LIMIT)


def federation_bounded(estimation: mo.FederatedMeanEstimation) -> Bounded:
    # Somebody else to give weight to, since weights sum to 1.
    more = replace(
        estimation,
        levels=[2, *estimation.levels[1:], 2],
        num_samples=[*estimation.num_samples, 7],
        importance=[*estimation.importance, 1.0],
    )
    return Bounded(lambda: more.program(0), "user_weights", FIRST[: more.n_users])


FEDERATED = Wing(
    "FederatedMeanEstimation",
    federations(),
    federation_outcome,
    in_money=lambda estimation, factor: replace(estimation, importance=factor * estimation.importance),
    permuted=federation_permuted,
    n_agents=lambda estimation: estimation.n_users,
    alone=federation_alone,
    free_data=federation_free,
    limits=federation_limits,
    bounded=federation_bounded,
)

# ------------------------------------------------------------ payments


@st.composite
def payments(draw: Any) -> mo.PlatformPayments:
    """Draw users of one cost, or two of different costs; utilities are concave in the number of sharers."""
    n = draw(st.integers(1, 4))
    steps = sorted(draw(st.lists(laws.numbers(0.1, 4.1), min_size=n, max_size=n, unique=True)), reverse=True)
    # Off the grid of the utilities, so that no cost is at a threshold.
    costs = [steps[0] * (0.0137 + draw(laws.numbers(0.0, 1.2))) for _ in range(2)]
    utility = np.append(0.0, np.cumsum(steps))
    if n == 2 and draw(st.booleans()):
        return mo.PlatformPayments(utility, 2, costs, selection="optimistic")
    return mo.PlatformPayments(utility, n, costs[0])


def payments_outcome(platform: mo.PlatformPayments) -> Outcome:
    answer = platform.solve()
    alike = platform.selection == "symmetric"  # else one of several may be taken
    return {
        "objective": Part(answer.objective, money=True),
        "payment_share": Part(answer.payment_share, unique=alike),
        "share_probability": Part(
            np.broadcast_to(answer.share_probability, platform.n_users), axes=1, unique=alike
        ),
    }


def payments_in_money(platform: mo.PlatformPayments, factor: float) -> mo.PlatformPayments:
    dearer = factor * np.asarray(platform.privacy_cost, dtype=float)
    return replace(platform, utility=factor * np.asarray(platform.utility), privacy_cost=dearer)


def payments_permuted(platform: mo.PlatformPayments, order: laws.Order) -> mo.PlatformPayments:
    return replace(platform, privacy_cost=platform.costs[order])


def payments_worth(platform: mo.PlatformPayments, answer: Any) -> float:
    """What an equilibrium leaves to the platform, from the chances of each number of sharers."""
    share, chance = float(answer["payment_share"]), np.ones(1)
    for q in answer["share_probability"]:
        chance = np.convolve(chance, [1 - q, q])
    assert platform.regret(share, answer["share_probability"]) <= laws.EXACT * np.max(platform.utility)
    return float((1 - share) * (chance @ platform.utility))


def payments_alone(platform: mo.PlatformPayments) -> Iterator[Expected]:
    worth, cost = float(platform.utility[1]), float(platform.costs[0])
    answer = mo.PlatformPayments([0.0, worth], 1, cost).solve()
    yield Expected("worth less cost", answer.objective, max(worth - cost, 0.0), size=worth)
    if worth > cost:
        yield Expected("the cost is paid", answer.payment_share, cost / worth)


def payments_free(platform: mo.PlatformPayments) -> Iterator[Expected]:
    n, utility = platform.n_users, np.asarray(platform.utility)
    free = mo.PlatformPayments(utility, n, 1e-9 * utility[1]).solve()
    yield Expected("all data", free.objective, utility[-1], laws.LIMIT)
    yield Expected("of everybody", free.share_probability, 1.0)
    yield Expected("for nothing", free.payment_share, 0.0, laws.LIMIT, size=1.0)


def payments_limits(platform: mo.PlatformPayments) -> Iterator[Expected]:
    n, utility = platform.n_users, np.asarray(platform.utility)
    dear = mo.PlatformPayments(utility, n, 1.01 * utility[1]).solve()
    yield Expected("nobody is paid", dear.objective, 0.0, size=utility[-1])
    cost = 0.99 * (utility[-1] - utility[-2])
    cheap = mo.PlatformPayments(utility, n, cost).solve()
    yield Expected("everybody is paid the cost", cheap.objective, utility[-1] - n * cost, size=utility[-1])
    line = mo.PlatformPayments(np.arange(n + 1.0), n, 0.5).solve()
    yield Expected("users who add alike are as if alone", line.objective, n * 0.5)


def payments_bounded(platform: mo.PlatformPayments) -> Bounded:
    # At a cost in the middle of what sharing adds, users are told different things in different equilibria.
    share, utility = 0.8, np.asarray(platform.utility)
    game = mo.PlatformPayments(utility, platform.n_users, 0.0)
    cost = share * (game.relative_payoff(0.0) + game.relative_payoff(1.0)) / 2
    middle = mo.PlatformPayments(utility, platform.n_users, cost)
    return Bounded(
        lambda: middle.correlated_program(share), "share_probability", backend="highs", binding=0.98
    )


PAYMENTS = Wing(
    "PlatformPayments",
    payments(),
    payments_outcome,
    in_money=payments_in_money,
    permuted=payments_permuted,
    worth=payments_worth,
    n_agents=lambda platform: platform.n_users,
    alone=payments_alone,
    free_data=payments_free,
    limits=payments_limits,
    bounded=payments_bounded,
)

WINGS = (FAIR_VALUE, MEAN, FEDERATED, PAYMENTS)
