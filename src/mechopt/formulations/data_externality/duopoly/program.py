r"""Who should be with whom: a partition of users into sets, declared.

.. math:: \max \sum_J s(J) x_J \quad \text{s.t.} \quad \sum_{J \ni i} x_J = 1, \quad
   \sum_J x_J \le K, \quad x \in \{0, 1\}

with s(J) the social surplus of a platform that J joined, K platforms, and families ``joined_once`` and
``number_of_platforms``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import cvxpy as cp
import numpy as np

from mechopt.formulations.data_externality.duopoly.welfare import best_for_sets
from mechopt.formulations.data_externality.leakage import subsets
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.program import Program

if TYPE_CHECKING:
    from mechopt.formulations.data_externality.duopoly.game import Duopoly

Sharing = Literal["first_best", "equilibrium"]

MOST_USERS = 12
"""Users up to which there is a variable for every set of them."""


def declare(game: Duopoly, sharing: Sharing) -> Program:
    """Declare the partition of most social surplus; see `Duopoly.program`."""
    model = game.model
    if sharing not in get_args(Sharing):
        raise InvalidInput(f"sharing must be 'first_best' or 'equilibrium', got {sharing!r}")
    if model.n_users > MOST_USERS:
        raise InvalidInput(
            f"there are 2^{model.n_users} sets of {model.n_users} users, and a variable for each is declared "
            f"for at most {MOST_USERS}; first_best looks at up to 14 users without further constraints"
        )
    if sharing == "first_best":
        data, _, service = best_for_sets(model)
    else:
        data, service = game._tables.data_surplus, game._tables.service
    members = subsets(model.n_users)[1:].astype(float)
    data, service = data[1:], service[1:]
    # What leaks, and not services, which may be large and much alike, sets the scale.
    program = Program("partition of users", objective_scale=model.total_information)
    chosen = program.variable("chosen", len(members), boolean=True)
    program.define("data_surplus", data @ chosen)
    program.define("social_surplus", (data + service) @ chosen)
    program.define("platforms", cp.sum(chosen))
    pairs = np.einsum("ji,jk->ikj", members, members).reshape(-1, len(members))
    program.define("together", cp.reshape(pairs @ chosen, (model.n_users,) * 2, order="C"))
    program.maximize(program["social_surplus"])
    program.add("joined_once", members.T @ chosen == 1)
    program.add("number_of_platforms", program["platforms"] <= game.n_platforms)
    return program.seal()
