"""Federated learning with several agents, whose private costs of data may be correlated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations import checks
from mechopt.formulations.accuracy_shaping.cost_profiles.program import (
    Branch,
    Form,
    Incentives,
    Participation,
    check_choice,
    declare,
    split_profiles,
)
from mechopt.formulations.functions.accuracies import AccuracyFunction
from mechopt.solvers.backend import DEFAULT_TOLERANCE
from mechopt.solvers.errors import Infeasible, InvalidInput
from mechopt.solvers.program import OnFailure, Program
from mechopt.solvers.solution import Solution, Status
from mechopt.verification.audit import Audit, Deviation, audit_deviations

Array = NDArray[np.float64]

PROFILE_LIMIT = 5000


@dataclass(frozen=True, eq=False)
class CostProfiles:
    r"""Data maximisation with several agents whose private costs may be correlated, profile by profile.

    Every agent draws a cost of data from the same list, and all together from a joint distribution. Each
    knows its own cost, and reports one that it can have. The platform then asks each for an amount of data
    that may depend on all reports, trains a model on all of it, and returns to each a model that may be
    worse, but no better. It wants the most data in expectation.

    Where costs are correlated, an agent's own cost tells it something about the reports of the others, and
    what they report helps to see through its lie.

    Parameters
    ----------
    accuracy : AccuracyFunction
        Accuracy of a model from so many data points, such as ``mo.SqrtAccuracy()``.
    costs : array, shape (n_types,)
        Marginal costs that agents can have, in accuracy per data point, strictly increasing, > 0.
    probs : array, shape (n_types,) * n_agents
        Probability of each profile of costs, >= 0, summing to 1: ``probs[k, j]`` is that of cost k for the
        first agent and cost j for the second. Agents with different lists of costs share one list here, with
        zeros where an agent cannot have a cost.
    seed_data : float
        Data points of the platform's own in the pool, >= 0.

    Raises
    ------
    InvalidInput
        If an argument breaks its rule; the message names it, the index, the value and the rule; also if there
        are more than 5000 profiles.

    Notes
    -----
    *Interim* incentives: an agent expects no gain from a lie, given its own cost and the joint distribution.
    Profiles of probability zero prove a lie; nothing is asked and nothing given there. *Ex-post* incentives:
    no agent gains by a lie whatever the others' costs are, in every combination of costs that the agents can
    have, also in those of probability zero. With participation by profile they collect at most what interim
    incentives do.

    *Participation* by expectation (``"interim"``): who reports is bound to what comes of it. By profile
    (``"ex-post"``): who reports the truth never regrets it. With ``"quitting"``, an agent may besides stay
    out after a lie, when it has seen what it is asked for, so that bad luck deters no liar. Each collects at
    most what the one before does; with ex-post incentives the last two are the same. That nothing is given
    where a lie is proven costs no data with ``"quitting"``. With the others, more data could be had from
    agents that can be made to work for nothing then; here they cannot.

    *Profiles without data.* Where no pool pays for itself even if costs are known, no data are asked for.
    Programs have all other profiles on the branch b >= 0 of the accuracy max(0, b). With participation by
    profile that is no restriction if in each of them some agent is viable alone, or if the seed data alone
    give some accuracy. Otherwise some profile is *doubtful*: its agents collect data only together, incentive
    constraints may make them dearer than they are worth, and the program is a restriction, which may be
    infeasible. ``branch="chosen"`` has a binary variable for each doubtful profile, and is exact.
    Participation by expectation is a restriction in the same way, unless the seed data give some accuracy.

    A thousand profiles take seconds; at the limit of 5000, solvers need minutes.

    References
    ----------
    Karimireddy, Guo and Jordan, "Mechanisms that Incentivize Data Sharing in Federated Learning",
    https://arxiv.org/abs/2207.04557: Definition 4.1, and Appendix B, where others' data are given.
    Compte and Jehiel, "On Quitting Rights in Mechanism Design", American Economic Review 97(2), 2007.

    Examples
    --------
    >>> import mechopt as mo
    >>> from mechopt.formulations.accuracy_shaping.cost_profiles import CostProfiles
    >>> correlated = CostProfiles(mo.SqrtAccuracy(), costs=[0.01, 0.02], probs=[[0.4, 0.1], [0.1, 0.4]])
    >>> round(correlated.solve().objective, 3), round(correlated.solve(incentives="ex-post").objective, 3)
    (66.342, 63.136)
    """

    accuracy: AccuracyFunction
    costs: Array
    probs: Array
    seed_data: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.accuracy, AccuracyFunction):
            raise InvalidInput(
                f"accuracy must be an AccuracyFunction such as mo.SqrtAccuracy(), got {self.accuracy!r}"
            )
        object.__setattr__(self, "costs", checks.types(self.costs, "costs", "cost"))
        object.__setattr__(self, "probs", _joint(self.probs, self.costs.size))
        object.__setattr__(self, "seed_data", checks.nonnegative(self.seed_data, "seed_data"))

    @property
    def n_types(self) -> int:
        """Number of costs that agents can have, K."""
        return int(self.costs.size)

    @property
    def n_agents(self) -> int:
        """Number of agents, n."""
        return self.probs.ndim

    @property
    def n_profiles(self) -> int:
        """Number of profiles, K ** n."""
        return int(self.probs.size)

    @cached_property
    def profiles(self) -> NDArray[np.intp]:
        """Index of each agent's cost by profile, shape (n_profiles, n_agents), in the order of ``probs``."""
        table = np.indices(self.probs.shape).reshape(self.n_agents, -1).T
        table.setflags(write=False)
        return table

    @cached_property
    def own_probs(self) -> Array:
        """Probability of each cost of each agent, shape (n_agents, n_types)."""
        axes = range(self.n_agents)
        table = np.stack([self.probs.sum(axis=tuple(a for a in axes if a != agent)) for agent in axes])
        table.setflags(write=False)
        return table

    @cached_property
    def standalone_utility(self) -> Array:
        """What an agent of each cost has if it stays out, shape (n_types,), in accuracy units; eq. (6)."""
        contribution = self.accuracy.inverse_derivative(self.costs)
        utility = np.maximum(self.accuracy.concave_part(contribution) - self.costs * contribution, 0.0)
        utility.setflags(write=False)
        return utility

    # ------------------------------------------------------------------ answers

    def active_profiles(
        self, incentives: Incentives = "interim", participation: Participation = "ex-post"
    ) -> NDArray[np.bool_]:
        """Tell which profiles the program has variables for: its rows, in this order.

        Returns
        -------
        array of bool, shape (n_profiles,)
            The others prove a lie, or have no pool that pays for itself; see the notes of the class.
        """
        return split_profiles(self, incentives, participation).active

    def program(
        self,
        incentives: Incentives = "interim",
        *,
        participation: Participation = "ex-post",
        form: Form | None = None,
        branch: Branch = "viable",
    ) -> Program:
        r"""Declare the optimization program, to be solved as it is or changed first.

        .. math:: \max \; s + \sum_\theta p(\theta) \sum_i m_i(\theta) \quad \text{s.t.} \quad
           \alpha_i(\theta) \le b \bigl( s + \textstyle\sum_j m_j(\theta) \bigr), \quad
           u_i(\theta) = \alpha_i(\theta) - c_i(\theta) m_i(\theta) \ge u^*(c_i(\theta)), \quad \text{IC}

        Parameters
        ----------
        incentives : {"interim", "ex-post"}
            Whether truth is best in expectation given one's own cost, or whatever the others' costs are.
        participation : {"ex-post", "interim", "quitting"}
            Whether agents can be bound before they see what is asked for; see the notes of the class.
        form : {"full", "local"}, optional
            Incentive constraints between all pairs of costs or between neighbours, which is equivalent for
            ex-post incentives and their default; interim incentives need the full form.
        branch : {"viable", "chosen"}
            Whether doubtful profiles all have a pool, or are chosen by binary variables.

        Returns
        -------
        Program
            With ``contribution``, ``allocated_accuracy``, ``utility`` of shape (n_rows, n_agents), and
            ``accuracy``, ``total_data`` of shape (n_rows,), where the rows are those of `active_profiles`;
            and ``expected_total_data``.

        Raises
        ------
        NotApplicable
            If there is no profile with a pool that pays for itself. `solve` then returns zeros.
        InvalidInput
            If there would be more than 200 000 incentive rows.
        """
        return declare(self, incentives, participation, form, branch)

    def solve(
        self,
        backend: str | None = None,
        *,
        incentives: Incentives = "interim",
        participation: Participation = "ex-post",
        form: Form | None = None,
        branch: Branch = "viable",
        tolerance: float | None = None,
        time_limit: float | None = None,
        verbose: bool = False,
        on_failure: OnFailure = "raise",
        **options: Any,
    ) -> Solution:
        """Design the mechanism on the backend of that name; there is no exact algorithm.

        Parameters
        ----------
        backend : str, optional
            By default the capable one of least rank.
        incentives, participation, form, branch
            See `program`.
        tolerance, time_limit, verbose, on_failure, **options
            See `Program.solve`.

        Returns
        -------
        Solution
            ``contribution``, ``allocated_accuracy``, ``utility`` of shape (n_profiles, n_agents),
            ``accuracy``, ``total_data`` of shape (n_profiles,), in the order of ``profiles``; zeros, and the
            seed data, in profiles without variables. ``objective`` is the expected data, the seed included;
            ``extra["active"]`` the profiles that have a pool, ``extra["doubtful"]`` how many profiles make
            the answer a restriction (0: none, it is exact). Prices are by rows of the program. If no profile
            has a pool that pays for itself, ``extra["not_viable"]`` is true.

        Raises
        ------
        Infeasible
            If incentives cannot be kept with all doubtful profiles on the branch.
        """
        split = split_profiles(self, incentives, participation)
        if not split.active.any():
            check_choice(branch, "branch", Branch)
            return self._nobody(backend, DEFAULT_TOLERANCE if tolerance is None else tolerance)
        program = self.program(incentives, participation=participation, form=form, branch=branch)
        doubtful = int(np.count_nonzero(split.doubtful)) if branch == "viable" else 0
        settings: dict[str, Any] = {"tolerance": tolerance, "time_limit": time_limit, "verbose": verbose}
        try:
            solution = program.solve(backend, on_failure=on_failure, **settings, **options)
        except Infeasible as error:
            if not doubtful:
                raise
            raise Infeasible(
                f"{error}; {doubtful} profiles, in which data may not be worth their cost, are all held to a "
                "pool with some accuracy: let branch='chosen' give some of them up"
                + (", with participation='ex-post'" if participation == "interim" else ""),
                solution=error.solution,
                families=error.families,
            ) from error
        return self._expanded(solution, split.active, split.doubtful, doubtful)

    def _expanded(
        self, solution: Solution, active: NDArray[np.bool_], in_doubt: NDArray[np.bool_], doubtful: int
    ) -> Solution:
        """Give the profiles without variables their zeros."""
        if not solution.values:
            return solution
        values = dict(solution.values)
        fills = {
            "contribution": 0.0,
            "allocated_accuracy": 0.0,
            "utility": 0.0,
            "total_data": self.seed_data,
            "accuracy": float(self.accuracy(self.seed_data)),
        }
        for name, fill in fills.items():
            full = np.full((self.n_profiles, *values[name].shape[1:]), fill)
            full[active] = values[name]
            full.setflags(write=False)
            values[name] = full
        pools = active.copy()
        if "given_up" in values:
            pools[in_doubt] = values["given_up"] < 0.5
        reason = solution.reason
        if doubtful:
            reason += f"; all {doubtful} doubtful profiles are held to the branch b >= 0, a restriction"
        extra = {**solution.extra, "active": pools, "doubtful": doubtful, "not_viable": False}
        return solution.replace(values=values, reason=reason, extra=extra)

    def _nobody(self, backend: str | None, tolerance: float) -> Solution:
        zeros = np.zeros((self.n_profiles, self.n_agents))
        seed = np.full(self.n_profiles, self.seed_data)
        values = {
            "contribution": zeros,
            "allocated_accuracy": zeros.copy(),
            "utility": zeros.copy(),
            "total_data": seed,
            "accuracy": self.accuracy(seed),
            "expected_total_data": np.asarray(self.seed_data),
        }
        for value in values.values():
            value.setflags(write=False)
        return Solution(
            status=Status.OPTIMAL,
            reason="not_viable: in no profile of costs is there a pool that pays for itself",
            backend=backend or "",
            objective=self.seed_data,
            bound=self.seed_data,
            gap=0.0,
            values=values,
            tolerance=tolerance,
            program="cost profiles",
            sense="maximize",
            no_duals="there was no program to solve",
            extra={"active": np.zeros(self.n_profiles, dtype=bool), "doubtful": 0, "not_viable": True},
        )

    # ------------------------------------------------------------------ the definition

    def audit(
        self,
        design: Mapping[str, ArrayLike] | Solution,
        incentives: Incentives = "interim",
        *,
        participation: Participation = "ex-post",
    ) -> Audit:
        """Check a design by the definition: who would rather report another cost, or stay out.

        A contract is worth what can be delivered: its accuracy, but not more than that of all data that the
        reports bring in.

        Parameters
        ----------
        design : mapping with ``contribution`` and ``allocated_accuracy``
            Each of shape (n_profiles, n_agents), or with the rows of `active_profiles` alone, and nothing in
            the other profiles.
        incentives, participation
            By which definition; see `program`.

        Returns
        -------
        Audit
            Over all agents, costs and reports of a cost that the agent can have; ``agent`` of a deviation is
            the agent, ``choice`` the index of the cost that it reports.
        """
        check_choice(incentives, "incentives", Incentives)
        check_choice(participation, "participation", Participation)
        rows = self.active_profiles(incentives, participation)
        contribution = self._read(design, "contribution", rows)
        promised = self._read(design, "allocated_accuracy", rows)
        pool = self.seed_data + contribution.sum(axis=1)
        delivered = np.minimum(promised, self.accuracy(pool)[:, None])
        deviations: list[Deviation] = []
        for agent in range(self.n_agents):
            deviations += self._deviations(
                agent, contribution[:, agent], delivered[:, agent], incentives, participation
            )
        return audit_deviations(
            deviations, scale=self.accuracy.max_accuracy, method=f"all reports, {incentives}"
        )

    def _deviations(
        self, agent: int, contribution: Array, delivered: Array, incentives: str, participation: str
    ) -> list[Deviation]:
        """Best lie and worst participation of one agent; arrays of shape (n_profiles,)."""

        def by_report(values: Array) -> Array:
            return np.moveaxis(values.reshape(self.probs.shape), agent, 0).reshape(self.n_types, -1)

        asked, given, probs = by_report(contribution), by_report(delivered), by_report(self.probs.ravel())
        outside = self.standalone_utility
        possible = self.own_probs > 0
        others = np.array(True)
        for other in (j for j in range(self.n_agents) if j != agent):
            others = np.logical_and.outer(others, possible[other])
        found = []
        for own in np.flatnonzero(possible[agent]):
            utility = given - self.costs[own] * asked  # by report and by what the others report
            stays = np.maximum(utility, outside[own]) if participation == "quitting" else utility
            belief = probs[own] / probs[own].sum()
            happens = others.ravel() if incentives == "ex-post" else belief > 0
            gain = stays - utility[own]
            best = gain @ belief if incentives == "interim" else gain[:, happens].max(axis=1)
            lies = possible[agent] & (np.arange(self.n_types) != own)
            if lies.any():
                choice = int(np.argmax(np.where(lies, best, -np.inf)))
                found.append(Deviation(agent, choice, float(best[choice])))
            shortfall = outside[own] - utility[own]
            short = belief @ shortfall if participation == "interim" else shortfall[happens].max()
            found.append(Deviation(agent, None, float(short)))
        return found

    def _read(self, design: Any, name: str, rows: NDArray[np.bool_]) -> Array:
        try:
            given = np.array(design[name], dtype=float)
        except (KeyError, IndexError, TypeError):
            raise InvalidInput(
                f"a design needs {name!r}, one row a profile; got {type(design).__name__}"
            ) from None
        n_rows = int(np.count_nonzero(rows))
        if given.shape == (self.n_profiles, self.n_agents):
            full = given
        elif given.shape == (n_rows, self.n_agents):
            full = np.zeros((self.n_profiles, self.n_agents))
            full[rows] = given
        else:
            raise InvalidInput(
                f"{name} has shape {given.shape}; give one row for each of the {self.n_profiles} profiles, "
                f"or of the {n_rows} active ones, and one column for each of {self.n_agents} agents"
            )
        if not np.all(np.isfinite(full)):
            where = [int(i) for i in np.argwhere(~np.isfinite(full))[0]]
            raise InvalidInput(f"{name}{where} is {full[tuple(where)]}; every entry must be a finite number")
        return full


def _joint(value: ArrayLike, n_types: int) -> Array:
    """Return the joint distribution of costs, read-only."""
    try:
        array = np.array(value, dtype=float)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"probs must be an array of numbers, one axis an agent: {error}") from None
    if array.ndim == 0:
        raise InvalidInput(f"probs is one number, {array:g}; give an array with one axis an agent")
    if array.size > PROFILE_LIMIT or array.ndim > 32:
        raise InvalidInput(
            f"probs has {array.size} profiles of costs, more than the {PROFILE_LIMIT} that are allowed: "
            "profiles multiply with agents; take fewer costs or agents, or mo.CostScreening(...).mean_field"
        )
    wrong = [axis for axis, length in enumerate(array.shape) if length != n_types]
    if wrong:
        raise InvalidInput(
            f"probs has shape {array.shape}: axis {wrong[0]} has {array.shape[wrong[0]]} entries for "
            f"{n_types} costs; give one axis an agent, one entry a cost along each"
        )
    for bad, rule in ((~np.isfinite(array), "must be a finite number"), (array < 0, "is negative")):
        if np.any(bad):
            where = [int(i) for i in np.argwhere(bad)[0]]
            raise InvalidInput(f"probs{where} = {array[tuple(where)]:g} {rule}")
    total = float(array.sum())
    if abs(total - 1.0) > 1e-9:
        raise InvalidInput(f"probs must sum to 1, but they sum to {total:.12g}; divide them by their sum")
    array.setflags(write=False)
    return array
