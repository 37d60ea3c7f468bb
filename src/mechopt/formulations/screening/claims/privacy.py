"""Claims about Algorithm 1 of the contract paper: what holders release, and which contracts they take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from mechopt.formulations.functions import LogGain
from mechopt.formulations.screening.claims.roads import (
    LEDGER,
    best_deviation,
)
from mechopt.formulations.screening.families import Case, Rng, cases
from mechopt.formulations.screening.simulation import laplace_log_ratio, laplace_scale, simulate
from mechopt.verification.claim import Finding
from mechopt.verification.evidence import fraction, largest, row


@dataclass(frozen=True)
class ReleaseCase:
    """A data set of records in [0, 1], another in which one record differs, and a privacy level."""

    records: tuple[float, ...]
    changed: int
    to: float
    eps: float

    @property
    def neighbour(self) -> tuple[float, ...]:
        """The other data set."""
        return (*self.records[: self.changed], self.to, *self.records[self.changed + 1 :])


def _releases(rng: Rng, n: int) -> Iterator[ReleaseCase]:
    """The worst pair of neighbours first, then random ones in short decimals."""
    yield from (ReleaseCase((0.0, 0.0, 0.0), 1, 1.0, 0.21), ReleaseCase((1.0,), 0, 0.0, 2.0))[:n]
    for _ in range(n - 2):
        records = tuple(float(x) for x in np.round(rng.uniform(0, 1, int(rng.integers(1, 9))), 2))
        to = float(np.round(rng.uniform(0, 1), 2))
        yield ReleaseCase(
            records, int(rng.integers(len(records))), to, float(f"{10 ** rng.uniform(-2, 0.7):.3g}")
        )


@LEDGER.claim(
    "contract/R1",
    source="Definition of ε-differential privacy",
    statement="The mean of q records with Laplace noise of scale 1/(q ε) is ε-private, and ε is attained",
    instances=_releases,
    tolerance=1e-9,
    n_instances=100,
)
def release_is_private(case: ReleaseCase) -> Finding:
    """Bound the log ratio of densities over releases, and compare with |x - x'| ε, which is ε at worst.

    The ratio is piecewise linear in the release with its kinks at the two means: its extremes are there and
    beyond. The bound is computed again in fractions.
    """
    n = len(case.records)
    scale = laplace_scale(n, case.eps)
    means = np.array([np.mean(case.records), np.mean(case.neighbour)])
    releases = np.concatenate([means, means.mean(keepdims=True), means - 9 * scale, means + 9 * scale])
    worst = largest(laplace_log_ratio(releases, case.records, case.neighbour, scale))
    moved = abs(fraction(case.records[case.changed]) - fraction(case.to)) / n
    exact = moved * n * fraction(case.eps)
    gap = max(abs(worst - float(exact)), float(exact - fraction(case.eps))) / case.eps
    farthest = {fraction(case.records[case.changed]), fraction(case.to)} == {Fraction(0), Fraction(1)}
    if farthest:
        gap = max(gap, abs(worst / case.eps - 1))
    return Finding(gap, f"largest log ratio {worst:.10g}, in fractions {float(exact):.10g}, ε = {case.eps}")


@LEDGER.claim(
    "contract/R9",
    source="Algorithm 1",
    statement="Free choice implements the design: each takes its own contract, and rents and value result",
    instances=cases("log", "power", "saturating"),
    tolerance=1e-9,
    n_instances=60,
)
def free_choice_implements_the_menu(case: Case) -> Finding:
    """Let one holder of each type choose, and compare choices, rents and mean utility with the design.

    That the design itself gives no holder a reason to deviate is confirmed over all pairs in fractions.
    """
    contract = case.contract()
    menu, money = contract.solve(), contract.scales()[1]
    found = simulate(
        contract, menu, max(contract.n_types, 2), 0, draw=lambda _, n: np.resize(contract.types, n)
    )
    n = contract.n_types
    quantity = tuple(Fraction(float(q)) for q in menu["quantity"])
    payment = tuple(Fraction(float(g)) for g in menu["payment"])
    # The fractions of the floats themselves, so that what is left is the rounding of the menu alone.
    types = tuple(Fraction(float(t)) for t in contract.types)
    deviations = best_deviation(types, quantity, payment, Fraction(contract.unit_cost))
    gaps = {
        "untruthful": 1 - float(found.truthful[:n].mean()),
        "rent": largest(found.rent[:n] - menu["rent"]) / money,
        "value": abs(float(contract.probs @ found.utility[:n]) - menu.objective) / money,
        "deviation": max(float(d.gain) for d in deviations) / money,
    }
    worst = max(gaps, key=lambda name: gaps[name])
    return Finding(gaps[worst], f"{worst} {gaps[worst]:.1e}: contracts {row(menu['quantity'])}")


@LEDGER.claim(
    "contract/E10",
    source="(2), section VI",
    statement="α, called a complexity, is an efficiency: more of it is better for the demander",
    instances=cases(),
    tolerance=1e-12,
    n_instances=60,
)
def scale_is_an_efficiency(case: Case) -> Finding:
    """Raise α by a tenth, whatever the menu: for fixed contracts the gain rises, so the optimum cannot fall.

    And ε means less noise: at equal records a higher type costs more and is worth more.
    """
    contract = case.contract()
    assert isinstance(case.gain, LogGain)
    better = LogGain(case.gain.weight, 1.1 * case.gain.scale)
    base = contract.solve()
    improved = Case(case.types, case.weights, better, case.unit_cost).contract().solve()
    money = contract.scales()[1]
    falls = (base.objective - improved.objective) / money
    worth = np.diff(contract.gain(contract.types * 1.0))
    noise = np.diff([laplace_scale(10, eps) for eps in contract.types])
    wrong = max(0.0, float(np.max(-worth, initial=0.0)), float(np.max(noise, initial=0.0)))
    return Finding(
        max(falls, wrong),
        f"value {base.objective:.8g} at α = {case.gain.scale:g}, {improved.objective:.8g} at a tenth more",
    )
