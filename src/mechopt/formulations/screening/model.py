"""The screening contract: buying data from holders whose privacy level is private."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations import checks, menus
from mechopt.formulations.attitudes import Attitude
from mechopt.formulations.functions import ConcaveFunction, ConvexCost, LogGain
from mechopt.formulations.incentives import check_form
from mechopt.formulations.screening import batch, exact
from mechopt.formulations.screening import closed_form as oracle
from mechopt.formulations.screening.program import FORMS, Form, declare, outside_options
from mechopt.solvers.backend import get_backend
from mechopt.solvers.errors import InvalidInput, Unbounded
from mechopt.solvers.exact import asked_exactly
from mechopt.solvers.program import OnFailure, Program
from mechopt.solvers.solution import Solution, Status
from mechopt.verification.audit import Audit, Deviation, audit_choices, audit_deviations

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

ALL_PAIRS_LIMIT = 2000
"""Types up to which an audit tabulates every type with every contract; beyond, it looks for favourites."""


@dataclass(frozen=True, eq=False)
class ScreeningContract:
    r"""Menu of contracts (quantity of data, payment) for holders whose privacy level is their private type.

    One demander buys data from holders. A holder with privacy level ``eps`` bears the cost
    ``unit_cost * eps * q`` for ``q`` records, and the demander gains ``gain(eps * q)`` from them. The
    demander knows only the distribution of types, and posts one contract for each; holders choose.

    Parameters
    ----------
    types : array, shape (n_types,)
        Privacy levels, in nats, strictly increasing, > 0. Low types are the efficient ones.
    probs : array, shape (n_types,), optional
        Probability of each type, > 0, summing to 1. Default: all equal.
    gain : ConcaveFunction
        The demander's gain from ``eps * q``, in utility.
    unit_cost : float
        A holder's cost per record and unit of privacy level, in utility, > 0.
    cost_curve : ConvexCost, optional
        Convex h with h(0) = 0, where a holder's cost is ``unit_cost * eps * h(q)``. Default: h(q) = q.

    Raises
    ------
    InvalidInput
        If an argument breaks its rule; the message names it, the index, the value and the rule.

    References
    ----------
    Contract paper, sections II and IV; equations (32)-(42).

    Examples
    --------
    >>> import numpy as np, mechopt as mo
    >>> contract = mo.ScreeningContract(types=np.linspace(0.05, 0.2, 4), gain=mo.LogGain(weight=100, scale=2))
    >>> menu = contract.solve()
    >>> menu["quantity"].round(3).tolist()
    [1990.0, 661.667, 396.667, 283.214]
    >>> bool(contract.closed_form().valid), menu.backend
    (True, 'exact')
    """

    types: Array
    probs: Array = None  # type: ignore[assignment]  # filled in below
    gain: ConcaveFunction = field(default_factory=lambda: LogGain(weight=100.0, scale=2.0))
    unit_cost: float = 1.0
    cost_curve: ConvexCost | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "types", checks.types(self.types, "types", "privacy level"))
        object.__setattr__(self, "probs", checks.probabilities(self.probs, self.types.size, "probs"))
        if not isinstance(self.gain, ConcaveFunction):
            raise InvalidInput(
                f"gain must be a ConcaveFunction such as mo.LogGain(weight=100, scale=2), got {self.gain!r}"
            )
        object.__setattr__(self, "unit_cost", checks.positive(self.unit_cost, "unit_cost"))
        if not (self.cost_curve is None or isinstance(self.cost_curve, ConvexCost)):
            raise InvalidInput(
                f"cost_curve must be a ConvexCost such as mo.PowerCost(exponent=2), got {self.cost_curve!r}"
            )

    @classmethod
    def from_distribution(
        cls,
        dist: Any,
        lo: float,
        hi: float,
        n_types: int,
        grid: Literal["right", "paper"] = "right",
        **parameters: Any,
    ) -> ScreeningContract:
        """Divide a continuum of types into cells of equal width, each of its own probability.

        Parameters
        ----------
        dist : frozen continuous distribution of scipy.stats
            Distribution of privacy levels before truncation to [lo, hi].
        lo, hi : float
            Smallest and largest privacy level (nats), 0 < lo < hi.
        n_types : int
            Number of cells, >= 1.
        grid : {"right", "paper"}
            Whether a cell's type is its right end, or its left end as in the paper.
        **parameters
            ``gain`` and ``unit_cost``, as for the contract itself.

        Returns
        -------
        ScreeningContract
            Same as ``ContinuousContract(dist, lo, hi, ...).discretize(n_types, grid)``.

        Examples
        --------
        >>> import scipy.stats
        >>> contract = ScreeningContract.from_distribution(scipy.stats.beta(2, 2), lo=0.2, hi=0.8, n_types=3)
        >>> contract.types.round(3).tolist(), contract.probs.round(3).tolist()
        ([0.4, 0.6, 0.8], [0.313, 0.374, 0.313])
        """
        from mechopt.formulations.screening.continuous import ContinuousContract

        return ContinuousContract(dist, lo, hi, **parameters).discretize(n_types, grid)

    @property
    def n_types(self) -> int:
        """Number of types, K."""
        return int(self.types.size)

    @cached_property
    def cum_probs(self) -> Array:
        """Probability of a type no higher than each, shape (n_types,)."""
        cum_probs = np.cumsum(self.probs)
        cum_probs.setflags(write=False)
        return cum_probs

    @cached_property
    def virtual_type(self) -> Array:
        """Privacy level plus the rent that it forces on all lower types, shape (n_types,), in nats.

        ``types[k] + cum_probs[k-1] / probs[k] * (types[k] - types[k-1])``.
        """
        below = np.concatenate([[0.0], self.cum_probs[:-1]])
        virtual_type: Array = self.types + below / self.probs * np.diff(self.types, prepend=self.types[0])
        virtual_type.setflags(write=False)
        return virtual_type

    @property
    def virtual_cost(self) -> Array:
        """``unit_cost * virtual_type``: the demander's marginal cost of a record, rents included."""
        return self.unit_cost * self.virtual_type

    def burden(self, quantity: ArrayLike) -> Array:
        """Cost of quantities per unit of ``unit_cost * eps``: h(q), or q itself without a cost curve."""
        return np.asarray(quantity if self.cost_curve is None else self.cost_curve(quantity))

    @cached_property
    def first_best_quantity(self) -> Array:
        """Quantity that would be best for each type if types were observed, shape (n_types,).

        Infinite where the gain grows at least as fast as the cost for ever.
        """
        if self.cost_curve is None:
            best = np.asarray(self.gain.inverse_derivative(self.unit_cost)) / self.types
        else:
            alone = exact.solve_exact(
                self.types[:, None],
                np.ones((self.n_types, 1)),
                self.gain,
                self.unit_cost,
                cost_curve=self.cost_curve,
            )
            best = alone.quantity[:, 0]
        best.setflags(write=False)
        return best

    def scales(self) -> tuple[float, float]:
        """Typical size of ``eps * q`` and of money: the first best's, or the gain's if nobody trades."""
        data = float(self.types[0] * self.first_best_quantity[0])
        if not (np.isfinite(data) and data > 0):
            data = self.gain.natural_scale
        money = abs(float(self.gain(data)))
        return data, money if np.isfinite(money) and money > 0 else 1.0

    # ------------------------------------------------------------------ answers

    def program(
        self,
        form: Form = "reduced",
        *,
        force: bool = False,
        outside_option: ArrayLike | None = None,
        max_menu_size: int | None = None,
        fairness_ratio: float | None = None,
        ambiguity: Attitude | None = None,
        risk: Attitude | None = None,
    ) -> Program:
        r"""Declare the optimization program, to be solved as it is or changed first.

        .. math:: \max \sum_k p_k \bigl( G(\delta_k q_k) - \gamma_k \bigr) \quad
                  \text{s.t. IC, IR, } q \ge 0.

        Parameters
        ----------
        form : {"reduced", "local-monotone", "local", "full"}
            Which constraints stand for IC and IR. ``full`` has families ``ic`` (see `ic_pairs`) and ``ir``;
            ``local`` has ``ic_up``, ``ic_down``, ``ir``; ``local-monotone`` ``ic_up``, ``monotone``, ``ir``;
            ``reduced`` has ``monotone`` alone, with payments eliminated. The last two refuse constraints that
            reward higher payments.
        force : bool
            Build the full form even with more than 500 types.
        outside_option : float or array, shape (n_types,), optional
            What each type gets by staying out (utility), in the family ``ir``. Needs form ``local`` or
            ``full``: participation of any type may bind, and downward incentives too.
        max_menu_size : int, optional
            Most distinct contracts beside the null contract: binaries ``menu_cut`` and the family
            ``menu_size``. Quantities fall by at most 4 times the largest first-best quantity from one
            contract to the next, which binds only if what is added asks for far more data than is efficient.
        fairness_ratio : float, optional
            Most that the first payment may be, as a multiple of the last one, >= 1: the family ``fairness``.
            Needs form ``local`` or ``full``.
        ambiguity : Wasserstein, KullbackLeibler or ChiSquared, optional
            Value the menu by the worst distribution of types in a ball around ``probs``.
        risk : CARA or CVaR, optional
            Value it by a certainty equivalent, the type of the holder being the risk.

        Returns
        -------
        Program
            With ``quantity``, ``payment``, ``rent``, ``demander_utility`` by type, ``expected_payment``,
            ``expected_quantity``, ``expected_gain``; ``burden`` if there is a cost curve.

        Raises
        ------
        InvalidInput
            If an option breaks its rule, or the form is not valid for it.

        Examples
        --------
        >>> import mechopt as mo
        >>> contract = mo.ScreeningContract(types=[0.05, 0.1, 0.15, 0.2])
        >>> small = contract.program(max_menu_size=2).solve()
        >>> len(set(small["quantity"].tolist())), small.backend
        (2, 'exact')
        >>> wary = contract.program(risk=mo.CVaR(0.5)).solve("clarabel")
        >>> bool(wary.objective < contract.solve().objective)
        True
        """
        return declare(
            self,
            form,
            force=force,
            outside_option=outside_option,
            max_menu_size=max_menu_size,
            fairness_ratio=fairness_ratio,
            ambiguity=ambiguity,
            risk=risk,
        )

    def solve(
        self,
        backend: str | None = None,
        *,
        form: Form = "reduced",
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
            Form of the program for other backends; see `program`.
        tolerance, time_limit, verbose, on_failure, **options
            See `Program.solve`.

        Returns
        -------
        Solution
            ``quantity``, ``payment``, ``rent`` of shape (n_types,); ``objective`` is the demander's expected
            utility per holder.
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
            check_form(form, FORMS)
            try:
                return self._solve_exactly(asked)
            except Unbounded as error:
                if on_failure == "raise":
                    raise
                return Solution(
                    status=Status.UNBOUNDED,
                    reason=str(error),
                    backend="exact",
                    version=get_backend("exact").version(),
                    tolerance=asked,
                    program="screening contract",
                    sense="maximize",
                )
        program = self.program(form)
        return program.solve(
            backend,
            tolerance=tolerance,
            time_limit=time_limit,
            verbose=verbose,
            on_failure=on_failure,
            **options,
        )

    def _solve_exactly(self, tolerance: float) -> Solution:
        started = time.perf_counter()
        menu = exact.solve_exact(
            self.types, self.probs, self.gain, self.unit_cost, cost_curve=self.cost_curve
        )
        solved = time.perf_counter()
        pools = [(int(start), int(stop)) for start, stop in menu.pools]
        solution = self.as_solution(menu.quantity, menu.payment, tolerance)
        return solution.replace(
            reason=batch.reason_of(bool(menu.regular), len(pools)),
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
            extra={"pools": pools, "n_excluded": int(menu.n_excluded), "regular": bool(menu.regular)},
        )

    def as_solution(
        self, quantity: Array, payment: Array, tolerance: float, *, outside_option: Array | None = None
    ) -> Solution:
        """Record of a menu with residuals of its own; status by these."""
        found = batch.evaluate(
            self.types,
            self.probs,
            self.gain,
            self.unit_cost,
            self.cost_curve,
            quantity,
            payment,
            0.0 if outside_option is None else outside_option,
        )
        residuals = {name: float(value) for name, value in found.residuals.items()}
        return Solution(
            status=batch.status_of(residuals, tolerance),
            reason="",
            backend="",
            objective=float(found.objective),
            values=found.values,
            residuals=residuals,
            violations={name: float(value) for name, value in found.violations.items()},
            tolerance=tolerance,
            program="screening contract",
            sense="maximize",
        )

    def closed_form(self) -> oracle.ClosedForm:
        """Return the closed form: equation (42), generalised to any probabilities and gains.

        Returns
        -------
        ClosedForm
            ``quantity``, ``payment``, ``rent``, ``objective``, and ``valid`` with the ``reason`` if it is not
            the optimum: the formula is optimal only where it comes out non-increasing.
        """
        return oracle.closed_form(
            self.types, self.probs, self.gain, self.unit_cost, cost_curve=self.cost_curve
        )

    def audit(self, menu: Any, *, outside_option: ArrayLike = 0.0) -> Audit:
        """Check a menu by the definition: who would rather choose whose contract, or stay out.

        Parameters
        ----------
        menu : mapping with ``quantity`` and ``payment``, each of shape (n_types,)
            A solution, a closed form, or a dict.
        outside_option : float or array, shape (n_types,)
            What each type gets by staying out, in utility.

        Returns
        -------
        Audit
            Over all pairs of types and contracts: one by one up to 2000 types; beyond, by each type's
            favourite contract, found on the upper envelope of what contracts leave to each privacy level.
        """
        quantity, payment = self.read(menu)
        burden = self.burden(quantity)
        outside = outside_options(outside_option, self.n_types)
        # On a market where nobody trades payments are rounding error, and no measure of anything.
        scale = max(float(np.max(np.abs(payment))), 1e-3 * self.scales()[1])
        if self.n_types <= ALL_PAIRS_LIMIT:
            table = menus.utility_matrix(self.types, burden, payment, self.unit_cost)
            return audit_choices(table, outside_option=outside, scale=scale)
        rent = payment - self.unit_cost * self.types * burden
        shortfall = outside - rent
        lowest = int(np.argmax(shortfall))
        favourite = menus.favourites(self.types, burden, payment, self.unit_cost)
        temptation = payment[favourite] - self.unit_cost * self.types * burden[favourite] - rent
        tempted = int(np.argmax(temptation))
        deviations = [
            Deviation(lowest, None, float(shortfall[lowest])),
            Deviation(tempted, int(favourite[tempted]), float(temptation[tempted])),
            # In a menu that is incentive compatible the favourite is the own contract, and the next best one
            # is a neighbour's.
            *self._neighbour_deviations(burden, payment),
        ]
        return audit_deviations(
            [d for d in deviations if d.agent != d.choice], scale=scale, method="favourite contracts"
        )

    def _neighbour_deviations(self, burden: Array, payment: Array) -> list[Deviation]:
        """Best deviation to the next higher type, and to the next lower one; not those to oneself."""
        if self.n_types == 1:
            return [Deviation(0, 0, 0.0)]
        cost = self.unit_cost * self.types
        rise, more = np.diff(payment), np.diff(burden)
        up, down = rise - cost[:-1] * more, cost[1:] * more - rise
        k, j = int(np.argmax(up)), int(np.argmax(down))
        return [Deviation(k, k + 1, float(up[k])), Deviation(j + 1, j, float(down[j]))]

    def repair(self, menu: Any, *, program: Program | None = None) -> Solution:
        """Make an approximate menu exactly incentive compatible and individually rational.

        Quantities are replaced by the nearest non-increasing, nonnegative ones (least squares, weighted by
        ``probs``; the same within each contract of a menu of limited size). Payments become the least ones
        that make them incentive compatible, equation (41), or the nearest ones, whichever keeps the program's
        families and is better for the demander; then all are raised by what the outside option asks for.

        Parameters
        ----------
        menu : Solution, or mapping with ``quantity``
            What a solver returned.
        program : Program, optional
            The program it was solved on. Needed to check families that were added to the contract's own, and
            to evaluate an objective other than the contract's.

        Returns
        -------
        Solution
            The repaired menu. ``extra["objective_lost"]`` is what the repair costs the demander (negative if
            it gains, which happens when the menu gave needless rents); the bound is kept, and the status is
            ``optimal`` if the repaired objective is within the tolerance of it, or, without a bound, of an
            answer that passed its checks.
        """
        from mechopt.formulations.screening.repair import repair

        return repair(self, menu, program)

    def read(self, menu: Any, payment: bool = True) -> tuple[Array, Array]:
        """Return quantities and payments of a menu, checked; without payments, quantities twice."""
        arrays = []
        for name in ("quantity", "payment") if payment else ("quantity",):
            try:
                value = menu[name] if hasattr(menu, "__getitem__") else getattr(menu, name)
            except (KeyError, IndexError, TypeError, AttributeError):
                raise InvalidInput(
                    f"a menu needs {name!r}, one entry a type; got {type(menu).__name__}"
                ) from None
            array = checks.vector(value, name)
            if array.shape != self.types.shape:
                raise InvalidInput(f"{name} has {array.size} entries for {self.n_types} types")
            checks.all_finite(array, name)
            arrays.append(array)
        return arrays[0], arrays[-1]

    def plot(self, kind: str = "menu", menu: Any = None) -> Figure:
        """Draw the menu against the types.

        Parameters
        ----------
        kind : {"menu", "rents"}
            Quantities and payments, or rents beside virtual and true cost.
        menu : mapping, optional
            What to draw; by default the exact optimum.
        """
        from mechopt.formulations.screening import figures

        return figures.plot_contract(self, self.solve() if menu is None else menu, kind)


def values_size(contract: ScreeningContract, solution: Solution) -> float:
    """Size of the terms of a contract's objective, at least that of the first best: menus may be empty."""
    terms = abs(float(solution["expected_gain"])) + abs(float(solution["expected_payment"]))
    return max(terms, contract.scales()[1])
