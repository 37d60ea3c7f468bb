"""Checks of the parameters of a market for queries; every message names field, index, value and rule."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations import checks
from mechopt.formulations.functions import ConcaveFunction, SizeUtility
from mechopt.solvers.errors import InvalidInput

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]


def sizes(value: Any, name: str) -> Array:
    """Return one number > 0 an agent."""
    size = checks.vector(value, name)
    if not size.size:
        raise InvalidInput(f"{name} is empty; give at least one agent's")
    checks.all_finite(size, name)
    if np.any(size <= 0):
        index = int(np.argmax(size <= 0))
        raise InvalidInput(f"{name}[{index}] = {size[index]:g} must be > 0")
    return size


def refuse(array: NDArray[Any], wrong: NDArray[np.bool_], name: str, rule: str) -> None:
    """Name the first entry of a matrix that breaks a rule."""
    if np.any(wrong):
        i, j = (int(k) for k in np.argwhere(wrong)[0])
        raise InvalidInput(f"{name}[{i}, {j}] = {array[i, j]:g} {rule}")


def limits(value: Any, n_agents: int) -> IntArray:
    """Return the most queries on each edge, none to oneself."""
    try:
        given = np.asarray(value, dtype=float)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"max_queries must be whole numbers, got {value!r}: {error}") from None
    if given.ndim == 0:
        given = np.full((n_agents, n_agents), float(given))
        np.fill_diagonal(given, 0.0)
    given = checks.square(given, n_agents, "max_queries", "row = seller, column = buyer; or one number")
    refuse(given, given != np.floor(given), "max_queries", "must be a whole number")
    refuse(given, given < 0, "max_queries", "must be >= 0")
    limit = given.astype(np.intp)
    np.fill_diagonal(limit, 0)  # own data needs no query
    limit.setflags(write=False)
    return limit


def composition_levels(value: Any, most: int) -> Array:
    """Return h(0), h(1), ..., enough for the most queries."""
    levels = checks.vector(value, "composition")
    checks.all_finite(levels, "composition")
    if levels.size <= most:
        raise InvalidInput(
            f"composition has {levels.size} entries; {most} queries need {most + 1}, from h(0) to h({most})"
        )
    if levels[0] != 0:
        raise InvalidInput(f"composition[0] = {levels[0]:g} must be 0: no query costs nothing")
    falls = np.diff(levels) < 0
    if np.any(falls):
        index = int(np.argmax(falls)) + 1
        raise InvalidInput(f"composition[{index}] = {levels[index]:g} is less than the entry before it")
    return levels


def utilities(given: Any, n_agents: int) -> tuple[ConcaveFunction | SizeUtility, ...]:
    """Return one utility of total size an agent."""
    kinds = (ConcaveFunction, SizeUtility)
    each = (given,) * n_agents if isinstance(given, kinds) else given
    if not isinstance(each, Iterable):
        raise InvalidInput(f"utility must be a utility such as mo.LogUtility(a, s), or a list, got {given!r}")
    each = tuple(each)
    if len(each) != n_agents:
        raise InvalidInput(f"utility has {len(each)} entries for {n_agents} agents; give one each, or one")
    for buyer, utility in enumerate(each):
        if not isinstance(utility, kinds):
            raise InvalidInput(
                f"utility[{buyer}] = {utility!r} is no utility of total size; queries need one, such as "
                "mo.LogUtility(a, s) or mo.LinearUtility(a)"
            )
    return each


def budgets(privacy_budget: Any, privacy_loss: Any, n_agents: int) -> tuple[Array | None, Array]:
    """Return each seller's budget, or None, and the loss of a query on each edge."""
    shape = (n_agents, n_agents)
    if privacy_loss is not None and privacy_budget is None:
        raise InvalidInput("privacy_loss needs privacy_budget: nothing limits it")
    loss = np.ones(shape)
    if privacy_loss is not None:
        loss = checks.square(privacy_loss, n_agents, "privacy_loss", "row = seller, column = buyer")
        refuse(loss, loss < 0, "privacy_loss", "must be >= 0")
    if privacy_budget is None:
        return None, loss
    one = np.ndim(privacy_budget) == 0
    budget = checks.vector([privacy_budget] * n_agents if one else privacy_budget, "privacy_budget")
    if budget.size != n_agents:
        raise InvalidInput(
            f"privacy_budget has {budget.size} entries for {n_agents} agents; give one, or one each"
        )
    wrong = ~(budget >= 0)
    if np.any(wrong):
        index = int(np.argmax(wrong))
        raise InvalidInput(f"privacy_budget[{index}] = {budget[index]:g} must be >= 0")
    return budget, loss
