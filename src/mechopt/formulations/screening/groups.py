r"""Several groups of holders, each with its own contract, and whatever joins them, such as one budget.

Groups are told apart by what the demander can see (hospitals, laboratories); within each, types are private.

.. math:: \max \sum_g N_g \sum_k p_{gk} \bigl( G_g(\delta_{gk} q_{gk}) - \gamma_{gk} \bigr)

subject to the incentive constraints of each group. Without a constraint that joins them the groups fall
apart. Under one budget, :math:`\sum_g N_g \sum_k p_{gk} \gamma_{gk} \le b`, one price λ serves all groups: in
each, a unit of payment costs 1 + λ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from mechopt.formulations import checks, menus
from mechopt.formulations.incentives import check_form, check_full_size
from mechopt.formulations.screening import exact
from mechopt.formulations.screening.guards import refuse_rewards
from mechopt.formulations.screening.model import ScreeningContract
from mechopt.formulations.screening.program import FORMS, PAYING_FORMS, Extensions, Form, declare_menu
from mechopt.solvers.backend import Settings
from mechopt.solvers.errors import InvalidInput, NotApplicable
from mechopt.solvers.program import Changes, ExactAnswer, Program
from mechopt.solvers.solution import Solution
from mechopt.verification.audit import Audit

Array = NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)
# No price of a budget is looked for beyond this: at it payments are worth so much that nobody trades.
_ENDLESS = 1e18


@dataclass(frozen=True, eq=False)
class ContractGroups:
    r"""Screening contracts for several groups of holders, designed together.

    Parameters
    ----------
    contracts : mapping from str to ScreeningContract
        A contract for each group.
    n_holders : mapping from str to int
        Number of holders of each group, >= 1.

    Raises
    ------
    InvalidInput
        If there is no group, or the two mappings do not name the same groups.

    Examples
    --------
    >>> import mechopt as mo
    >>> groups = mo.ContractGroups(
    ...     {"clinics": mo.ScreeningContract([0.05, 0.1]), "labs": mo.ScreeningContract([0.1, 0.3])},
    ...     n_holders={"clinics": 5, "labs": 20},
    ... )
    >>> program = groups.program()
    >>> _ = program.add("budget", program["total_payment"] <= 1000)
    >>> solution = program.solve()
    >>> solution.backend, solution["clinics.quantity"].shape, round(float(solution.dual("budget")), 4)
    ('exact', (2,), 1.4595)
    """

    contracts: Mapping[str, ScreeningContract]
    n_holders: Mapping[str, int]

    def __post_init__(self) -> None:
        if not (isinstance(self.contracts, Mapping) and self.contracts):
            raise InvalidInput(
                "contracts must map at least one group's name to its ScreeningContract, got "
                f"{self.contracts!r}"
            )
        for name, contract in self.contracts.items():
            if not (isinstance(name, str) and name):
                raise InvalidInput(f"contracts: a group needs a name, got {name!r}")
            if not isinstance(contract, ScreeningContract):
                raise InvalidInput(f"contracts[{name!r}] must be a ScreeningContract, got {contract!r}")
        if not isinstance(self.n_holders, Mapping) or set(self.n_holders) != set(self.contracts):
            raise InvalidInput(
                f"n_holders must give a number for each of {', '.join(self.contracts)}, got "
                f"{self.n_holders!r}"
            )
        counts = {name: checks.count(self.n_holders[name], f"n_holders[{name!r}]") for name in self.contracts}
        object.__setattr__(self, "contracts", MappingProxyType(dict(self.contracts)))
        object.__setattr__(self, "n_holders", MappingProxyType(counts))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self.contracts), dict(self.n_holders))

    def program(self, form: Form = "reduced", *, force: bool = False) -> Program:
        """Declare one program for all groups.

        Parameters
        ----------
        form, force
            As for `ScreeningContract.program`.

        Returns
        -------
        Program
            With all names of each contract's program after its group's, as ``"clinics.quantity"`` and
            ``"clinics.ic_up"``, and ``total_payment``, ``total_quantity``, ``total_gain``, sums over all
            holders. The objective is the demander's expected utility from all holders.
        """
        check_form(form, FORMS)
        money = sum(self.n_holders[name] * c.scales()[1] for name, c in self.contracts.items())
        n_types = sum(c.n_types for c in self.contracts.values())
        program = Program(f"screening contracts of {len(self.contracts)} groups ({form})")
        program.objective_scale = money / n_types
        totals: dict[str, Any] = dict.fromkeys(("payment", "quantity", "gain"), 0)
        for name, contract in self.contracts.items():
            check_full_size(form, contract.n_types, force=force)
            declare_menu(contract, program, form, Extensions(), prefix=f"{name}.")
            for what in totals:
                totals[what] = totals[what] + self.n_holders[name] * program[f"{name}.expected_{what}"]
        for what, total in totals.items():
            program.define(f"total_{what}", total)
        program.maximize(program["total_gain"] - program["total_payment"])
        return program.seal(
            exact=_ExactGroups(self), guard=None if form in PAYING_FORMS else self._guard(form)
        )

    def _guard(self, form: str) -> Any:
        guards = [refuse_rewards(c, form, prefix=f"{name}.") for name, c in self.contracts.items()]

        def guard(program: Program, what: str, term: Any) -> None:
            for each in guards:
                each(program, what, term)

        return guard

    def solve(self, backend: str | None = None, *, form: Form = "reduced", **options: Any) -> Solution:
        """Design all menus, by the exact algorithm or on the backend of that name; see `Program.solve`."""
        return self.program(form).solve(backend, **options)

    def audit(self, menu: Any) -> dict[str, Audit]:
        """Check each group's menu by the definition; see `ScreeningContract.audit`."""
        return {
            name: contract.audit({what: menu[f"{name}.{what}"] for what in ("quantity", "payment")})
            for name, contract in self.contracts.items()
        }


class _ExactGroups:
    """Each group's exact algorithm, alone or under one budget for all of them."""

    def __init__(self, groups: ContractGroups) -> None:
        self.groups = groups

    def refuses(self, program: Program, changes: Changes) -> tuple[str, ...]:
        """Everything but one ``total_payment <= constant``."""
        refused = [*changes.dropped, *(("objective",) if changes.objective else ())]
        refused += [family for family in changes.added if _budget(program, family) is None]
        budgets = [family for family in changes.added if family not in refused]
        curved = any(c.cost_curve is not None for c in self.groups.contracts.values())
        return (*refused, *budgets[0 if curved else 1 :])

    def __call__(self, program: Program, changes: Changes, settings: Settings) -> ExactAnswer:
        """Solve each group at the price of the budget."""
        if not changes.added:
            return ExactAnswer(self._values(program, self._menus(0.0)))
        (family,) = changes.added
        budget = _budget(program, family)
        assert budget is not None
        if budget < 0:
            participation = [name for name in program.families if name.split(".")[-1] == "ir"]
            return ExactAnswer(conflict=(family, *participation), reason="payments are never negative")
        quantities, price = self._within(budget)
        return ExactAnswer(
            self._values(program, quantities), {family: price}, reason="exact algorithm, budget priced"
        )

    def _menus(self, price: float) -> dict[str, Array]:
        """Best quantities of each group if a unit of payment costs 1 + price."""
        found = {}
        for name, c in self.groups.contracts.items():
            cost = (1 + price) * exact.virtual_costs(c.types, c.probs, c.unit_cost)
            found[name] = exact.allocate(c.types, c.probs, c.gain, cost, cost_curve=c.cost_curve)[0]
        return found

    def _spent(self, quantities: Mapping[str, Array]) -> float:
        """Expected payments to all holders."""
        return sum(
            self.groups.n_holders[name]
            * float(exact.virtual_costs(c.types, c.probs, c.unit_cost) @ quantities[name])
            for name, c in self.groups.contracts.items()
        )

    def _within(self, budget: float) -> tuple[dict[str, Array], float]:
        """Best quantities within the budget, and its price."""
        base = self._menus(0.0)
        if self._spent(base) <= budget:
            return base, 0.0
        high = 1.0
        while self._spent(self._menus(high)) > budget:
            high *= 4
            if high > _ENDLESS:
                raise NotApplicable(
                    "the budget can be met, but only at an unlimited price: loosen it a little",
                    reason="the price of the budget has no finite value",
                )
        # The last trial on each side: where spending jumps (kinked gains), they are mixed.
        sides: dict[bool, tuple[float, float, dict[str, Array]]] = {}

        def excess(price: float) -> float:
            quantities = self._menus(price)
            over = self._spent(quantities) - budget
            best = sides.get(over > 0)
            nearer = best is None or (price > best[0] if over > 0 else price < best[0])
            if nearer:
                sides[over > 0] = price, over, quantities
            return over

        price = float(brentq(excess, 0.0, high, xtol=4 * _EPS, rtol=4 * _EPS, maxiter=500))
        over, under = sides[True], sides[False]
        share = over[1] / (over[1] - under[1])
        mixed = {name: (1 - share) * over[2][name] + share * under[2][name] for name in base}
        return mixed, price

    def _values(self, program: Program, quantities: Mapping[str, Array]) -> dict[str, Array]:
        values: dict[str, Array] = {}
        for name, c in self.groups.contracts.items():
            quantity = quantities[name]
            burden, amount = c.burden(quantity), c.types * quantity
            values |= {
                f"{name}.quantity": quantity,
                f"{name}.burden": burden,
                f"{name}.payment": menus.payments(c.types, burden, c.unit_cost),
                f"{name}.gain": c.gain(amount),
                f"{name}.gain_amount": amount,
            }
        return {name: value for name, value in values.items() if program.has_variable(name)}


def _budget(program: Program, family: str) -> float | None:
    """Bound of a family ``total_payment <= constant``; None if it is anything else."""
    terms = program.families[family]
    if len(terms) != 1 or type(terms[0]).__name__ != "Inequality":
        return None
    smaller, larger = terms[0].args
    if smaller is not program["total_payment"] or not larger.is_constant() or larger.size != 1:
        return None
    bound = float(np.asarray(larger.value).item())
    return bound if np.isfinite(bound) else None
