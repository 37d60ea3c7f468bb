"""Cost profiles: random instances, and the same program written once more, in loops over dictionaries."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import cvxpy as cp
import numpy as np

from mechopt.formulations.accuracy_shaping.cost_profiles import CostProfiles
from mechopt.formulations.functions import SqrtAccuracy

Profile = tuple[int, ...]


def random_profiles(
    rng: np.random.Generator,
    n_agents: int,
    n_types: int,
    *,
    highest: float = -0.1,
    zeros: float = 0.0,
    seed_share: float = 0.0,
) -> CostProfiles:
    """Draw an instance; costs from 0.03 to ``10 ** highest`` viability costs, some profiles impossible."""
    accuracy = SqrtAccuracy(float(rng.uniform(0.5, 1)), float(10 ** rng.uniform(-1, 2)))
    costs = np.sort(accuracy.viability_cost * 10 ** rng.uniform(-1.5, highest, n_types))
    costs *= 1 + 0.02 * np.arange(n_types)  # apart enough for conic solvers
    probs = rng.dirichlet(np.ones(n_types**n_agents)) + 1e-3
    probs[1:] *= rng.uniform(size=probs.size - 1) >= zeros
    shape = (n_types,) * n_agents
    return CostProfiles(
        accuracy, costs, (probs / probs.sum()).reshape(shape), seed_share * accuracy.viability_data
    )


def alone(design: CostProfiles, type_: int) -> float:
    """Utility alone by Example 2.4: a - 3 (k c)^(1/3), if positive."""
    accuracy = design.accuracy
    assert isinstance(accuracy, SqrtAccuracy)
    return max(accuracy.max_accuracy - 3 * (accuracy.difficulty * design.costs[type_]) ** (1 / 3), 0.0)


def can_pay(design: CostProfiles, profile: Profile) -> bool:
    """Whether some pool pays for itself at known costs, on a fine grid of pools."""
    if any(alone(design, k) > 0 for k in profile):
        return True
    pools = design.seed_data + np.append(
        0.0, design.accuracy.min_viable_data * np.geomspace(1e-3, 1e3, 20001)
    )
    level = design.accuracy.concave_part(pools)
    return bool(np.any(sum(level / design.costs[k] for k in profile) >= pools - design.seed_data))


def by_loops(
    design: CostProfiles, incentives: str, participation: str, on: set[Profile] | None = None
) -> float | None:
    """Most expected data with the profiles of ``on`` on the branch, nothing in others; None if infeasible."""
    accuracy, costs, probs = design.accuracy, design.costs, design.probs
    assert isinstance(accuracy, SqrtAccuracy)
    agents = range(design.n_agents)
    own = [[k for k in range(design.n_types) if np.take(probs, k, axis=i).sum() > 0] for i in agents]
    everything = set(product(*own))
    if incentives == "interim":
        everything = {profile for profile in everything if probs[profile] > 0}
    if on is None:
        on = {profile for profile in everything if can_pay(design, profile)}
    unit = accuracy.max_accuracy / costs[0]
    asked: dict[tuple[Profile, int], Any] = {}
    given: dict[tuple[Profile, int], Any] = {}
    rules: list[Any] = []
    for profile in on:
        for i in agents:
            asked[profile, i], given[profile, i] = unit * cp.Variable(nonneg=True), cp.Variable(nonneg=True)
        pool = design.seed_data + sum(asked[profile, i] for i in agents)
        level = accuracy.max_accuracy - 2 * np.sqrt(accuracy.difficulty / unit) * cp.power(pool / unit, -0.5)
        rules += [given[profile, i] <= level for i in agents]

    def worth(profile: Profile, i: int, cost: int) -> Any:
        if profile not in on:
            return cp.Constant(0.0)
        return given[profile, i] - costs[cost] * asked[profile, i]

    def after_lie(profile: Profile, i: int, cost: int) -> Any:
        value = worth(profile, i, cost)
        return cp.maximum(value, alone(design, cost)) if participation == "quitting" else value

    def changed(profile: Profile, i: int, report: int) -> Profile:
        return (*profile[:i], report, *profile[i + 1 :])

    def cases(i: int, k: int) -> Iterator[Profile]:
        return (profile for profile in sorted(everything) if profile[i] == k)

    for i in agents:
        for k in own[i]:
            weights = {profile: float(probs[profile]) for profile in cases(i, k)}
            total = sum(weights.values())
            if participation == "interim":
                expected = sum(w * worth(profile, i, k) for profile, w in weights.items()) / total
                rules.append(expected >= alone(design, k))
            else:
                rules += [worth(profile, i, k) >= alone(design, k) for profile in weights if profile in on]
                # Where nothing is given, nobody may have anything better.
                assert all(alone(design, k) == 0 for profile in weights if profile not in on)
            for report in own[i]:
                if report == k:
                    continue
                pairs = [(profile, changed(profile, i, report)) for profile in weights]
                if incentives == "ex-post":
                    rules += [worth(a, i, k) >= after_lie(b, i, k) for a, b in pairs if {a, b} & on]
                else:
                    honest = sum(weights[a] * worth(a, i, k) for a, _ in pairs)
                    lying = sum(weights[a] * after_lie(b, i, k) for a, b in pairs)
                    rules.append(honest / total >= lying / total)
    if not on:
        return design.seed_data
    data = sum(float(probs[profile]) * asked[profile, i] for profile in sorted(on) for i in agents)
    problem = cp.Problem(cp.Maximize(data / unit), rules)
    problem.solve("CLARABEL")
    if problem.status == cp.INFEASIBLE:
        return None
    assert problem.status == cp.OPTIMAL, problem.status
    return design.seed_data + unit * float(problem.value)
