r"""Mixed-VCG: the imbalance of VCG turned into data of lower or higher quality.

The payments of VCG, :math:`\tilde t`, sum to :math:`\Delta`. Each is split into a data payment and money,
:math:`\tilde t_i = t^d_i + t_i` with :math:`\sum_i t^d_i = \Delta`, so that money balances, and agent i then
receives data of such quality that its utility is lower by :math:`t^d_i` (28). Everybody ends up with the
payoff of VCG, the sum of values falls by :math:`\Delta`.

That takes utilities which the platform knows: weights calibrated on a reported utility take the wrong amount
from an agent of another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray

from mechopt.formulations import checks
from mechopt.formulations.functions import TableUtility
from mechopt.formulations.sharing_market.distortion import (
    Distortion,
    Inflow,
    Refusal,
    check_distortion,
    declare_distortion,
    declare_lift,
)
from mechopt.formulations.sharing_market.restrictions import Restrictions
from mechopt.formulations.sharing_market.vcg import VCG, Pivot, describe, is_loss, vcg, worst_off
from mechopt.solvers.backend import Settings
from mechopt.solvers.errors import Infeasible, InvalidInput
from mechopt.solvers.program import Changes, ExactAnswer, Program
from mechopt.verification.audit import Audit, Deviation

if TYPE_CHECKING:
    import pandas as pd

    from mechopt.formulations.sharing_market.model import SharingMarket

__all__ = [
    "Distortion",
    "MixedVCG",
    "Refusal",
    "Split",
    "declare_split",
    "divide",
    "greedy_split",
    "mixed_vcg",
]

Array = NDArray[np.float64]
Split = Literal["greedy", "lp"]

_ROUNDING = 1e-12
"""Part of the money involved below which an imbalance is none."""


@dataclass(frozen=True, eq=False)
class MixedVCG:
    """What mixed-VCG does.

    Attributes
    ----------
    vcg : VCG
        The mechanism that it starts from; at the base weight, if there is one.
    market : SharingMarket
        As reported, with data of full quality.
    split : {"greedy", "lp"}
    distortion : {"least_absolute", "least_squares", "uniform"}
    base_weight : float or None
        Of D-mixed-VCG.
    synthetic_data : bool
    data_payment : array, shape (n_agents,)
        What quality is to take from each agent's utility (money); < 0: to give.
    quality_weight : array, shape (n_agents, n_agents)
        What a record of the row's agent counts for to the column's; 0 where nothing is passed on. Of agents
        that are refused it is as without distortion.
    refusals : tuple of Refusal
        Agents whose data payment no weights realise.

    Notes
    -----
    Refusals are part of the record, so that it shows what can be done and what cannot; `require` turns them
    into an error.

    References
    ----------
    Rasouli and Jordan, Definition 5.3, eq. (21)-(34).

    Examples
    --------
    Of the 10 that its data are worth, agent 1 pays 1 by having a tenth less of them.

    >>> from mechopt.formulations.functions import AdditiveUtility
    >>> from mechopt.formulations.sharing_market.model import SharingMarket
    >>> seller, buyer = AdditiveUtility([0, 0]), AdditiveUtility([10, 0])
    >>> market = SharingMarket([1.0, 1.0], [[0, 1], [0, 0]], [seller, buyer])
    >>> mixed = market.mixed_vcg("drop")
    >>> mixed.payment.tolist(), mixed.data_payment.tolist(), mixed.quality_weight[0].tolist()
    ([0.0, 0.0], [0.0, 1.0], [0.0, 0.9])
    >>> [(refusal.agent, refusal.code) for refusal in market.mixed_vcg("exclude").refusals]
    [(0, 'no_incoming_data')]
    """

    vcg: VCG
    market: SharingMarket
    split: Split
    distortion: Distortion
    base_weight: float | None
    synthetic_data: bool
    data_payment: Array
    quality_weight: Array
    refusals: tuple[Refusal, ...]

    # ------------------------------------------------------------ what it does

    @property
    def pivot(self) -> Pivot:
        """Pivot of the payments."""
        return self.vcg.pivot

    @property
    def restrictions(self) -> Restrictions:
        """Restrictions on the graph."""
        return self.vcg.restrictions

    @property
    def adjacency(self) -> Array:
        """Graph of most welfare, shape (n_agents, n_agents); row = seller, column = buyer."""
        return self.vcg.adjacency

    @property
    def imbalance(self) -> float:
        """Of the VCG payments, (21) (money); money payments themselves sum to 0."""
        return self.vcg.imbalance

    @property
    def payment(self) -> Array:
        """Money that each agent pays, (27), shape (n_agents,); sums to 0, to rounding."""
        payment: Array = self.vcg.payment - self.data_payment
        return payment

    @property
    def realised(self) -> bool:
        """Whether weights realise every data payment, so that payoffs are those of VCG."""
        return not self.refusals

    def require(self) -> MixedVCG:
        """Return itself, or raise `InvalidInput` that names each agent whose data payment is not realised."""
        if self.refusals:
            raise InvalidInput(
                "infeasible distortion: "
                + "; ".join(f"{refusal} [{refusal.code}]" for refusal in self.refusals)
                + ". Try split='lp', synthetic_data=True, or another pivot"
            )
        return self

    @cached_property
    def allocation_value(self) -> Array:
        """V_i: what data of these qualities is worth to each agent, minus what its sales cost it (money)."""
        return self._value_in(self.market)

    @property
    def payoff(self) -> Array:
        """V_i minus the money payment (money), shape (n_agents,)."""
        payoff: Array = self.allocation_value - self.payment
        return payoff

    @property
    def agents_welfare(self) -> float:
        """Sum of payoffs, (15) (money); where realised, that of VCG."""
        return float(self.payoff.sum())

    @property
    def total_welfare(self) -> float:
        """Sum of V_i, (17) (money); where realised, that of VCG less the imbalance."""
        return float(self.allocation_value.sum())

    @property
    def participation(self) -> Deviation:
        """The agent that would gain most, or lose least, by staying out with its own data."""
        return worst_off(self.payoff, self.market.outside_option)

    @property
    def individually_rational(self) -> bool:
        """Whether nobody loses by taking part, to rounding; if not, `participation` names who does."""
        return not is_loss(self.participation, self.payoff, self.market.outside_option)

    @property
    def truthful_if(self) -> str:
        """Assumption under which truth is a dominant strategy: ``"public_utility"``, costs being private.

        With ``buyer_budget`` costs must be public, too. Proposition 5.1 assumes nothing, and is wrong.
        """
        return "public_utility" if self.vcg.truthful_if == "always" else "public_utility_and_costs"

    def payoff_in(self, market: SharingMarket) -> Array:
        """What this outcome gives agents of another market, such as the true one (money)."""
        payoff: Array = self._value_in(market) - self.payment
        return payoff

    def _value_in(self, market: SharingMarket) -> Array:
        weighted = market.weighted(self.quality_weight)
        passed = self.quality_weight > 0
        value = np.empty(market.n_agents)
        for buyer, utility in enumerate(market.utility):
            # A table has values for data as they are, and is never distorted.
            source, taken = (
                (market, self.adjacency > 0) if isinstance(utility, TableUtility) else (weighted, passed)
            )
            value[buyer] = source.value_of_sets(buyer, taken[:, buyer])
        value -= (self.adjacency * market.sharing_cost).sum(axis=1)
        if self.restrictions.upload_cost is not None:
            value -= self.restrictions.upload_cost * np.any(self.adjacency > 0, axis=1)
        return value

    def audit(
        self, n_reports: int = 15, *, seed: int = 0, private: Literal["costs", "all"] = "costs"
    ) -> Audit:
        """Look for agents that gain by a misreport, and for agents that lose by taking part.

        Parameters
        ----------
        n_reports : int
            Random misreports of each agent; see `mechopt.formulations.sharing_market.misreports`.
        seed : int
        private : {"costs", "all"}
            Whether agents can misreport their costs alone, as `truthful_if` assumes, or their utility too.

        Raises
        ------
        InvalidInput
            If the outcome under the truth is not realised; see `require`.
        """
        from mechopt.formulations.sharing_market.misreports import audit_outcome

        def rerun(market: SharingMarket) -> MixedVCG:
            return mixed_vcg(
                market,
                self.pivot,
                self.split,
                distortion=self.distortion,
                base_weight=self.base_weight,
                synthetic_data=self.synthetic_data,
                restrictions=self.restrictions,
            )

        return audit_outcome(rerun, self.require(), n_reports=n_reports, seed=seed, private=private)

    # ------------------------------------------------------------ its programs

    @cached_property
    def inflows(self) -> tuple[Inflow, ...]:
        """What each agent receives, before distortion."""
        return inflows_of(self.vcg, self.market, self.synthetic_data, self.base_weight is not None)

    def split_program(self) -> Program:
        """Declare the division of the imbalance among data payments that quality can realise."""
        return declare_split(self.inflows, self.imbalance)

    def distortion_program(self) -> Program:
        """Declare the quality weights of all agents that have a data payment and are not refused."""
        refused = {refusal.agent for refusal in self.refusals}
        paying = [i for i in np.flatnonzero(self.data_payment).tolist() if i not in refused]
        return declare_distortion({i: self.inflows[i] for i in paying}, self.data_payment, self.distortion)

    def lift_program(self, agent: int) -> Program:
        """Declare the higher quality of one agent's data as a convex program that inverts no utility."""
        return declare_lift(self.inflows[agent], float(self.data_payment[agent]))

    def to_frame(self) -> pd.DataFrame:
        """One row an agent: payments, payoff, and why its data payment is refused, if it is (money)."""
        import pandas as pd

        codes = {refusal.agent: refusal.code for refusal in self.refusals}
        columns = {
            "vcg_payment": self.vcg.payment,
            "data_payment": self.data_payment,
            "payment": self.payment,
            "allocation_value": self.allocation_value,
            "payoff": self.payoff,
            "outside_option": self.market.outside_option,
            "refused": [codes.get(agent, "") for agent in range(self.market.n_agents)],
        }
        return pd.DataFrame(columns, index=pd.RangeIndex(self.market.n_agents, name="agent"))

    def __repr__(self) -> str:
        kind = "Mixed-VCG" if self.base_weight is None else f"D-mixed-VCG from weight {self.base_weight:g}"
        realised = "yes" if self.realised else f"no: {self.refusals[0]}"
        if len(self.refusals) > 1:
            realised += f" (and {len(self.refusals) - 1} more)"
        return "\n".join(
            [
                f"{kind}, pivot {self.pivot!r}, split {self.split!r}, distortion {self.distortion!r}",
                *describe(self),
                f"  data payments          {self.data_payment.min():.6g} to {self.data_payment.max():.6g}",
                f"  realised               {realised}",
            ]
        )


def mixed_vcg(
    market: SharingMarket,
    pivot: Pivot,
    split: Split,
    *,
    distortion: Distortion,
    base_weight: float | None,
    synthetic_data: bool,
    restrictions: Restrictions,
) -> MixedVCG:
    """Run mixed-VCG; see `SharingMarket.mixed_vcg`."""
    check_distortion(distortion)
    if split not in get_args(Split):
        raise InvalidInput(
            f"split must be 'greedy' (the paper's recursion, corrected) or 'lp' (over what quality can "
            f"realise), got {split!r}"
        )
    if not isinstance(synthetic_data, bool | np.bool_):
        raise InvalidInput(f"synthetic_data must be True or False, got {synthetic_data!r}")
    base = market
    if base_weight is not None:
        base_weight = checks.positive(base_weight, "base_weight")
        if base_weight > 1:
            raise InvalidInput(
                f"base_weight must be in (0, 1], got {base_weight:g}: it is raised to 1 at most"
            )
        base = market.weighted(base_weight * market.weights)
    start = vcg(base, pivot, restrictions)
    inflows = inflows_of(start, market, synthetic_data, base_weight is not None)
    data_payment = divide(split, inflows, start.payment, start.imbalance)
    # What rounding leaves of a balanced budget is nobody's to pay.
    data_payment[np.abs(data_payment) <= _ROUNDING * np.max(np.abs([start.payment, start.payoff]))] = 0.0
    weight = np.empty((market.n_agents, market.n_agents))
    refusals = []
    for agent, inflow in enumerate(inflows):
        found = inflow.weights(float(data_payment[agent]), distortion)
        if isinstance(found, Refusal):
            refusals.append(found)
        weight[:, agent] = inflow.start if isinstance(found, Refusal) else found
    for array in (data_payment, weight):
        array.setflags(write=False)
    return MixedVCG(
        start, market, split, distortion, base_weight, synthetic_data, data_payment, weight, tuple(refusals)
    )


def inflows_of(start: VCG, market: SharingMarket, synthetic_data: bool, limited: bool) -> tuple[Inflow, ...]:
    """What each agent receives in a VCG outcome, and how far its quality may go."""
    n = market.n_agents
    passed = start.adjacency > 0
    if synthetic_data:
        allowed = ~np.eye(n, dtype=bool)
        if start.restrictions.forbidden is not None:
            allowed &= ~start.restrictions.forbidden
        passed = passed | allowed
    upper = np.where(passed, market.weights if limited else np.inf, 0.0)
    weight = start.adjacency * start.market.weights
    return tuple(Inflow.of(market, buyer, weight[:, buyer], upper[:, buyer]) for buyer in range(n))


# ------------------------------------------------------------ dividing the imbalance


def greedy_split(payment: Array) -> Array:
    r"""Divide the imbalance by the paper's recursion (23)-(26), corrected.

    From the largest payment down, each agent covers of a surplus what it pays, as long as some is left, and
    of a deficit, from the smallest payment up, what it is paid:

    .. math:: t^d_n = \min\{\max(\tilde t_n, 0), \Delta - \textstyle\sum_{j<n} t^d_j\} \quad (\Delta > 0),
       \qquad t^d_n = \max\{\min(\tilde t_n, 0), \Delta - \textstyle\sum_{j>n} t^d_j\} \quad (\Delta < 0).

    Without the inner max and min, as printed, payments of both signs do not balance.

    Parameters
    ----------
    payment : array, shape (n_agents,)
        VCG payments (money).

    Returns
    -------
    array, shape (n_agents,)
        Data payments (money): they have the sign of the imbalance, and sum to it.
    """
    imbalance = float(payment.sum())
    sign = np.sign(imbalance)
    data_payment = np.zeros(payment.size)
    left = abs(imbalance)
    # Equal payments: the agent of lower index first.
    for agent in np.argsort(-sign * payment, kind="stable"):
        share = min(max(float(sign * payment[agent]), 0.0), left)
        data_payment[agent] = sign * share
        left -= share
    return data_payment


def declare_split(inflows: tuple[Inflow, ...], imbalance: float) -> Program:
    r"""Declare the most even division of the imbalance among data payments that quality can realise.

    .. math:: \min \max_i |t^d_i| \quad \text{s.t.} \quad \sum_i t^d_i = \Delta, \quad
       0 \le t^d_i \le U_i(G^*) - U_i(\emptyset) \;\; (\Delta \ge 0) \quad \text{or} \quad
       -(\sup U_i - U_i(G^*)) \le t^d_i \le 0 \;\; (\Delta < 0).

    Parameters
    ----------
    inflows : tuple of Inflow, length n_agents
    imbalance : float
        Money.

    Returns
    -------
    Program
        With ``data_payment`` of shape (n_agents,), ``largest``; families ``balance``, ``realisable``,
        ``evenness``. It is infeasible if quality cannot move that much.
    """
    n = len(inflows)
    sign = -1.0 if imbalance < 0 else 1.0
    room = np.array([inflow.can_give if sign < 0 else inflow.can_take for inflow in inflows])
    size = abs(imbalance) or 1.0
    program = Program("division of the imbalance", objective_scale=size)
    # Nobody's share exceeds the whole, so that an infinite room needs no row of its own.
    share = program.variable("share", n, nonneg=True, scale=size / n)
    largest = program.variable("largest", nonneg=True, scale=size / n)
    program.define("data_payment", sign * share)
    program.minimize(largest)
    program.add("balance", cp.sum(share) == abs(imbalance))
    program.add("realisable", share <= np.minimum(room, 2 * size))
    program.add("evenness", share <= largest)
    return program.seal(exact=EvenSplit(room, abs(imbalance)))


def divide(split: Split, inflows: tuple[Inflow, ...], payment: Array, imbalance: float) -> Array:
    """Divide an imbalance by one of the two rules; return data payments (money), shape (n_agents,).

    Raises
    ------
    Infeasible
        If no division can be realised, with split ``"lp"``.
    """
    if not imbalance:  # nor is anything left of it by rounding
        return np.zeros(payment.size)
    return greedy_split(payment) if split == "greedy" else _even_split(inflows, imbalance)


def _even_split(inflows: tuple[Inflow, ...], imbalance: float) -> Array:
    """Solve `declare_split`; where it is infeasible, say by how much."""
    try:
        return np.array(declare_split(inflows, imbalance).solve()["data_payment"])
    except Infeasible as error:
        verb = "take" if imbalance > 0 else "give"
        more = "" if imbalance > 0 else "synthetic_data=True (in SharingMarket), "
        room = [inflow.can_take if imbalance > 0 else inflow.can_give for inflow in inflows]
        each = ", ".join(f"agent {i}: {most:.6g}" for i, most in enumerate(room) if most)
        raise Infeasible(
            f"no division of an imbalance of {imbalance:.6g} can be realised: quality can {verb} "
            f"{sum(room):.6g} in all ({each or 'nobody has room'}). "
            f"Try {more}another pivot, or split='greedy' to see who is refused",
            solution=error.solution,
            families=error.families,
        ) from error


class EvenSplit:
    """The exact algorithm: everybody covers the same amount, or all that it can."""

    def __init__(self, room: Array, total: float) -> None:
        self.room, self.total = room, total

    def refuses(self, program: Program, changes: Changes) -> tuple[str, ...]:
        """Families, or ``"objective"``, that it cannot price: all that were changed."""
        return (*changes.added, *changes.dropped, *(("objective",) if changes.objective else ()))

    def __call__(self, program: Program, changes: Changes, settings: Settings) -> ExactAnswer:
        """Solve."""
        room, total = np.sort(self.room), self.total
        # Rounding must not decide whether everybody's all is enough.
        if room.sum() < total * (1 - 1e-12):
            reason = f"quality can move {room.sum():.6g} in all, of an imbalance of {total:.6g}"
            return ExactAnswer(conflict=("balance", "realisable"), reason=reason)
        level, left = 0.0, total
        for rank, most in enumerate(room):
            level = left / (room.size - rank)
            if level <= most:
                break
            left -= most
        share = np.minimum(self.room, level)
        return ExactAnswer({"share": share, "largest": float(share.max(initial=0.0))})
