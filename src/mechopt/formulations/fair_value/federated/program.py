r"""The declared program of federated mean estimation: the weights of least error, by (55).

Let :math:`v_j` be the weight that user j's own data get in the estimate of user i's mean: the weight of the
average over the number of federated users, or the user's direct weight. Since weights sum to 1, the common
mean drops out, and the error is that of the samples and that of using others' means:

.. math:: \min_w \; t^2 \sum_j \frac{v_j^2}{n_j} + s^2 \Bigl( (1 - v_i)^2 + \sum_{j \ne i} v_j^2 \Bigr)
   \quad \text{s.t.} \quad w_0 + \sum_{\epsilon_j = 2} w_j = 1 .
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cvxpy as cp
import numpy as np
from scipy import sparse

from mechopt.solvers.program import Program

if TYPE_CHECKING:
    from mechopt.formulations.fair_value.federated.model import FederatedMeanEstimation


def declare(estimation: FederatedMeanEstimation, user: int) -> Program:
    """Declare the estimator of one user's mean; see `FederatedMeanEstimation.program`."""
    levels, n_users = estimation.levels, estimation.n_users
    between, within = estimation.between_user_variance, estimation.within_user_variance
    noise = within / estimation.num_samples
    # What the user's own data would give, where they can be singled out.
    own = between * noise[user] / (between + noise[user]) if levels[user] == 2 else between
    program = Program(f"estimate of user {user}'s mean", objective_scale=own)
    federated, direct = np.flatnonzero(levels == 1), np.flatnonzero(levels == 2)
    total: cp.Expression = cp.Constant(0.0)
    per_user: cp.Expression = cp.Constant(np.zeros(n_users))
    # The squares of (55) are collected to one or two a variable: SCIP gave up on one for each user.
    error: cp.Expression = cp.Constant(between if levels[user] == 0 else 0.0)
    if federated.size:
        weight = program.variable("federated_weight")
        total = total + weight
        each = weight / federated.size
        per_user = per_user + each * (levels == 1).astype(float)
        error = error + float(noise[federated].sum()) * cp.square(each)
        n_others = federated.size - int(levels[user] == 1)
        if n_others:
            error = error + between * n_others * cp.square(each)
        if levels[user] == 1:
            error = error + between * cp.square(1 - each)
    if direct.size:
        weights = program.variable("direct_weights", direct.size)
        total = total + cp.sum(weights)
        place = sparse.csr_array(
            (np.ones(direct.size), (direct, np.arange(direct.size))), shape=(n_users, direct.size)
        )
        per_user = per_user + place @ weights
        others = np.flatnonzero(direct != user)
        if others.size:
            root = np.sqrt(between + noise[direct[others]])
            error = error + cp.sum_squares(cp.multiply(root, weights[others]))
        if levels[user] == 2:
            single = weights[int(np.searchsorted(direct, user))]
            error = error + noise[user] * cp.square(single) + between * cp.square(1 - single)
    program.define("user_weights", per_user)
    program.define("emse", error)
    program.minimize(error)
    program.add("total_weight", total == 1)
    return program.seal()
