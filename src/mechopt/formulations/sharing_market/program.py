r"""The declared program of a sharing graph.

.. math:: \max \sum_j u_j - \sum_{ij} c_{ij} A_{ij} \quad \text{s.t.} \quad u_j \le U_j(A_{\cdot j}),
   \quad A_{ij} \in \{0, 1\}, \quad A_{ii} = 0.

Each kind of utility enters in its own way:

- concave in total size: as it is; utilities that differ in weight and scale alone share one atom;
- `AdditiveUtility`: linear;
- `ThresholdUtility`: booleans ``enough``, family ``threshold``;
- any other function of total size, if all data have one size for the buyer: booleans ``count_share``, one a
  number of sellers, families ``one_count`` and ``chosen_count``;
- `TableUtility`, and functions of total size over few sellers: ``set_share``, one a set of sellers, families
  ``one_set`` and ``chosen_set``; continuous, as whole edges leave each buyer one set.

Additive utilities, counts and sets are affine in the program, so that constraints may hold ``utility`` from
both sides. Concave ones and thresholds may only be wanted larger: the program refuses what would be met by
declaring less than a graph is worth, or uploads that serve no sale.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.functions import (
    AdditiveUtility,
    ConcaveFunction,
    TableUtility,
    ThresholdUtility,
)
from mechopt.formulations.sharing_market.concave import Worth, declare_concave, selection
from mechopt.formulations.sharing_market.configurations import declare_configurations
from mechopt.formulations.sharing_market.exact_route import ExactWelfare
from mechopt.formulations.sharing_market.guards import Guarded
from mechopt.formulations.sharing_market.restrictions import Restrictions
from mechopt.formulations.sharing_market.rows import restrict, seller_values
from mechopt.formulations.sharing_market.sets import MOST_SETS, all_sets
from mechopt.solvers.errors import InvalidInput, NotApplicable
from mechopt.solvers.program import Program

if TYPE_CHECKING:
    from mechopt.formulations.sharing_market.model import SharingMarket

__all__ = ["declare", "declare_configurations"]

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]


def declare(market: SharingMarket, restrictions: Restrictions, *, fractional: bool = False) -> Program:
    """Declare the choice of a sharing graph; see `SharingMarket.program`.

    Parameters
    ----------
    market : SharingMarket
    restrictions : Restrictions
    fractional : bool
        Whether sellers may sell any share of their data: ``adjacency`` is then continuous in [0, 1], and the
        program convex, with shadow prices.

    Raises
    ------
    NotApplicable
        If a utility has no program: a function of total size that is not concave, over many data of several
        sizes; or if shares of data have no value, as in a table.
    """
    n_agents = market.n_agents
    everything = market.buyer_value(1 - np.eye(n_agents))
    size = float(np.mean(np.maximum(np.abs(everything), np.abs(market.outside_option))))
    program = Program("sharing market", objective_scale=size if 0 < size < np.inf else 1.0)
    if fractional:
        adjacency = program.variable("adjacency", (n_agents, n_agents), bounds=[0.0, 1.0])
    else:
        adjacency = program.variable("adjacency", (n_agents, n_agents), boolean=True)
    program.add("no_self_sharing", cp.diag(adjacency) == 0)
    effective = market.weights * market.data_size[:, np.newaxis]
    np.fill_diagonal(effective, 0.0)  # own data are there anyhow, and would count twice
    data = program.define("data", market.data_size + cp.sum(cp.multiply(effective, adjacency), axis=0))
    buyers = Buyers(market, program, adjacency, data)
    utility = program.define("utility", buyers.utility(fractional))
    paid = cp.multiply(market.sharing_cost, adjacency)
    once = restrict(program, restrictions, adjacency, market.sharing_cost)
    cost = program.define("cost", cp.sum(paid, axis=1) + once)
    program.define("surplus", utility - cp.sum(paid, axis=0))
    program.define("allocation_value", utility - cost)
    program.maximize(program.define("welfare", cp.sum(utility) - cp.sum(cost)))

    def complete(graph: Array) -> dict[str, Any]:
        return {"adjacency": graph, **buyers.values(graph), **seller_values(restrictions, graph)}

    route = None if fractional else ExactWelfare(market, restrictions, complete)
    return program.seal(exact=route, guard=Guarded(larger=tuple(buyers.slack), smaller=("uploads",)))


@dataclass(eq=False)
class Buyers:
    """The utilities of all buyers in a program, kind by kind."""

    market: SharingMarket
    program: Program
    adjacency: cp.Expression
    data: cp.Expression
    slack: list[str] = field(default_factory=list)
    """Variables that may be below what the graph makes of them."""
    _parts: list[tuple[IntArray, cp.Expression]] = field(default_factory=list)
    _completions: list[Callable[[Array], dict[str, Array]]] = field(default_factory=list)

    def utility(self, fractional: bool) -> cp.Expression:
        """Declare all utilities; an expression of shape (n_agents,)."""
        kinds: dict[str, list[int]] = {}
        for buyer in range(self.market.n_agents):
            kind = self._kind(buyer)
            if fractional and kind not in ("concave", "additive"):
                raise NotApplicable(
                    f"utility[{buyer}] = {type(self.market.utility[buyer]).__name__} has no value for shares "
                    "of data; leave fractional=True out, or use a concave utility of total size",
                    reason="fractional data of a utility that is not concave",
                )
            kinds.setdefault(kind, []).append(buyer)
        for kind, buyers in kinds.items():
            getattr(self, f"_declare_{kind}")(np.array(buyers, dtype=np.intp))
        return sum(
            (selection(buyers, self.market.n_agents).T @ part for buyers, part in self._parts),
            start=cp.Constant(np.zeros(self.market.n_agents)),
        )

    def values(self, adjacency: Array) -> dict[str, Array]:
        """Values of the variables declared here, at a sharing graph."""
        return {name: value for complete in self._completions for name, value in complete(adjacency).items()}

    def _kind(self, buyer: int) -> str:
        utility = self.market.utility[buyer]
        if isinstance(utility, ConcaveFunction):
            return "concave"
        if isinstance(utility, AdditiveUtility):
            return "additive"
        if isinstance(utility, ThresholdUtility):
            return "threshold"
        if isinstance(utility, TableUtility):
            return "sets"
        sizes = self._sizes(buyer)
        if sizes.size == 0 or sizes.max() <= sizes.min() * (1 + 1e-12):
            return "counts"
        if 2.0 ** (self.market.n_agents - 1) * self.market.n_agents <= MOST_SETS:
            return "sets"
        raise NotApplicable(
            f"utility[{buyer}] = {type(utility).__name__} has no program over data of several sizes "
            f"({sizes.min():g} to {sizes.max():g} records for this buyer); the exact algorithms take it: "
            "market.solve() without restrictions that couple buyers, or a concave utility",
            reason="a utility that is not concave, of data of several sizes",
        )

    def _sizes(self, buyer: int) -> Array:
        """Sizes of the data that count for a buyer, its own apart."""
        size: Array = np.delete(self.market.data_size * self.market.weights[:, buyer], buyer)
        return size[size > 0]

    # ------------------------------------------------------------ concave in total size

    def _declare_concave(self, buyers: IntArray) -> None:
        market = self.market
        everything = market.data_size + np.sum(
            market.weights * market.data_size[:, np.newaxis] * (1 - np.eye(market.n_agents)), axis=0
        )
        utilities: dict[int, ConcaveFunction] = {}
        for buyer in buyers.tolist():
            utility = market.utility[buyer]
            assert isinstance(utility, ConcaveFunction)
            utilities[buyer] = utility
        for worth in declare_concave(self.program, self.data, utilities, everything):
            self._parts.append((worth.agents, worth.value))
            if worth.variable is not None:
                self.slack.append(worth.variable)
                self._completions.append(partial(self._evaluate, worth, worth.variable))

    def _evaluate(self, worth: Worth, variable: str, graph: Array) -> dict[str, Array]:
        return {variable: worth.function(self.market.total_data(graph)[worth.agents])}

    # ------------------------------------------------------------ other kinds

    def _declare_additive(self, buyers: IntArray) -> None:
        values = np.array([self.market.utility[buyer].values for buyer in buyers]).T
        worth = values * self.market.weights[:, buyers]
        self._parts.append((buyers, cp.sum(cp.multiply(worth, self.adjacency[:, buyers]), axis=0)))

    def _declare_threshold(self, buyers: IntArray) -> None:
        chosen = [self.market.utility[buyer] for buyer in buyers]
        weight = np.array([utility.weight for utility in chosen])
        size = np.array([utility.size for utility in chosen])
        # Like the utility itself, forgive what rounding alone makes short.
        need = np.maximum(size * (1 - 1e-12) - self.market.data_size[buyers], 0.0)
        lacking = need > 0
        batches = (self.market.weights * self.market.data_size[:, np.newaxis])[:, buyers]
        # No batch counts for more than the whole need: the same graphs, and a tighter relaxation.
        share = np.minimum(batches / np.where(lacking, need, 1.0), 1.0)
        enough = self.program.variable("enough", buyers.size, boolean=True)
        self.slack.append("enough")
        got = cp.sum(cp.multiply(share, self.adjacency[:, buyers]), axis=0)
        self.program.add("threshold", got >= cp.multiply(lacking.astype(float), enough))
        self._parts.append((buyers, cp.multiply(weight, enough)))

        def complete(graph: Array) -> dict[str, Array]:
            data = self.market.total_data(graph)[buyers]
            return {"enough": (data >= size * (1 - 1e-12)).astype(float)}

        self._completions.append(complete)

    def _declare_counts(self, buyers: IntArray) -> None:
        n_agents, market = self.market.n_agents, self.market
        counts = np.arange(n_agents)
        sizes = np.array([self._sizes(buyer)[:1].sum() for buyer in buyers])
        most = np.array([self._sizes(buyer).size for buyer in buyers])
        amount = market.data_size[buyers] + np.minimum.outer(counts, most) * sizes
        value = np.stack(
            [market.utility[buyer](column) for buyer, column in zip(buyers, amount.T, strict=True)],
            axis=1,
        )
        if not np.all(np.isfinite(value)):
            k, which = (int(i) for i in np.argwhere(~np.isfinite(value))[0])
            raise InvalidInput(
                f"utility[{buyers[which]}] is {value[k, which]} for {amount[k, which]:g} records; a program "
                "needs finite values"
            )
        counted = (market.weights[:, buyers] > 0).astype(float)
        counted[buyers, np.arange(buyers.size)] = 0.0
        share = self.program.variable("count_share", (n_agents, buyers.size), boolean=True)
        taken = cp.sum(cp.multiply(counted, self.adjacency[:, buyers]), axis=0)
        self.program.add("one_count", cp.sum(share, axis=0) == 1)
        self.program.add("chosen_count", counts @ share == taken)
        self._parts.append((buyers, cp.sum(cp.multiply(value, share), axis=0)))

        def complete(graph: Array) -> dict[str, Array]:
            number = np.sum(counted * graph[:, buyers], axis=0)
            return {"count_share": (counts[:, np.newaxis] == number).astype(float)}

        self._completions.append(complete)

    def _declare_sets(self, buyers: IntArray) -> None:
        n_agents = self.market.n_agents
        sets = all_sets(self.market, np.ones((n_agents, n_agents), dtype=bool), buyers.tolist())
        share = self.program.variable("set_share", sets.buyer.size, nonneg=True)
        sellers, owners = np.nonzero(~np.eye(n_agents, dtype=bool)[:, buyers])
        edges = sets.by_edge(n_agents)[buyers[owners] * n_agents + sellers]
        by_buyer = sets.by_buyer(buyers)
        self.program.add("one_set", by_buyer @ share == 1)
        self.program.add("chosen_set", edges @ share == self.adjacency[sellers, buyers[owners]])
        self._parts.append((buyers, by_buyer.multiply(sets.value).tocsr() @ share))
        self._completions.append(lambda graph: {"set_share": sets.shares(graph)})
