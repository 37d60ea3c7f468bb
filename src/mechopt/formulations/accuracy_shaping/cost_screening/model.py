"""Federated learning with agents whose cost of data is their private type."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations import checks, menus
from mechopt.formulations.accuracy_shaping.cost_screening import closed_form as oracle
from mechopt.formulations.accuracy_shaping.cost_screening import exact
from mechopt.formulations.accuracy_shaping.cost_screening.program import (
    ATTAINABLE,
    FORMS,
    Form,
    declare,
    served_counts,
)
from mechopt.formulations.functions.accuracies import AccuracyFunction
from mechopt.formulations.incentives import check_form
from mechopt.solvers import certify
from mechopt.solvers.backend import DEFAULT_TOLERANCE, get_backend
from mechopt.solvers.errors import InvalidInput, NotApplicable
from mechopt.solvers.exact import asked_exactly
from mechopt.solvers.program import OnFailure, Program
from mechopt.solvers.solution import Solution, Status
from mechopt.verification.audit import Audit, Deviation, audit_choices, audit_deviations

Array = NDArray[np.float64]

_CURVE_POINTS = 2001


@dataclass(frozen=True, eq=False)
class RewardCurve:
    r"""Accuracy that an agent gets for x data points, whatever its type: eq. (14), with margin 0.

    .. math:: M(x) = a(x) \text{ up to } m_K^*, \quad
       \min\bigl(\min_k (U_k + c_k x), \; a(x + S)\bigr) \text{ beyond}

    The curve goes up along a line of slope :math:`c_K` to the contract of the costliest type, on with slope
    :math:`c_{K-1}` to the next one, and so on, as far as the accuracy from all data reaches. Types are
    indifferent along their lines, so that a slightly steeper curve makes each prefer its own contract.

    Attributes
    ----------
    accuracy : AccuracyFunction
        Accuracy a.
    costs : ndarray, shape (n_types,)
        Marginal costs.
    utility : ndarray, shape (n_types,)
        What the menu leaves to each type.
    others_data : float
        Data of all other agents S.
    own_until : float
        Data points up to which an agent gets what its own data are worth.
    """

    accuracy: AccuracyFunction
    costs: Array
    utility: Array
    others_data: float
    own_until: float

    def __call__(self, x: ArrayLike) -> Array:
        """Accuracy M(x) for x >= 0 data points, elementwise."""
        x = np.asarray(x, dtype=float)
        lines = self.utility + np.multiply.outer(x, self.costs)
        shaped = np.minimum(lines.min(axis=-1), self.accuracy(x + self.others_data))
        curve: Array = np.where(x <= self.own_until, self.accuracy(x), shaped)
        return curve


@dataclass(frozen=True, eq=False)
class CostScreening:
    r"""Menu (data asked, accuracy of the model returned) for an agent whose cost of data is private.

    An agent bears ``cost`` per data point, in units of accuracy, and its utility is the accuracy of the model
    that it gets minus that. The platform knows only the distribution of costs, and cannot verify them. It
    wants as much data as it can get, and may return a model worse than the one from all data, but no better.
    Anyone may stay out and train alone.

    Parameters
    ----------
    accuracy : AccuracyFunction
        Accuracy of a model from so many data points, such as ``mo.SqrtAccuracy()``.
    costs : array, shape (n_types,)
        Marginal cost of each type, in accuracy per data point, strictly increasing, > 0.
    probs : array, shape (n_types,), optional
        Probability of each type, > 0, summing to 1. Default: all equal.
    others_data : float
        Data of all other agents together (S), >= 0.

    Raises
    ------
    InvalidInput
        If an argument breaks its rule; the message names it, the index, the value and the rule.

    Notes
    -----
    Incentive constraints hold in the limit of a vanishing margin: types are indifferent between contracts,
    and take the one meant for them.

    Others' data are a number here, though other agents have random types too. `mean_field` puts what they
    contribute in expectation.

    With too few data of others for any accuracy, it can be best to shut the costliest types out, with nothing
    asked and nothing given. The paper has all types served.

    References
    ----------
    Accuracy-shaping paper, Appendix B.

    Examples
    --------
    >>> import mechopt as mo
    >>> from mechopt.formulations.accuracy_shaping.cost_screening import CostScreening
    >>> screening = CostScreening(mo.SqrtAccuracy(), costs=[0.01, 0.015, 0.03, 0.05], others_data=100)
    >>> menu = screening.solve()
    >>> menu["contribution"].round(3).tolist(), round(menu.objective, 3)
    ([37.973, 37.973, 12.82, 3.392], 23.04)
    >>> menu["rent"].round(4).tolist()
    [0.0963, 0.0, 0.0, 0.0]
    """

    accuracy: AccuracyFunction
    costs: Array
    probs: Array = None  # type: ignore[assignment]  # filled in below
    others_data: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.accuracy, AccuracyFunction):
            raise InvalidInput(
                f"accuracy must be an AccuracyFunction such as mo.SqrtAccuracy(), got {self.accuracy!r}"
            )
        object.__setattr__(self, "costs", checks.types(self.costs, "costs", "cost"))
        object.__setattr__(self, "probs", _probabilities(self.probs, self.costs.size))
        object.__setattr__(
            self,
            "others_data",
            checks.nonnegative(self.others_data, "others_data", "it counts the data points of all others"),
        )

    @property
    def n_types(self) -> int:
        """Number of types, K."""
        return int(self.costs.size)

    @cached_property
    def _alone(self) -> tuple[Array, Array]:
        contribution = self.accuracy.inverse_derivative(self.costs)
        utility = self.accuracy.concave_part(contribution) - self.costs * contribution
        alone = np.where(utility > 0, contribution, 0.0), np.maximum(utility, 0.0)
        for array in alone:
            array.setflags(write=False)
        return alone

    @property
    def standalone_contribution(self) -> Array:
        """Data points that each type collects if it stays out, shape (n_types,); eq. (6)."""
        return self._alone[0]

    @property
    def standalone_utility(self) -> Array:
        """What each type has if it stays out, its outside option, shape (n_types,), in accuracy units."""
        return self._alone[1]

    # ------------------------------------------------------------------ answers

    def program(self, form: Form = "full", *, served: int | None = None, force: bool = False) -> Program:
        r"""Declare the optimization program, to be solved as it is or changed first.

        .. math:: \max \sum_k p_k m_k \quad \text{s.t.} \quad \alpha_k \le b(m_k + S), \quad
           \alpha_k - c_k m_k \ge u_k^*, \quad \alpha_k - c_k m_k \ge \alpha_j - c_k m_j

        Parameters
        ----------
        form : {"full", "local", "local-monotone"}
            Incentive constraints between all pairs, between neighbours, or of the cheaper neighbour only,
            with non-increasing contributions; the last form refuses changes.
        served : int, optional
            Number of types, the cheapest ones, that the program is about; the others are shut out. Default:
            all that can be served. See the notes of the class.
        force : bool
            Build the full form even with more than 500 types.

        Returns
        -------
        Program
            With ``contribution``, ``allocated_accuracy``, ``utility``, ``rent``, ``attainable_accuracy``,
            each of shape (served,), and ``expected_contribution``, ``others_data``.

        Raises
        ------
        NotApplicable
            If no type can be served. `solve` then returns zeros.
        """
        check_form(form, FORMS)
        if served is None:
            served = served_counts(self)[-1]
            if served == 0:
                raise NotApplicable(f"there is no program: {self._not_viable()}")
        else:
            served = self._check_served(served)
        return declare(self, form, served, force=force)

    def mean_field_program(
        self, n_agents: int, form: Form = "full", *, served: int | None = None, force: bool = False
    ) -> Program:
        """Declare the program of the mean field; see `mean_field`.

        It is `program` with S = (n_agents - 1) times the expected contribution, a variable, in place of
        ``others_data``. By default all types are served, which may be infeasible.
        """
        n_agents = checks.count(n_agents, "n_agents")
        served = self.n_types if served is None else self._check_served(served)
        return declare(self, form, served, n_agents=n_agents, force=force)

    def _check_served(self, served: int) -> int:
        served = checks.count(served, "served")
        if served > self.n_types:
            raise InvalidInput(f"served = {served} is more than the {self.n_types} types there are")
        return served

    def _not_viable(self) -> str:
        return (
            "no type gains from taking part: no contribution is worth its cost, which is above the viability "
            f"cost {self.accuracy.viability_cost:.6g} for all; add data of others, or lower the costs"
        )

    def solve(
        self,
        backend: str | None = None,
        *,
        form: Form = "local",
        tolerance: float | None = None,
        time_limit: float | None = None,
        verbose: bool = False,
        on_failure: OnFailure = "raise",
        **options: Any,
    ) -> Solution:
        """Design the menu: by the exact algorithm, or on the backend of that name.

        Parameters
        ----------
        backend : str, optional
            Default ``"exact"``, which needs no program at all.
        form : str
            Form of the program for other backends; see `program`. Where types may be shut out, there is one
            program for each number of served types, and the best answer is returned.
        tolerance, time_limit, verbose, on_failure, **options
            See `Program.solve`; the time limit is for each program.

        Returns
        -------
        Solution
            ``contribution``, ``allocated_accuracy``, ``utility``, ``rent`` (utility above the outside option)
            of shape (n_types,); ``objective`` is the expected contribution in data points;
            ``extra["served"]`` the number of types that get a contract. If nobody can be served, all are 0,
            and ``reason`` begins with ``"not_viable"``.

        Raises
        ------
        NotApplicable
            If the exact algorithm cannot settle which types share a contract.
        """
        check_form(form, FORMS)
        asked = (tolerance, time_limit, verbose, on_failure, options)
        return self._answer(
            backend,
            *asked,
            run_exactly=lambda: (
                self.others_data,
                exact.solve_exact(
                    self.accuracy, self.costs, self.probs, self.standalone_utility, self.others_data
                ),
            ),
            declared=lambda: [(n, self.program(form, served=n) if n else None) for n in served_counts(self)],
        )

    def mean_field(
        self,
        n_agents: int,
        backend: str | None = None,
        *,
        form: Form = "local",
        tolerance: float | None = None,
        time_limit: float | None = None,
        verbose: bool = False,
        on_failure: OnFailure = "raise",
        **options: Any,
    ) -> Solution:
        r"""Design the menu when all other agents draw types and take contracts from the same menu.

        The others' data are replaced by their expectation, :math:`S = (N - 1) \sum_k p_k m_k`. Of all such
        menus, each the best given its S, this is the one with the most data.

        Accuracies are promised as if others contributed their expected amounts. Where they happen to
        contribute less, the platform cannot deliver all that it promises: the menu is feasible on average
        and not for every draw of types.

        Parameters
        ----------
        n_agents : int
            Number of agents N, >= 1, this one included; ``others_data`` plays no part.
        backend, form, tolerance, time_limit, verbose, on_failure, **options
            See `solve`.

        Returns
        -------
        Solution
            As `solve`'s, with S in ``others_data``.

        Examples
        --------
        >>> import mechopt as mo
        >>> from mechopt.formulations.accuracy_shaping.cost_screening import CostScreening
        >>> menu = CostScreening(mo.SqrtAccuracy(), costs=[0.01, 0.02]).mean_field(n_agents=5)
        >>> menu["contribution"].round(3).tolist(), float(menu["others_data"].round(2))
        ([49.855, 16.799], 133.31)
        """
        check_form(form, FORMS)
        n_agents = checks.count(n_agents, "n_agents")
        parameters = (self.accuracy, self.costs, self.probs, self.standalone_utility)
        asked = (tolerance, time_limit, verbose, on_failure, options)
        return self._answer(
            backend,
            *asked,
            run_exactly=lambda: exact.solve_mean_field(*parameters, n_agents),
            declared=lambda: self._mean_field_programs(n_agents, form),
        )

    def _mean_field_programs(self, n_agents: int, form: Form) -> list[tuple[int, Program | None]]:
        if n_agents == 1:
            alone = CostScreening(self.accuracy, self.costs, self.probs)
            return [(n, alone.program(form, served=n) if n else None) for n in served_counts(alone)]
        least = int(np.sum(self.standalone_utility > 0))
        return [
            (n, self.mean_field_program(n_agents, form, served=n) if n else None)
            for n in range(least, self.n_types + 1)
        ]

    def _answer(
        self,
        backend: str | None,
        tolerance: float | None,
        time_limit: float | None,
        verbose: bool,
        on_failure: OnFailure,
        options: Mapping[str, Any],
        *,
        run_exactly: Callable[[], tuple[float, exact.ExactMenu]],
        declared: Callable[[], list[tuple[int, Program | None]]],
    ) -> Solution:
        """Ask the exact algorithm, or solve the programs of all numbers of served types."""
        asked = asked_exactly(
            backend,
            tolerance=tolerance,
            time_limit=time_limit,
            verbose=verbose,
            on_failure=on_failure,
            options=options,
        )
        if asked is not None:
            return self._solve_exactly(asked, run_exactly)
        best: Solution | None = None
        nobody = False
        for served, program in declared():
            if program is None:
                nobody = True
                continue
            solution = program.solve(
                backend,
                tolerance=tolerance,
                time_limit=time_limit,
                verbose=verbose,
                on_failure="return",
                **options,
            )
            if solution.status is Status.INFEASIBLE and (nobody or best is not None):
                continue  # fewer types served is another way
            if not solution.status.ok:
                if on_failure == "return":
                    return self._padded(solution, served) if solution.values else solution
                return program.solve(
                    backend,
                    tolerance=tolerance,
                    time_limit=time_limit,
                    verbose=verbose,
                    on_failure=on_failure,
                    **options,
                )
            if best is None or solution.objective > best.objective:
                best = self._padded(solution, served)
        if best is None:
            tolerance = DEFAULT_TOLERANCE if tolerance is None else tolerance
            zeros = np.zeros(self.n_types)
            return self._as_solution(zeros, zeros, 0.0, tolerance).replace(
                reason=f"not_viable: {self._not_viable()}",
                backend=str(backend),
                extra={"served": 0},
                no_duals="there was no program to solve",
            )
        return best

    def _padded(self, solution: Solution, served: int) -> Solution:
        """Give the types that are shut out their zeros."""
        values = dict(solution.values)
        others = float(values["others_data"])
        for name in ("contribution", "allocated_accuracy", "utility", "rent", ATTAINABLE):
            fill = float(self.accuracy(others)) if name == ATTAINABLE else 0.0
            values[name] = np.append(values[name], np.full(self.n_types - served, fill))
            values[name].setflags(write=False)
        return solution.replace(values=values, extra={**solution.extra, "served": served})

    def _solve_exactly(
        self, tolerance: float, run_exactly: Callable[[], tuple[float, exact.ExactMenu]]
    ) -> Solution:
        started = time.perf_counter()
        others, menu = run_exactly()
        solved = time.perf_counter()
        accuracy = menu.utility + self.costs * menu.contribution
        solution = self._as_solution(menu.contribution, accuracy, others, tolerance)
        reason = "exact algorithm"
        if menu.served == 0:
            reason = f"not_viable: {self._not_viable()}"
        elif menu.served < self.n_types:
            reason += f", the {self.n_types - menu.served} costliest types shut out"
        return solution.replace(
            reason=reason,
            backend="exact",
            version=get_backend("exact").version(),
            bound=solution.objective,
            gap=0.0,
            seconds={
                "build": 0.0,
                "compile": 0.0,
                "solve": solved - started,
                "check": time.perf_counter() - solved,
            },
            no_duals="the exact algorithm computes no prices",
            extra={"served": menu.served, "ties": menu.ties},
        )

    def _as_solution(
        self, contribution: Array, accuracy: Array, others_data: float, tolerance: float
    ) -> Solution:
        """Record of a menu with residuals of its own; status by these."""
        utility = accuracy - self.costs * contribution
        attainable = self.accuracy(contribution + others_data)
        values = {
            "contribution": contribution,
            "allocated_accuracy": accuracy,
            "utility": utility,
            "rent": utility - self.standalone_utility,
            "expected_contribution": np.asarray(self.probs @ contribution),
            "others_data": np.asarray(others_data),
            ATTAINABLE: attainable,
        }
        for name, value in values.items():
            values[name] = np.array(value, dtype=float)
            values[name].setflags(write=False)
        table = menus.utility_matrix(self.costs, contribution, accuracy, 1.0)
        violations = {
            "feasibility": float(np.max(accuracy - attainable)),
            "ic": float(np.max(table - np.diag(table)[:, None])),
            "ir": float(np.max(self.standalone_utility - utility)),
            certify.DOMAIN: float(np.max(-contribution)),
        }
        violations = {name: max(0.0, value) for name, value in violations.items()}
        data = max(float(np.max(contribution)), np.finfo(float).tiny)
        top = self.accuracy.max_accuracy
        residuals = {n: v / (data if n == certify.DOMAIN else top) for n, v in violations.items()}
        kept = all(residual <= tolerance for residual in residuals.values())
        return Solution(
            status=Status.OPTIMAL if kept else Status.INACCURATE,
            reason="",
            backend="",
            objective=float(values["expected_contribution"]),
            values=values,
            residuals=residuals,
            violations=violations,
            tolerance=tolerance,
            program="cost screening",
            sense="maximize",
        )

    def closed_form(self) -> oracle.ClosedForm:
        """Return the closed form for two types: Theorems B.1 and B.3, corrected.

        Returns
        -------
        ClosedForm
            ``contribution``, ``allocated_accuracy``, ``utility``, ``rent``, ``objective``, ``regime``.

        Raises
        ------
        NotApplicable
            If there are not two types.
        """
        if self.n_types != 2:
            raise NotApplicable(
                f"the closed form is for two types, and there are {self.n_types}; use solve()",
                reason="not two types",
            )
        return oracle.closed_form(
            self.accuracy, self.costs, self.probs, self.standalone_utility, self.others_data
        )

    @property
    def regime(self) -> oracle.Regime:
        """Which constraints shape the menu, with two types; see `ClosedForm`."""
        return self.closed_form().regime

    @cached_property
    def rents(self) -> Array:
        """What each type has above its outside option at the optimum, shape (n_types,), accuracy units."""
        return self.solve()["rent"]

    # ------------------------------------------------------------------ the definition

    def menu(self, menu: Any = None) -> RewardCurve:
        """Return the reward curve that the platform publishes instead of a list of contracts.

        Parameters
        ----------
        menu : mapping with ``contribution`` and ``allocated_accuracy``, each of shape (n_types,), optional
            By default the exact optimum.

        Returns
        -------
        RewardCurve
            Call it with amounts of data. It gives each type its own contract at its own contribution, is
            never less than what the same data are worth alone, and leaves no type a better choice, if the
            menu is incentive compatible.
        """
        contribution, accuracy, others = self._read(self.solve() if menu is None else menu)
        delivered = np.minimum(accuracy, self.accuracy(contribution + others))
        utility = delivered - self.costs * contribution
        return RewardCurve(
            self.accuracy, self.costs, utility, others, float(self.standalone_contribution[-1])
        )

    def audit(self, menu: Any) -> Audit:
        """Check a menu by the definition: who would rather take whose contract, or stay out.

        A contract is worth what can be delivered: its accuracy, but not more than that of all data.

        Parameters
        ----------
        menu : mapping with ``contribution`` and ``allocated_accuracy``, each of shape (n_types,)
            A solution, a closed form, or a dict. ``others_data`` in it, as `mean_field` has it, counts
            instead of this record's.

        Returns
        -------
        Audit
            Over all pairs of types and contracts, and over amounts of data anywhere on the reward curve; a
            deviation to one of these is reported as one to the contract nearest to it.
        """
        contribution, accuracy, others = self._read(menu)
        delivered = np.minimum(accuracy, self.accuracy(contribution + others))
        table = menus.utility_matrix(self.costs, contribution, delivered, 1.0)
        scale = self.accuracy.max_accuracy
        pairs = audit_choices(table, self.standalone_utility, scale=scale)
        own = np.diag(table)
        reach = float(np.max((scale - np.minimum(own, 0.0)) / self.costs))
        amounts = np.unique(
            np.concatenate(
                [np.linspace(0.0, reach, _CURVE_POINTS), contribution, self.standalone_contribution]
            )
        )
        curve = self.menu(menu)(amounts)
        deviations = [pairs.worst] if pairs.worst is not None else []
        shortfall = self.standalone_utility - own
        poorest = int(np.argmax(shortfall))
        deviations.append(Deviation(poorest, None, float(shortfall[poorest])))
        for k in range(self.n_types):
            gain = curve - self.costs[k] * amounts - own[k]
            best = int(np.argmax(gain))
            nearest = int(np.argmin(np.abs(contribution - amounts[best])))
            deviations.append(Deviation(k, nearest, float(gain[best])))
        return audit_deviations(deviations, scale=scale, method="all pairs and the reward curve")

    def _read(self, menu: Any) -> tuple[Array, Array, float]:
        arrays = []
        for name in ("contribution", "allocated_accuracy"):
            try:
                value = menu[name] if hasattr(menu, "__getitem__") else getattr(menu, name)
            except (KeyError, IndexError, TypeError, AttributeError):
                raise InvalidInput(
                    f"a menu needs {name!r}, one entry a type; got {type(menu).__name__}"
                ) from None
            array = checks.vector(value, name)
            if array.shape != self.costs.shape:
                raise InvalidInput(f"{name} has {array.size} entries for {self.n_types} types")
            checks.all_finite(array, name)
            arrays.append(array)
        others = self.others_data
        if hasattr(menu, "__getitem__") and "others_data" in menu:
            others = checks.nonnegative(float(menu["others_data"]), "others_data")
        return arrays[0], arrays[1], others


def _probabilities(value: Any, n_types: int) -> Array:
    """Return the probabilities of types; a certain type is no type."""
    if value is not None:
        array = checks.vector(value, "probs")
        certain = array == 1
        if array.size == n_types > 1 and np.any(certain):
            index = int(np.argmax(certain))
            raise InvalidInput(
                f"probs[{index}] is 1, so that the cost is known to be costs[{index}]; use the model of "
                "known costs, mo.AccuracyShaping, or give every type a probability strictly between 0 and 1"
            )
    return checks.probabilities(value, n_types, "probs")
