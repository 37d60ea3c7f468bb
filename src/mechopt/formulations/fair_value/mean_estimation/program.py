r"""The declared program of private mean estimation, (7) to (9).

Data are +-1/2 with unknown probability of a uniform prior, so that :math:`E X_i^2 = 1/4` and
:math:`E X_i X_j = E X_i \mu = 1/12`. The Bayes risk of weights w and Laplace noise of scale s, and the
definition of privacy, make a convex quadratic program:

.. math:: \min \; \tfrac16 \sum_i w_i^2 + \tfrac1{12} \bigl( 1 - \textstyle\sum_i w_i \bigr)^2 + 2 s^2
   \quad \text{s.t.} \quad |w_i| \le \epsilon_i s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.fair_value.mean_estimation import exact
from mechopt.solvers.backend import Settings
from mechopt.solvers.program import Changes, ExactAnswer, Program

if TYPE_CHECKING:
    from mechopt.formulations.fair_value.mean_estimation.model import MeanEstimation

Array = NDArray[np.float64]


def declare(estimation: MeanEstimation) -> Program:
    """Declare the optimal linear-Laplace estimator; see `MeanEstimation.program`."""
    levels, n_users = estimation.privacy_levels, estimation.n_users
    program = Program("private mean estimation", objective_scale=1 / 12)
    # The noise may be far below the weights. In a unit of its own size the objective would hardly curve in
    # it, and HiGHS then called the program unbounded.
    typical = 1 / (n_users + 2)
    weights = program.variable("weights", n_users, scale=typical)
    noise = program.variable("noise_scale", nonneg=True, scale=typical)
    total = program.define("total_weight", cp.sum(weights))
    risk = cp.sum_squares(weights) / 6 + cp.square(1 - total) / 12 + 2 * cp.square(noise)
    program.define("bayes_risk", risk)
    program.minimize(risk)
    # One row a user, so that prices are found under the user's index; the row of a user without limit says
    # nothing, and that of a user without data is an equality of its own: two inequalities have no interior.
    limited = np.isfinite(levels) & (levels > 0)
    limit = np.where(limited, levels, 1.0) * noise
    limited_weights = cp.multiply(limited.astype(float), weights)
    program.add("privacy", limited_weights <= limit)
    program.add("privacy_of_negative", -limited_weights <= limit)
    absent = np.flatnonzero(levels == 0)
    if absent.size:
        program.add("no_data", weights[absent] == 0)
    return program.seal(exact=ExactEstimator(levels))


class ExactEstimator:
    """The exact algorithm, for the program as declared."""

    def __init__(self, privacy_levels: Array) -> None:
        self.privacy_levels = privacy_levels

    def refuses(self, program: Program, changes: Changes) -> tuple[str, ...]:
        """Families, or ``"objective"``, that it cannot price."""
        return (*changes.added, *changes.dropped, *(("objective",) if changes.objective else ()))

    def __call__(self, program: Program, changes: Changes, settings: Settings) -> ExactAnswer:
        """Solve."""
        found = exact.optimal_estimator(self.privacy_levels)
        values = {"weights": found.weights, "noise_scale": found.noise_scale}
        return ExactAnswer(values, prices_of(found, self.privacy_levels))


def prices_of(found: exact.Optimum, levels: Array) -> dict[str, Array]:
    """Shadow prices by family: looser limits lower the risk."""
    prices = {
        "privacy": np.where(levels > 0, -found.limit_price, 0.0) + 0.0,
        "privacy_of_negative": np.zeros(levels.shape),
    }
    if np.any(levels == 0):
        prices["no_data"] = -found.limit_price[levels == 0]
    return prices
