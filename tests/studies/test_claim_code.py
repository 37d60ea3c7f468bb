"""Code of claims: the check, and what it calls of mechanisms, found in sources by names and annotations."""

import functools
import importlib
from dataclasses import replace

import pytest

import mechopt as mo
from mechopt.formulations.ledger import ledger
from mechopt.studies.claim_code import Code, code_checked, code_of_check
from mechopt.verification.claim import Finding

CLAIMS = ledger().claims


def names(id: str) -> list[str]:
    return [code.name for code in code_checked(CLAIMS[id])]


def test_the_check_is_where_it_is_defined() -> None:
    code = code_of_check(CLAIMS["contract/R5"])
    assert code == Code("mechopt.formulations.screening.claims.results", "no_rent_at_the_top")
    assert code.path == "mechopt/formulations/screening/claims/results.py"
    assert Code("mechopt.formulations", "x").path == "mechopt/formulations/__init__.py"


@pytest.mark.parametrize(
    ("id", "expected"),
    [
        # A module's function, and a method of what a method returns.
        ("contract/R3", ["payments", "ScreeningContract.audit"]),
        # Functions that are imported.
        ("contract/R1", ["laplace_scale", "laplace_log_ratio"]),
        # A method that a function of claims calls.
        ("contract/R5", ["ScreeningContract.solve"]),
        # A method of an attribute.
        ("accuracy-shaping/R5-equal", ["AccuracyShaping.standard_federated"]),
    ],
)
def test_what_a_check_calls(id: str, expected: list[str]) -> None:
    assert names(id) == expected


def test_all_that_is_found_exists_and_is_of_mechanisms() -> None:
    with_code = 0
    for claim in ledger():
        found = code_checked(claim)
        with_code += bool(found)
        for code in (code_of_check(claim), *found):
            value = importlib.import_module(code.module)
            for part in code.name.split("."):
                value = getattr(value, part)
            assert code.module.startswith("mechopt.formulations."), code
        assert not any(".claims" in code.module for code in found), claim.id
    assert with_code > 0.9 * len(CLAIMS)


def test_claims_of_users_have_code_too() -> None:
    @mo.claim("mine/true", instances=[1.0], tolerance=0.0)
    def mine(x: float) -> bool:
        """A number is itself."""
        return x == x

    assert code_of_check(mine) == Code(__name__, "mine")
    assert code_checked(mine) == ()
    partial = replace(mine, check=functools.partial(Finding, witness="none"))
    assert code_of_check(partial) == Code("functools", "partial")
    assert code_checked(partial) == ()
