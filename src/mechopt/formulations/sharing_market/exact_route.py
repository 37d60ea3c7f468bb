"""The exact algorithm as the backend ``exact`` sees it: which changes of a program it can take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import cvxpy as cp
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from mechopt.formulations.sharing_market.restrictions import Restrictions
from mechopt.solvers.backend import Settings
from mechopt.solvers.program import Changes, ExactAnswer, Program

if TYPE_CHECKING:
    from mechopt.formulations.sharing_market.model import SharingMarket

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.intp]

WITHOUT_VARIABLES = (
    "forbidden",
    "buyer_cap",
    "buyer_budget",
    "seller_cap",
    "privacy_budget",
    "platform_cap",
    "platform_privacy_budget",
    "reciprocity",
)
"""Families of restrictions that may be dropped without changing what any variable stands for."""


class ExactWelfare:
    """The buyers' own algorithms, for programs in which nothing couples buyers.

    Beyond the program as declared they take families that were dropped, if those were restrictions, and
    families that were added, if they read as forbidden edges, as a cap on one buyer's sellers, or as a budget
    for what they cost.

    Parameters
    ----------
    market : SharingMarket
    restrictions : Restrictions
        With which the program was declared.
    complete : callable
        The values of all variables of the program at a sharing graph.
    """

    def __init__(
        self,
        market: SharingMarket,
        restrictions: Restrictions,
        complete: Callable[[Array], dict[str, Any]],
    ) -> None:
        self.market, self.restrictions, self.complete = market, restrictions, complete

    def refuses(self, program: Program, changes: Changes) -> tuple[str, ...]:
        """Families, or ``"objective"``, that tie buyers together or that it cannot read."""
        restrictions, refused = self._read(program, changes)
        return (*restrictions.couplings, *refused, *(("objective",) if changes.objective else ()))

    def __call__(self, program: Program, changes: Changes, settings: Settings) -> ExactAnswer:
        """Solve."""
        from mechopt.formulations.sharing_market.exact import welfare_maximum

        restrictions, _ = self._read(program, changes)
        found = welfare_maximum(self.market, restrictions)
        return ExactAnswer(self.complete(np.asarray(found.adjacency, dtype=float)))

    def _read(self, program: Program, changes: Changes) -> tuple[Restrictions, list[str]]:
        """Restrictions as changed, and the families that are none."""
        refused = [family for family in changes.dropped if family not in WITHOUT_VARIABLES]
        blank = Restrictions()
        gone = {name: getattr(blank, name) for name in changes.dropped if name in WITHOUT_VARIABLES}
        restrictions = replace(self.restrictions, **gone)
        for family in changes.added:
            read = self._with(restrictions, program, family)
            if read is None:
                refused.append(family)
            else:
                restrictions = read
        return restrictions, refused

    def _with(self, restrictions: Restrictions, program: Program, family: str) -> Restrictions | None:
        """Restrictions with those of a family, or None if it is not made of restrictions of single buyers."""
        limits = _Limits.of(restrictions, self.market)
        for term in program.families[family]:
            rows = _rows(program["adjacency"], term)
            if rows is None or not all(limits.take(row) for row in rows):
                return None
        return replace(
            restrictions, forbidden=limits.forbidden, buyer_cap=limits.cap, buyer_budget=limits.budget
        )


@dataclass(frozen=True, eq=False)
class _Row:
    """The row ``sum(weight * adjacency[sellers, buyers]) <= limit``, or ``==``."""

    sellers: IntArray
    buyers: IntArray
    weight: Array
    limit: float
    equal: bool


def _rows(adjacency: cp.Expression, term: Any) -> Iterator[_Row] | None:
    """Read a constraint as rows on the adjacency, or None if it is more than that."""
    if type(term).__name__ not in ("Inequality", "Equality"):
        return None
    difference = term.args[0] - term.args[1]
    if not difference.is_affine() or [v.id for v in difference.variables()] != [adjacency.id]:
        return None
    held = adjacency.value
    adjacency.save_value(np.zeros(adjacency.shape))
    constant, gradient = difference.value, difference.grad[adjacency]
    adjacency.save_value(held)
    if constant is None:  # a parameter without a value
        return None
    equal = type(term).__name__ == "Equality"
    return _each(sp.csc_matrix(gradient), np.ravel(constant, order="F"), adjacency.shape[0], equal)


def _each(gradient: sp.csc_matrix, constant: Array, n_agents: int, equal: bool) -> Iterator[_Row]:
    """Rows one by one, own data left out; CVXPY counts the edges column by column."""
    for number, value in enumerate(constant):
        inside = slice(gradient.indptr[number], gradient.indptr[number + 1])
        buyers, sellers = np.divmod(gradient.indices[inside], n_agents)
        weight = gradient.data[inside]
        kept = (buyers != sellers) & (weight != 0)
        yield _Row(sellers[kept], buyers[kept], weight[kept], -float(value), equal)


@dataclass(eq=False)
class _Limits:
    """What single buyers may take."""

    market: SharingMarket
    forbidden: BoolArray
    cap: Array
    budget: Array

    @classmethod
    def of(cls, restrictions: Restrictions, market: SharingMarket) -> _Limits:
        """Those that there are already."""
        n_agents = market.n_agents
        barred, caps = restrictions.forbidden, (restrictions.buyer_cap, restrictions.buyer_budget)
        return cls(
            market,
            np.zeros((n_agents, n_agents), dtype=bool) if barred is None else np.array(barred),
            *(np.full(n_agents, np.inf) if limit is None else np.array(limit) for limit in caps),
        )

    def take(self, row: _Row) -> bool:
        """Add a row; False if it forbids no edges, and is no cap or budget of one buyer."""
        sign = -1.0 if row.equal and np.all(row.weight < 0) else 1.0
        weight, limit = sign * row.weight, sign * row.limit
        if np.any(weight < 0) or limit < 0 or (row.equal and limit != 0):
            return False
        if limit == 0:
            self.forbidden[row.sellers, row.buyers] = True
            return True
        if not row.buyers.size:
            return True
        buyer = row.buyers[0]
        if np.any(row.buyers != buyer):
            return False
        free = ~self.forbidden[:, buyer]
        free[buyer] = False
        column = np.zeros(self.market.n_agents)
        column[row.sellers] = weight
        cost = self.market.sharing_cost[free, buyer]
        column = column[free]
        if not column.any():
            return True
        if np.all(column == column[0]):
            self.cap[buyer] = min(self.cap[buyer], np.floor(limit / column[0] * (1 + 1e-12)))
            return True
        rate = _rate(column, cost)
        if rate is not None:
            self.budget[buyer] = min(self.budget[buyer], limit / rate)
        return rate is not None


def _rate(column: Array, cost: Array) -> float | None:
    """Return the factor by which costs have been multiplied to make a row, or None."""
    largest = int(np.argmax(cost))
    if cost[largest] <= 0:
        return None
    rate = float(column[largest] / cost[largest])
    return rate if rate > 0 and np.allclose(column, rate * cost, rtol=1e-12, atol=0.0) else None
