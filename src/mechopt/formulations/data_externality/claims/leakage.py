"""What section III of the paper says about leaked information, as it holds, and what is false as printed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.data_externality import leakage
from mechopt.formulations.data_externality.claims import exact_gaps as exactly
from mechopt.formulations.data_externality.claims.roads import LEDGER
from mechopt.formulations.data_externality.families import (
    EVERY,
    PurchaseCase,
    Rng,
    case_of,
    cases,
)
from mechopt.verification.claim import Finding, Verdict
from mechopt.verification.evidence import confirm, largest, row

Array = NDArray[np.float64]

SUPPRESSOR = PurchaseCase(((1.0, 0.5, 0.0), (0.5, 1.0, 0.8), (0.0, 0.8, 1.0)), (0.5, 0.7, 1.2))
"""User 2 tells nothing of user 0, and makes what user 1 tells of it worth more."""

COMMON = PurchaseCase(((1.0, 0.5, 0.5), (0.5, 1.0, 0.5), (0.5, 0.5, 1.0)), (0.5, 0.7, 1.2))
"""Three users with one common factor."""


def conditional_leaks(covariance: Array) -> Array:
    """Leaks of all sets by the definition, shape (2**n_users, n_users).

    The variance of a type given data is the inverse of its entry in the inverse of their joint covariance.
    """
    n = len(covariance)
    table = np.zeros((2**n, n))
    for mask in range(1, 2**n):
        sharing = np.flatnonzero(mask >> np.arange(n) & 1)
        inside = covariance[np.ix_(sharing, sharing)] + np.eye(sharing.size)
        for user in range(n):
            across = covariance[user, sharing]
            joint = np.block([[covariance[[user], [user]][:, None], across[None]], [across[:, None], inside]])
            table[mask, user] = covariance[user, user] - 1 / np.linalg.inv(joint)[0, 0]
    return table


@LEDGER.claim(
    "data-externality/R1",
    source="Definition of leaked information, section III",
    statement="Leaked information is the fall of the variance of a type given data, for those who share as "
    "well; "
    "formula, table, posterior and updates of rank one agree",
    instances=cases(*EVERY, worked=(SUPPRESSOR,)),
    tolerance=1e-11,  # the definition inverts matrices whose condition is up to 1e3
    n_instances=40,
)
def leaks_by_definition(case: PurchaseCase) -> Finding:
    """Compare with the inverse of the joint covariance."""
    covariance = np.array(case.covariance)
    defined, n = conditional_leaks(covariance), case.n_users
    table = leakage.leak_table(covariance)
    gaps = {"table": largest(table - defined)}
    posterior, sharing = covariance, np.zeros(n, dtype=bool)
    for user in [*range(n), *range(0, n, 2)]:
        change = leakage.remove_user if sharing[user] else leakage.add_user
        posterior = change(posterior, user)
        sharing[user] ^= True
        there = defined[np.sum(1 << np.flatnonzero(sharing))]
        gaps[f"formula at {sharing.astype(int).tolist()}"] = largest(
            leakage.leaked_information(covariance, sharing) - there
        )
        gaps[f"updates at {sharing.astype(int).tolist()}"] = largest(np.diag(covariance - posterior) - there)
    name = max(gaps, key=gaps.__getitem__)
    return Finding(gaps[name] / float(np.max(covariance)), f"{name}: all share {row(defined[-1])}")


@LEDGER.claim(
    "data-externality/R2",
    source="Lemma on leaked information, property 1",
    statement="Leaked information rises with who shares",
    instances=cases(*EVERY, worked=(SUPPRESSOR,)),
    tolerance=1e-11,
    n_instances=60,
)
def leaks_are_monotone(case: PurchaseCase) -> Finding:
    """Look at all sets."""
    found = leakage.monotonicity_violation(leakage.leak_table(np.array(case.covariance)), tolerance=0.0)
    if found is None:
        return Finding(0.0)
    amount = found.amount / float(np.max(case.covariance))
    return Finding(amount, f"I_{found.of} falls when {found.added} joins {sorted(found.base)}")


@LEDGER.claim(
    "data-externality/R3",
    source="Lemma on leaked information, property 2, for a user's own data",
    statement="What a user's own data add to what leaks about it is s^2 / (1 + s), with s its variance "
    "given the "
    "others' data, and falls as more of them share",
    instances=cases(*EVERY, worked=(SUPPRESSOR,)),
    tolerance=1e-11,
    n_instances=60,
)
def own_data_add_less(case: PurchaseCase) -> Finding:
    """Compare own increments of all sets with the formula, and with those of larger sets."""
    covariance = np.array(case.covariance)
    table, n = leakage.leak_table(covariance), case.n_users
    scale = float(np.max(covariance))
    gaps = {}
    for user in range(n):
        without = np.flatnonzero(np.arange(2**n) >> user & 1 == 0)
        own = table[without | 1 << user, user] - table[without, user]
        variance = covariance[user, user] - table[without, user]
        gaps[f"formula of user {user}"] = largest(own - variance**2 / (1 + variance)) / scale
        # Masks of the others; a rise of the increment is a fall of its negative.
        found = leakage.monotonicity_violation(-own, tolerance=0.0)
        gaps[f"increment of user {user}"] = 0.0 if found is None else found.amount / scale
    name = max(gaps, key=gaps.__getitem__)
    return Finding(gaps[name], name)


@LEDGER.claim(
    "data-externality/E5",
    source="Lemma on leaked information, property 2, read as submodularity",
    statement="What a user's data add to what leaks about anybody falls as more users share",
    instances=cases("suppressor", "dense", worked=(SUPPRESSOR,), sizes=(3, 4)),
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="data-externality/R3-mtp2",
    n_instances=30,
    confirm_exactly=exactly.leaks_are_submodular,
)
def leaks_are_submodular(case: PurchaseCase) -> Finding:
    """Find the worst pair, and compute its four leaks by the definition."""
    covariance = np.array(case.covariance)
    found = leakage.submodularity_violation(leakage.leak_table(covariance))
    if found is None:
        return Finding(0.0)
    defined = conditional_leaks(covariance)[:, found.of]
    base = sum(1 << user for user in found.base)
    assert found.context is not None
    more, context = 1 << found.added, 1 << found.context
    alone = defined[base | more] - defined[base]
    together = defined[base | more | context] - defined[base | context]
    confirm(
        abs(together - alone - found.amount) <= 1e-9 * np.max(covariance),
        f"by the definition of leaks it adds {together - alone:.6g} more",
    )
    return Finding(
        found.amount / max(together, 1e-300),
        f"user {found.added} adds {alone:.6g} to I_{found.of} beside {sorted(found.base)}, and "
        f"{together:.6g} if "
        f"{found.context} shares too",
    )


@LEDGER.claim(
    "data-externality/R3-mtp2",
    source="Lemma on leaked information, property 2, under MTP2",
    statement="If types are MTP2 up to signs, what a user's data add to what leaks about anybody falls",
    instances=cases("mtp2", "equicorrelated", "mtp2", "dense", worked=(COMMON,)),
    tolerance=1e-11,
    n_instances=60,
)
def mtp2_leaks_are_submodular(case: PurchaseCase) -> Finding:
    """Look at all sets, if the types are MTP2."""
    covariance = np.array(case.covariance)
    if not leakage.is_mtp2(covariance):
        return Finding(0.0, applies=False)
    found = leakage.submodularity_violation(leakage.leak_table(covariance), tolerance=0.0)
    if found is None:
        return Finding(0.0)
    amount = found.amount / float(np.max(covariance))
    return Finding(amount, f"I_{found.of}: {found.added} adds more if {found.context} shares")


def _outsiders(rng: Rng, n: int) -> Iterator[PurchaseCase]:
    """One user, and others whose covariance with it and among themselves is alike and not negative."""
    for _ in range(n):
        size = int(rng.integers(3, 6))
        among, across = np.round(rng.uniform(0, 0.8), 2), np.round(rng.uniform(-0.7, 0.7), 2)
        covariance = np.where(np.eye(size, dtype=bool), 1.0, among)
        covariance[0, 1:] = covariance[1:, 0] = across
        covariance[0, 0] = np.round(1 + size * across**2, 2)
        yield case_of(covariance, np.full(size, 0.5))


@LEDGER.claim(
    "data-externality/R3-exchangeable",
    source="Lemma on leaked information, property 2, for users alike",
    statement="What leaks about a user by k others alike, of covariance r >= 0, is c^2 k / (d + 1 + k r): "
    "concave in k",
    instances=_outsiders,
    tolerance=1e-11,
    n_instances=40,
)
def alike_outsiders(case: PurchaseCase) -> Finding:
    """Let one after the other share."""
    covariance = np.array(case.covariance)
    n, among, across = case.n_users, covariance[1, -1], covariance[0, 1]
    count = np.arange(n)
    formula = across**2 * count / (1 - among + 1 + count * among)
    leaks = np.array(
        [leakage.leaked_information(covariance, (np.arange(n) <= k) & (np.arange(n) > 0))[0] for k in count]
    )
    bend = float(np.max(np.diff(leaks, 2)))
    return Finding(max(largest(leaks - formula), bend), f"leaks {row(leaks)}, formula {row(formula)}")


@LEDGER.claim(
    "data-externality/R1-concave",
    source="Definition of leaked information, for data of any precision",
    statement="Leaked information is a concave function of the precisions of the data",
    instances=cases(*EVERY, worked=(SUPPRESSOR,)),
    tolerance=1e-11,
    n_instances=40,
)
def leaks_are_concave(case: PurchaseCase) -> Finding:
    """Compare with tangent planes at points in the cube and at its corners."""
    covariance = np.array(case.covariance)
    n = case.n_users
    points = np.random.default_rng(0).uniform(0, 1, (40, n))
    points[::2] = np.round(points[::2])
    posterior = leakage.posterior_covariance(covariance, points)
    variance = np.diagonal(posterior, axis1=1, axis2=2)
    # Row a, column b: the tangent at a, evaluated at b.
    move = points[None] - points[:, None]
    tangent = variance[:, None] - np.einsum("aij,abj->abi", posterior**2, move)
    return Finding(largest(np.maximum(tangent - variance[None], 0.0)) / float(np.max(covariance)))


@LEDGER.claim(
    "data-externality/R3-gain",
    source="Related: mutual information of types and shared data",
    statement="The information that the data of those who share give about all types is submodular",
    instances=cases(*EVERY, worked=(SUPPRESSOR,)),
    tolerance=1e-12,
    n_instances=30,
)
def gain_is_submodular(case: PurchaseCase) -> Finding:
    """Look at all sets."""
    covariance, n = np.array(case.covariance), case.n_users
    member = (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(bool)
    gains = np.array([leakage.information_gain(covariance, sharing) for sharing in member])
    found = leakage.submodularity_violation(gains, tolerance=0.0)
    return Finding(0.0 if found is None else found.amount / float(gains[-1]), f"gain of all {gains[-1]:.6g}")
