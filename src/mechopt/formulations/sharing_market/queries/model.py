"""The market for queries: whole numbers of questions on each edge, each with its privacy cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations import checks
from mechopt.formulations.functions import ConcaveFunction, SizeUtility
from mechopt.formulations.sharing_market.queries.exact import QueryProblem
from mechopt.formulations.sharing_market.queries.reading import (
    budgets,
    composition_levels,
    limits,
    refuse,
    sizes,
    utilities,
)
from mechopt.formulations.sharing_market.values import described
from mechopt.solvers.errors import InvalidInput, NotApplicable
from mechopt.solvers.program import OnFailure, Program
from mechopt.solvers.solution import Solution

if TYPE_CHECKING:
    from mechopt.formulations.sharing_market.distortion import Distortion
    from mechopt.formulations.sharing_market.mixed import Split
    from mechopt.formulations.sharing_market.prices import MarketCheck
    from mechopt.formulations.sharing_market.queries.matching import QueryMatch
    from mechopt.formulations.sharing_market.queries.mixed import QueryMixedVCG
    from mechopt.formulations.sharing_market.queries.stability import Method, QueryStability, Rule
    from mechopt.formulations.sharing_market.queries.vcg import Pivot, QueryVCG

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]


def advanced_composition(max_queries: int, epsilon: float, delta: float) -> Array:
    r"""Privacy loss of several queries, by the better of two composition theorems.

    In units of the loss of one query, for q = 0, 1, ..., Q of them:

    .. math:: \min \bigl( q \epsilon, \; \epsilon \sqrt{2 q \ln (1 / \delta)} + q \epsilon (e^\epsilon - 1)
       \bigr) / \epsilon.

    Parameters
    ----------
    max_queries : int
        Q, >= 1.
    epsilon : float
        Loss of one query, > 0.
    delta : float
        Chance that the second bound fails, in (0, 1).

    Returns
    -------
    array, shape (max_queries + 1,)
        To be used as ``composition``.

    References
    ----------
    Dwork, Rothblum and Vadhan, "Boosting and Differential Privacy", theorem III.3.

    Examples
    --------
    >>> advanced_composition(100, epsilon=0.01, delta=1e-3)[[1, 10, 100]].round(2).tolist()
    [1.0, 10.0, 38.17]
    """
    count = np.arange(checks.count(max_queries, "max_queries") + 1.0)
    epsilon, delta = checks.positive(epsilon, "epsilon"), checks.fraction(delta, "delta")
    advanced = np.sqrt(2 * count * np.log(1 / delta)) + count * np.expm1(epsilon)
    loss: Array = np.minimum(count, advanced)
    return loss


@dataclass(frozen=True, eq=False, repr=False)
class QueryMarket:
    r"""A market in which agents buy answers to queries on each other's data.

    Buyer j may ask seller i up to ``max_queries[i, j]`` queries. Each answer is worth ``query_size[i]``
    records of its own data to it, and q answers cost the seller
    :math:`C_{ij}(q) = c_{ij} h(q)`, where h says how privacy losses add up: h(q) = q under basic composition.

    Parameters
    ----------
    data_size : array, shape (n_agents,)
        Data of each agent (records), > 0; always at its owner's disposal, at no cost.
    sharing_cost : array, shape (n_agents, n_agents)
        ``sharing_cost[i, j]``: what one query of buyer j costs seller i (money), >= 0; the diagonal is 0.
    utility : utility of total size, or a sequence of n_agents of them
        What its data and answers are worth to each agent (money): ``mo.LogUtility(a, s)`` or its like, a
        `ConcaveFunction`, ``ThresholdUtility`` or ``UserUtility``. One stands for all agents.
    max_queries : int, or array of int, shape (n_agents, n_agents)
        Most queries on each edge, >= 0.
    query_size : array, shape (n_agents,), optional
        What an answer of each seller is worth (records), > 0; 1 by default.
    composition : array, shape (n_levels,), optional
        h(0), h(1), ...: cost of that many queries in units of ``sharing_cost``; h(0) = 0, not falling, at
        least as many as the most queries, and one more. Linear by default; see `advanced_composition`.

    Raises
    ------
    InvalidInput
        If an argument breaks its rule; the message names it, the index, the value and the rule.

    References
    ----------
    Rasouli and Jordan, "Data Sharing Markets", https://arxiv.org/abs/2107.08630, section 6, eq. (35).

    Examples
    --------
    >>> import mechopt as mo
    >>> market = QueryMarket(
    ...     data_size=[4.0, 2.0, 1.0],
    ...     sharing_cost=[[0, 1, 1], [1, 0, 1], [1, 1, 0]],
    ...     utility=mo.LogUtility(6.0, 1.0),
    ...     max_queries=5,
    ... )
    >>> solution = market.solve()
    >>> solution["query_count"].tolist(), round(solution.objective, 4)
    ([[0, 3, 4], [1, 0, 0], [0, 0, 0]], 24.2517)
    """

    data_size: Array
    sharing_cost: Array
    utility: tuple[ConcaveFunction | SizeUtility, ...]
    max_queries: IntArray
    query_size: Array | None = None
    composition: Array | None = None

    def __post_init__(self) -> None:
        size = sizes(self.data_size, "data_size")
        object.__setattr__(self, "data_size", size)
        cost = checks.square(self.sharing_cost, size.size, "sharing_cost", "row = seller, column = buyer")
        refuse(cost, cost < 0, "sharing_cost", "must be >= 0")
        own = np.eye(size.size, dtype=bool)
        refuse(cost, own & (cost != 0), "sharing_cost", "must be 0: own data costs nothing")
        object.__setattr__(self, "sharing_cost", cost)
        object.__setattr__(self, "utility", utilities(self.utility, size.size))
        object.__setattr__(self, "max_queries", limits(self.max_queries, size.size))
        if self.query_size is not None:
            answer = sizes(self.query_size, "query_size")
            if answer.size != size.size:
                raise InvalidInput(f"query_size has {answer.size} entries for {size.size} agents")
            object.__setattr__(self, "query_size", answer)
        if self.composition is not None:
            object.__setattr__(self, "composition", composition_levels(self.composition, self.most_queries))

    def __repr__(self) -> str:
        return f"QueryMarket of {described(self.data_size, self.utility)}, up to {self.most_queries} queries"

    @property
    def n_agents(self) -> int:
        """Number of agents, N."""
        return int(self.data_size.size)

    @property
    def most_queries(self) -> int:
        """Largest entry of ``max_queries``."""
        return int(np.max(self.max_queries))

    @property
    def answer_size(self) -> Array:
        """What an answer of each seller is worth (records), ones if not given; shape (n_agents,)."""
        return np.ones(self.n_agents) if self.query_size is None else self.query_size

    @cached_property
    def levels(self) -> Array:
        """h(0), h(1), ..., h(most_queries): cost of that many queries in units of one's."""
        most = self.most_queries
        return np.arange(most + 1.0) if self.composition is None else self.composition[: most + 1]

    @cached_property
    def tariff(self) -> Array:
        """C[i, j, q], what q queries of buyer j cost seller i (money); infinite beyond ``max_queries``.

        Charged as prices they are competitive (Proposition 4.1, whose proof uses no more of costs than that
        they add up over buyers).
        """
        cost = self.sharing_cost[:, :, np.newaxis] * self.levels
        return np.where(np.arange(self.levels.size) <= self.max_queries[:, :, np.newaxis], cost, np.inf)

    # ------------------------------------------------------------ what queries are worth

    def query_count(self, queries: Any) -> IntArray:
        """Read numbers of queries: an array, or a solution that has one.

        Returns
        -------
        array of int, shape (n_agents, n_agents)
            What the column's agent asks the row's.

        Raises
        ------
        InvalidInput
            If an entry is no whole number from 0 to ``max_queries``.
        """
        if hasattr(queries, "query_count"):
            queries = queries.query_count
        elif isinstance(queries, Mapping | Solution):
            queries = queries["query_count"]
        given = checks.square(queries, self.n_agents, "query_count", "row = seller, column = buyer")
        refuse(given, given != np.floor(given), "query_count", "must be a whole number")
        refuse(given, given < 0, "query_count", "must be >= 0")
        refuse(given, given > self.max_queries, "query_count", "is more than max_queries allows")
        return given.astype(np.intp)

    def total_data(self, query_count: Any) -> Array:
        """Data and answers that each agent has (records), shape (n_agents,)."""
        data: Array = self.data_size + self.answer_size @ self.query_count(query_count)
        return data

    def buyer_value(self, query_count: Any) -> Array:
        """What its data and answers are worth to each agent (money), shape (n_agents,)."""
        data = self.total_data(query_count)
        return np.array([float(utility(total)) for utility, total in zip(self.utility, data, strict=True)])

    def cost(self, query_count: Any) -> Array:
        """What queries cost each seller, buyer by buyer (money), shape (n_agents, n_agents)."""
        cost: Array = self.sharing_cost * self.levels[self.query_count(query_count)]
        return cost

    def allocation_value(self, query_count: Any) -> Array:
        """V_i: what data and answers are worth to each, minus what its answers cost it (money)."""
        value: Array = self.buyer_value(query_count) - self.cost(query_count).sum(axis=1)
        return value

    def welfare(self, query_count: Any) -> float:
        """Sum of `allocation_value` (money)."""
        return float(self.allocation_value(query_count).sum())

    @cached_property
    def outside_option(self) -> Array:
        """What own data alone is worth to each agent (money), shape (n_agents,)."""
        return self.buyer_value(np.zeros((self.n_agents, self.n_agents)))

    def query_problem(
        self, buyer: int, *, without: Iterable[int] = (), tariff: Array | None = None
    ) -> QueryProblem:
        """What one buyer chooses from.

        Parameters
        ----------
        buyer : int
        without : iterable of int
            Sellers left out.
        tariff : array, shape (n_agents, n_agents, n_levels), optional
            Prices P[i, j, q] (money); the sellers' costs by default.
        """
        price = (self.tariff if tariff is None else tariff)[:, buyer].copy()
        price[[buyer, *without], 1:] = np.inf
        return QueryProblem(self.utility[buyer], float(self.data_size[buyer]), self.answer_size, price)

    # ------------------------------------------------------------ welfare

    def program(
        self, *, privacy_budget: ArrayLike | None = None, privacy_loss: ArrayLike | None = None
    ) -> Program:
        r"""Declare the choice of queries of most welfare, to be solved as it is or changed first.

        .. math:: \max \sum_j U_j \bigl( d_j + \textstyle\sum_i s_i q_{ij} \bigr) - \sum_{ij} C_{ij}(q_{ij})
           \quad \text{s.t.} \quad q_{ij} \in \{0, \dots, Q_{ij}\}.

        Parameters
        ----------
        privacy_budget : float or array, shape (n_agents,), optional
            Most privacy loss of each seller in all (an epsilon), which ties buyers together.
        privacy_loss : array, shape (n_agents, n_agents), optional
            Loss from one query; 1 if it is not given. Losses of several add up as ``composition`` says.

        Returns
        -------
        Program
            With the integer variable ``query_count``, expressions ``data``, ``utility``, ``cost``,
            ``welfare``, and the family ``privacy_budget`` if there is one. Unless costs are linear there are
            variables ``segment``, one a query, in families ``segments`` and ``in_order``.

        Raises
        ------
        NotApplicable
            For a utility that no program can hold.
        """
        from mechopt.formulations.sharing_market.queries.program import declare

        return declare(self, *budgets(privacy_budget, privacy_loss, self.n_agents))

    def solve(
        self,
        backend: str | None = None,
        *,
        tolerance: float | None = None,
        time_limit: float | None = None,
        verbose: bool = False,
        on_failure: OnFailure = "raise",
        privacy_budget: ArrayLike | None = None,
        privacy_loss: ArrayLike | None = None,
        **options: Any,
    ) -> Solution:
        """Find the queries of most welfare: buyer by buyer, or jointly if sellers have a privacy budget.

        Parameters
        ----------
        backend : str, optional
            Default: ``"exact"``, buyer by buyer, unless there is a privacy budget; then the joint program's
            default backend. Asked for ``"exact"`` with a budget, it refuses.
        tolerance, time_limit, verbose, on_failure, **options
            See `Program.solve`.
        privacy_budget, privacy_loss
            See `program`.

        Returns
        -------
        Solution
            ``query_count`` of whole numbers (row = seller, column = buyer), ``data`` (records), ``utility``,
            ``surplus`` (a buyer's utility less the cost of what it asks; money) of shape (n_agents,), and
            ``cost`` (money) of shape (n_agents, n_agents), all recomputed from the numbers of queries;
            ``objective`` is the welfare net of costs.

        Raises
        ------
        NotApplicable
            If no exact algorithm applies: name a backend.
        """
        from mechopt.formulations.sharing_market.queries.welfare import solve

        return solve(
            self,
            *budgets(privacy_budget, privacy_loss, self.n_agents),
            backend,
            tolerance=tolerance,
            time_limit=time_limit,
            verbose=verbose,
            on_failure=on_failure,
            **options,
        )

    # ------------------------------------------------------------ prices and payments

    def competitive_prices(self) -> Array:
        """Price of a query on each edge at which sellers and buyers choose the most welfare (money).

        Returns
        -------
        array, shape (n_agents, n_agents)
            The sharing costs.

        Raises
        ------
        NotApplicable
            If costs are not linear: one price a query clears the market no longer, and ``tariff`` does.

        References
        ----------
        Rasouli and Jordan, section 6.
        """
        if not np.allclose(self.levels, np.arange(self.levels.size), rtol=1e-12, atol=0.0):
            raise NotApplicable(
                "costs are not linear in the number of queries: charge `tariff`, not a price a query",
                reason="composition",
            )
        return np.array(self.sharing_cost)

    def is_equilibrium(self, queries: Any, price: ArrayLike, tolerance: float = 1e-9) -> MarketCheck:
        """Check whether queries and prices are a competitive equilibrium, by the definition.

        Parameters
        ----------
        queries : array, shape (n_agents, n_agents), or a solution
        price : array, shape (n_agents, n_agents) or (n_agents, n_agents, most_queries + 1)
            A price a query, or a tariff: what that many queries cost (money), 0 for none.
        tolerance : float
            Gain below which nobody objects, relative to the money involved.

        Returns
        -------
        MarketCheck
            True or false, with the agent that objects, and to what.
        """
        from mechopt.formulations.sharing_market.queries.equilibrium import check

        return check(self, self.query_count(queries), price, tolerance)

    def vcg(
        self,
        pivot: Pivot = "exclude",
        *,
        privacy_budget: ArrayLike | None = None,
        privacy_loss: ArrayLike | None = None,
    ) -> QueryVCG:
        """Run VCG: the queries of most welfare, and payments that make truth dominant.

        Parameters
        ----------
        pivot : {"exclude", "drop"}
            See `SharingMarket.vcg`.
        privacy_budget, privacy_loss
            See `program`; with budgets, pivots are joint programs.

        Returns
        -------
        QueryVCG
            ``payment`` (> 0: paid by the agent), ``imbalance``, ``payoff``, ``query_count``, ``pivot_value``.

        References
        ----------
        Rasouli and Jordan, eq. (18)-(20), and (36).
        """
        from mechopt.formulations.sharing_market.queries.vcg import vcg

        return vcg(self, pivot, *budgets(privacy_budget, privacy_loss, self.n_agents))

    def mixed_vcg(
        self,
        pivot: Pivot = "exclude",
        split: Split = "greedy",
        *,
        distortion: Distortion = "least_absolute",
    ) -> QueryMixedVCG:
        """Run mixed-VCG, which turns the imbalance of VCG into answers of lower or higher quality.

        Parameters
        ----------
        pivot, split, distortion
            See `SharingMarket.mixed_vcg`.

        Returns
        -------
        QueryMixedVCG
            ``payment``, which sums to 0, ``data_payment``, ``quality_weight``, ``payoff``, ``query_count``,
            and ``refusals`` of agents whose data payment no weights realise.

        References
        ----------
        Rasouli and Jordan, section 6, eq. (36).
        """
        from mechopt.formulations.sharing_market.queries.mixed import mixed_vcg

        return mixed_vcg(self, pivot, split, distortion)

    # ------------------------------------------------------------ without money

    def ordered_match(self, ranking: Sequence[int] | None = None) -> QueryMatch:
        """Run the weighted ordered match, in which agents trade queries for queries: a heuristic.

        The paper claims that what comes out is stable. It need not be, so that the outcome is always checked.

        Parameters
        ----------
        ranking : sequence of int, optional
            Agents, the best first; by default by falling data.

        Returns
        -------
        QueryMatch
            ``query_count``, and ``strong`` and ``core``, which tell whether somebody blocks it.

        References
        ----------
        Rasouli and Jordan, section 6.
        """
        from mechopt.formulations.sharing_market.queries.matching import ordered_match

        return ordered_match(self, ranking)

    def is_stable(self, queries: Any, rule: Rule = "strong", method: Method | None = None) -> QueryStability:
        """Check whether a coalition blocks these queries when there is no money.

        Parameters
        ----------
        queries : array, shape (n_agents, n_agents), or a solution
        rule : {"strong", "cut"}
            Whether members of a coalition keep queries to and from others, or only those among themselves
            (the core).
        method : {"enumeration", "program"}, optional
            Default: enumeration where there are few states.

        Returns
        -------
        QueryStability
            True or false, with the coalition that blocks, and how.
        """
        from mechopt.formulations.sharing_market.queries.stability import check

        return check(self, self.query_count(queries), rule, method)
