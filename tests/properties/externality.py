"""The laws for data externalities with one platform."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

import mechopt as mo
from tests.properties import laws
from tests.properties.laws import Bounded, Expected, Outcome, Part, Wing


@st.composite
def externalities(draw: Any) -> mo.DataExternality:
    n = draw(st.integers(1, 4))
    factor = np.array(draw(st.lists(laws.numbers(-1.0, 1.0), min_size=n * n, max_size=n * n))).reshape(n, n)
    # Off the value 1, at which a platform does not care.
    values = draw(st.lists(laws.numbers(0.013, 3.013), min_size=n, max_size=n))
    return mo.DataExternality(factor @ factor.T + 0.1 * np.eye(n), values, draw(laws.numbers(0.5, 2.5)))


def outcome(model: mo.DataExternality) -> Outcome:
    found = model.monopoly()
    return {
        "objective": Part(found.profit, money=True),
        "sharing": Part(found.sharing, axes=1, unique=False),
        "prices": Part(found.prices, money=True, axes=1, unique=False),
        "surplus": Part(found.data_surplus, money=True, unique=False),
    }


def leaks(model: mo.DataExternality, sharing: Any) -> Any:
    """Prior less posterior variance, by conditioning on the data of those who share."""
    among = np.flatnonzero(sharing)
    told = model.covariance[:, among]
    seen = model.covariance[np.ix_(among, among)] + model.noise_variance * np.eye(among.size)
    return np.einsum("ij,ij->i", told, np.linalg.solve(seen, told.T).T) if among.size else np.zeros(len(told))


def worth(model: mo.DataExternality, answer: Any) -> float:
    """What leaks less what is paid; prices are what sharing costs, others' data known."""
    sharing = np.asarray(answer["sharing"], dtype=bool)
    paid, all_leaks = np.zeros(sharing.size), leaks(model, sharing)
    for user in np.flatnonzero(sharing):
        others = sharing & (np.arange(sharing.size) != user)
        paid[user] = model.value_of_privacy[user] * (all_leaks[user] - leaks(model, others)[user])
    Expected("prices", answer["prices"], paid, size=float(np.trace(model.covariance))).check()
    return float(all_leaks.sum() - paid.sum())


def in_money(model: mo.DataExternality, factor: float) -> mo.DataExternality:
    """Money is measured in what leaks: the platform values a unit of variance at 1."""
    return replace(model, covariance=factor * model.covariance, noise_variance=factor * model.noise_variance)


def permuted(model: mo.DataExternality, order: laws.Order) -> mo.DataExternality:
    return replace(
        model,
        covariance=model.covariance[np.ix_(order, order)],
        value_of_privacy=model.value_of_privacy[order],
    )


def alone(model: mo.DataExternality) -> Iterator[Expected]:
    variance, value = float(model.covariance[0, 0]), float(model.value_of_privacy[0])
    one = mo.DataExternality([[variance]], [value], model.noise_variance).monopoly()
    leak = variance**2 / (variance + model.noise_variance)
    yield Expected("profit", one.profit, max(1 - value, 0.0) * leak, size=leak)
    yield Expected("price", one.prices, [value * leak if value < 1 else 0.0], size=leak)


def free_data(model: mo.DataExternality) -> Iterator[Expected]:
    n = model.n_users
    found = replace(model, value_of_privacy=np.zeros(n)).monopoly()
    yield Expected("everybody shares", found.sharing, np.ones(n))
    yield Expected("all that leaks", found.profit, leaks(model, np.ones(n)).sum())
    yield Expected("for nothing", found.prices, np.zeros(n), size=1.0)


def limits(model: mo.DataExternality) -> Iterator[Expected]:
    n, variance, value = model.n_users, np.diag(model.covariance), model.value_of_privacy
    noisy = replace(model, noise_variance=1e9 * model.noise_variance).monopoly()
    yield Expected("noise tells nothing", noisy.profit, 0.0, laws.LIMIT, size=float(variance.sum()))
    strangers = replace(model, covariance=np.diag(variance)).monopoly()
    leak = variance**2 / (variance + model.noise_variance)
    yield Expected("strangers sell if they value privacy less", strangers.sharing, value < 1)
    yield Expected("for what it is worth to them", strangers.profit, np.maximum(1 - value, 0.0) @ leak)
    dear = replace(model, value_of_privacy=np.full(n, 1e9)).monopoly()
    twin = replace(
        model, covariance=np.full((2, 2), variance[0]), value_of_privacy=np.array([0.013, value[0]])
    )
    size = float(variance.sum())
    yield Expected("nobody sells what is dear", dear.profit, 0.0, size=size)
    sold = leaks(twin, [True, False])
    yield Expected("a twin's data are told by the other", sold[1], sold[0], laws.ROUNDING)


WING = Wing(
    "DataExternality",
    externalities(),
    outcome,
    in_money=in_money,
    permuted=permuted,
    worth=worth,
    n_agents=lambda model: model.n_users,
    alone=alone,
    free_data=free_data,
    limits=limits,
    unpriced=lambda model: Bounded(model.program, "payments", backend="outer"),
    reasons={"prices": "users share or do not, and an integer program has no prices"},
)

WINGS = (WING,)
