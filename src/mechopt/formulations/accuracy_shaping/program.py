r"""The declared programs of accuracy shaping.

The most data that any feasible and individually rational mechanism collects in equilibrium,

.. math:: \max \; s + \sum_i m_i \quad \text{s.t.} \quad \alpha_i - c_i m_i \ge u_i^*, \quad
   \alpha_i \le t, \quad t \le b \bigl( s + \textstyle\sum_i m_i \bigr), \quad m \ge 0,

with families ``participation``, ``feasibility`` and ``accuracy_hypograph``. It is exact. An agent can
deviate to what it does alone, so that the first is necessary; and a menu that gives :math:`\alpha_i` from
:math:`m_i` on, and less only what the agent could make itself, implements whatever meets all three.

The accuracy b of the pool stands behind one variable t: with one cone an agent, solvers took a thousand times
as long. ``max(0, b)`` is not concave, and the program is about the branch b >= 0; if that is infeasible, the
optimum is that nobody contributes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cvxpy as cp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations import checks
from mechopt.formulations.accuracy_shaping import exact
from mechopt.formulations.guards import slope_in, wanted
from mechopt.solvers.backend import Settings
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.program import Changes, ExactAnswer, Program
from mechopt.solvers.terms import Complementarity, Term

if TYPE_CHECKING:
    from mechopt.formulations.accuracy_shaping.model import AccuracyShaping

Array = NDArray[np.float64]

VIABILITY = ("participation", "feasibility", "accuracy_hypograph")
"""The families that exclude each other where no pool pays for itself."""


def declare(
    shaping: AccuracyShaping,
    *,
    subsidy_budget: float | None = None,
    balanced_transfers: bool = False,
    quadratic_costs: ArrayLike | None = None,
    privacy_costs: ArrayLike | None = None,
) -> Program:
    """Declare data maximisation; see `AccuracyShaping.program`."""
    costs, n_agents, top = shaping.marginal_costs, shaping.n_agents, shaping.accuracy.max_accuracy
    quadratic = agent_costs(quadratic_costs, n_agents, "quadratic_costs")
    privacy = agent_costs(privacy_costs, n_agents, "privacy_costs")
    outside = (
        shaping.standalone().utility
        if quadratic is None
        else exact.stand_alone_quadratic(costs, quadratic, shaping.accuracy)[1]
    )
    # In the mechanism data costs privacy too; data that an agent keeps to itself does not.
    borne = costs if privacy is None else costs + privacy
    # What each agent would give to an infinite pool, and all of it: inside, everything is of order one.
    curve = 0.0 if quadratic is None else quadratic
    size = 2 * top / (borne + np.sqrt(borne**2 + 4 * curve * top))
    pool = shaping.seed_data + float(np.sum(size))
    program = Program("accuracy shaping", objective_scale=pool / n_agents)
    contribution = program.variable("contribution", n_agents, nonneg=True, scale=size)
    allocated = program.variable("allocated_accuracy", n_agents, scale=top)
    total = program.define("total_data", shaping.seed_data + cp.sum(contribution))
    accuracy = _declare_accuracy(shaping, program, total)
    cost = cp.multiply(borne, contribution)
    if quadratic is not None:
        cost = cost + cp.multiply(quadratic * size**2, cp.square(contribution / size))
    program.define("cost", cost)
    received = _declare_transfers(program, n_agents, top, subsidy_budget, balanced_transfers)
    utility = program.define("utility", allocated + received - cost)
    program.maximize(total)
    program.add("participation", utility >= outside)
    program.add("feasibility", allocated <= accuracy)
    plain = quadratic is None and privacy is None and subsidy_budget is None and not balanced_transfers
    return program.seal(exact=ExactShaping(shaping) if plain else None, guard=refuse_less_accuracy)


def declare_potential(shaping: AccuracyShaping) -> Program:
    """Declare the potential of the standard mechanism; see `AccuracyShaping.potential_program`."""
    costs, top = shaping.marginal_costs, shaping.accuracy.max_accuracy
    # Only the cheapest agents contribute.
    size = float(np.max(shaping.standalone().contribution)) or top / float(np.min(costs))
    program = Program("standard federated learning", objective_scale=top)
    contribution = program.variable("contribution", shaping.n_agents, nonneg=True, scale=size)
    total = program.define("total_data", shaping.seed_data + cp.sum(contribution))
    accuracy = _declare_accuracy(shaping, program, total)
    program.maximize(accuracy - costs @ contribution)
    return program.seal(guard=refuse_less_accuracy)


def declare_equilibrium(shaping: AccuracyShaping, margin: float, sense: str) -> Program:
    """Declare the equilibria of mechanism (13); see `ShapedMechanism.equilibrium_program`."""
    costs, n_agents, top = shaping.marginal_costs, shaping.n_agents, shaping.accuracy.max_accuracy
    alone = shaping.standalone()
    start = alone.utility + costs * alone.contribution
    slope = costs + margin
    size = (top - start) / slope
    pool = shaping.seed_data + float(np.sum(alone.contribution + size))
    program = Program("equilibria of accuracy shaping", objective_scale=pool)
    # Every root on the branch b >= 0 is at least this large; at 0 the branch has no value at all.
    least = max(float(shaping.accuracy.min_viable_data), shaping.seed_data)
    extra = program.variable("incentivized_contribution", n_agents, bounds=[0.0, size], scale=size)
    total = program.variable("total_data", bounds=[least, pool], scale=pool)
    program.define("contribution", alone.contribution + extra)
    accuracy = program.variable("accuracy", bounds=[0.0, top], scale=top)
    program.add("pool", total == shaping.seed_data + cp.sum(alone.contribution + extra))
    program.add("accuracy_of_pool", accuracy == shaping.accuracy.expression(total))
    program.add("best_response", Complementarity(extra, (start + cp.multiply(slope, extra) - accuracy) / top))
    program.maximize(total) if sense == "largest" else program.minimize(total)
    return program.seal()


def _declare_accuracy(shaping: AccuracyShaping, program: Program, total: cp.Expression) -> cp.Expression:
    """Name the accuracy of the pool, a variable below b; the same names, however b is expressed."""
    function = shaping.accuracy
    if not function.has_expression:
        return function.declare(program, "accuracy", total, scale=function.max_accuracy)
    accuracy = program.variable("accuracy", scale=function.max_accuracy)
    program.add("accuracy_hypograph", accuracy <= function.expression(total))
    return accuracy


def _declare_transfers(
    program: Program, n_agents: int, scale: float, subsidy_budget: float | None, balanced: bool
) -> Any:
    """What agents are paid, in accuracy units."""
    if subsidy_budget is None and not balanced:
        return 0.0
    if subsidy_budget is not None and balanced:
        raise InvalidInput(
            "subsidy_budget and balanced_transfers exclude each other: a subsidy is paid by the platform, "
            "balanced transfers by the agents"
        )
    if balanced:
        transfer = program.variable("transfer", n_agents, scale=scale)
        program.add("balance", cp.sum(transfer) <= 0)
    else:
        budget = checks.nonnegative(subsidy_budget, "subsidy_budget")
        transfer = program.variable("transfer", n_agents, nonneg=True, scale=budget or scale)
        program.add("subsidy_budget", cp.sum(transfer) <= budget)
    return transfer


def agent_costs(value: ArrayLike | None, n_agents: int, name: str) -> Array | None:
    """Return further costs, one an agent, >= 0 and finite; a number stands for all."""
    if value is None:
        return None
    array = checks.vector(np.full(n_agents, value) if np.ndim(value) == 0 else value, name)
    if array.size != n_agents:
        raise InvalidInput(
            f"{name} has {array.size} entries for {n_agents} agents; give one each, or one number"
        )
    checks.all_finite(array, name)
    if np.any(array < 0):
        index = int(np.argmax(array < 0))
        raise InvalidInput(f"{name}[{index}] = {array[index]:g} must be >= 0")
    return array


def refuse_less_accuracy(program: Program, what: str, term: Term | cp.Expression) -> None:
    """Guard: ``accuracy`` may be below that of the pool, and must not be rewarded for it.

    A constraint such as a budget for withheld accuracy, ``n * accuracy - sum(allocated_accuracy) <= B``, is
    convex in the variable and met by letting it fall, while it is reverse convex in the data.
    """
    accuracy = program["accuracy"]
    (inner,) = accuracy.variables()
    for part in wanted(term, program.sense):
        slope = slope_in(inner, part, {})
        if slope is None:
            problem = "is not affine in `accuracy`, so that its direction cannot be seen"
        elif np.any(slope < 0):
            problem = "would be met by lowering `accuracy` below that of the pool (it is reverse convex)"
        else:
            continue
        raise InvalidInput(
            f"{what} {problem}; state it for a pool of given size instead: with "
            "program['total_data'] == size, put the number mechanism.accuracy(size) in the place of "
            "`accuracy`, and search over sizes"
        )


class ExactShaping:
    """The exact algorithm, for the program as declared, with caps and quotas on contributions.

    These are ``contribution <= caps`` and ``contribution >= quotas``, constant, each at most once.
    """

    def __init__(self, shaping: AccuracyShaping) -> None:
        self.shaping = shaping

    def refuses(self, program: Program, changes: Changes) -> tuple[str, ...]:
        """Families, or ``"objective"``, that it cannot price."""
        refused = [*changes.dropped, *(("objective",) if changes.objective else ())]
        taken: set[str] = set()
        for family in changes.added:
            bound = _bound_of(program, family)
            if bound is None or bound[0] in taken:
                refused.append(family)
            else:
                taken.add(bound[0])
        return tuple(refused)

    def __call__(self, program: Program, changes: Changes, settings: Settings) -> ExactAnswer:
        """Solve."""
        shaping = self.shaping
        families = {}
        bounds = {}
        for family in changes.added:
            bound = _bound_of(program, family)
            assert bound is not None  # `refuses` has been asked
            families[bound[0]], bounds[bound[0]] = family, bound[1]
        found = exact.data_maximum(
            shaping.marginal_costs,
            shaping.accuracy,
            shaping.seed_data,
            caps=bounds.get("caps"),
            quotas=bounds.get("quotas"),
        )
        if not found.viable:
            conflict = (*VIABILITY, *(families[kind] for kind in found.conflict))
            return ExactAnswer(conflict=conflict, reason=found.reason)
        values = {
            "contribution": found.contribution,
            "allocated_accuracy": found.allocated_accuracy,
            "accuracy": found.accuracy,
        }
        return ExactAnswer(values, prices_of(found, families))


def prices_of(found: exact.Optimum, families: dict[str, str]) -> dict[str, Any]:
    """Shadow prices by family, of the families declared and of those of the bounds."""
    known = found.prices()
    if not known:
        return {}
    prices: dict[str, Any] = {
        "participation": known["outside_option"],
        "feasibility": known["allocation"],
        "accuracy_hypograph": known["accuracy"],
    }
    if "caps" in families:
        prices[families["caps"]] = known["caps"]
    if "quotas" in families:
        # Agents give the most they can at any rate.
        prices[families["quotas"]] = 0.0
    return prices


def _bound_of(program: Program, family: str) -> tuple[str, Array] | None:
    """Read a family as caps or quotas on contributions, or None."""
    terms = program.families[family]
    if len(terms) != 1 or type(terms[0]).__name__ != "Inequality":
        return None
    smaller, larger = terms[0].args
    contribution = program["contribution"]
    for kind, bounded, bound in (("caps", smaller, larger), ("quotas", larger, smaller)):
        if bounded is contribution and bound.is_constant():
            value = np.asarray(bound.value, dtype=float)
            if value.ndim > 1 or np.any(np.isnan(value) | (value < 0)):
                return None
            return kind, np.broadcast_to(value, contribution.shape)
    return None
