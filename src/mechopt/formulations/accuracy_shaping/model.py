"""Accuracy shaping: models as the only payment for data, at costs that everybody knows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations import checks
from mechopt.formulations.accuracy_shaping import batch, exact
from mechopt.formulations.accuracy_shaping import closed_form as oracle
from mechopt.formulations.accuracy_shaping.mechanism import (
    Equilibrium,
    ShapedMechanism,
    StandardMechanism,
    marginal_costs,
)
from mechopt.formulations.accuracy_shaping.program import declare, declare_potential, prices_of
from mechopt.formulations.functions import AccuracyFunction
from mechopt.solvers import certify
from mechopt.solvers.backend import get_backend
from mechopt.solvers.errors import Infeasible, InvalidInput
from mechopt.solvers.exact import asked_exactly
from mechopt.solvers.program import OnFailure, Program
from mechopt.solvers.solution import Solution, Status
from mechopt.verification.audit import Audit, Deviation, audit_deviations

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Standalone:
    """What agents do on their own.

    Attributes
    ----------
    contribution : array, shape (n_agents,)
        Data m* that each collects (data points), 0 where the problem is not viable for it.
    utility : array, shape (n_agents,)
        Utility u* that it has (accuracy units): its outside option.
    viable : array of bool, shape (n_agents,)
        Whether it collects any.
    """

    contribution: Array
    utility: Array
    viable: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class StandardFederated:
    """Equilibrium of the standard mechanism, which gives everybody the model of all data.

    Attributes
    ----------
    contribution : array, shape (n_agents,)
        Data points: those of one cheapest agent alone.
    total_data : float
        Data in the pool, the seed included.
    utility : array, shape (n_agents,)
        Accuracy units.
    regret : float
        The most that any agent could gain by another contribution.
    unique : bool
        Whether this is the only equilibrium.
    cheapest : array of int
        The agents of least cost.
    shared : array, shape (n_agents,), or None
        With several cheapest agents, the equilibrium in which they share the work equally, if it is one. It
        may be one, with data, although nobody is viable alone.
    reason : str
        What is special about this case, for people.
    """

    contribution: Array
    total_data: float
    utility: Array
    regret: float
    unique: bool
    cheapest: NDArray[np.intp]
    shared: Array | None
    reason: str


@dataclass(frozen=True, eq=False)
class AccuracyShaping:
    r"""Data maximisation in federated learning, at known costs, with models as the only payment.

    Agents collect data at a cost, a platform trains a model on all data, and gives each agent a model whose
    accuracy depends on what the agent contributed. It wants the most data that agents contribute in
    equilibrium, when no agent gets a better model than there is (feasibility), and none a worse one than it
    could train on its own data (individual rationality).

    Parameters
    ----------
    accuracy : AccuracyFunction
        Accuracy a of a model trained on m data points, such as ``mo.SqrtAccuracy(0.95, difficulty=10)``.
    marginal_costs : array, shape (n_agents,)
        What a data point costs each agent, in units of accuracy, > 0.
    seed_data : float
        Data points of the platform's own in the pool, >= 0.

    Raises
    ------
    InvalidInput
        If an argument breaks its rule; the message names it, the index, the value and the rule.

    References
    ----------
    Karimireddy, Guo and Jordan, "Mechanisms that Incentivize Data Sharing in Federated Learning",
    https://arxiv.org/abs/2207.04557, sections 2-4.

    Examples
    --------
    >>> import mechopt as mo
    >>> from mechopt.formulations.functions import SqrtAccuracy
    >>> shaping = AccuracyShaping(SqrtAccuracy(max_accuracy=1.0, difficulty=1.0), [0.01, 0.02, 0.05])
    >>> shaping.standalone().contribution.round(3).tolist()
    [21.544, 13.572, 0.0]
    >>> round(shaping.standard_federated().total_data, 3)
    21.544
    >>> solution = shaping.solve()
    >>> round(solution.objective, 4), solution["contribution"].round(3).tolist()
    (89.3876, [43.479, 30.139, 15.769])
    """

    accuracy: AccuracyFunction
    marginal_costs: Array
    seed_data: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.accuracy, AccuracyFunction):
            raise InvalidInput(
                "accuracy must be an AccuracyFunction such as mo.SqrtAccuracy(max_accuracy=0.95, "
                f"difficulty=10), got {self.accuracy!r}"
            )
        object.__setattr__(self, "marginal_costs", marginal_costs(self.marginal_costs))
        object.__setattr__(self, "seed_data", checks.nonnegative(self.seed_data, "seed_data"))

    @property
    def n_agents(self) -> int:
        """Number of agents, n."""
        return int(self.marginal_costs.size)

    # ------------------------------------------------------------------ what agents do

    def standalone(self, tie: exact.Tie = "zero") -> Standalone:
        r"""Compute what agents do on their own: :math:`b'(m^*) = c` if the problem is viable for them.

        Parameters
        ----------
        tie : {"zero", "viable"}
            What an agent does whose cost is exactly the viability cost, where both are optimal.

        Returns
        -------
        Standalone

        References
        ----------
        Karimireddy et al., Theorem 2.3, eq. (6); the tie is 0 there, and viable in Example 2.4.
        """
        return self._alone if tie == "zero" else self._stand_alone(tie)

    @cached_property
    def _alone(self) -> Standalone:
        return self._stand_alone("zero")

    def _stand_alone(self, tie: exact.Tie) -> Standalone:
        contribution, utility = exact.stand_alone(self.marginal_costs, self.accuracy, tie)
        viable = contribution > 0
        for array in (contribution, utility, viable):
            array.setflags(write=False)
        return Standalone(contribution, utility, viable)

    def standard_federated(self, backend: str | None = None, **options: Any) -> StandardFederated:
        r"""Compute the equilibrium when everybody gets the model of all data: catastrophic free-riding.

        The game has the exact potential :math:`a(M) - \sum_i c_i m_i`; its maximum is an equilibrium, in
        which only a cheapest agent contributes, what it would collect on its own.

        Parameters
        ----------
        backend : str, optional
            Solve the potential's program on this backend; by default, take the maximum that
            :math:`b'(M) = c_{min}` gives.
        **options
            See `Program.solve`.

        Returns
        -------
        StandardFederated
            With its regret, and what else is an equilibrium where several agents are cheapest.

        References
        ----------
        Karimireddy et al., eq. (10), Theorem 3.4 and Remark 3.5, which are right only for one cheapest agent.
        """
        costs, seed = self.marginal_costs, self.seed_data
        least = float(costs.min())
        cheapest = np.flatnonzero(costs <= least * (1 + exact.TIE))
        if backend is None:
            wanted = float(self.accuracy.inverse_derivative(least))
            contribution = np.zeros(self.n_agents)
            contribution[cheapest[0]] = max(wanted - seed, 0.0)
        else:
            solution = self.potential_program().solve(backend, **options)
            contribution = np.array(solution["contribution"])
        mechanism = StandardMechanism(self)
        # The program is about the branch b >= 0; nobody contributing is the alternative.
        worth = float(self.accuracy.concave_part(seed + contribution.sum()) - costs @ contribution)
        if worth <= float(self.accuracy(seed)):
            contribution = np.zeros(self.n_agents)
        shared = self._shared_work(cheapest)
        total = seed + float(contribution.sum())
        unique, reason = True, ""
        if shared is not None and cheapest.size > 1:
            unique = False
            reason = f"{cheapest.size} agents are cheapest: any split of the work that leaves each a utility "
            reason += ">= 0 is an equilibrium"
            if not contribution.any():
                reason += ", although none is viable alone"
        elif not contribution.any():
            reason = "nobody contributes: the cheapest agent is not viable alone, or has data enough"
        return StandardFederated(
            contribution=contribution,
            total_data=total,
            utility=mechanism.utility(contribution),
            regret=mechanism.regret(contribution),
            unique=unique,
            cheapest=cheapest,
            shared=shared if cheapest.size > 1 else None,
            reason=reason,
        )

    def _shared_work(self, cheapest: NDArray[np.intp]) -> Array | None:
        """Equal split of the optimal pool among the cheapest agents, if no agent would rather do nothing."""
        least = float(self.marginal_costs.min())
        wanted = float(self.accuracy.inverse_derivative(least))
        each = (wanted - self.seed_data) / cheapest.size
        if each <= 0:
            return None
        # An agent that stops alone leaves the others' data, with their accuracy if it is not negative.
        gain = float(self.accuracy.concave_part(wanted) - self.accuracy(wanted - each)) - least * each
        if gain < -exact.TIE:
            return None
        split = np.zeros(self.n_agents)
        split[cheapest] = each
        return split

    # ------------------------------------------------------------------ the most data

    def program(
        self,
        *,
        subsidy_budget: float | None = None,
        balanced_transfers: bool = False,
        quadratic_costs: ArrayLike | None = None,
        privacy_costs: ArrayLike | None = None,
    ) -> Program:
        r"""Declare data maximisation as a convex program, to be solved as it is or changed first.

        .. math:: \max \; s + \sum_i m_i \quad \text{s.t.} \quad \alpha_i - c_i m_i \ge u_i^*, \quad
           \alpha_i \le t, \quad t \le b(M), \quad m \ge 0.

        Parameters
        ----------
        subsidy_budget : float, optional
            What the platform may pay to agents in all (accuracy units), >= 0.
        balanced_transfers : bool
            Whether agents may pay each other, and throw money away.
        quadratic_costs : float or array, shape (n_agents,), optional
            Coefficients d >= 0 of convex costs :math:`c_i m + d_i m^2`, also of
            data that an agent keeps to itself.
        privacy_costs : float or array, shape (n_agents,), optional
            What sharing a data point costs an agent besides (accuracy units), >= 0. Data that an agent keeps
            to itself do not cost it privacy; if they do, add the costs to ``marginal_costs`` instead.

        Returns
        -------
        Program
            With variables ``contribution``, ``allocated_accuracy``, ``accuracy`` (of the pool), expressions
            ``total_data``, ``cost``, ``utility``, and families ``participation``, ``feasibility``,
            ``accuracy_hypograph``; ``transfer`` with ``subsidy_budget`` or ``balance`` where there is one.

        Notes
        -----
        If no pool pays for itself the program is infeasible: it is about the branch b >= 0 of the accuracy.
        `solve` then returns the zero equilibrium, which is the optimum.

        References
        ----------
        Karimireddy et al., Definition 4.1 and eq. (12).

        Examples
        --------
        >>> import cvxpy as cp
        >>> from mechopt.formulations.functions import SqrtAccuracy
        >>> program = AccuracyShaping(SqrtAccuracy(1.0, difficulty=1.0), [0.01, 0.02, 0.05]).program()
        >>> program = program.add("budget", cp.sum(program["cost"]) <= 0.8)
        >>> solution = program.solve("clarabel")
        >>> round(solution.objective, 3), round(float(solution.dual("budget")), 1)
        (59.334, 56.1)
        """
        return declare(
            self,
            subsidy_budget=subsidy_budget,
            balanced_transfers=balanced_transfers,
            quadratic_costs=quadratic_costs,
            privacy_costs=privacy_costs,
        )

    def potential_program(self) -> Program:
        """Declare the potential of the standard mechanism, ``max b(M) - sum c_i m_i``.

        Its first-order conditions are the equilibrium conditions ``0 <= m_i perp c_i - b'(M) >= 0``.

        Returns
        -------
        Program
            With variables ``contribution`` and ``accuracy``, ``total_data``, and family
            ``accuracy_hypograph``.
        """
        return declare_potential(self)

    def solve(
        self,
        backend: str | None = None,
        *,
        tolerance: float | None = None,
        time_limit: float | None = None,
        verbose: bool = False,
        on_failure: OnFailure = "raise",
        **options: Any,
    ) -> Solution:
        """Maximise the data collected: by the exact algorithm, or on the backend of that name.

        Parameters
        ----------
        backend : str, optional
            Default ``"exact"``, which needs no program at all.
        tolerance, time_limit, verbose, on_failure, **options
            See `Program.solve`.

        Returns
        -------
        Solution
            ``contribution``, ``allocated_accuracy``, ``utility``, ``cost`` of shape (n_agents,),
            ``total_data``, ``accuracy``; ``objective`` is the total data, the seed included. If no pool pays
            for itself, it is the zero equilibrium: then ``extra["not_viable"]`` is true, and ``reason`` says
            why.

        Raises
        ------
        SolverFailure
            If a solver cannot tell: at relative distances below 1e-6 from the verge of viability.
        """
        asked = asked_exactly(
            backend,
            tolerance=tolerance,
            time_limit=time_limit,
            verbose=verbose,
            on_failure=on_failure,
            options=options,
        )
        if asked is not None:
            return self._solve_exactly(asked)
        program = self.program()
        settings: dict[str, Any] = {"tolerance": tolerance, "time_limit": time_limit, "verbose": verbose}
        try:
            solution = program.solve(backend, on_failure=on_failure, **settings, **options)
        except Infeasible as error:
            if error.solution is None:
                raise
            solution = error.solution
        if solution.status is not Status.INFEASIBLE:
            return solution
        told = batch.nothing(self, f"{solution.backend} finds no pool that pays for itself")
        return solution.replace(**told | {"extra": solution.extra | told["extra"]})

    def _solve_exactly(self, tolerance: float) -> Solution:
        started = time.perf_counter()
        found = exact.data_maximum(self.marginal_costs, self.accuracy, self.seed_data)
        solved = time.perf_counter()
        told = self._checked(found, tolerance) if found.viable else batch.nothing(self, found.reason)
        spent = {"build": 0.0, "compile": 0.0, "solve": solved - started}
        return Solution(
            backend="exact",
            version=get_backend("exact").version(),
            tolerance=tolerance,
            program="accuracy shaping",
            sense="maximize",
            seconds={**spent, "check": time.perf_counter() - solved},
            **told,
        )

    def _checked(self, found: exact.Optimum, tolerance: float) -> dict[str, Any]:
        """What a solution says of an optimum, with residuals of its own."""
        cost = self.marginal_costs * found.contribution
        values = {
            "contribution": found.contribution,
            "allocated_accuracy": found.allocated_accuracy,
            "accuracy": np.asarray(found.accuracy),
            "total_data": np.asarray(self.seed_data + found.contribution.sum()),
            "cost": cost,
            "utility": found.allocated_accuracy - cost,
        }
        level = float(self.accuracy.concave_part(float(values["total_data"])))
        top = self.accuracy.max_accuracy
        violations = {
            "participation": float(np.max(self.standalone().utility - values["utility"])),
            "feasibility": float(np.max(found.allocated_accuracy) - found.accuracy),
            "accuracy_hypograph": found.accuracy - level,
            certify.DOMAIN: -float(np.min(found.contribution)),
        }
        violations = {name: max(0.0, value) for name, value in violations.items()}
        size = {certify.DOMAIN: max(float(np.max(found.contribution)), 1.0)}
        residuals = {name: value / size.get(name, top) for name, value in violations.items()}
        duals = {name: (np.asarray(price),) for name, price in prices_of(found, {}).items()}
        for array in (*values.values(), *(price for prices in duals.values() for price in prices)):
            array.setflags(write=False)
        objective = float(values["total_data"])
        return batch.optimal(objective, values, duals, residuals, violations, tolerance)

    def closed_form(self) -> oracle.ClosedForm:
        """Evaluate the closed form, for the accuracy (3).

        Returns
        -------
        ClosedForm
            ``contribution``, ``total_data``, ``allocated_accuracy``.

        Raises
        ------
        NotApplicable
            For another accuracy.
        """
        return oracle.closed_form(self.marginal_costs, self.accuracy, self.seed_data)

    def audit(self, answer: Any) -> Audit:
        """Check an answer by the definition: who would rather work alone.

        The step menu that gives each agent its allocated accuracy for its contribution, and the model of its
        own data for less, leaves no other deviation. What is allocated beyond the accuracy of the pool cannot
        be given, and does not count.

        Parameters
        ----------
        answer : mapping with ``contribution`` and ``allocated_accuracy``, each of shape (n_agents,)
            A solution, a closed form, or a dict; without transfers and further costs.

        Returns
        -------
        Audit
            Relative to ``max_accuracy``.
        """
        arrays = []
        for name in ("contribution", "allocated_accuracy"):
            try:
                array = np.asarray(answer[name], dtype=float)
            except (KeyError, IndexError, TypeError):
                raise InvalidInput(f"an answer needs {name!r}, one entry an agent; got {answer!r}") from None
            if array.shape != (self.n_agents,):
                raise InvalidInput(
                    f"{name} has shape {array.shape}; give one entry for each of {self.n_agents} agents"
                )
            arrays.append(array)
        contribution, allocated = arrays
        given = np.minimum(allocated, self.accuracy(self.seed_data + contribution.sum()))
        shortfall = self.standalone().utility - (given - self.marginal_costs * contribution)
        worst = int(np.argmax(shortfall))
        deviation = Deviation(worst, None, float(shortfall[worst]))
        return audit_deviations([deviation], scale=self.accuracy.max_accuracy, method="step menu")

    # ------------------------------------------------------------------ the mechanism

    def mechanism(self, incentive_margin: float = 1e-6) -> ShapedMechanism:
        """Return the data-maximising mechanism (13), as a game.

        Parameters
        ----------
        incentive_margin : float
            What a data point brings an agent beyond its cost (accuracy units), >= 0. The data collected are
            the most in the limit 0.

        Returns
        -------
        ShapedMechanism
        """
        return ShapedMechanism(self, incentive_margin)

    def standard_mechanism(self) -> StandardMechanism:
        """Return the standard mechanism (10), as a game."""
        return StandardMechanism(self)

    def equilibria(self, incentive_margin: float = 0.0) -> list[Equilibrium]:
        r"""Compute all equilibria of the mechanism (13), by the roots of the pool's equation.

        Parameters
        ----------
        incentive_margin : float
            As for `mechanism`; with 0, the limits of the equilibria as it vanishes.

        Returns
        -------
        list of Equilibrium
            By rising data. If somebody is viable alone there is one, the upper root. Otherwise nobody
            contributing is one, unless there is enough seed data; and there may be two more, of which the
            lower root is one only if :math:`b'(M) \le \min_i c_i`, and is not stable.

        References
        ----------
        Karimireddy et al., Theorem 4.2, which claims uniqueness, and Remark 4.4.

        Examples
        --------
        >>> from mechopt.formulations.functions import SqrtAccuracy
        >>> hard = AccuracyShaping(SqrtAccuracy(1.0, difficulty=1.0), [0.1, 0.1, 0.1])
        >>> [(found.kind, round(found.total_data, 5)) for found in hard.equilibria()]
        [('zero', 0.0), ('lower', 6.54234), ('upper', 13.916)]
        """
        mechanism = self.mechanism(incentive_margin)
        slope = self.marginal_costs + mechanism.incentive_margin
        alone = exact.lines(self.marginal_costs, self.accuracy, self.seed_data, mechanism.incentive_margin)
        pools: list[tuple[str, float]] = []
        lower, upper = exact.lower_root(self.accuracy, alone), exact.upper_root(self.accuracy, alone)
        if lower is not None and lower < (upper or 0.0):
            steepness = float(self.accuracy.concave_part_derivative(lower))
            if steepness <= float(self.marginal_costs.min()):
                pools.append(("lower", lower))
        if upper is not None:
            pools.append(("upper", upper))
        found = []
        zero = np.zeros(self.n_agents)
        if not alone.anyone_viable and not mechanism.best_response(zero).any():
            found.append(self._equilibrium(mechanism, zero, "zero"))
        for kind, total in pools:
            start = self.accuracy(alone.contribution)
            level = float(self.accuracy.concave_part(total))
            contribution = alone.contribution + np.maximum(level - start, 0.0) / slope
            found.append(self._equilibrium(mechanism, contribution, kind))
        return found

    def plot(self, kind: str = "contributions") -> Figure:
        """Draw what the mechanism makes of the agents.

        Parameters
        ----------
        kind : {"contributions", "rewards"}
            What each agent contributes alone, in standard federated learning, and shaped; or the accuracy
            that the cheapest and the dearest agent get for their data.
        """
        from mechopt.formulations.accuracy_shaping import figures

        return figures.plot_shaping(self, kind)

    def _equilibrium(self, mechanism: ShapedMechanism, contribution: Array, kind: str) -> Equilibrium:
        return Equilibrium(
            contribution=contribution,
            total_data=self.seed_data + float(contribution.sum()),
            utility=mechanism.utility(contribution),
            regret=mechanism.regret(contribution),
            kind=kind,
            method="root of the pool's equation",
        )
