"""The exact algorithms as the backend ``exact`` sees them: which changes of the program they can take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cvxpy as cp
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from mechopt.formulations.data_externality.exact.optimum import platform_optimum
from mechopt.formulations.data_externality.exact.problem import Array, BoolArray
from mechopt.formulations.data_externality.leakage import posterior_and_doubt
from mechopt.solvers.backend import Settings
from mechopt.solvers.errors import Infeasible, SolverFailure
from mechopt.solvers.program import Changes, ExactAnswer, Program

if TYPE_CHECKING:
    from mechopt.formulations.data_externality.model import DataExternality


class ExactPurchase:
    """Enumeration and branch and bound, for the program as declared, with linear limits on who shares.

    These are families of affine (in)equalities in ``sharing`` alone: how many share, who must or must not,
    who shares together. Anything else is refused.
    """

    def __init__(self, model: DataExternality, joined: BoolArray) -> None:
        self.model, self.joined = model, joined

    def refuses(self, program: Program, changes: Changes) -> tuple[str, ...]:
        """Families, or ``"objective"``, that it cannot price."""
        sharing = program["sharing"]
        unread = [
            family
            for family in changes.added
            if any(_rows(sharing, term) is None for term in program.families[family])
        ]
        return (*unread, *changes.dropped, *(("objective",) if changes.objective else ()))

    def __call__(self, program: Program, changes: Changes, settings: Settings) -> ExactAnswer:
        """Solve."""
        model = self.model
        read = [
            _rows(program["sharing"], term) for family in changes.added for term in program.families[family]
        ]
        rows = [part for part in read if part is not None]
        limit: dict[str, Any] = {}
        counts = [most for part in rows if (most := _count(part)) is not None]
        others = [part for part in rows if _count(part) is None]
        if counts:
            limit["at_most"] = int(min(counts))
        if others:
            limit["rows"] = (
                np.concatenate([matrix for matrix, _ in others]),
                np.concatenate([bound for _, bound in others]),
            )
        try:
            found = platform_optimum(
                model.scaled_covariance,
                model.value_of_privacy,
                self.joined,
                model.spillover,
                time_limit=settings.time_limit,
                **limit,
            )
        except Infeasible:
            return ExactAnswer(conflict=changes.added, reason="no set of users meets the limits")
        if not found.proved:
            raise SolverFailure(
                f"'exact' stopped at its time limit after {found.n_nodes} nodes, at a profit of "
                f"{model.noise_variance * found.profit:.9g} and a bound of "
                f"{model.noise_variance * found.bound:.9g}; "
                "give it more time"
            )
        return ExactAnswer(values_of(model, found.sharing), reason=f"{found.method}, {found.n_nodes} nodes")


def values_of(model: DataExternality, sharing: BoolArray) -> dict[str, Array]:
    """Values of all variables of the program for a set of users who share."""
    posterior, doubt = posterior_and_doubt(model.scaled_covariance, sharing)
    variance = np.diag(posterior)
    others = variance / doubt
    taken = sharing.astype(float)
    return {
        "sharing": taken,
        "variance_given_all": variance,
        "variance_given_others": others,
        "shared_variance": taken * others,
        "both_share": np.outer(taken, taken) * (1 - np.eye(len(taken))),
        "payment_size": taken * others**2 / (1 + others),
    }


def _rows(sharing: cp.Expression, term: Any) -> tuple[Array, NDArray[np.float64]] | None:
    """Read a constraint as ``matrix @ sharing <= bound``, or None if it is more than that."""
    if type(term).__name__ not in ("Inequality", "Equality"):
        return None
    difference = term.args[0] - term.args[1]
    if not difference.is_affine() or [v.id for v in difference.variables()] != [sharing.id]:
        return None
    held = sharing.value
    sharing.save_value(np.zeros(sharing.shape))
    constant, gradient = difference.value, difference.grad[sharing]
    sharing.save_value(held)
    if constant is None:  # a parameter without a value
        return None
    dense = gradient.toarray() if sp.issparse(gradient) else np.asarray(gradient)
    matrix = np.reshape(dense, (sharing.size, -1)).T
    bound = -np.ravel(constant, order="F")
    if type(term).__name__ == "Equality":
        return np.concatenate([matrix, -matrix]), np.concatenate([bound, -bound])
    return matrix, bound


def _count(part: tuple[Array, NDArray[np.float64]]) -> float | None:
    """How many may share, if that is all that some rows say."""
    matrix, bound = part
    if len(matrix) != 1 or matrix[0, 0] <= 0 or np.any(matrix[0] != matrix[0, 0]):
        return None
    most = float(np.floor(bound[0] / matrix[0, 0] + 1e-9))
    return most if most >= 0 else None
