"""The records, and the noise that OpenDP adds to their means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.screening import ScreeningContract
from mechopt.formulations.screening.simulation import (
    Release,
    Simulation,
    laplace_log_ratio,
    laplace_scale,
)

Array = NDArray[np.float64]

Build = Callable[[int, float], Release]
"""Makes the release of a number of records at a privacy level."""


@dataclass(frozen=True, eq=False)
class Population:
    """Records that holders' records are drawn from.

    Attributes
    ----------
    records : array, shape (n_records,)
        In [0, 1].
    n_clipped : int
        How many lay beyond the public bounds.
    """

    records: Array
    n_clipped: int

    @cached_property
    def mean(self) -> float:
        """What the demander wants to know."""
        return float(self.records.mean())

    @cached_property
    def moments(self) -> tuple[float, float]:
        """Second and fourth central moments."""
        centred = self.records - self.mean
        return float(np.mean(centred**2)), float(np.mean(centred**4))


class OpenDPMean:
    """Mean of records in [0, 1] with OpenDP's Laplace noise.

    The noise is the least for which OpenDP accounts a loss of at most ``eps``, rounding errors included: of
    scale 1 / (n_records * eps), and less than 1e-9 of that more up to 100 000 records. Making one turns on
    OpenDP's ``contrib`` features, which it wants to be asked for.

    Parameters
    ----------
    n_records : int
        Number of records, known to all, >= 1.
    eps : float
        Privacy level (nats), > 0, for data sets that differ in one record.
    """

    def __init__(self, n_records: int, eps: float) -> None:
        import opendp.prelude as dp

        dp.enable_features("contrib")
        domain = dp.vector_domain(dp.atom_domain(bounds=(0.0, 1.0), nan=False), size=n_records)
        mean = dp.t.make_metric_unbounded(domain, dp.change_one_distance()) >> dp.t.then_mean()
        self.scale = float(mean.map(1)) / eps
        while True:
            self._measurement = mean >> dp.m.then_laplace(scale=self.scale)
            self.loss = float(self._measurement.map(1))
            if self.loss <= eps:
                break
            self.scale *= 1 + 1e-15

    def __call__(self, records: Array) -> float:
        """Return the mean of the records with noise."""
        return float(self._measurement(records.tolist()))


@dataclass(frozen=True, eq=False)
class Releases:
    """What holders with a contract released; arrays have one entry for each of them.

    Attributes
    ----------
    holder : array of int
        Their places among the simulated holders.
    noise : array
        Release less the mean of the holder's own records.
    error : array
        Release less the mean of the population.
    scale : array
        Scale of Laplace noise that the theory asks for.
    size : array
        Number of records in the mean.
    accounts : dict
        By type that released: the loss that is accounted for, and the largest log density ratio on
        neighbouring data sets (nats).
    """

    holder: NDArray[np.intp]
    noise: Array
    error: Array
    scale: Array
    size: Array
    accounts: dict[int, tuple[float, float]]


def release_means(
    contract: ScreeningContract,
    found: Simulation,
    records: NDArray[np.int64],
    population: Population,
    rng: np.random.Generator,
    build: Build,
    progress: Callable[[int], None],
) -> Releases:
    """Add noise and share, type by type."""
    kind = np.searchsorted(contract.types, found.eps)
    delivers = np.append(records, 0)[found.choice] > 0
    noise, error = np.zeros(found.n_holders), np.zeros(found.n_holders)
    scale, size = np.ones(found.n_holders), np.ones(found.n_holders)
    accounts: dict[int, tuple[float, float]] = {}
    for k, eps in enumerate(contract.types.tolist()):
        progress(k)
        # Who chose another contract than the one meant for it delivers what that one asks for.
        taken = np.unique(found.choice[(kind == k) & delivers])
        for j in taken.tolist():
            n_records = int(records[j])
            release = build(n_records, eps)
            for holder in np.flatnonzero((kind == k) & (found.choice == j)).tolist():
                own = rng.choice(population.records, size=n_records)
                told = release(own)
                noise[holder], error[holder] = told - own.mean(), told - population.mean
                scale[holder], size[holder] = laplace_scale(n_records, eps), n_records
            loss, ratio = accounts.get(k, (0.0, 0.0))
            largest = _largest_log_ratio(release, population, n_records)
            accounts[k] = max(loss, release.loss), max(ratio, largest)
    holders = np.flatnonzero(delivers)
    return Releases(holders, noise[holders], error[holders], scale[holders], size[holders], accounts)


def _largest_log_ratio(release: Release, population: Population, n_records: int) -> float:
    """Exact log density ratio on the worst neighbours: a record of 0 against a record of 1."""
    records = np.resize(population.records, n_records)
    neighbour = records.copy()
    records[0], neighbour[0] = 0.0, 1.0
    means = records.mean() + np.linspace(-3, 3, 13) / n_records
    values = np.concatenate([[-1.0], means, [2.0]])
    return float(np.abs(laplace_log_ratio(values, records, neighbour, release.scale)).max())
