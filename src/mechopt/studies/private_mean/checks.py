"""Checks of choices, privacy, noise and rounding against the theory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mechopt.formulations.screening import ContinuousContract, ScreeningContract
from mechopt.formulations.screening.simulation import (
    Rounding,
    Simulation,
    choose,
    simulate,
    whole_records,
)
from mechopt.studies.private_mean.releases import Population, Releases
from mechopt.studies.private_mean.scenario import PrivateMean
from mechopt.studies.run import Check

Array = NDArray[np.float64]

ACCOUNTING = 1e-9
"""Relative: OpenDP adds to the privacy loss what rounding in a sum of `MOST_RECORDS` numbers could reveal."""

N_OUTSIDERS = 1000


def choice_checks(
    contract: ScreeningContract,
    menu: Any,
    found: Simulation,
    value: float,
    rent: Array,
    rng: np.random.Generator,
) -> list[Check]:
    """Whether holders choose their own contract, and get what the theory says."""
    money = contract.scales()[1]
    kind = np.searchsorted(contract.types, found.eps)
    served = contract.types[whole_records(menu["quantity"]) > 0]
    # Margin: a holder just above the last type served loses less than what counts as a tie.
    outsiders = served[-1] * rng.uniform(1.001, 1.5, N_OUTSIDERS)
    stays_out = np.concatenate(
        [choose(menu, outsiders, contract.unit_cost) < 0, found.took_null[found.eps > served[-1]]]
    )
    return [
        Check(
            "1 truthful choice",
            "share of holders who take the contract of their type",
            found.truthful_share,
            1.0,
            0.0,
            "incentive compatibility; ties go to the larger quantity",
        ),
        Check(
            "2 realised rent",
            "largest difference of a holder's rent from theorem 3's (utility)",
            float(np.abs(found.rent - rent[kind]).max()),
            0.0,
            1e-12 * money,
            "rounding, 1e-12 of the first best's gain",
        ),
        Check(
            "3 demander's utility",
            "mean per holder (utility)",
            found.mean_utility,
            value,
            4 * found.standard_error,
            "4 standard errors",
        ),
        Check(
            "4 null contract",
            f"share of {stays_out.size} holders above the last type served who take no contract",
            float(stays_out.mean()),
            1.0,
            0.0,
            "individual rationality binds at the last type served",
        ),
    ]


def privacy_checks(contract: ScreeningContract, releases: Releases) -> list[Check]:
    """Whether what is released is as private as each level promises."""

    def farthest(column: int) -> float:
        ratios = [account[column] / contract.types[k] for k, account in releases.accounts.items()]
        return max(ratios, key=lambda ratio: abs(ratio - 1), default=np.nan)

    return [
        Check(
            "5 density ratio",
            "largest log density ratio on neighbouring data over the privacy level, farthest type",
            farthest(1),
            1.0,
            ACCOUNTING,
            "noise is enlarged by what rounding in the sum could reveal",
        ),
        Check(
            "5 OpenDP's accounting",
            "privacy loss that OpenDP accounts for over the privacy level, farthest type",
            farthest(0),
            1.0,
            ACCOUNTING,
            "the same",
        ),
    ]


def noise_checks(
    contract: ScreeningContract, found: Simulation, releases: Releases, population: Population
) -> list[Check]:
    """Whether the errors of the means are those of noise and sampling."""
    n = releases.holder.size
    noise_variance = 2 * releases.scale**2
    variance = noise_variance + population.moments[0] / releases.size
    kind = np.searchsorted(contract.types, found.eps[releases.holder])
    return [
        Check(
            "6 error of noise",
            "mean square of the noise over 2 / (q eps)^2, all releases",
            float(np.mean(releases.noise**2 / noise_variance)),
            1.0,
            5 * np.sqrt(5 / n),
            "5 standard errors",
        ),
        Check(
            "6 scale of noise",
            "mean absolute noise over 1 / (q eps), farthest of all types and all together (normal deviate)",
            _farthest_deviate(np.abs(releases.noise) / releases.scale, kind),
            0.0,
            5.0,
            "5 standard deviations of its gamma distribution",
        ),
        Check(
            "6 error of release",
            "mean square error of the release over 2 / (q eps)^2 + variance / q",
            float(np.mean(releases.error**2 / variance)),
            1.0,
            5 * float(np.sqrt(np.sum(_relative_variance(releases, population)))) / n,
            "5 standard errors",
        ),
    ]


def _farthest_deviate(sizes: Array, kind: NDArray[np.intp]) -> float:
    """Largest normal deviate of sums of exponential variables, which have gamma distributions."""
    deviates = []
    for own in [sizes, *(sizes[kind == k] for k in np.unique(kind))]:
        law, total = stats.gamma(own.size), own.sum()
        # Each tail from its own side: the other one rounds to 1.
        deviates.append(max(stats.norm.isf(law.sf(total)), stats.norm.isf(law.cdf(total))))
    return float(np.max(deviates, initial=0.0))


def _relative_variance(releases: Releases, population: Population) -> Array:
    """Variance of each squared error over its expectation, from fourth moments."""
    second, fourth = population.moments
    size, noise = releases.size, 2 * releases.scale**2
    sampling = second / size
    sampled = (fourth + 3 * (size - 1) * second**2) / size**3
    moment = 6 * noise**2 + 6 * noise * sampling + sampled
    return np.asarray(moment / (noise + sampling) ** 2 - 1)


def continuous_checks(
    scenario: PrivateMean,
    continuous: ContinuousContract,
    contract: ScreeningContract,
    menu: Any,
    rng: np.random.Generator,
) -> list[Check]:
    """Let holders between the types choose, on this grid and on the paper's."""
    law = continuous.dist
    paper = continuous.discretize(contract.n_types, "paper")
    found = {}
    checks = []
    on_grid = paper.solve()
    for name, market, published in (("", contract, menu), (", paper's grid", paper, on_grid)):
        found[name] = simulate(
            market,
            published,
            scenario.n_continuous,
            rng,
            draw=lambda rng, n: law.rvs(size=n, random_state=rng),
        )
        checks.append(
            Check(
                f"7 between types{name}",
                "the demander's mean utility per holder whose type is not on the grid (utility)",
                found[name].mean_utility,
                continuous.realised_value(published),
                4 * found[name].standard_error + 1e-9 * contract.scales()[1],
                "4 standard errors, and rounding where all holders are shut out",
            )
        )
    on_paper, quantity = found[", paper's grid"], np.append(on_grid["quantity"], 0.0)
    shut_out = float(law.sf(paper.types[quantity[:-1] > 0][-1]))
    checks += [
        Check(
            "7 shut out, paper's grid",
            "share of holders above the last type, who take no contract",
            float(on_paper.took_null.mean()),
            shut_out,
            4 * np.sqrt(shut_out * (1 - shut_out) / scenario.n_continuous),
            "4 standard errors",
        ),
        Check(
            "7 first contract, same",
            "share of holders who take the paper's first contract",
            float(np.mean(on_paper.quantity > quantity[1] * (1 + 1e-9))),
            0.0,
            0.0,
            "every other type is above the first, and prefers the second contract",
        ),
    ]
    return checks


def rounding_checks(contract: ScreeningContract, rounding: Rounding) -> list[Check]:
    """What whole numbers of records do to incentives."""
    repaired = contract.audit({"quantity": rounding.records, "payment": rounding.payment})
    return [
        Check(
            "8 whole records",
            "the most that a type gains by deviating if records are rounded and payments are not (utility)",
            max(rounding.ic_violation, rounding.ir_violation),
            0.0,
            rounding.ic_bound,
            "a type's cost of both contracts' rounding errors",
        ),
        Check(
            "8 paid as whole",
            "the same with payments made for whole records (utility)",
            max(repaired.ic_violation, repaired.ir_violation),
            0.0,
            1e-12 * contract.scales()[1],
            "rounding, 1e-12 of the first best's gain",
        ),
    ]


def average(values: NDArray[Any]) -> float:
    """Mean, NaN of nothing."""
    return float(values.mean()) if values.size else np.nan
