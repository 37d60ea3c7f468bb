"""The sharing market: agents who buy and sell data, one directed edge a sale."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations import checks
from mechopt.formulations.functions import (
    AdditiveUtility,
    ConcaveFunction,
    SizeUtility,
    TableUtility,
    Utility,
)
from mechopt.formulations.sharing_market.buyers import BuyerProblem
from mechopt.formulations.sharing_market.distortion import Distortion
from mechopt.formulations.sharing_market.mixed import MixedVCG, Split, mixed_vcg
from mechopt.formulations.sharing_market.prices import (
    MarketCheck,
    check_core,
    check_equilibrium,
    competitive_prices,
    declare_prices,
    price_interval,
)
from mechopt.formulations.sharing_market.program import declare, declare_configurations
from mechopt.formulations.sharing_market.restrictions import Restrictions
from mechopt.formulations.sharing_market.values import described, value_of_sets
from mechopt.formulations.sharing_market.vcg import VCG, Pivot, vcg
from mechopt.formulations.sharing_market.welfare import solve
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.program import OnFailure, Program
from mechopt.solvers.solution import Solution

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]


@dataclass(frozen=True, eq=False, repr=False)
class SharingMarket:
    r"""A market in which every agent may buy and sell data.

    Each agent i has data of its own, and may let j use it (the edge i -> j), which costs i something. Buyers
    value the data that they have; a sharing graph is a set of edges, and its welfare is what all value minus
    what sharing costs.

    Parameters
    ----------
    data_size : array, shape (n_agents,)
        Data of each agent (records), > 0; always at its owner's disposal, at no cost.
    sharing_cost : array, shape (n_agents, n_agents)
        ``sharing_cost[i, j]``: what it costs seller i that buyer j uses its data (money), >= 0; the diagonal
        is 0.
    utility : Utility, or a sequence of n_agents of them
        What its data is worth to each agent (money): a function of total size such as ``mo.LogUtility(a, s)``
        or any `ConcaveFunction`, or `ThresholdUtility`, `UserUtility`, `AdditiveUtility`, `TableUtility`. One
        stands for all agents.
    quality_weight : array, shape (n_agents, n_agents), optional
        ``quality_weight[i, j]``: what a record of seller i counts for in the utility of buyer j, >= 0; 1 by
        default.
    allow_negative_costs : bool
        Whether sharing may cost less than nothing: sellers who want their data to be used.

    Raises
    ------
    InvalidInput
        If an argument breaks its rule; the message names it, the index, the value and the rule.

    References
    ----------
    Rasouli and Jordan, "Data Sharing Markets", https://arxiv.org/abs/2107.08630, sections 4-5.

    Examples
    --------
    >>> import mechopt as mo
    >>> market = mo.SharingMarket(
    ...     data_size=[4.0, 2.0, 1.0],
    ...     sharing_cost=[[0, 1, 1], [1, 0, 1], [1, 1, 0]],
    ...     utility=mo.LogUtility(6.0, 1.0),
    ... )
    >>> solution = market.solve()
    >>> solution["adjacency"].astype(int).tolist(), round(solution.objective, 6)
    ([[0, 1, 1], [1, 0, 1], [0, 0, 0]], 31.827571)
    """

    data_size: Array
    sharing_cost: Array
    utility: tuple[Utility, ...]
    quality_weight: Array | None = None
    allow_negative_costs: bool = False

    def __post_init__(self) -> None:
        size = checks.vector(self.data_size, "data_size")
        if not size.size:
            raise InvalidInput("data_size is empty; give at least one agent's data")
        checks.all_finite(size, "data_size")
        if np.any(size <= 0):
            index = int(np.argmax(size <= 0))
            raise InvalidInput(
                f"data_size[{index}] = {size[index]:g} must be > 0; leave agents without data out"
            )
        object.__setattr__(self, "data_size", size)
        cost = checks.square(self.sharing_cost, size.size, "sharing_cost", "row = seller, column = buyer")
        if not self.allow_negative_costs and np.any(cost < 0):
            i, j = (int(k) for k in np.argwhere(cost < 0)[0])
            raise InvalidInput(
                f"sharing_cost[{i}, {j}] = {cost[i, j]:g} must be >= 0; if sellers like to share, say "
                "allow_negative_costs=True"
            )
        if np.any(np.diag(cost) != 0):
            index = int(np.argmax(np.diag(cost) != 0))
            raise InvalidInput(
                f"sharing_cost[{index}, {index}] = {cost[index, index]:g} must be 0: own data costs nothing"
            )
        object.__setattr__(self, "sharing_cost", cost)
        object.__setattr__(self, "utility", self._utilities(self.utility))
        if self.quality_weight is not None:
            weight = checks.square(
                self.quality_weight, size.size, "quality_weight", "row = seller, column = buyer"
            )
            if np.any(weight < 0):
                i, j = (int(k) for k in np.argwhere(weight < 0)[0])
                raise InvalidInput(f"quality_weight[{i}, {j}] = {weight[i, j]:g} must be >= 0")
            object.__setattr__(self, "quality_weight", weight)

    def _utilities(self, given: Any) -> tuple[Utility, ...]:
        n_agents = self.data_size.size
        kinds = (ConcaveFunction, SizeUtility, AdditiveUtility, TableUtility)
        each = (given,) * n_agents if isinstance(given, kinds) else given
        if not isinstance(each, Iterable) or isinstance(each, str):
            raise InvalidInput(
                f"utility must be a utility such as mo.LogUtility(a, s), or a list, got {given!r}"
            )
        each = tuple(each)
        if len(each) != n_agents:
            raise InvalidInput(
                f"utility has {len(each)} entries for {n_agents} agents; give one each, or one for all"
            )
        for buyer, utility in enumerate(each):
            if not isinstance(utility, kinds):
                raise InvalidInput(
                    f"utility[{buyer}] = {utility!r} is none; use mo.LogUtility(a, s) or its like, a "
                    "ConcaveFunction, ThresholdUtility, UserUtility, AdditiveUtility or TableUtility"
                )
            if isinstance(utility, AdditiveUtility) and len(utility.values) != n_agents:
                raise InvalidInput(
                    f"utility[{buyer}]: values has {len(utility.values)} entries for {n_agents} agents"
                )
            if isinstance(utility, TableUtility):
                others = frozenset(range(n_agents)) - {buyer}
                if utility.sellers != others:
                    raise InvalidInput(
                        f"utility[{buyer}]: the table is over sellers {sorted(utility.sellers)}; it must be "
                        f"over all others, {sorted(others)}"
                    )
        return each

    def __repr__(self) -> str:
        return f"SharingMarket of {described(self.data_size, self.utility)}"

    @property
    def n_agents(self) -> int:
        """Number of agents, N."""
        return int(self.data_size.size)

    @cached_property
    def weights(self) -> Array:
        """Quality weights, ones if none are given; shape (n_agents, n_agents)."""
        shape = (self.n_agents, self.n_agents)
        return np.ones(shape) if self.quality_weight is None else self.quality_weight

    def weighted(self, quality_weight: ArrayLike) -> SharingMarket:
        """Return the same market with these quality weights, shape (n_agents, n_agents)."""
        return replace(self, quality_weight=np.asarray(quality_weight, dtype=float))

    # ------------------------------------------------------------ what a graph is worth

    def adjacency(self, graph: Any) -> Array:
        """Read a sharing graph: an array, or a solution that has one.

        Returns
        -------
        array, shape (n_agents, n_agents)
            1 where the row's agent sells to the column's, else 0.

        Raises
        ------
        InvalidInput
            If it is no such array: another shape, entries other than 0 and 1, or an edge from an agent to
            itself.
        """
        if hasattr(graph, "adjacency"):
            graph = graph.adjacency
        elif isinstance(graph, Mapping | Solution):
            graph = graph["adjacency"]
        array = checks.square(graph, self.n_agents, "adjacency", "row = seller, column = buyer")
        broken = (array != 0) & (array != 1)
        if np.any(broken):
            i, j = (int(k) for k in np.argwhere(broken)[0])
            raise InvalidInput(f"adjacency[{i}, {j}] = {array[i, j]:g} must be 0 or 1")
        if np.any(np.diag(array)):
            index = int(np.argmax(np.diag(array)))
            raise InvalidInput(
                f"adjacency[{index}, {index}] must be 0, no self-sharing: own data needs no edge"
            )
        return array

    def buyer_value(self, adjacency: ArrayLike) -> Array:
        """What each agent's data is worth to it, U_i(S_i) (money), shape (n_agents,)."""
        graph = self.adjacency(adjacency).astype(bool)
        return np.array([float(self.value_of_sets(buyer, graph[:, buyer])) for buyer in range(self.n_agents)])

    def value_of_sets(self, buyer: int, taken: NDArray[np.bool_]) -> Array:
        """What sets of sellers are worth to a buyer; ``taken`` of shape (..., n_agents)."""
        return value_of_sets(
            self.utility[buyer],
            taken,
            own_size=float(self.data_size[buyer]),
            data_size=self.data_size,
            quality_weight=self.weights[:, buyer],
        )

    def total_data(self, adjacency: ArrayLike) -> Array:
        """Data that each agent has, its own included, weighted by quality (records), shape (n_agents,)."""
        graph = self.adjacency(adjacency)
        data: Array = self.data_size + (graph * self.weights * self.data_size[:, np.newaxis]).sum(axis=0)
        return data

    def allocation_value(self, adjacency: ArrayLike) -> Array:
        """V_i: what its data is worth to each agent, minus its costs of sharing (money), (n_agents,)."""
        graph = self.adjacency(adjacency)
        value: Array = self.buyer_value(graph) - (graph * self.sharing_cost).sum(axis=1)
        return value

    def welfare(self, adjacency: ArrayLike) -> float:
        """Sum of `allocation_value` (money)."""
        return float(self.allocation_value(adjacency).sum())

    @cached_property
    def outside_option(self) -> Array:
        """What own data alone is worth to each agent (money), shape (n_agents,)."""
        return self.buyer_value(np.zeros((self.n_agents, self.n_agents)))

    # ------------------------------------------------------------ one buyer

    def buyer_problem(
        self, buyer: int, *, without: Iterable[int] = (), restrictions: Restrictions | None = None
    ) -> BuyerProblem:
        """What one buyer chooses from: all other agents, less those left out or forbidden.

        Parameters
        ----------
        buyer : int
        without : iterable of int
            Sellers left out.
        restrictions : Restrictions, optional
            Forbidden edges, and the buyer's own cap and budget; what couples buyers is not looked at.
        """
        limits = restrictions or Restrictions()
        available = np.ones(self.n_agents, dtype=bool)
        available[[buyer, *without]] = False
        if limits.forbidden is not None:
            available &= ~limits.forbidden[:, buyer]
        return BuyerProblem(
            utility=self.utility[buyer],
            own_size=float(self.data_size[buyer]),
            data_size=self.data_size,
            quality_weight=self.weights[:, buyer],
            cost=self.sharing_cost[:, buyer],
            available=available,
            cap=np.inf if limits.buyer_cap is None else float(limits.buyer_cap[buyer]),
            budget=np.inf if limits.buyer_budget is None else float(limits.buyer_budget[buyer]),
        )

    # ------------------------------------------------------------ welfare

    def program(self, *, fractional: bool = False, **restrictions: Any) -> Program:
        r"""Declare the choice of a sharing graph of most welfare, to be solved as it is or changed first.

        .. math:: \max \sum_j u_j - \sum_{ij} c_{ij} A_{ij} \quad \text{s.t.} \quad u_j \le U_j(A_{\cdot j}),
           \quad A_{ij} \in \{0, 1\}.

        Parameters
        ----------
        fractional : bool
            Whether buyers may take any share of a seller's data: a convex program, which has prices.
        **restrictions
            See `Restrictions`: ``seller_cap``, ``buyer_cap``, ``reciprocity`` and so on, by name.

        Returns
        -------
        Program
            With the variable ``adjacency`` (row = seller, column = buyer), boolean unless ``fractional``;
            expressions ``data``, ``utility``, ``cost``, ``surplus`` (each buyer's, at cost), ``welfare``,
            ``allocation_value``; and a family for each restriction, by its name.

        References
        ----------
        Rasouli and Jordan, eq. (4), (11).
        """
        return declare(self, Restrictions.of(self.n_agents, restrictions), fractional=fractional)

    def configuration_program(self, **restrictions: Any) -> Program:
        """Declare the choice among sets of sellers as a linear program, whose prices are prices of data.

        Parameters
        ----------
        **restrictions
            See `Restrictions`.
        """
        return declare_configurations(self, Restrictions.of(self.n_agents, restrictions))

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
        """Find a sharing graph of most welfare: buyer by buyer where nothing couples them, else jointly.

        Parameters
        ----------
        backend : str, optional
            Default: ``"exact"``, the buyers' own algorithms, unless a restriction couples buyers; then the
            joint program's default backend. Asked for ``"exact"`` with such a restriction, it refuses.
        tolerance, time_limit, verbose, on_failure
            See `Program.solve`.
        **options
            Restrictions by name (see `Restrictions`), and the solver's own options.

        Returns
        -------
        Solution
            ``adjacency`` of zeros and ones (row = seller, column = buyer), ``data`` (records), ``utility``,
            ``surplus`` (money) of shape (n_agents,), all recomputed from the graph; ``objective`` is the
            welfare net of costs.
        """
        restrictions, rest = Restrictions.split(self.n_agents, options)
        return solve(
            self,
            restrictions,
            backend,
            tolerance=tolerance,
            time_limit=time_limit,
            verbose=verbose,
            on_failure=on_failure,
            **rest,
        )

    # ------------------------------------------------------------ prices

    def competitive_prices(self, **restrictions: Any) -> Array:
        """Prices p[i, j] at which sellers and buyers choose a graph of most welfare (money).

        Parameters
        ----------
        **restrictions
            See `Restrictions`.

        Returns
        -------
        array, shape (n_agents, n_agents)
            Without couplings the sharing costs (Proposition 4.1).

        Raises
        ------
        NotApplicable
            If couplings leave no linear prices: the configuration program is not integral.
        """
        return competitive_prices(self, Restrictions.of(self.n_agents, restrictions))

    def is_equilibrium(
        self, adjacency: Any, price: ArrayLike, tolerance: float = 1e-9, **restrictions: Any
    ) -> MarketCheck:
        """Check whether a graph and prices are a competitive equilibrium, by the definition.

        Parameters
        ----------
        adjacency : array, shape (n_agents, n_agents), or a solution
        price : array, shape (n_agents, n_agents)
            What buyer j pays seller i, of sold and of unsold data (money).
        tolerance : float
            Gain below which nobody objects, relative to the money involved.
        **restrictions
            See `Restrictions`: what buyers and sellers cannot choose.

        Returns
        -------
        MarketCheck
            True or false, with the agent that objects, and to what.
        """
        limits = Restrictions.of(self.n_agents, restrictions)
        return check_equilibrium(self, self.adjacency(adjacency), price, tolerance, limits)

    def price_interval(self, seller: int, buyer: int) -> tuple[float, float]:
        """Prices of one edge that keep the equilibrium, all others being at cost (money).

        Of a sold edge they run up from its cost, of an unsold edge down to it.

        References
        ----------
        Rasouli and Jordan, Proposition 4.2, which is right only for edges that are sold.
        """
        return price_interval(self, seller, buyer)

    def price_program(self, buyer: int) -> Program:
        """Declare all prices of one buyer's edges that are jointly in equilibrium, as a linear program.

        By default it maximises what its sellers earn above cost. Row generation solves large ones; see
        `mechopt.formulations.sharing_market.prices`.
        """
        return declare_prices(self, buyer)

    def in_core(self, payoff: ArrayLike, tolerance: float = 1e-9) -> MarketCheck:
        """Check whether no coalition could pay its members more by trading among themselves.

        Parameters
        ----------
        payoff : array, shape (n_agents,)
            What each agent has in the end (money).
        tolerance : float
            Relative to the money involved.
        """
        return check_core(self, payoff, tolerance)

    # ------------------------------------------------------------ VCG

    def vcg(self, pivot: Pivot = "exclude", **restrictions: Any) -> VCG:
        """Run the VCG mechanism: a graph of most welfare, and payments that make truth a dominant strategy.

        Parameters
        ----------
        pivot : {"exclude", "drop"}
            What an agent's payment is measured against: ``"exclude"``, the others' welfare without it and its
            data, so that taking part never hurts; ``"drop"``, eq. (20) as printed: only its value is dropped,
            and its data stays free for all, so that sellers are never paid back.
        **restrictions
            See `Restrictions`; with couplings, pivots are joint programs.

        Returns
        -------
        VCG
            ``payment`` (> 0: paid by the agent), ``imbalance``, ``payoff``, ``adjacency``, ``pivot_value``.

        References
        ----------
        Rasouli and Jordan, eq. (18)-(20).
        """
        return vcg(self, pivot, Restrictions.of(self.n_agents, restrictions))

    def mixed_vcg(
        self,
        pivot: Pivot = "exclude",
        split: Split = "greedy",
        *,
        distortion: Distortion = "least_absolute",
        base_weight: float | None = None,
        synthetic_data: bool = False,
        **restrictions: Any,
    ) -> MixedVCG:
        """Run mixed-VCG, which turns the imbalance of VCG into data of lower or higher quality.

        Parameters
        ----------
        pivot : {"exclude", "drop"}
            See `vcg`.
        split : {"greedy", "lp"}
            How the imbalance is divided: the paper's recursion, corrected, or a linear program over the
            splits that quality weights can realise.
        distortion : {"least_absolute", "least_squares", "uniform"}
            Which of the quality weights that realise an agent's share: those nearest to 1, or one for all.
        base_weight : float, optional
            In (0, 1]: D-mixed-VCG, which starts from data of this quality and never goes above 1.
        synthetic_data : bool
            Whether weights may be positive where nothing is sold.
        **restrictions
            See `Restrictions`.

        Returns
        -------
        MixedVCG
            ``payment``, ``data_payment``, ``quality_weight``, ``imbalance`` and, for each agent whose share
            no weights realise, why; ``truthful_if``: the assumption under which truth is dominant.

        References
        ----------
        Rasouli and Jordan, section 5, eq. (21)-(34).
        """
        return mixed_vcg(
            self,
            pivot,
            split,
            distortion=distortion,
            base_weight=base_weight,
            synthetic_data=synthetic_data,
            restrictions=Restrictions.of(self.n_agents, restrictions),
        )

    def plot(
        self,
        graph: Any = None,
        *,
        price: ArrayLike | None = None,
        payment: ArrayLike | None = None,
        names: Sequence[str] | None = None,
        unit: str = "money",
    ) -> Figure:
        """Draw who sells to whom, prices on edges, and payments at agents.

        Parameters
        ----------
        graph : array, shape (n_agents, n_agents), or a solution, or the outcome of a mechanism, optional
            By default a graph of most welfare. Of `vcg` and `mixed_vcg` the payments are shown, too.
        price : array, shape (n_agents, n_agents), optional
            By default what sharing costs.
        payment : array, shape (n_agents,), optional
            By default that of the mechanism, or what prices come to.
        names : sequence of str, optional
            By default the agents' indices.
        unit : str
            Of money.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from mechopt.formulations.sharing_market.figures import plot_market

        shown = self.solve() if graph is None else graph
        if payment is None and isinstance(shown, VCG | MixedVCG):
            payment = shown.payment
        return plot_market(self, shown, price=price, payment=payment, names=names, unit=unit)
