"""Checks of the federation's designs: equilibria, closed forms, backends, unverified costs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.accuracy_shaping import closed_form
from mechopt.formulations.functions import SqrtAccuracy
from mechopt.studies.federated.design import Design, UnverifiedMenu
from mechopt.studies.run import Check

Array = NDArray[np.float64]

CERTIFIED = 1e-8
"""Regret of an equilibrium (accuracy units)."""

ROUNDING = 1e-12
"""Of sums and differences of accuracies, which are below 1."""

N_PROFILES = 2000
"""Profiles of contributions at which rewards are sampled."""


def equilibrium_checks(design: Design, rng: np.random.Generator) -> list[Check]:
    """Whether the designs are equilibria, worth it to everybody, and as large as the theory says."""
    shaping, mechanism, profile = design.shaping, design.mechanism, design.profile
    margin, costs = mechanism.incentive_margin, shaping.marginal_costs
    alone, most = design.alone, design.most
    roots = shaping.equilibria(margin)
    root = roots[-1].contribution
    # By how much the margin lowers the pool, to first order: the pool is convex in the margin.
    rate = float(np.sum(1 / costs)) * float(shaping.accuracy.concave_part_derivative(most.objective))
    lost = margin * float(np.sum((most["contribution"] - alone.contribution) / costs)) / (1 - rate)
    promised = alone.utility + margin * (profile - alone.contribution)
    fall = float(np.max(alone.contribution - profile))
    sampled = _sample_profiles(design, rng)
    reward = mechanism.reward(sampled)
    pool = shaping.accuracy(sampled.sum(axis=1, keepdims=True))
    best = float(alone.contribution.max())
    return [
        Check(
            "2 regret",
            "the most that a hospital gains by another contribution (accuracy)",
            mechanism.regret(profile),
            0.0,
            CERTIFIED,
            "what counts as an equilibrium",
        ),
        Check(
            "2 regret, by trying",
            "the same, contributions tried on a grid and refined",
            mechanism.regret(profile, "grid"),
            0.0,
            CERTIFIED,
            "the same",
        ),
        Check(
            "2 root of the pool",
            "largest difference from the root of the pool's equation, relative to the pool",
            float(np.max(np.abs(profile - root))) / design.total,
            0.0,
            1e-9,
            "best responses stop moving at 1e-13 of their limits",
        ),
        Check(
            "2 most data",
            "records in the pool, against the most that any mechanism collects",
            design.total,
            most.objective,
            lost * (1 + 1e-6) + 1e-9 * most.objective,
            "what the margin costs, and rounding",
        ),
        Check(
            "3 individual rationality",
            f"worst shortfall of a reward from what own records are worth alone, {len(sampled)} profiles",
            max(0.0, float(np.max(shaping.accuracy(sampled) - reward))),
            0.0,
            ROUNDING,
            "rounding",
        ),
        Check(
            "3 feasible rewards",
            f"worst excess of a reward over the accuracy of the pool, {len(sampled)} profiles",
            max(0.0, float(np.max(reward - pool))),
            0.0,
            ROUNDING,
            "rounding",
        ),
        Check(
            "4 utility as alone",
            "largest difference from the utility alone and the margin on what is given beyond (Theorem 4.6)",
            float(np.max(np.abs(mechanism.utility(profile) - promised))),
            0.0,
            1e-10,
            "best responses stop moving at 1e-13 of their limits",
        ),
        Check(
            "4 no less than alone",
            "most that a hospital, or all together, contribute less than alone (records)",
            max(0.0, fall, float(alone.contribution.sum()) - design.total),
            0.0,
            1e-9 * design.total,
            "rounding, relative to the pool",
        ),
        Check(
            "5 free-riding",
            "records that standard federated learning collects, against the most of any hospital alone",
            float(design.standard.sum()),
            best,
            1e-9 * max(best, 1.0),
            "Theorem 3.4; rounding",
        ),
        Check(
            "5 regret, standard",
            "the most that a hospital gains there by another contribution (accuracy)",
            design.standard_regret,
            0.0,
            CERTIFIED,
            "what counts as an equilibrium",
        ),
    ]


def _sample_profiles(design: Design, rng: np.random.Generator) -> Array:
    """Contributions of all magnitudes, some of them none; the profiles of the design with one changed."""
    limit, n = design.mechanism.contribution_limit, design.profile.size
    anywhere = limit * 10 ** rng.uniform(-4, 0, (N_PROFILES, n)) * (rng.random((N_PROFILES, n)) < 0.8)
    known = np.array(
        [np.zeros(n), design.alone.contribution, design.standard, design.profile, design.most["contribution"]]
    )
    near = known[rng.integers(len(known), size=N_PROFILES)]
    changed = rng.integers(n, size=N_PROFILES)
    near[np.arange(N_PROFILES), changed] = anywhere[np.arange(N_PROFILES), changed]
    return np.concatenate([anywhere, near, known])


def formula_checks(design: Design) -> list[Check]:
    """What closed forms there are."""
    accuracy, costs = design.shaping.accuracy, design.shaping.marginal_costs
    by_formula, _ = closed_form.standalone(accuracy, costs)
    checks = [
        Check(
            "6 formula, alone",
            "largest difference of a hospital's records alone from (a b / c)^(1 / (1 + a)), relative",
            float(np.max(np.abs(design.alone.contribution - by_formula) / np.maximum(by_formula, 1.0))),
            0.0,
            1e-9,
            "rounding",
        )
    ]
    if isinstance(accuracy, SqrtAccuracy):
        form = design.shaping.closed_form()
        checks.append(
            Check(
                "6 formula, pool",
                "the most data, against the cosine of Example 4.5 for any costs (records)",
                design.most.objective,
                form.total_data,
                1e-9 * form.total_data,
                "rounding",
            )
        )
    return checks


def unverified_checks(unverified: UnverifiedMenu) -> list[Check]:
    """Whether the menu for unverified costs keeps its promises, and is that of the formula."""
    screening, menu = unverified.screening, unverified.menu
    audit = screening.audit(menu)
    checks = [
        Check(
            "10 unverified, audit",
            "the most that a class gains by another's contract, or by staying out (accuracy)",
            max(audit.ic_violation, audit.ir_violation),
            0.0,
            1e-9,
            "rounding",
        )
    ]
    if screening.n_types == 2:
        form = screening.closed_form()
        checks.append(
            Check(
                "10 unverified, formula",
                "expected records of a hospital, against Theorem B.1, corrected, with the same others_data",
                menu.objective,
                form.objective,
                1e-7 * max(form.objective, 1.0),
                "the mean field is found by a root, to 1e-10 or so",
            )
        )
    return checks
