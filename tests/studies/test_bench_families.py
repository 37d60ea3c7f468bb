"""Families of the benchmark: their references against a solver, and instances that anyone can draw again."""

from __future__ import annotations

import numpy as np
import pytest

import mechopt as mo
from mechopt import InvalidInput
from mechopt.solvers.backend import get_backend
from mechopt.studies.bench.families import FAMILIES, MECHANISMS, Family, get_family, select

NAMES = [family.name for family in FAMILIES]
SLOW = ("data-externality/purchase", "platform-payments/symmetric")  # solvers take seconds


def test_names_are_unique_and_every_mechanism_is_there() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert set(MECHANISMS) == {
        "contract",
        "accuracy-shaping",
        "cost-screening",
        "sharing-market",
        "mean-estimation",
        "platform-payments",
        "data-externality",
        "price-polytope",
    }
    assert all(list(f.sizes) == sorted(f.sizes) and len(f.quick_sizes) == 3 for f in FAMILIES)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in SLOW])
@pytest.mark.parametrize("seed", [0, 1])
def test_reference_is_what_a_solver_finds(name: str, seed: int) -> None:
    family = get_family(name)
    reference = family.oracle(family.smallest, seed)
    backend = next(
        b for b in ("highspy", "clarabel", "outer") if not get_backend(b).lacks(build(family, seed))
    )
    solution = build(family, seed).solve(backend)
    if reference is None:
        assert name == "sharing-market/seller-cap"
        return
    assert reference.value > 0
    # Both sides are asked for 1e-6.
    assert solution.objective == pytest.approx(reference.value, rel=2e-6)


def build(family: Family, seed: int) -> mo.Program:
    return family.build(family.smallest, seed)


@pytest.mark.parametrize("name", SLOW)
def test_reference_of_hard_programs_is_what_the_exact_algorithm_finds(name: str) -> None:
    family = get_family(name)
    reference = family.oracle(family.smallest, 0)
    assert reference is not None
    assert family.build(family.smallest, 0).solve("exact").objective == pytest.approx(
        reference.value, rel=1e-9
    )


def test_cap_of_sellers_binds_somewhere() -> None:
    capped, free = get_family("sharing-market/seller-cap"), get_family("sharing-market/free")
    assert any(
        capped.build(size, 0).solve("outer").objective < free.oracle(size, 0).value * (1 - 1e-6)  # type: ignore[union-attr]
        for size in free.quick_sizes
    )


def test_instances_can_be_drawn_again_and_differ_by_seed() -> None:
    for family in FAMILIES:
        size = family.smallest
        values = [family.oracle(size, seed) for seed in (0, 0, 1)]
        if values[0] is not None:
            assert values[0] == values[1]
            assert values[0] != values[2], family.name


def test_audits_tell_a_bad_answer() -> None:
    family = get_family("contract/log-full")
    contract = family.make(5, 0)
    good = family.build(5, 0).solve("exact")
    bad = good.replace(values=dict(good.values) | {"payment": 0.5 * np.asarray(good["payment"])})
    assert family.audit is not None
    assert family.repair is not None
    assert family.audit(contract, good).ok(1e-9)
    assert family.audit(contract, bad).ir_violation > 0.1
    assert family.audit(contract, family.repair(contract, bad)).ok(1e-9)


def test_selection() -> None:
    assert select() == FAMILIES
    assert [f.name for f in select(["contract/log-full", "contract"])][:2] == [
        "contract/log-reduced",
        "contract/log-full",
    ]
    with pytest.raises(InvalidInput, match="'contracts' is not benchmarked; there are contract"):
        select(["contracts"])
    with pytest.raises(InvalidInput, match="no family"):
        get_family("contract")
