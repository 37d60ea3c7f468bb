r"""A search for profitable misreports: agents claim other utilities and costs, and are paid by the truth.

Each report of an agent multiplies its utility, the data over which that bends, and each of its sharing costs
by factors :math:`e^{\sigma Z}`. The mechanism runs on the report, and the true market values the outcome. A
search proves nothing when it finds nothing; what it finds is a counterexample.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations import checks
from mechopt.formulations.functions import (
    AdditiveUtility,
    ConcaveFunction,
    TableUtility,
    UserUtility,
    Utility,
)
from mechopt.formulations.sharing_market.concave import ScaledFunction
from mechopt.solvers.errors import Infeasible, InvalidInput
from mechopt.verification.audit import Audit, Deviation, audit_deviations

if TYPE_CHECKING:
    import pandas as pd

    from mechopt.formulations.sharing_market.model import SharingMarket

Array = NDArray[np.float64]
Private = Literal["costs", "all"]


class Outcome(Protocol):
    """What a mechanism returns: payoffs by any market, and whether it could do what it promises."""

    @property
    def participation(self) -> Deviation:
        """The agent that would gain most by staying out."""

    def payoff_in(self, market: SharingMarket) -> Array:
        """What the outcome gives agents of a market."""


def rescaled(utility: Utility, factor: float, rate: float) -> Utility:
    """Return the utility times ``factor``, of ``rate`` times as much data; data of sets have no rate."""
    if isinstance(utility, AdditiveUtility):
        return AdditiveUtility([factor * value for value in utility.values])
    if isinstance(utility, TableUtility):
        return TableUtility({sellers: factor * value for sellers, value in utility.values.items()})
    if isinstance(utility, ConcaveFunction):
        return ScaledFunction(utility, factor, rate)
    return UserUtility(lambda data: factor * utility(rate * np.asarray(data, dtype=float)))


@dataclass(frozen=True, eq=False)
class Misreports:
    """What a search for misreports found.

    Attributes
    ----------
    agent : array of int, shape (n_reports,)
        Who reports.
    utility_factor, data_rate : array, shape (n_reports,)
        Its utility as reported is ``utility_factor * U(data_rate * data)``.
    cost_factor : array, shape (n_reports, n_agents)
        By which its costs towards each buyer are multiplied.
    gain : array, shape (n_reports,)
        True payoff minus that of the truth (money); NaN where the mechanism refuses the report, as it cannot
        realise what it would have to.
    scale : float
        Size of the payoffs under the truth (money).
    participation : Deviation
        The agent that would gain most by staying out, under the truth.
    """

    agent: NDArray[np.intp]
    utility_factor: Array
    data_rate: Array
    cost_factor: Array
    gain: Array
    scale: float
    participation: Deviation

    @property
    def best(self) -> int | None:
        """Index of the report that gains most; None if all were refused, or there is none."""
        return None if np.all(np.isnan(self.gain)) else int(np.nanargmax(self.gain))

    @property
    def n_refused(self) -> int:
        """Reports that the mechanism refuses."""
        return int(np.isnan(self.gain).sum())

    def n_profitable(self, tolerance: float = 1e-9) -> int:
        """Reports that gain more than ``tolerance`` of the scale."""
        return int(np.sum(self.gain > tolerance * self.scale))

    @property
    def audit(self) -> Audit:
        """The same as an audit: each agent's best report, by its index, and staying out."""
        deviations = [self.participation]
        for agent in np.unique(self.agent):
            own = np.flatnonzero((self.agent == agent) & ~np.isnan(self.gain))
            if own.size:
                best = int(own[np.argmax(self.gain[own])])
                deviations.append(Deviation(int(agent), best, float(self.gain[best])))
        answered = self.gain.size - self.n_refused
        method = f"{answered} random misreports" + (f", {self.n_refused} refused" if self.n_refused else "")
        return audit_deviations(deviations, scale=self.scale, method=method)

    def to_frame(self) -> pd.DataFrame:
        """One row a report."""
        import pandas as pd

        columns = {
            "agent": self.agent,
            "utility_factor": self.utility_factor,
            "data_rate": self.data_rate,
            **{f"cost_factor_{j}": self.cost_factor[:, j] for j in range(self.cost_factor.shape[1])},
            "gain": self.gain,
        }
        return pd.DataFrame(columns, index=pd.RangeIndex(self.agent.size, name="report"))

    def __repr__(self) -> str:
        head = f"{self.gain.size} misreports, {self.n_profitable()} profitable, {self.n_refused} refused"
        if self.best is None:
            return head
        best = self.best
        return (
            f"{head}\n  best: agent {self.agent[best]} gains {self.gain[best]:.6g} with utility x "
            f"{self.utility_factor[best]:.3g}, data x {self.data_rate[best]:.3g}"
        )


def search_misreports(
    market: SharingMarket,
    mechanism: Callable[[SharingMarket], Outcome],
    *,
    n_reports: int = 15,
    spread: float = 0.7,
    seed: int = 0,
    private: Private = "all",
) -> Misreports:
    """Try random misreports of every agent on a mechanism.

    Parameters
    ----------
    market : SharingMarket
        The truth.
    mechanism : callable
        From a market as reported to an outcome, such as ``lambda m: m.vcg()``. If the outcome has a
        ``require`` method, it is asked for an outcome that does what it promises.
    n_reports : int
        Of each agent.
    spread : float
        Standard deviation of the logarithm of the factors, > 0.
    seed : int
    private : {"all", "costs"}
        Whether agents misreport utility and costs, or costs alone.

    Returns
    -------
    Misreports

    Raises
    ------
    InvalidInput
        If an argument breaks its rule, or the truth itself is refused.

    Examples
    --------
    >>> import mechopt as mo
    >>> market = mo.SharingMarket([1.0, 1.0], [[0, 1], [1, 0]], mo.LogUtility(10.0, 1.0))
    >>> search_misreports(market, lambda reported: reported.vcg("exclude")).n_profitable()
    0
    """
    n_reports = checks.count(n_reports, "n_reports")
    spread = checks.positive(spread, "spread")
    if private not in get_args(Private):
        raise InvalidInput(f"private must be 'all' or 'costs', got {private!r}")
    truth = _run(mechanism, market)
    honest = truth.payoff_in(market)
    n = market.n_agents
    rng = np.random.default_rng(seed)
    agent = np.repeat(np.arange(n), n_reports)
    factors = np.exp(spread * rng.standard_normal((agent.size, n + 2)))
    if private == "costs":
        factors[:, :2] = 1.0
    gain = np.full(agent.size, np.nan)
    for report, who in enumerate(agent):
        reported = misreported(market, int(who), factors[report, 0], factors[report, 1], factors[report, 2:])
        try:
            outcome = _run(mechanism, reported)
        except (InvalidInput, Infeasible):
            continue
        gain[report] = outcome.payoff_in(market)[who] - honest[who]
    scale = float(np.max(np.abs([honest, market.outside_option]))) or 1.0
    return Misreports(agent, factors[:, 0], factors[:, 1], factors[:, 2:], gain, scale, truth.participation)


def misreported(
    market: SharingMarket, agent: int, utility_factor: float, data_rate: float, cost_factor: ArrayLike
) -> SharingMarket:
    """Return the market as it is when one agent reports another utility and other costs.

    Parameters
    ----------
    market : SharingMarket
        The truth.
    agent : int
    utility_factor, data_rate : float
        The reported utility is ``utility_factor * U(data_rate * data)``.
    cost_factor : float or array, shape (n_agents,)
        By which its costs towards each buyer are multiplied.
    """
    cost, utility = market.sharing_cost.copy(), list(market.utility)
    cost[agent] *= np.asarray(cost_factor, dtype=float)
    if (utility_factor, data_rate) != (1.0, 1.0):
        utility[agent] = rescaled(utility[agent], float(utility_factor), float(data_rate))
    return replace(market, sharing_cost=cost, utility=tuple(utility))


def audit_outcome(
    mechanism: Callable[[SharingMarket], Outcome],
    outcome: Any,
    *,
    n_reports: int,
    seed: int,
    private: Private = "all",
) -> Audit:
    """Audit the mechanism that gave this outcome, at the market that it was given for."""
    found = search_misreports(outcome.market, mechanism, n_reports=n_reports, seed=seed, private=private)
    return found.audit


def _run(mechanism: Callable[[SharingMarket], Outcome], market: SharingMarket) -> Outcome:
    outcome = mechanism(market)
    require = getattr(outcome, "require", None)
    return outcome if require is None else require()
