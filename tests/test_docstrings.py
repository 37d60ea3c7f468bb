"""Every example in a docstring runs and prints what it says."""

import doctest
import importlib
import pkgutil
import warnings

import pytest

import mechopt

MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(mechopt.__path__, "mechopt.")
    if not info.name.endswith("__main__")
)


@pytest.mark.parametrize("name", ["mechopt", *MODULES])
def test_examples_in_docstrings(name: str) -> None:
    module = importlib.import_module(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        failed, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0
