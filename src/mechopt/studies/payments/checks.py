"""Checks of estimates against samples left out, and of values against their axioms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.fair_value.federated import FederatedMeanEstimation
from mechopt.studies.payments.scenario import LEVEL_NAMES, FairPayments, Panel
from mechopt.studies.run import (
    Check,
)

Array = NDArray[np.float64]
Ints = NDArray[np.intp]

EXACT = 1e-9
"""What numbers that two algorithms compute may differ by, relative."""

ERRORS = 4.0
"""Standard errors that a measured mean may be away from its expectation: one in 16 000 is, by chance."""

N_GROUPS = 300
"""Groups of users drawn for the check on the records."""


@dataclass(frozen=True, eq=False)
class HoldOut:
    """Squared errors of users' estimates, as expected and as measured, in groups drawn from the records.

    Attributes
    ----------
    expected, measured : dict of str to float
        Mean square error by level of privacy (squared units of the samples).
    error : dict of str to float
        Standard error of the difference.
    """

    expected: Mapping[str, float]
    measured: Mapping[str, float]
    error: Mapping[str, float]


def leave_samples_out(panel: Panel, levels: Ints, rng: np.random.Generator) -> HoldOut:
    """Compare estimates with samples that they were made without, each group's levels drawn anew."""
    n = levels.size
    differences = {level: list[float]() for level in LEVEL_NAMES}
    squares = {level: list[tuple[float, float]]() for level in LEVEL_NAMES}
    for _ in range(N_GROUPS):
        chosen = rng.choice(len(panel.names), n, replace=False)
        drawn = rng.permutation(levels)
        shuffled = [rng.permutation(panel.samples[user]) for user in chosen]
        estimation = FederatedMeanEstimation(
            drawn, np.array([part.size - 1 for part in shuffled], dtype=float), panel.between, panel.within
        )
        means = np.array([part[1:].mean() for part in shuffled])
        emse = estimation.emse()
        found = {level: list[tuple[float, float]]() for level in LEVEL_NAMES}
        for user in range(n):
            weights = estimation.weights(user)
            assert weights is not None  # somebody shares
            error = float(weights.per_user @ means) - float(shuffled[user][0])
            found[LEVEL_NAMES[drawn[user]]].append((float(emse[user]) + panel.within, error**2))
        for level, pairs in found.items():
            if pairs:
                squares[level] += pairs
                differences[level].append(float(np.mean([have - want for want, have in pairs])))
    told = [level for level in LEVEL_NAMES if differences[level]]
    return HoldOut(
        {level: float(np.mean([want for want, _ in squares[level]])) for level in told},
        {level: float(np.mean([have for _, have in squares[level]])) for level in told},
        {
            level: float(np.std(differences[level], ddof=1) / math.sqrt(len(differences[level])))
            for level in told
        },
    )


def record_checks(panel: Panel, hold_out: HoldOut) -> list[Check]:
    """Whether estimates err on samples left out as the formulas say."""
    by_pairs, error = panel.between_by_pairs()
    checks = [
        Check(
            "1 variance of users",
            "variance between users, against that of their means with each user counted once",
            panel.between,
            by_pairs,
            ERRORS * error,
            f"{ERRORS:g} standard errors",
        )
    ]
    for level, expected in hold_out.expected.items():
        checks.append(
            Check(
                f"2 error, {level}",
                f"mean square error of estimates against samples left out of them, {N_GROUPS} groups",
                hold_out.measured[level],
                expected,
                ERRORS * hold_out.error[level],
                f"{ERRORS:g} standard errors",
            )
        )
    return checks


def value_checks(
    scenario: FairPayments, estimation: FederatedMeanEstimation, values: Array, again: Array | None
) -> list[Check]:
    """Whether fair values are those of other algorithms, and what is paid adds up."""
    utility = estimation.utility()
    scale = max(abs(utility), float(np.max(np.abs(values))))
    kinds: dict[tuple[int, float], list[float]] = {}
    for level, samples, value in zip(
        estimation.levels.tolist(), estimation.num_samples.tolist(), values.tolist(), strict=True
    ):
        kinds.setdefault((level, samples), []).append(value)
    checks = [
        Check(
            "3 all is paid out",
            "sum of fair values, against the share of the utility",
            float(values.sum()),
            scenario.payment_share * utility,
            EXACT * scale,
            "rounding",
        ),
        Check(
            "3 alike, alike paid",
            "largest difference of values of users with the same level and number of samples",
            max(max(group) - min(group) for group in kinds.values()),
            0.0,
            EXACT * scale,
            "rounding",
        ),
        Check(
            "3 private",
            "largest value of a user who shares nothing",
            float(np.max(np.abs(values[estimation.levels == 0]), initial=0.0)),
            0.0,
            0.0,
            "exact",
        ),
    ]
    if again is not None:
        checks.append(
            Check(
                "4 coalitions",
                "largest difference of a value from that of all coalitions one by one",
                float(np.max(np.abs(values - again))),
                0.0,
                EXACT * scale,
                "rounding",
            )
        )
    return checks
