"""Audits: against brute force, at the edges, and of a contract's menus."""

import numpy as np
import pytest

import mechopt as mo
from mechopt.verification.audit import Deviation, audit_choices, audit_deviations


def brute_force(table, outside):
    """Best deviation to another's contract and to the outside option, one pair at a time."""
    n = len(table)
    gains = [(table[k][j] - table[k][k], k, j) for k in range(n) for j in range(n) if j != k]
    shortfalls = [(outside[k] - table[k][k], k) for k in range(n)]
    return max(gains), max(shortfalls)


@pytest.mark.parametrize("seed", range(20))
def test_audit_finds_what_brute_force_finds(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 8))
    table, outside = rng.normal(size=(n, n)), rng.normal(size=n)
    (gain, k, j), (shortfall, k_out) = brute_force(table.tolist(), outside.tolist())
    audit = audit_choices(table, outside)
    assert audit.ic_violation == pytest.approx(max(gain, 0), abs=1e-15)
    assert audit.ir_violation == pytest.approx(max(shortfall, 0), abs=1e-15)
    expected = Deviation(k, j, gain) if gain >= shortfall else Deviation(k_out, None, shortfall)
    assert (audit.worst.agent, audit.worst.choice) == (expected.agent, expected.choice)
    assert audit.worst.gain == pytest.approx(expected.gain)
    assert audit.scale == np.abs(table).max()


def test_clean_menu_passes_and_tells_the_closest_deviation():
    audit = audit_choices([[2.0, 1.5], [0.0, 1.0]])
    assert (audit.ic_violation, audit.ir_violation) == (0.0, 0.0)
    assert audit.worst == Deviation(0, 1, -0.5)
    assert audit.ok(0.0)


def test_ok_is_relative_to_the_scale():
    table = np.array([[1.0, 1.001], [0.0, 1.0]])
    assert not audit_choices(table).ok(9e-4)
    assert audit_choices(table).ok(1.1e-3)
    assert audit_choices(1e6 * table).relative == pytest.approx(audit_choices(table).relative)
    assert audit_choices(table, scale=100.0).relative == pytest.approx(1e-5)


def test_outside_option_alone():
    audit = audit_choices([[1.0]], outside_option=3.0)
    assert (audit.ic_violation, audit.ir_violation) == (0.0, 2.0)
    assert str(audit.worst) == "agent 0 takes the outside option: gains 2"
    assert not audit.ok()


def test_nothing_at_stake_does_not_divide_by_zero():
    assert audit_choices([[0.0, 0.0], [0.0, 0.0]]).relative == 0.0


@pytest.mark.parametrize("table", [[1.0, 2.0], [[1.0, 2.0]], np.empty((0, 0))])
def test_table_must_be_square(table):
    with pytest.raises(mo.InvalidInput, match="square"):
        audit_choices(table)


def test_table_must_be_finite():
    with pytest.raises(mo.InvalidInput, match=r"utility\[0, 1\] is nan"):
        audit_choices([[1.0, np.nan], [0.0, 1.0]])


def test_deviations_found_elsewhere_are_summed_up():
    found = [Deviation(0, 1, 0.25), Deviation(2, None, 0.5), Deviation(1, 0, -1.0)]
    audit = audit_deviations(found, scale=2.0, method="neighbours")
    assert (audit.ic_violation, audit.ir_violation, audit.relative) == (0.25, 0.5, 0.25)
    assert audit.worst == found[1]
    assert audit.method == "neighbours"


def test_contract_audit_names_who_gains_by_whose_contract():
    contract = mo.ScreeningContract(types=[1.0, 2.0, 3.0])
    tight = {"quantity": np.array([3.0, 2.0, 1.0]), "payment": np.array([6.0, 5.0, 3.0])}
    assert contract.audit(tight).ok(1e-15)
    cheaper = contract.audit(tight | {"payment": np.array([5.0, 5.0, 3.0])})
    assert (cheaper.worst.agent, cheaper.worst.choice, cheaper.worst.gain) == (0, 1, 1.0)
    stingy = contract.audit(tight | {"payment": np.array([5.5, 4.5, 2.5])})
    assert (stingy.ic_violation, stingy.ir_violation) == (0.0, 0.5)
    assert stingy.worst == Deviation(2, None, 0.5)


def test_audit_for_many_types_agrees_with_all_pairs(monkeypatch):
    contract = mo.ScreeningContract(types=np.linspace(0.1, 0.9, 9), gain=mo.LogGain(weight=50, scale=2))
    menu = dict(contract.solve())
    menu["payment"] = menu["payment"].copy()
    menu["payment"][3] += 0.7
    full = contract.audit(menu)
    monkeypatch.setattr("mechopt.formulations.screening.model.ALL_PAIRS_LIMIT", 5)
    local = contract.audit(menu)
    assert full.method == "all pairs"
    assert local.method != "all pairs"
    assert full.ic_violation == pytest.approx(0.7, rel=1e-6)
    assert local.ic_violation == pytest.approx(full.ic_violation)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("agent", "choice"), [(0, 399), (399, 0), (200, 201), (81, 80)])
def test_the_one_temptation_in_a_large_table_is_found(order: str, agent: int, choice: int) -> None:
    """Tables are looked at a few rows at a time."""
    table = np.random.default_rng(3).uniform(0.0, 1.0, (400, 400))
    np.fill_diagonal(table, 2.0)
    table[agent, choice] = 2.5
    table = np.asarray(table, order=order)
    before = table.copy()
    found = audit_choices(table, scale=1.0)
    np.testing.assert_array_equal(table, before)
    assert found.worst == Deviation(agent, choice, 0.5)
    assert found.ic_violation == 0.5
    table[agent, choice] = 1.75
    assert audit_choices(table).worst == Deviation(agent, choice, -0.25)
