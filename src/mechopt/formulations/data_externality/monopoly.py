"""One platform: whom it buys from, at what prices, and what that leaves to everybody."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.data_externality import users
from mechopt.formulations.data_externality.exact import PlatformOptimum, platform_optimum
from mechopt.solvers import certify
from mechopt.solvers.backend import get_backend
from mechopt.solvers.errors import InvalidInput, MechanismWarning
from mechopt.solvers.exact import asked_exactly
from mechopt.solvers.program import OnFailure
from mechopt.solvers.solution import Solution, Status

if TYPE_CHECKING:
    import pandas as pd

    from mechopt.formulations.data_externality.model import DataExternality

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Selection = Literal["optimistic", "unique"]


def least_prices(model: DataExternality, sharing: BoolArray) -> Array:
    r"""Return the least prices at which those who share would not rather not: eq. (3).

    .. math:: p_i = v_i (I_i(a) - I_i(0, a_{-i})) = v_i \, t_i^2 / (1 - t_i)

    for those who share, with t the posterior variance in units of the noise; 0 for the others. One inverse
    gives them all.

    Parameters
    ----------
    model : DataExternality
    sharing : array of bool, shape (n_users,)

    Returns
    -------
    array, shape (n_users,)
        Money.
    """
    return np.where(sharing, users.thresholds(model, sharing), 0.0)


@dataclass(frozen=True, eq=False)
class Monopoly:
    """Equilibrium with one platform that every user joins.

    Attributes
    ----------
    sharing : array of bool, shape (n_users,)
        Who shares. If several sets give the same profit, the largest; see `PlatformOptimum`.
    prices : array, shape (n_users,)
        Paid to those who share (money), 0 to the others.
    leaked_information : array, shape (n_users,)
        About each user, whether it shares or not.
    payoffs : array, shape (n_users,)
        Of users, the service of the platform included (money).
    profit : float
        Of the platform (money).
    data_surplus : float
        Of platform and users from data alone (money): what a ban on this market would lose.
    social_surplus : float
        With the service of the platform.
    ties : array of bool, shape (n_ties, n_users)
        All sets of that profit, ``sharing`` first.
    """

    sharing: BoolArray
    prices: Array
    leaked_information: Array
    payoffs: Array
    profit: float
    data_surplus: float
    social_surplus: float
    ties: BoolArray

    def to_frame(self) -> pd.DataFrame:
        """Return a table with a row for each user."""
        import pandas as pd

        return pd.DataFrame(
            {
                "sharing": self.sharing,
                "price": self.prices,
                "leaked_information": self.leaked_information,
                "payoff": self.payoffs,
            },
            index=pd.RangeIndex(self.sharing.size, name="user"),
        )

    def __repr__(self) -> str:
        who = np.flatnonzero(self.sharing).tolist()
        return (
            f"Monopoly: users {who} of {self.sharing.size} share\n"
            f"  profit {self.profit:.6g}   data surplus {self.data_surplus:.6g}   "
            f"social surplus {self.social_surplus:.6g}"
        )


def monopoly(model: DataExternality) -> Monopoly:
    """Return the equilibrium with one platform; see `DataExternality.monopoly`.

    Examples
    --------
    >>> import mechopt as mo
    >>> mo.DataExternality([[1.0, 0.6, 0.2], [0.6, 1.0, 0.4], [0.2, 0.4, 1.0]], [0.5, 1.3, 3.0]).monopoly()
    Monopoly: users [0, 1] of 3 share
      profit 0.517407   data surplus -0.0571429   social surplus -0.0571429
    """
    everybody = np.ones(model.n_users, dtype=bool)
    found = platform_optimum(model.scaled_covariance, model.value_of_privacy)
    values = describe(model, everybody, found.sharing, least_prices(model, found.sharing))
    together = frozenset(range(model.n_users))
    service = sum(model.service(user, together) for user in together)
    data_surplus = float(values["data_surplus"])
    return Monopoly(
        sharing=found.sharing,
        prices=values["prices"],
        leaked_information=values["leaked_information"],
        payoffs=values["payoffs"],
        profit=float(values["profit"]),
        data_surplus=data_surplus,
        social_surplus=data_surplus + service,
        ties=found.ties,
    )


def describe(
    model: DataExternality, joined: BoolArray, sharing: BoolArray, prices: Array
) -> dict[str, Array]:
    """Compute everything of a set of users who share at some prices, by the definitions.

    Parameters
    ----------
    model : DataExternality
    joined, sharing : array of bool, shape (n_users,)
    prices : array, shape (n_users,)
        Money.

    Returns
    -------
    dict of str to array
        ``sharing`` (zeros and ones), ``prices``, ``payments``, ``leaked_information``, ``payoffs`` of shape
        (n_users,); ``profit``, ``data_surplus``. All read-only.
    """
    leaked = model.leaked_information(sharing)
    weight = np.where(joined, 1.0, model.spillover)
    payments = np.where(sharing, prices, 0.0)
    values = {
        "sharing": sharing.astype(float),
        "prices": prices,
        "payments": payments,
        "leaked_information": leaked,
        "payoffs": users.payoffs(model, joined, sharing, prices),
        "profit": np.asarray(weight @ leaked - payments.sum()),
        "data_surplus": np.asarray((weight * (1 - model.value_of_privacy)) @ leaked),
    }
    for array in values.values():
        array.setflags(write=False)
    return values


# ------------------------------------------------------------ solving


def solve(
    model: DataExternality,
    joined: BoolArray,
    backend: str | None,
    *,
    tolerance: float | None,
    time_limit: float | None,
    verbose: bool,
    on_failure: OnFailure,
    selection: Selection,
    **options: Any,
) -> Solution:
    """Find whom the platform buys from; see `DataExternality.solve`."""
    if selection not in ("optimistic", "unique"):
        raise InvalidInput(f"selection must be 'optimistic' or 'unique', got {selection!r}")
    asked = asked_exactly(
        backend,
        tolerance=tolerance,
        time_limit=time_limit,
        verbose=verbose,
        on_failure=on_failure,
        options=options,
    )
    if asked is None:
        if selection == "unique":
            raise InvalidInput(
                f"selection='unique' is solved by a recursion over sets, not by {backend!r}; leave it out"
            )
        settings: dict[str, Any] = {"tolerance": tolerance, "time_limit": time_limit, "verbose": verbose}
        solution = model.program(joined).solve(backend, on_failure=on_failure, **settings, **options)
        return recomputed(model, joined, solution)
    started = time.perf_counter()
    if selection == "unique":
        solution = _solve_unique(model, joined)
    else:
        found = platform_optimum(
            model.scaled_covariance,
            model.value_of_privacy,
            joined,
            model.spillover,
            time_limit=time_limit,
        )
        solution = _record_of(model, joined, found, asked)
    solved = time.perf_counter()
    solution = solution.replace(
        backend="exact",
        version=get_backend("exact").version(),
        program="purchase of data",
        sense="maximize",
        tolerance=asked,
        no_duals="prices of who shares are values; an integer program has no duals",
        seconds={"build": 0.0, "compile": 0.0, "solve": solved - started, "check": 0.0},
    )
    if not solution.status.ok and on_failure == "raise":
        warnings.warn(
            f"'purchase of data' by exact: {solution.status} - {solution.reason}",
            MechanismWarning,
            stacklevel=3,
        )
    return solution


def _record_of(
    model: DataExternality, joined: BoolArray, found: PlatformOptimum, tolerance: float
) -> Solution:
    """Record of an optimum, with how far users are from preferring something else."""
    prices = least_prices(model, found.sharing)
    values = describe(model, joined, found.sharing, prices)
    objective = float(values["profit"])
    bound = objective if found.proved else model.noise_variance * found.bound
    game = users.user_equilibria(model, prices, joined)
    violation = float(np.max(game.regret(found.sharing), initial=0.0))
    residual = violation / max(float(np.max(prices, initial=0.0)), 1e-300) if violation else 0.0
    if not found.proved:
        status, reason = Status.LIMIT, f"stopped by the time limit after {found.n_nodes} nodes"
    elif residual > tolerance:
        status, reason = Status.INACCURATE, f"a user would gain {violation:.3g} by not sharing"
    else:
        status, reason = Status.OPTIMAL, f"{found.method.replace('_', ' ')}, {found.n_nodes} nodes"
    size = max(abs(objective), model.total_information)
    return Solution(
        status=status,
        reason=reason,
        backend="exact",
        objective=objective,
        bound=bound,
        gap=abs(bound - objective) / size,
        values=values,
        residuals={"incentives": residual, certify.DOMAIN: 0.0},
        violations={"incentives": violation, certify.DOMAIN: 0.0},
        extra={
            "ties": found.ties,
            "ties_complete": found.ties_complete,
            "method": found.method,
            "n_nodes": found.n_nodes,
        },
    )


def _solve_unique(model: DataExternality, joined: BoolArray) -> Solution:
    """Record of the best set at prices with one equilibrium."""
    sharing = users.unique_optimum(model, joined)
    paid = users.unique_prices(model, sharing)
    values = describe(model, joined, sharing, paid.prices)
    objective = float(values["profit"])
    return Solution(
        status=Status.OPTIMAL,
        reason="recursion over sets; the profit is a supremum: pay each a little more",
        backend="exact",
        objective=objective,
        bound=objective,
        gap=0.0,
        values=values,
        residuals={certify.DOMAIN: 0.0},
        violations={certify.DOMAIN: 0.0},
        extra={"order": paid.order},
    )


def recomputed(model: DataExternality, joined: BoolArray, solution: Solution) -> Solution:
    """Round a solver's choice, and compute everything else of it by the definitions.

    The solver's bound is kept, so that the gap tells how good the rounded choice is.
    """
    if "sharing" not in solution:
        return solution
    sharing = np.asarray(solution["sharing"]) > 0.5
    values = describe(model, joined, sharing, least_prices(model, sharing))
    objective = float(values["profit"])
    bound = solution.bound
    # Relative to what can leak at most: the profit may be nothing.
    size = max(abs(objective), model.total_information)
    gap = None if bound is None else max(bound - objective, 0.0) / size
    status, reason = solution.status, solution.reason
    if status is Status.OPTIMAL and gap is not None and gap > 10 * solution.tolerance:
        status = Status.INACCURATE
        reason = f"rounded, the choice earns {objective:.9g}, and the bound is {bound:.9g}; {reason}"
    return solution.replace(
        status=status, reason=reason, objective=objective, gap=gap, values={**solution.values, **values}
    )
