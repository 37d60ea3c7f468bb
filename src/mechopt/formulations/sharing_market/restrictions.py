"""What a market designer may forbid or limit, and which of it ties one buyer's purchase to another's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.solvers.errors import InvalidInput

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

COUPLING = (
    "seller_cap",
    "privacy_budget",
    "platform_cap",
    "platform_privacy_budget",
    "reciprocity",
    "upload_cost",
    "broadcast",
)
"""Restrictions under which the best set of sellers of one buyer depends on the others' sets."""


@dataclass(frozen=True, eq=False)
class Restrictions:
    """Limits on a sharing graph; those left out do not bind.

    Attributes
    ----------
    forbidden : array of bool, shape (n_agents, n_agents), or None
        Edges (seller, buyer) that must not be.
    buyer_cap : array, shape (n_agents,), or None
        Most sellers of each buyer.
    buyer_budget : array, shape (n_agents,), or None
        Most that the data of each buyer may cost its sellers (money), as they are paid their costs.
    seller_cap : array, shape (n_agents,), or None
        Most buyers of each seller.
    privacy_budget : array, shape (n_agents,), or None
        Most privacy loss of each seller in all, with ``privacy_loss``.
    privacy_loss : array, shape (n_agents, n_agents), or None
        What an edge adds to its seller's privacy loss (an epsilon); 1 if none is given.
    platform_cap : int or None
        Most edges in all.
    platform_privacy_budget : float or None
        Most privacy loss over all sellers.
    reciprocity : bool
        Whether data goes both ways or not at all.
    upload_cost : array, shape (n_agents,), or None
        One-time cost of a seller that sells at all (money), besides ``sharing_cost``.
    broadcast : bool
        Whether a seller sells to all allowed buyers or to none.
    """

    forbidden: BoolArray | None = None
    buyer_cap: Array | None = None
    buyer_budget: Array | None = None
    seller_cap: Array | None = None
    privacy_budget: Array | None = None
    privacy_loss: Array | None = None
    platform_cap: int | None = None
    platform_privacy_budget: float | None = None
    reciprocity: bool = False
    upload_cost: Array | None = None
    broadcast: bool = False

    @classmethod
    def of(cls, n_agents: int, given: Mapping[str, Any]) -> Restrictions:
        """Read restrictions by name; a number stands for every agent.

        Raises
        ------
        InvalidInput
            For a name that is none, a wrong shape, or a value outside its range.
        """
        known = tuple(entry.name for entry in fields(cls))
        for name in given:
            if name not in known:
                raise InvalidInput(f"no restriction {name!r}; there is {', '.join(known)}")
        taken: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        for name in ("reciprocity", "broadcast"):
            if not isinstance(taken.get(name, False), bool | np.bool_):
                raise InvalidInput(f"{name} must be True or False, got {taken[name]!r}")
        if "forbidden" in taken:
            taken["forbidden"] = _edges(taken["forbidden"], n_agents, "forbidden").astype(bool)
        for name in ("buyer_cap", "seller_cap"):
            if name in taken:
                taken[name] = _whole(_per_agent(taken[name], n_agents, name), name)
        for name in ("buyer_budget", "privacy_budget", "upload_cost"):
            if name in taken:
                taken[name] = _per_agent(taken[name], n_agents, name)
        if "upload_cost" in taken and not np.all(np.isfinite(taken["upload_cost"])):
            index = int(np.argmax(~np.isfinite(taken["upload_cost"])))
            raise InvalidInput(
                f"upload_cost[{index}] is infinite; to keep a seller from selling set its seller_cap to 0"
            )
        if "privacy_loss" in taken:
            if "privacy_budget" not in taken and "platform_privacy_budget" not in taken:
                raise InvalidInput(
                    "privacy_loss needs privacy_budget or platform_privacy_budget: nothing limits it"
                )
            taken["privacy_loss"] = _edges(taken["privacy_loss"], n_agents, "privacy_loss")
        for name in ("platform_cap", "platform_privacy_budget"):
            if name in taken:
                number = _numbers(taken[name], name)
                if number.ndim or not number >= 0:
                    raise InvalidInput(f"{name} must be one number >= 0, got {taken[name]!r}")
                taken[name] = float(number)
        # What limits nobody must not couple anybody.
        limits = ("buyer_cap", "seller_cap", "buyer_budget", "privacy_budget")
        for name in (*limits, "platform_cap", "platform_privacy_budget"):
            if name in taken and np.all(np.isinf(taken[name])):
                del taken[name]
        if "platform_cap" in taken:
            if not float(taken["platform_cap"]).is_integer():
                raise InvalidInput(f"platform_cap must be a whole number, got {taken['platform_cap']!r}")
            taken["platform_cap"] = int(taken["platform_cap"])
        return cls(**taken)

    @classmethod
    def split(cls, n_agents: int, options: Mapping[str, Any]) -> tuple[Restrictions, dict[str, Any]]:
        """Take the restrictions out of options of all kinds; return them, and the other options.

        Raises
        ------
        InvalidInput
            As `of` does, and for a name that is nearly that of a restriction.
        """
        known = [entry.name for entry in fields(cls)]
        rest = {name: options[name] for name in options if name not in known}
        for name in rest:
            near = get_close_matches(name, known, n=1, cutoff=0.8)
            if near:
                raise InvalidInput(f"no restriction {name!r}; did you mean {near[0]!r}?")
        return cls.of(n_agents, {name: options[name] for name in options if name in known}), rest

    @property
    def in_force(self) -> tuple[str, ...]:
        """Names of the restrictions that are set."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        del values["privacy_loss"]
        return tuple(name for name, value in values.items() if not (value is None or value is False))

    @property
    def couplings(self) -> tuple[str, ...]:
        """Names of those that tie buyers together, so that welfare no longer decomposes."""
        return tuple(name for name in self.in_force if name in COUPLING)

    def losses(self, n_agents: int) -> Array:
        """Privacy loss of each edge, 1 if none is given."""
        return np.ones((n_agents, n_agents)) if self.privacy_loss is None else self.privacy_loss

    def violations(self, adjacency: Array, sharing_cost: Array) -> dict[str, float]:
        """By how much a graph breaks each restriction in force, in its units; 0 if it does not.

        Parameters
        ----------
        adjacency : array, shape (n_agents, n_agents)
            Edges (seller, buyer).
        sharing_cost : array, shape (n_agents, n_agents)
            For ``buyer_budget`` (money).
        """
        n_agents = len(adjacency)
        lost = adjacency * self.losses(n_agents)
        found: dict[str, float] = {}
        if self.forbidden is not None:
            found["forbidden"] = float(np.max(adjacency * self.forbidden, initial=0.0))
        for name, used in (
            ("buyer_cap", adjacency.sum(axis=0)),
            ("seller_cap", adjacency.sum(axis=1)),
            ("buyer_budget", (adjacency * sharing_cost).sum(axis=0)),
            ("privacy_budget", lost.sum(axis=1)),
            ("platform_cap", adjacency.sum()),
            ("platform_privacy_budget", lost.sum()),
        ):
            limit = getattr(self, name)
            if limit is not None:
                found[name] = float(np.max(used - limit, initial=0.0))
        if self.reciprocity:
            found["reciprocity"] = float(np.max(np.abs(adjacency - adjacency.T), initial=0.0))
        if self.broadcast:
            free = ~np.eye(n_agents, dtype=bool)
            if self.forbidden is not None:
                free &= ~self.forbidden
            some = np.max(adjacency, axis=1, initial=0.0)[:, np.newaxis]
            found["broadcast"] = float(np.max((some - adjacency) * free, initial=0.0))
        return found


def _numbers(value: Any, name: str) -> Array:
    try:
        array = np.array(value, dtype=float)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{name} must be numbers, got {value!r}: {error}") from None
    if np.any(np.isnan(array)):
        raise InvalidInput(f"{name} has NaN at {[int(i) for i in np.argwhere(np.isnan(array))[0]]}")
    return array


def _per_agent(value: ArrayLike, n_agents: int, name: str) -> Array:
    """Limits >= 0, one an agent; infinite where there is none."""
    array = _numbers(value, name)
    if array.ndim == 0:
        array = np.full(n_agents, float(array))
    if array.shape != (n_agents,):
        raise InvalidInput(
            f"{name} has shape {array.shape}; give one number, or one for each of {n_agents} agents"
        )
    if np.any(array < 0):
        index = int(np.argmax(array < 0))
        raise InvalidInput(f"{name}[{index}] = {array[index]:g} must be >= 0")
    array.setflags(write=False)
    return array


def _whole(array: Array, name: str) -> Array:
    broken = np.isfinite(array) & (array != np.floor(array))
    if np.any(broken):
        index = int(np.argmax(broken))
        raise InvalidInput(f"{name}[{index}] = {array[index]:g} must be a whole number")
    return array


def _edges(value: ArrayLike, n_agents: int, name: str) -> Array:
    array = _numbers(value, name)
    if array.shape != (n_agents, n_agents):
        raise InvalidInput(
            f"{name} has shape {array.shape}; it must be ({n_agents}, {n_agents}): "
            "row = seller, column = buyer"
        )
    broken = ~np.isfinite(array) | (array < 0)
    if np.any(broken):
        i, j = (int(k) for k in np.argwhere(broken)[0])
        raise InvalidInput(f"{name}[{i}, {j}] = {array[i, j]:g} must be finite and >= 0")
    array.setflags(write=False)
    return array
