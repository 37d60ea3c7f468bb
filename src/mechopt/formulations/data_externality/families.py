"""Covariances and values of privacy on which claims are run, in short decimals that can be copied."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.data_externality.model import DataExternality

Array = NDArray[np.float64]
Rng = np.random.Generator
Kind = Literal["dense", "equicorrelated", "mtp2", "suppressor", "singular"]

EVERY: tuple[Kind, ...] = ("dense", "equicorrelated", "mtp2", "suppressor", "singular")
"""All kinds of covariances."""


@dataclass(frozen=True)
class PurchaseCase:
    """Users with correlated types, in short decimals."""

    covariance: tuple[tuple[float, ...], ...]
    value_of_privacy: tuple[float, ...]
    spillover: float = 0.0

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self.value_of_privacy)

    def model(self) -> DataExternality:
        """Build the mechanism."""
        return DataExternality(
            np.array(self.covariance), np.array(self.value_of_privacy), spillover=self.spillover
        )


def case_of(covariance: Array, value: Array, spillover: float = 0.0) -> PurchaseCase:
    """Write a covariance and values down as a case."""
    rows = tuple(tuple(float(entry) for entry in row) for row in covariance)
    return PurchaseCase(rows, tuple(float(entry) for entry in value), float(spillover))


def random_covariance(rng: Rng, kind: Kind, n_users: int) -> Array:
    """Draw a covariance of a kind.

    Parameters
    ----------
    rng : numpy Generator
    kind : str
        ``"dense"``: A A' / k + .05 I with k of n / 2, n or 2 n columns. ``"equicorrelated"``: one
        correlation, of either sign. ``"mtp2"``: one common factor, or a chain, with random signs.
        ``"suppressor"``: user 2 tells nothing of user 0, but much of user 1. ``"singular"``: of rank about
        half the number of users.
    n_users : int
        At least 3 for suppressors.
    """
    if kind == "dense":
        columns = int(rng.choice([max(1, n_users // 2), n_users, 2 * n_users]))
        factor = rng.normal(size=(n_users, columns))
        return _rounded(factor @ factor.T / columns) + 0.05 * np.eye(n_users)
    if kind == "equicorrelated":
        least = -1.0 / (n_users - 1) if n_users > 1 else 0.0
        correlation = np.round(rng.uniform(0.9 * least, 0.95), 2)
        return np.where(np.eye(n_users, dtype=bool), 1.0, correlation)
    if kind == "mtp2":
        sign = rng.choice([-1.0, 1.0], n_users)
        if rng.random() < 0.5:
            loading = np.round(rng.uniform(0.2, 1.5, n_users), 1)
            inside = np.outer(loading, loading) + np.diag(np.round(rng.uniform(0.1, 1.0, n_users), 1))
        else:
            step = np.abs(np.subtract.outer(np.arange(n_users), np.arange(n_users)))
            inside = np.round(rng.uniform(0.2, 0.9), 1) ** step
        return np.asarray(np.round(np.outer(sign, sign) * inside, 12))
    if kind == "suppressor":
        angle = rng.uniform(0.3, 1.2)
        covariance = np.eye(n_users)
        first, second = np.round(0.95 * np.array([np.cos(angle), np.sin(angle)]), 2)
        covariance[0, 1] = covariance[1, 0] = first
        covariance[1, 2] = covariance[2, 1] = second
        return np.asarray(np.round(covariance * rng.choice([0.5, 1.0, 4.0, 20.0]), 4))
    factor = rng.integers(-2, 3, size=(n_users, max(1, n_users // 2))) / 2.0
    factor[~factor.any(axis=1), 0] = 1.0
    return np.asarray(factor @ factor.T)


def random_case(
    rng: Rng, kind: Kind, n_users: int, *, most_value: float = 2.5, least_value: float = 0.0
) -> PurchaseCase:
    """Draw a case with values of privacy between two limits."""
    value = np.round(rng.uniform(least_value, most_value, n_users), 2)
    return case_of(random_covariance(rng, kind, n_users), value)


def cases(
    *kinds: Kind,
    worked: tuple[PurchaseCase, ...] = (),
    sizes: tuple[int, ...] = (3, 4, 5),
    least_value: float = 0.0,
    most_value: float = 2.5,
) -> Callable[[Rng, int], Iterator[PurchaseCase]]:
    """Return a family of instances: worked examples, then random cases of the kinds in turn."""

    def instances(rng: Rng, n: int) -> Iterator[PurchaseCase]:
        yield from worked[:n]
        for kind in islice(cycle(kinds or EVERY), max(0, n - len(worked))):
            size = int(rng.choice(sizes))
            yield random_case(rng, kind, size, least_value=least_value, most_value=most_value)

    return instances


def _rounded(covariance: Array) -> Array:
    """Three decimals; an error that the ridge of .05 outweighs."""
    rounded: Array = np.round(covariance, 3)
    return rounded
