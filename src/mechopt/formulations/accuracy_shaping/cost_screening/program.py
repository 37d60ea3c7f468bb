r"""The declared programs of cost screening.

All forms maximise the expected contribution over ``contribution`` m >= 0 and ``allocated_accuracy`` α,

.. math:: \max \sum_k p_k m_k \quad \text{s.t.} \quad \alpha_k \le b(m_k + S), \quad
   \alpha_k - c_k m_k \ge u_k^*, \quad \text{IC}

with families ``feasibility``, ``ir``, and incentive constraints that differ by form, see
`mechopt.formulations.incentives`. For the mean field, S is :math:`(N - 1) \sum_j p_j m_j` instead of a
number: b is concave in both, and the program stays convex.

The true accuracy, max(0, b), is not concave. Types on the branch b >= 0 are *served*; the costliest types may
be shut out instead, with no contribution and no accuracy. A program is for a given number of served types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.accuracy_shaping.cost_screening import exact
from mechopt.formulations.incentives import MENU_FORMS, check_form, check_full_size, declare_incentives
from mechopt.solvers.backend import Settings
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.program import Changes, ExactAnswer, Program
from mechopt.solvers.terms import Term

if TYPE_CHECKING:
    from mechopt.formulations.accuracy_shaping.cost_screening.model import CostScreening

Form = Literal["full", "local", "local-monotone"]
FORMS = MENU_FORMS

ATTAINABLE = "attainable_accuracy"


def declare(
    screening: CostScreening, form: str, served: int, *, n_agents: int | None = None, force: bool = False
) -> Program:
    """Declare the program of the first ``served`` types; see `CostScreening.program`.

    With ``n_agents``, the others' data are those of the mean field.
    """
    check_form(form, FORMS)
    check_full_size(form, served, force=force)
    costs, probs = screening.costs[:served], screening.probs[:served]
    outside = screening.standalone_utility[:served]
    top = screening.accuracy.max_accuracy
    # No type takes on more than a / c: its costs would exceed all that it can get.
    program = Program(f"cost screening ({form})", objective_scale=float(probs @ (top / costs)))
    contribution = program.variable("contribution", served, nonneg=True, scale=top / costs)
    accuracy = program.variable("allocated_accuracy", served, scale=top)
    utility = program.define("utility", accuracy - cp.multiply(costs, contribution))
    program.define("rent", utility - outside)
    expected = program.define("expected_contribution", probs @ contribution)
    others = screening.others_data if n_agents is None else (n_agents - 1) * expected
    program.define("others_data", others)
    attainable = screening.accuracy.declare(program, ATTAINABLE, contribution + others, scale=top)
    if ATTAINABLE not in program:
        program.define(ATTAINABLE, attainable)
    program.maximize(expected)
    program.add("feasibility", accuracy <= attainable)
    declare_incentives(program, accuracy, contribution, costs, form, outside_option=outside)
    guard = _refuse_changes if form == "local-monotone" else None
    return program.seal(exact=ExactScreening(screening, served, n_agents), guard=guard)


def _refuse_changes(program: Program, what: str, term: Term | cp.Expression) -> None:
    """Guard of the form without upward incentive rows."""
    raise InvalidInput(
        f"{what} cannot be added to form='local-monotone': its menus are incentive compatible only at the "
        "optimum of the program as declared; use form='local' (or 'full')"
    )


def served_counts(screening: CostScreening) -> range:
    """Numbers of served types that are possible, given the others' data.

    A type can be served if some contribution on the branch leaves it its outside option; it must be if that
    is positive, or if the others' data alone give some accuracy.
    """
    accuracy, others, costs = screening.accuracy, screening.others_data, screening.costs
    best_total = np.maximum(accuracy.inverse_derivative(costs), others)
    top = accuracy.concave_part(best_total) - costs * (best_total - others)
    outside = screening.standalone_utility
    most = int(np.cumprod(top >= outside - 1e-15).sum())
    least = most if others >= accuracy.min_viable_data else int(np.sum(outside > 0))
    return range(least, most + 1)


class ExactScreening:
    """The exact algorithm, for the program as it was declared."""

    def __init__(self, screening: CostScreening, served: int, n_agents: int | None) -> None:
        self.screening, self.served, self.n_agents = screening, served, n_agents

    def refuses(self, program: Program, changes: Changes) -> tuple[str, ...]:
        """Every change."""
        return (*changes.added, *changes.dropped, *(("objective",) if changes.objective else ()))

    def __call__(self, program: Program, changes: Changes, settings: Settings) -> ExactAnswer:
        """Solve the program as it was declared."""
        s, n = self.screening, self.served
        parameters = (s.accuracy, s.costs, s.probs, s.standalone_utility)
        others = s.others_data
        if self.n_agents is None:
            menu = exact.solve_exact(*parameters, others, served=n)
        else:
            others, menu = exact.solve_mean_field(*parameters, self.n_agents, served=n)
        if menu.served < n:
            return ExactAnswer(conflict=("feasibility", "ir"), reason="not all types can be served")
        contribution: NDArray[np.float64] = menu.contribution[:n]
        values = {
            "contribution": contribution,
            "allocated_accuracy": menu.utility[:n] + s.costs[:n] * contribution,
        }
        if program.has_variable(ATTAINABLE):
            values[ATTAINABLE] = s.accuracy.concave_part(contribution + others)
        return ExactAnswer(values)
