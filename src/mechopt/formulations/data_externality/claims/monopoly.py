"""One platform: the users' game at its prices, what it buys, and the programs for that, as claims."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, permutations

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.data_externality import closed_form as formula
from mechopt.formulations.data_externality import exact, leakage, users
from mechopt.formulations.data_externality.claims import exact_gaps as exactly
from mechopt.formulations.data_externality.claims.leakage import COMMON, SUPPRESSOR, conditional_leaks
from mechopt.formulations.data_externality.claims.roads import LEDGER
from mechopt.formulations.data_externality.families import EVERY, PurchaseCase, Rng, case_of, cases
from mechopt.formulations.data_externality.program import relaxation_bound
from mechopt.verification.claim import Finding, Verdict
from mechopt.verification.evidence import confirm, largest, row

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

R6_EXAMPLE = PurchaseCase(((1.0, 0.8, 0.3), (0.8, 1.0, 0.5), (0.3, 0.5, 1.0)), (0.5, 0.7, 1.2))
"""Users 0 and 1 are bought from, for .330286; .442667 for the only equilibrium."""

R25_EXAMPLE = PurchaseCase(((1.0, 0.6, 0.2), (0.6, 1.0, 0.4), (0.2, 0.4, 1.0)), (0.5, 1.3, 3.0))
"""Users 0 and 1 are bought from, at a data surplus of -.057143."""

PAPER_1 = PurchaseCase(((4.0, 0.05, 0.06), (0.05, 4.0, 0.5), (0.06, 0.5, 0.3)), (0.01, 0.99, 1.1))
"""Example 1 of the paper."""

WORKED = (R6_EXAMPLE, R25_EXAMPLE, PAPER_1)


class SetBySet:
    """Leaks, prices and profits of all sets, from the definition of leaks; masks as row numbers."""

    def __init__(self, case: PurchaseCase) -> None:
        self.n, self.value = case.n_users, np.array(case.value_of_privacy)
        self.leaks = conditional_leaks(np.array(case.covariance))
        masks = np.arange(2**self.n)[:, None]
        self.bits = 1 << np.arange(self.n)
        self.member = (masks & self.bits) > 0
        self.by_others = np.take_along_axis(self.leaks, masks & ~self.bits, axis=0)
        self.by_all = np.take_along_axis(self.leaks, masks | self.bits, axis=0)
        self.asked = self.value * (self.by_all - self.by_others)
        self.prices = np.where(self.member, self.asked, 0.0)
        self.profit = self.leaks.sum(axis=1) - self.prices.sum(axis=1)
        self.scale = float(np.trace(np.array(case.covariance)))

    def mask(self, sharing: BoolArray) -> int:
        """Row of a set."""
        return int(self.bits @ sharing.astype(np.int64))

    def equilibria(self, prices: Array) -> list[int]:
        """Sets from which nobody gains by moving alone, to rounding."""
        slack = 1e-9 * self.scale
        gain = np.where(self.member, self.asked - prices, prices - self.asked)
        return np.flatnonzero(np.all(gain <= slack, axis=1)).tolist()

    def best(self) -> set[int]:
        """Sets of most profit."""
        return set(np.flatnonzero(self.profit >= self.profit.max() - 1e-10 * self.scale).tolist())


# ------------------------------------------------------------ users at given prices


@dataclass(frozen=True)
class PricedCase:
    """Users, and what each is paid for sharing."""

    users: PurchaseCase
    prices: tuple[float, ...]


def priced(rng: Rng, n: int) -> Iterator[PricedCase]:
    """Prices near those at which some set is an equilibrium, so that there may be several."""
    yield PricedCase(R6_EXAMPLE, (0.14, 0.2, 0.0))
    for case in islice(cases(*EVERY)(rng, n), n - 1):
        model = case.model()
        asked = users.thresholds(model, rng.random(case.n_users) < 0.7)
        prices = asked * rng.choice([1.02, 1.3, 0.8], size=case.n_users, p=[0.8, 0.1, 0.1])
        yield PricedCase(case, tuple(float(f"{price:.4g}") for price in prices))


@LEDGER.claim(
    "data-externality/R4",
    source="Section IV, users' payoffs",
    statement="A user shares exactly if it is paid at least v_i s^2 / (1 + s), with s its variance given "
    "the others' data",
    instances=priced,
    tolerance=1e-11,
    n_instances=40,
)
def best_responses(case: PricedCase) -> Finding:
    """Compare thresholds and regrets with payoffs, in all sets."""
    table, model = SetBySet(case.users), case.users.model()
    game = model.user_equilibria(case.prices)
    prices = np.array(case.prices)
    gaps = []
    for mask, sharing in enumerate(table.member):
        gaps.append(largest(users.thresholds(model, sharing) - table.asked[mask]))
        other_way = np.where(sharing, table.asked[mask] - prices, prices - table.asked[mask])
        gaps.append(largest(game.regret(sharing) - np.maximum(other_way, 0.0)))
    return Finding(max(gaps) / table.scale, f"asked if nobody shares: {row(table.asked[0])}")


@LEDGER.claim(
    "data-externality/R5",
    source="Section V.A, equilibria of the users",
    statement="The users' equilibria at any prices are a nonempty lattice, whose least and greatest "
    "elements best "
    "responses reach from nobody and from all",
    instances=priced,
    tolerance=0.0,
    n_instances=60,
)
def equilibria_are_a_lattice(case: PricedCase) -> Finding:
    """List all equilibria, and the bounds of each pair."""
    table, game = SetBySet(case.users), case.users.model().user_equilibria(case.prices)
    listed = table.equilibria(np.array(case.prices))
    told = f"equilibria {[f'{mask:0{table.n}b}' for mask in listed]}"
    wrong = int(not listed)
    for one in listed:
        for other in listed:
            above = [mask for mask in listed if mask | one | other == mask]
            below = [mask for mask in listed if mask & one & other == mask]
            wrong += not any(all(mask & high == mask for high in above) for mask in above)
            wrong += not any(all(mask | low == mask for low in below) for mask in below)
    found = sorted(table.mask(sharing) for sharing in game.all())
    wrong += found != listed
    for name, sharing, all_of in (("least", game.least, True), ("greatest", game.greatest, False)):
        mask = table.mask(sharing)
        told += f", {name} {mask:0{table.n}b}"
        wrong += mask not in listed or any((mask & m) != (mask if all_of else m) for m in listed)
    return Finding(float(wrong), told)


@LEDGER.claim(
    "data-externality/R6",
    source="Theorem 1, eq. (3): what it leaves open",
    statement="At equilibrium prices those who share are indifferent, and nobody sharing is an equilibrium "
    "too: the "
    "platform may earn nothing",
    instances=cases(*EVERY, worked=WORKED),
    tolerance=1e-11,
    n_instances=40,
)
def equilibrium_prices_leave_zero(case: PurchaseCase) -> Finding:
    """Take the solution's prices, and payoffs by the definition."""
    table, model = SetBySet(case), case.model()
    solution = model.solve()
    mask = table.mask(solution["sharing"] > 0.5)
    prices = solution["prices"]
    indifferent = largest(np.where(table.member[mask], prices - table.asked[mask], 0.0))
    tempted = float(np.max(prices - table.asked[0]))
    if not model.user_equilibria(prices).is_equilibrium(np.zeros(table.n)):
        tempted = table.scale
    return Finding(
        max(indifferent, tempted) / table.scale,
        f"prices {row(prices)}, asked if nobody shares {row(table.asked[0])}",
    )


@LEDGER.claim(
    "data-externality/R6-unique",
    source="Theorem 1, with one equilibrium asked for",
    statement="A set is the only equilibrium at prices that win its users one by one, which costs the "
    "least of all "
    "orders and a little more, and no less",
    instances=cases(*EVERY, worked=WORKED, least_value=0.1),
    tolerance=1e-11,
    n_instances=25,
)
def divide_and_conquer(case: PurchaseCase) -> Finding:
    """Write all orders down, and all equilibria at the prices found and at slightly lower ones."""
    table, model = SetBySet(case), case.model()
    mask = table.mask(model.solve()["sharing"] > 0.5)
    sharing = table.member[mask]
    orders = permutations(np.flatnonzero(sharing).tolist())
    cost = min(
        sum(table.asked[sum(1 << user for user in order[:k]), user] for k, user in enumerate(order))
        for order in orders
    )
    paid = users.unique_prices(model, sharing)
    gap = abs(paid.cost - cost) / table.scale
    margin = 1e-5 * table.scale
    above = table.equilibria(users.unique_prices(model, sharing, margin=margin).prices)
    below = table.equilibria(np.maximum(paid.prices - margin, 0.0))
    if above != [mask] or (mask and below == [mask]):
        gap = 1.0
    return Finding(gap, f"cost {paid.cost:.6g}, at equilibrium prices {table.prices[mask].sum():.6g}")


# ------------------------------------------------------------ what the platform buys


@LEDGER.claim(
    "data-externality/R7",
    source="Theorem 1, eq. (3) and (4)",
    statement="The platform buys from a set of most sum I_i - sum v_i (I_i(a) - I_i(0, a_-i)), pays the "
    "difference, and "
    "users have -v_i I_i(0, a_-i)",
    instances=cases(*EVERY, worked=WORKED),
    tolerance=1e-11,
    n_instances=50,
)
def theorem_1(case: PurchaseCase) -> Finding:
    """Compare with all sets; no lower prices keep a set together."""
    table = SetBySet(case)
    found = case.model().monopoly()
    mask = table.mask(found.sharing)
    gaps = {
        "profit": abs(found.profit - table.profit.max()),
        "prices": largest(found.prices - table.prices[mask]),
        "payoffs": largest(found.payoffs + table.value * table.by_others[mask]),
        "ties": table.scale * ({table.mask(sharing) for sharing in found.ties} != table.best()),
        "equilibrium": table.scale * (mask not in table.equilibria(found.prices)),
        "surplus": abs(found.profit + found.payoffs.sum() - found.data_surplus),
    }
    lower = found.prices - 1e-4 * table.scale * found.sharing
    gaps["least"] = table.scale * (bool(mask) and mask in table.equilibria(lower))
    name = max(gaps, key=gaps.__getitem__)
    return Finding(gaps[name] / table.scale, f"{name}: {found!r}")


@LEDGER.claim(
    "data-externality/R8",
    source="Not in the paper",
    statement="Every user with v_i <= 1 shares in an optimum, in every one if v_i < 1; one with v_i > 1 "
    "who is correlated "
    "with nobody shares in none",
    instances=cases(*EVERY, worked=WORKED),
    tolerance=0.0,
    n_instances=80,
)
def users_decided_beforehand(case: PurchaseCase) -> Finding:
    """Look at all best sets."""
    table, covariance = SetBySet(case), np.array(case.covariance)
    best = table.member[sorted(table.best())]
    low = table.value <= 1
    alone = (table.value > 1) & ~np.any(covariance - np.diag(np.diag(covariance)), axis=1)
    # A user who adds nothing that is not rounding may tie although its value is below 1.
    strict = (table.value < 1) & (np.min(table.by_all - table.by_others, axis=0) > 1e-9 * table.scale)
    wrong = int(not np.any(np.all(best[:, low], axis=1)))
    wrong += int(not np.all(best[:, strict])) + int(np.any(best[:, alone]))
    return Finding(float(wrong), f"best sets {[f'{mask:0{table.n}b}' for mask in sorted(table.best())]}")


@LEDGER.claim(
    "data-externality/R9",
    source="Theorem 1, profit and surplus",
    statement="Profit is the data surplus plus what users lose uncompensated, sum v_i I_i(0, a_-i), which "
    "rises with who "
    "shares",
    instances=cases(*EVERY, worked=WORKED),
    tolerance=1e-11,
    n_instances=40,
)
def profit_is_surplus_and_loss(case: PurchaseCase) -> Finding:
    """Compare the exact algorithms' profit in all sets."""
    table = SetBySet(case)
    covariance = np.array(case.covariance)
    paid = exact.payments(covariance, table.value, leakage.leak_table(covariance)).sum(axis=1)
    profit = leakage.leak_table(covariance).sum(axis=1) - paid
    surplus, loss = table.leaks @ (1 - table.value), table.by_others @ table.value
    found = leakage.monotonicity_violation(loss, tolerance=0.0)
    gap = max(largest(profit - surplus - loss), 0.0 if found is None else found.amount)
    return Finding(gap / table.scale, f"all share: surplus {surplus[-1]:.6g}, loss {loss[-1]:.6g}")


@LEDGER.claim(
    "data-externality/R9-submodular",
    source="After Theorem 1: a difference of submodular functions",
    statement="What users lose uncompensated, sum v_i I_i(0, a_-i), is a submodular function of who shares",
    instances=cases("suppressor", "dense", worked=(SUPPRESSOR, PAPER_1), sizes=(3, 4)),
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="data-externality/R9-mtp2",
    n_instances=30,
    confirm_exactly=exactly.loss_is_submodular,
)
def loss_is_submodular(case: PurchaseCase) -> Finding:
    """Find the worst pair; compute its four losses by updates of rank one."""
    table = SetBySet(case)
    loss = table.by_others @ table.value
    found = leakage.submodularity_violation(loss)
    if found is None:
        return Finding(0.0)
    assert found.context is not None
    model = case.model()

    def of(*more: int) -> float:
        sharing = model.profile(found.base | set(more))
        variance = np.diag(leakage.posterior_covariance(model.covariance, sharing))
        without = np.where(sharing, variance / (1 - np.where(sharing, variance, 0.0)), variance)
        return float(model.value_of_privacy @ (model.variance - without))

    alone = of(found.added) - of()
    together = of(found.added, found.context) - of(found.context)
    confirm(
        abs(together - alone - found.amount) <= 1e-9 * table.scale,
        f"by updates of rank one it adds {together - alone:.6g} more",
    )
    return Finding(
        found.amount / max(abs(together), 1e-300),
        f"user {found.added} adds {alone:.6g} beside {sorted(found.base)}, {together:.6g} if "
        f"{found.context} shares",
    )


@LEDGER.claim(
    "data-externality/R9-mtp2",
    source="After Theorem 1, under MTP2",
    statement="If types are MTP2 up to signs, sum I_i, sum v_i I_i and sum v_i I_i(0, a_-i) are "
    "submodular, and profit is "
    "a difference of submodular functions",
    instances=cases("mtp2", "equicorrelated", worked=(COMMON,)),
    tolerance=1e-11,
    n_instances=40,
)
def profit_under_mtp2(case: PurchaseCase) -> Finding:
    """Look at all sets."""
    if not leakage.is_mtp2(np.array(case.covariance)):
        return Finding(0.0, applies=False)
    table = SetBySet(case)
    parts = np.stack(
        [table.leaks.sum(axis=1), table.leaks @ table.value, table.by_others @ table.value], axis=1
    )
    gap = largest(parts[:, 0] + parts[:, 2] - parts[:, 1] - table.profit)
    found = leakage.submodularity_violation(parts, tolerance=0.0)
    return Finding(
        max(gap, 0.0 if found is None else found.amount) / table.scale, f"all share {row(parts[-1])}"
    )


# ------------------------------------------------------------ two users


@dataclass(frozen=True)
class Pair:
    """Two users of unit variance."""

    correlation: float
    first: float
    second: float

    def case(self) -> PurchaseCase:
        """Users as of any number."""
        covariance = np.array([[1.0, self.correlation], [self.correlation, 1.0]])
        return case_of(covariance, np.array([self.first, self.second]))


def pairs(rng: Rng, n: int) -> Iterator[Pair]:
    """The paper's correlation first; the first user of low value."""
    yield from (Pair(0.5, 0.5, 1.19), Pair(0.5, 0.5, 1.2), Pair(1.0, 0.5, 2.9))[:n]
    for _ in range(n - 3):
        correlation, first = np.round(rng.uniform(-1, 1), 2), np.round(rng.uniform(0, 1), 2)
        yield Pair(float(correlation), float(first), float(np.round(rng.uniform(0.5, 4), 2)))


@LEDGER.claim(
    "data-externality/R9-two",
    source="Example 2",
    statement="Of two users of unit variance the second is bought from exactly if v_2 is at most "
    "(4 - 3 r^2 + r^4 + v_1 (3 r^2 - r^4)) / (2 - r^2)^2",
    instances=pairs,
    tolerance=1e-11,
    n_instances=80,
)
def threshold_of_two(pair: Pair) -> Finding:
    """Compare with the exact optimum, and profits at the threshold."""
    r = pair.correlation
    threshold = (4 - 3 * r**2 + r**4 + pair.first * (3 * r**2 - r**4)) / (2 - r**2) ** 2
    gap = abs(threshold - formula.two_user_threshold([[1.0, r], [r, 1.0]], pair.first))
    table = SetBySet(Pair(r, pair.first, threshold).case())
    gap = max(gap, abs(table.profit[0b11] - table.profit[0b01]))
    if abs(pair.second - threshold) > 1e-6:
        bought = bool(pair.case().model().monopoly().sharing[1])
        gap = max(gap, float(bought != (pair.second < threshold)))
    return Finding(gap, f"threshold {threshold:.6f}, v_2 = {pair.second:g}")


def dear_pairs(rng: Rng, n: int) -> Iterator[Pair]:
    """The paper's Example 2, with large values of the second user."""
    yield Pair(0.5, 0.5, 3.0)
    for _ in range(n - 1):
        yield Pair(float(np.round(rng.uniform(0.1, 0.9), 2)), float(np.round(rng.uniform(0.1, 0.9), 2)), 20.0)


@LEDGER.claim(
    "data-externality/E14",
    source="Example 2, the improvement scenario",
    statement="If v_2 is sufficiently large, user 2 shares its data",
    instances=dear_pairs,
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="data-externality/R9-two",
    n_instances=15,
    confirm_exactly=lambda pair: exactly.dear_users_share(pair.case()),
)
def dear_users_share(pair: Pair) -> Finding:
    """Compare the platform's profit with and without user 2."""
    table = SetBySet(pair.case())
    found = pair.case().model().monopoly()
    confirm(
        table.best() == {table.mask(found.sharing)},
        "set by set and by branch and bound the same users are best",
    )
    lost = table.profit[0b01] - table.profit[0b11]
    confirm(bool(found.sharing[1]) == (lost <= 0), f"set by set, buying from both loses {lost:.6g}")
    return Finding(
        max(lost, 0.0) / max(table.profit[0b01], 1e-300),
        f"the platform earns {table.profit[0b01]:.6g} without user 2, {table.profit[0b11]:.6g} with it",
    )


@dataclass(frozen=True)
class Copies:
    """Two users with the same type, of some variance; noise of variance 1."""

    variance: float
    first: float
    second: float

    def case(self) -> PurchaseCase:
        """Users as of any number."""
        return case_of(np.full((2, 2), self.variance), np.array([self.first, self.second]))


def copies(rng: Rng, n: int) -> Iterator[Copies]:
    """Section II first: unit variance, v_1 = 1/2."""
    yield from (Copies(1.0, 0.5, 0.9), Copies(1.0, 0.5, 3.0))[:n]
    for _ in range(n - 2):
        variance = float(f"{10 ** rng.uniform(-0.5, 2):.3g}")
        yield Copies(variance, 0.5, float(np.round(rng.uniform(0.2, 1.5), 2)))


@LEDGER.claim(
    "data-externality/E16",
    source="Section II",
    statement="At correlation 1 the platform has the second user's data at a price of approximately 0",
    instances=copies,
    tolerance=0.02,
    expected=Verdict.REFUTED,
    corrected_by="data-externality/R7-copies",
    n_instances=15,
    confirm_exactly=lambda case: exactly.price_of_a_copy(case.case()),
)
def price_of_a_copy_is_zero(case: Copies) -> Finding:
    """Compare the price with what user 2's data alone would cost."""
    table, found = SetBySet(case.case()), case.case().model().monopoly()
    if not found.sharing.all():
        return Finding(0.0, applies=False)
    price, alone = float(found.prices[1]), table.asked[0, 1]
    confirm(abs(price - table.prices[0b11, 1]) <= 1e-9 * table.scale, f"set by set the price is {price:.6g}")
    return Finding(price / alone, f"price {price:.6g} = {price / case.second:.6g} v_2; alone {alone:.6g}")


@LEDGER.claim(
    "data-externality/R7-copies",
    source="Section II, with the paper's noise",
    statement="At correlation 1 and variance x the price of user 2 is v_2 x^2 / ((1 + x)(1 + 2 x)), v_2 / "
    "6 at x = 1; "
    "relative to the variance it vanishes as data become free of noise",
    instances=copies,
    tolerance=1e-11,
    n_instances=30,
)
def price_of_a_copy(case: Copies) -> Finding:
    """Compare with the solution's price, if both share."""
    found, x = case.case().model().monopoly(), case.variance
    if not found.sharing.all():
        return Finding(0.0, applies=False)
    expected = case.second * x**2 / ((1 + x) * (1 + 2 * x))
    # Never above v_2 / 2, whatever the variance.
    gap = max(abs(found.prices[1] - expected) / x, (found.prices[1] - case.second / 2) / x)
    return Finding(gap, f"price {found.prices[1]:.6g}, formula {expected:.6g}")


# ------------------------------------------------------------ programs


@LEDGER.claim(
    "data-externality/R10",
    source="Theorem 1, eq. (3): the maximum",
    statement="Enumeration, branch and bound, and all sets of users at once find the same sets",
    instances=cases(*EVERY, worked=WORKED, sizes=(4, 5, 6)),
    tolerance=1e-11,
    n_instances=30,
)
def algorithms_agree(case: PurchaseCase) -> Finding:
    """Compare best sets and profits with all sets by the definition."""
    table, covariance = SetBySet(case), np.array(case.covariance)
    gaps = []
    for method in ("enumeration", "branch_and_bound"):
        found = exact.platform_optimum(covariance, table.value, method=method)
        gaps.append(abs(found.profit - table.profit.max()) / table.scale)
        gaps.append(float({table.mask(sharing) for sharing in found.ties} != table.best()))
        gaps.append(max(found.profit - found.bound, 0.0))
    shared = exact.equilibrium_sharing_of_all(covariance, table.value)
    gaps.append(float(int(shared[-1]) not in table.best()))
    return Finding(max(gaps), f"profit {table.profit.max():.9g}, best sets {sorted(table.best())}")


@LEDGER.claim(
    "data-externality/R10-outer",
    source="Theorem 1, eq. (3): the maximum",
    statement="The mixed-integer convex program has the same maximum, certified, and its relaxation bounds "
    "it",
    instances=cases(*EVERY, worked=(R6_EXAMPLE,), sizes=(3,), least_value=0.3),
    tolerance=1e-6,
    n_instances=8,
)
def program_agrees(case: PurchaseCase) -> Finding:
    """Solve by tangents, and relaxed."""
    table, model = SetBySet(case), case.model()
    solution = model.solve(backend="outer")
    top = table.profit.max()
    relaxed = relaxation_bound(model, np.ones(table.n, dtype=bool))
    assert solution.bound is not None
    gap = max(abs(solution.objective - top), abs(solution.bound - top), top - relaxed)
    return Finding(
        gap / table.scale, f"{solution.objective:.9g}, bound {solution.bound:.9g}, relaxed {relaxed:.6g}"
    )
