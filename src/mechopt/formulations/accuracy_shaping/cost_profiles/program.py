r"""The declared programs of cost profiles.

A profile says what every agent reports its cost to be. For each profile :math:`\theta` a program has what
each agent i is asked for, :math:`m_i(\theta)`, and given, :math:`\alpha_i(\theta)`:

.. math:: \max \; s + \sum_\theta p(\theta) \sum_i m_i(\theta) \quad \text{s.t.} \quad
   \alpha_i(\theta) \le t(\theta) \le b \bigl( s + \textstyle\sum_i m_i(\theta) \bigr),
   \quad \text{participation}, \quad \text{IC}

with families ``feasibility`` and ``accuracy_hypograph``, ``participation``, ``ic``. A row of ``ic`` is about
one agent, its cost and the cost that it reports instead: for each profile of the others (ex-post incentives),
or summed over them with the probabilities that the agent's own cost implies (interim incentives).

Which profiles have variables:

* Interim incentives: those of positive probability. Any other shows that somebody lied; nothing is asked and
  nothing given there, which is the worst for an agent that cannot be made to work for nothing.
* Ex-post incentives hold whatever agents believe, so that no profile is proof of a lie: all combinations of
  costs that the agents can have.
* Of these, *active* ones. The true accuracy max(0, b) is not concave, and the program is on its branch
  b >= 0. Profiles whose known-cost program has no point there are left out: nobody is asked for anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import cvxpy as cp
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from mechopt.formulations.accuracy_shaping.program import refuse_less_accuracy
from mechopt.solvers.errors import InvalidInput, NotApplicable
from mechopt.solvers.program import Program

if TYPE_CHECKING:
    from mechopt.formulations.accuracy_shaping.cost_profiles.model import CostProfiles

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]

Incentives = Literal["interim", "ex-post"]
Participation = Literal["interim", "ex-post", "quitting"]
Form = Literal["full", "local"]
Branch = Literal["viable", "chosen"]

ROW_LIMIT = 200_000
"""Incentive rows above which no program is built."""

_TIE = 1e-12  # of the size of the pool's equation: rounding at the verge of viability


@dataclass(frozen=True, eq=False)
class Split:
    """Which profiles have variables.

    Attributes
    ----------
    reportable : array of bool, shape (n_profiles,)
        Profiles that prove no lie.
    active : array of bool, shape (n_profiles,)
        Those of them that have a point on the branch b >= 0 if costs are known.
    doubtful : array of bool, shape (n_profiles,)
        Active ones that could also be given up, because nobody there has data worth collecting alone.
    """

    reportable: Mask
    active: Mask
    doubtful: Mask


def check_choice(value: Any, name: str, choices: Any) -> None:
    """Refuse an unknown option."""
    options = get_args(choices)
    if value not in options:
        raise InvalidInput(f"{name} must be one of {', '.join(map(repr, options))}, got {value!r}")


def split_profiles(design: CostProfiles, incentives: str, participation: str) -> Split:
    """Tell which profiles a program is about."""
    check_choice(incentives, "incentives", Incentives)
    check_choice(participation, "participation", Participation)
    own = design.profiles
    if incentives == "interim":
        reportable = design.probs.ravel() > 0
    else:
        reportable = np.all(design.own_probs[np.arange(design.n_agents), own] > 0, axis=1)
    # With the outside options binding, the pool's equation is C b(M) - U - M = 0: a concave function, whose
    # highest value, where b'(M) = 1 / C, tells whether there is a root.
    rates = np.sum(1 / design.costs[own], axis=1)
    offset = np.sum(design.standalone_utility[own] / design.costs[own], axis=1) - design.seed_data
    best = np.maximum(design.accuracy.inverse_derivative(1 / rates), design.seed_data)
    spare = rates * design.accuracy.concave_part(best) - offset - best
    worker = np.any(design.standalone_utility[own] > 0, axis=1)  # a double root, if it is the only agent
    seeded = design.seed_data >= design.accuracy.min_viable_data
    active = reportable & (worker | seeded | (spare >= -_TIE * best))
    sure = seeded | (worker if participation != "interim" else np.zeros_like(worker))
    return Split(reportable, active, active & ~sure)


def declare(
    design: CostProfiles, incentives: str, participation: str, form: str | None, branch: str
) -> Program:
    """Declare the program; see `CostProfiles.program`."""
    split = split_profiles(design, incentives, participation)
    check_choice(branch, "branch", Branch)
    form = _checked_form(form, incentives)
    if branch == "chosen" and participation == "interim":
        raise InvalidInput(
            "branch='chosen' needs participation='ex-post' or 'quitting': in expectation no profile has a "
            "bound on what an agent may be asked for in it"
        )
    rows = np.flatnonzero(split.active)
    if rows.size == 0:
        raise NotApplicable(
            "there is no program: in no profile of costs is there a pool that pays for itself"
        )
    costs = design.costs[design.profiles[rows]]
    top, probs = design.accuracy.max_accuracy, design.probs.ravel()[rows]
    # No agent takes on more than a / c: its costs would exceed all that it can get.
    size = top / costs
    pool = design.seed_data + float(probs @ size.sum(axis=1))
    program = Program(f"cost profiles ({incentives}, {form})", objective_scale=pool or float(size.max()))
    contribution = program.variable("contribution", costs.shape, nonneg=True, scale=size)
    allocated = program.variable("allocated_accuracy", costs.shape, nonneg=True, scale=top)
    utility = program.define("utility", allocated - cp.multiply(costs, contribution))
    given = cp.sum(contribution, axis=1)
    total = program.define("total_data", design.seed_data + given)
    program.define("expected_total_data", design.seed_data + probs @ given)
    doubtful = np.flatnonzero(split.doubtful[rows])
    if branch == "chosen" and doubtful.size:
        total = total + _declare_choice(design, program, doubtful, size)
    accuracy = _declare_accuracy(design, program, total)
    program.maximize(program["expected_total_data"])
    program.add("feasibility", allocated <= _repeat(accuracy, design.n_agents))
    if participation == "interim":
        _declare_interim_participation(design, program, rows)
    else:
        program.add("participation", utility >= design.standalone_utility[design.profiles[rows]])
    _declare_incentives(design, program, split, incentives, participation == "quitting", form)
    return program.seal(guard=refuse_less_accuracy)


def _checked_form(form: str | None, incentives: str) -> str:
    if form is None:
        return "full" if incentives == "interim" else "local"
    check_choice(form, "form", Form)
    if form == "local" and incentives == "interim":
        raise InvalidInput(
            "form='local' is for incentives='ex-post': with interim incentives an agent's beliefs change "
            "with its cost, and neighbours do not stand for all; use form='full'"
        )
    return form


def _declare_accuracy(design: CostProfiles, program: Program, total: cp.Expression) -> cp.Expression:
    """Name the accuracies of the pools, variables below b, one a profile."""
    function = design.accuracy
    if not function.has_expression:
        return function.declare(program, "accuracy", total, scale=function.max_accuracy)
    accuracy = program.variable("accuracy", total.shape, scale=function.max_accuracy)
    program.add("accuracy_hypograph", accuracy <= function.expression(total))
    return accuracy


def _declare_choice(design: CostProfiles, program: Program, doubtful: Index, size: Array) -> cp.Expression:
    """Let profiles be given up, and return the data that stand in for theirs.

    With as many data as give accuracy 0 in their place, a profile that is given up is on the branch.
    """
    n_agents, n_rows = design.n_agents, len(size)
    given_up = program.variable("given_up", doubtful.size, boolean=True)
    kept = _repeat(1 - given_up, n_agents)
    program.add(
        "given_up",
        program["contribution"][doubtful, :] <= cp.multiply(size[doubtful], kept),
        program["allocated_accuracy"][doubtful, :] <= design.accuracy.max_accuracy * kept,
    )
    places = sp.csr_array(
        (np.ones(doubtful.size), (doubtful, np.arange(doubtful.size))), shape=(n_rows, doubtful.size)
    )
    return design.accuracy.min_viable_data * (places @ given_up)


def _declare_interim_participation(design: CostProfiles, program: Program, rows: Index) -> None:
    """What an agent of each cost expects, against its outside option."""
    n_agents, n_types = design.n_agents, design.n_types
    own = design.profiles[rows]
    agent = np.broadcast_to(np.arange(n_agents), own.shape)
    belief = design.probs.ravel()[rows][:, None] / np.where(
        design.own_probs[agent, own] > 0, design.own_probs[agent, own], 1.0
    )
    expect = sp.csr_array(
        (belief.ravel(), ((agent * n_types + own).ravel(), np.arange(own.size))),
        shape=(n_agents * n_types, own.size),
    )
    present = np.flatnonzero(design.own_probs.ravel() > 0)
    outside = np.tile(design.standalone_utility, n_agents)[present]
    program.add("participation", expect[present] @ _flat(program["utility"]) >= outside)


def _declare_incentives(
    design: CostProfiles, program: Program, split: Split, incentives: str, quitting: bool, form: str
) -> None:
    """Family ``ic``: no agent gains by reporting another cost than its own."""
    agent, truth, lie = _lies(design, split.reportable, form)
    interim = incentives == "interim"
    if not interim:
        # Who does best with the truth in every profile, and no worse than out, need not quit after a lie.
        # Rows from or to nothing follow from participation by profile, and not from that in expectation.
        quitting = False
        some = split.active[truth] | split.active[lie]
        agent, truth, lie = agent[some], truth[some], lie[some]
    if agent.size == 0:
        return
    if agent.size > ROW_LIMIT and (quitting or not interim):
        raise InvalidInput(
            f"{agent.size} incentive rows are more than the {ROW_LIMIT} that are allowed; take fewer types, "
            "or form='local' with incentives='ex-post'"
        )
    n_agents = design.n_agents
    row = np.full(design.n_profiles, -1)
    row[split.active] = np.arange(np.count_nonzero(split.active))
    size = int(np.count_nonzero(split.active)) * n_agents
    own_type, reported = design.profiles[truth, agent], design.profiles[lie, agent]

    def at(profile: Index, weights: Any = 1.0) -> sp.csr_array:
        """Matrix that picks the agents' entries in these profiles, where they have any, times weights."""
        values = np.where(row[profile] >= 0, weights, 0.0)
        entries = np.maximum(row[profile], 0) * n_agents + agent
        picked = sp.csr_array((values, (np.arange(agent.size), entries)), shape=(agent.size, size))
        picked.eliminate_zeros()
        return picked

    honest = at(truth) @ _flat(program["utility"])
    tempting = at(lie) @ _flat(program["allocated_accuracy"]) - (
        at(lie, design.costs[own_type]) @ _flat(program["contribution"])
    )
    if quitting:
        tempting = cp.maximum(tempting, design.standalone_utility[own_type])
    if interim:
        _, question = np.unique(
            (agent * design.n_types + own_type) * design.n_types + reported, return_inverse=True
        )
        belief = design.probs.ravel()[truth] / design.own_probs[agent, own_type]
        expect = sp.csr_array((belief, (question, np.arange(agent.size))))
        honest, tempting = expect @ honest, expect @ tempting
    program.add("ic", tempting <= honest)


def _lies(design: CostProfiles, reportable: Mask, form: str) -> tuple[Index, Index, Index]:
    """Who can lie, in which profile, and to which profile the lie leads; three arrays of equal length."""
    start = np.flatnonzero(reportable)
    found = []
    for agent in range(design.n_agents):
        possible = np.flatnonzero(design.own_probs[agent] > 0)
        own = design.profiles[start, agent]
        distance = np.arange(possible.size) - np.searchsorted(possible, own)[:, None]
        lies = np.abs(distance) == 1 if form == "local" else distance != 0
        position, report = np.nonzero(lies)
        step = design.n_types ** (design.n_agents - 1 - agent)  # profiles count up in the last agent first
        target = start[position] + (possible[report] - own[position]) * step
        found.append((np.full(position.size, agent), start[position], target))
    agents, truths, targets = (np.concatenate(part) for part in zip(*found, strict=True))
    return agents, truths, targets


def _flat(matrix: cp.Expression) -> cp.Expression:
    return cp.vec(matrix, order="C")


def _repeat(column: cp.Expression, n_columns: int) -> cp.Expression:
    return cp.reshape(column, (column.size, 1), order="C") @ np.ones((1, n_columns))
