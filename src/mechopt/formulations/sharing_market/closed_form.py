r"""Closed forms of VCG payments and their imbalance, and of uniform quality weights.

They hold where nothing couples buyers. With :math:`\pi_j(T)` the surplus of buyer j among agents T,

.. math:: \tilde t_i = \mathrm{in}_i - \mathrm{out}_i - \sum_{j : i \in S_j} [\pi_j(N) - \pi_j(N \setminus i)]

if the pivot excludes i, and if it only drops i's value, so that i's data becomes free,

.. math:: \tilde t_i = \mathrm{in}_i + \sum_{j \ne i : i \notin S_j} [\pi_j(N; c_i = 0) - \pi_j(N)],

where in_i and out_i are what i's sellers and i itself bear for the data that changes hands. The first sum to
a deficit or to nothing, the second to a surplus or to nothing.

Surpluses are found here by writing down every set of sellers; nothing is shared with the algorithms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations.functions import AdditiveUtility, ConcaveFunction
from mechopt.solvers.errors import InvalidInput, NotApplicable

if TYPE_CHECKING:
    from mechopt.formulations.sharing_market.model import SharingMarket

Array = NDArray[np.float64]

_MOST_AGENTS = 16


def payments(market: SharingMarket, pivot: str, adjacency: ArrayLike) -> Array:
    """VCG payments at a given graph of most welfare (money), shape (n_agents,).

    Parameters
    ----------
    market : SharingMarket
        At most 16 agents.
    pivot : {"exclude", "drop"}
        See `SharingMarket.vcg`; ``"drop"`` with costs >= 0 only.
    adjacency : array, shape (n_agents, n_agents)
        Payments, unlike payoffs, depend on which of several best graphs is chosen.

    Raises
    ------
    NotApplicable
        With more agents, or with negative costs under ``"drop"``.
    """
    graph = market.adjacency(adjacency).astype(bool)
    whole, without, free = _surpluses(market, pivot)
    n = market.n_agents
    got = np.array(
        [market.buyer_value(graph)[j] - (graph * market.sharing_cost)[:, j].sum() for j in range(n)]
    )
    size = 1 + np.abs(whole)
    if np.any(whole - got > 1e-9 * size):
        buyer = int(np.argmax((whole - got) / size))
        raise InvalidInput(
            f"adjacency: agent {buyer} could gain {whole[buyer] - got[buyer]:.6g} from other sellers; VCG "
            "payments are those of a graph of most welfare, such as market.solve()"
        )
    paid_for = (graph * market.sharing_cost).sum(axis=0)
    if pivot == "exclude":
        borne = (graph * market.sharing_cost).sum(axis=1)
        exclusive: Array = paid_for - borne - (graph * (whole - without)).sum(axis=1)
        return exclusive
    unsold = ~graph & ~np.eye(n, dtype=bool)
    inclusive: Array = paid_for + (unsold * (free - whole)).sum(axis=1)
    return inclusive


def imbalance(market: SharingMarket, pivot: str) -> float:
    """Sum of all VCG payments (money): never > 0 under ``"exclude"``, never < 0 under ``"drop"``.

    Parameters
    ----------
    market : SharingMarket
        At most 16 agents.
    pivot : {"exclude", "drop"}

    Raises
    ------
    NotApplicable
        See `payments`.

    Examples
    --------
    >>> from mechopt.formulations.functions import AdditiveUtility
    >>> from mechopt.formulations.sharing_market.model import SharingMarket
    >>> seller, buyer = AdditiveUtility([0, 0]), AdditiveUtility([10, 0])
    >>> market = SharingMarket([1.0, 1.0], [[0, 1], [0, 0]], [seller, buyer])
    >>> imbalance(market, "exclude"), imbalance(market, "drop")
    (-9.0, 1.0)
    """
    whole, without, free = _surpluses(market, pivot)
    if pivot == "exclude":
        # A seller that is not bought from is not missed: its entry is 0.
        return -float(np.sum(whole - without))
    # Over all sellers, sold ones at their cost: what data would add if it were free.
    return float(np.sum(free - whole))


def _surpluses(market: SharingMarket, pivot: str) -> tuple[Array, Array, Array]:
    """Surplus of each buyer (column) as it is, without each seller (row), and with each seller free."""
    n = market.n_agents
    if pivot not in ("exclude", "drop"):
        raise InvalidInput(f"pivot must be 'exclude' or 'drop', got {pivot!r}")
    if n > _MOST_AGENTS:
        raise NotApplicable(
            f"{n} agents have {2 ** (n - 1)} sets of sellers each; the closed form writes down at most "
            f"{2 ** (_MOST_AGENTS - 1)}: use market.vcg(pivot={pivot!r}).imbalance",
            reason="too many agents",
        )
    if pivot == "drop" and np.any(market.sharing_cost < 0):
        i, j = (int(k) for k in np.argwhere(market.sharing_cost < 0)[0])
        raise NotApplicable(
            f"sharing_cost[{i}, {j}] = {market.sharing_cost[i, j]:g} < 0: a seller who likes to share is not "
            "cheaper when its cost is dropped; use market.vcg(pivot='drop')",
            reason="negative costs",
        )
    bits = np.arange(2**n)[:, np.newaxis] >> np.arange(n) & 1 == 1
    whole = np.empty(n)
    without, free = np.empty((n, n)), np.empty((n, n))
    for buyer in range(n):
        sets = bits[~bits[:, buyer]]
        cost = market.sharing_cost[:, buyer]
        net = market.value_of_sets(buyer, sets) - sets @ cost
        whole[buyer] = net.max()
        without[:, buyer] = np.where(sets, -np.inf, net[:, np.newaxis]).max(axis=0)
        free[:, buyer] = (net[:, np.newaxis] + sets * cost).max(axis=0)
    return whole, without, free


def uniform_weight(market: SharingMarket, adjacency: ArrayLike, data_payment: ArrayLike) -> Array:
    r"""One quality weight for all that an agent receives which takes its data payment from its utility.

    With total data D, of which d is its own, and D* the amount with :math:`U(D^*) = U(D) - t^d`,

    .. math:: w = \frac{D^* - d}{D - d}.

    Parameters
    ----------
    market : SharingMarket
    adjacency : array, shape (n_agents, n_agents)
    data_payment : array, shape (n_agents,)
        Money that quality is to take from each agent; below 0, that it is to give.

    Returns
    -------
    array, shape (n_agents,)
        1 where there is nothing to pay; NaN where no weight >= 0 does it.

    Raises
    ------
    NotApplicable
        If an agent with a payment has a utility that is not additive or concave in total size.
    """
    graph = market.adjacency(adjacency)
    value, total = market.buyer_value(graph), market.total_data(graph)
    weight = np.ones(market.n_agents)
    for i, payment in enumerate(np.asarray(data_payment, dtype=float)):
        if payment == 0:
            continue
        utility = market.utility[i]
        if isinstance(utility, AdditiveUtility):
            got, least, wanted = float(value[i]), 0.0, float(value[i] - payment)
        elif isinstance(utility, ConcaveFunction):
            got, least = float(total[i]), float(market.data_size[i])
            wanted = float(utility.inverse(value[i] - payment))
        else:
            raise NotApplicable(f"utility[{i}] = {utility!r} has no inverse", reason="jumps")
        solvable = got > least and np.isfinite(wanted) and wanted >= least - 1e-12 * (1 + got)
        weight[i] = max(wanted - least, 0.0) / (got - least) if solvable else np.nan
    return weight
