"""What the paper says of users with costs of their own, as corrected: these claims hold."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mechopt.formulations.fair_value.claims.platform import worst
from mechopt.formulations.fair_value.claims.platform_roads import (
    pair_by_scan,
    pair_equilibria,
    pure_by_enumeration,
)
from mechopt.formulations.fair_value.claims.roads import LEDGER
from mechopt.formulations.fair_value.platform.closed_form import TwoUsers, best_pure
from mechopt.formulations.fair_value.platform.families import (
    CostsCase,
    PairCase,
    Rng,
    ShareCase,
    own_costs,
    pairs,
    shares_of_pairs,
)
from mechopt.formulations.fair_value.platform.heterogeneous import PairGame, equilibria_by_integers
from mechopt.verification.claim import Finding


@LEDGER.claim(
    "fair-value/R25",
    source="(23), (24)",
    statement="Two users at a payment share have the equilibria that the supports of each allow; a "
    "mixed-integer program that is cut where it has been finds the same",
    instances=shares_of_pairs(),
    tolerance=1e-6,
    n_instances=10,
)
def equilibria_of_two(case: ShareCase) -> Finding:
    """Enumerate supports by the definition, and compare with the mechanism and with the integer program."""
    payments = case.payments()
    tried = sorted(pair_equilibria(case.one, case.both, (case.cost_1, case.cost_2), case.share))
    found = sorted(
        (float(e.share_probability[0]), float(e.share_probability[1]))
        for e in payments.equilibria(case.share)
    )
    integers = sorted(equilibria_by_integers(PairGame(payments.values, np.array(payments.costs)), case.share))
    gaps = {
        name: float(np.max(np.abs(np.array(other) - np.array(tried)))) if len(other) == len(tried) else 1.0
        for name, other in (("mechanism", found), ("integers", integers))
    }
    return worst(gaps, f"supports {tried}, mechanism {found}, integers {integers}")


def _few(rng: Rng, n: int) -> Iterator[PairCase]:
    yield from pairs()(rng, 2)
    yield from pairs(())(rng, n - 2)


@LEDGER.claim(
    "fair-value/R26",
    source="(25) with (1 - alpha) p1'U p2",
    statement="With both users' equilibrium as complementarity pairs, SCIP finds what enumeration finds",
    instances=_few,
    tolerance=1e-5,
    n_instances=5,
)
def program_25(case: PairCase) -> Finding:
    """Solve the declared program, and scan payment shares."""
    value, _ = pair_by_scan(case.one, case.both, (case.cost_1, case.cost_2))
    solution = case.payments().solve("pyomo:scip", time_limit=20, on_failure="return")
    return Finding(
        abs(solution.objective - value) / case.both,
        f"{solution.status}: {solution.objective:.9g}, by scan {value:.9g}",
    )


@LEDGER.claim(
    "fair-value/R27",
    source="(25), Fig. 7, solved",
    statement="V = max(0, U1 - lo, U2 - 2 hi, (1 - 2 lo/U2)(U1 + (U2 - U1) x)), x = (U1 - hi U2/(2 lo)) / "
    "(U1 - U2/2) in [0, 1]",
    instances=pairs(),
    tolerance=1e-9,
    n_instances=60,
)
def two_costs(case: PairCase) -> Finding:
    """Scan payment shares with all equilibria at each; the mechanism enumerates its own way."""
    payments = case.payments()
    formula = payments.closed_form()
    assert isinstance(formula, TwoUsers)
    tried, _ = pair_by_scan(case.one, case.both, (case.cost_1, case.cost_2))
    found = payments.solve().objective
    gaps = {
        "scan": abs(formula.platform_utility - tried) / case.both,
        "mechanism": abs(formula.platform_utility - found) / case.both,
    }
    return worst(gaps, f"{formula.regime}: {formula.platform_utility:.12g}, {tried:.12g}, {found:.12g}")


@LEDGER.claim(
    "fair-value/R28",
    source="Section 6, left open",
    statement="For costs of their own and U(k)/k that does not rise, the best pure equilibrium leaves "
    "max_k U(k) - k c_(k); no equilibrium leaves more than max_k U(k) - (the k least costs)",
    instances=own_costs(),
    tolerance=1e-9,
    n_instances=25,
)
def many_costs(case: CostsCase) -> Finding:
    """Enumerate all profiles at all payment shares at which a user is indifferent."""
    value, _ = best_pure(case.utility, case.costs)
    tried = pure_by_enumeration(case.utility, case.costs)
    solution = case.payments().solve()
    size = case.utility[-1]
    gaps = {"enumeration": abs(value - tried) / size}
    if len(case.costs) > 2:
        gaps["mechanism"] = abs(solution.objective - tried) / size
    gaps["bound"] = (tried - (solution.bound if solution.bound is not None else np.inf)) / size
    limit = max(case.utility[k] - sum(sorted(case.costs)[:k]) for k in range(len(case.utility)))
    gaps["limit"] = (solution.objective - limit) / size
    return worst(gaps, f"formula {value:.12g}, enumeration {tried:.12g}, bound {solution.bound}")
