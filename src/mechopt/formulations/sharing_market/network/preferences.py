"""What agents think of sets of partners: as a table, a function, a ranking, or by data size and count.

A set of partners never holds the agent itself; its own data are always its own. As a bit mask, bit j is
agent j.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations import checks
from mechopt.formulations.functions import ConcaveFunction
from mechopt.formulations.sharing_market.network.graphs import IntArray, members
from mechopt.solvers.errors import InvalidInput

Array = NDArray[np.float64]
Partners = frozenset[int]

TABLE_CAP = 12
"""Agents up to which the utility of every set of partners is written down: 12 times 2048 sets."""

TIE = 1e-12
"""Relative distance below which two utilities are the same: sums in another order differ by less."""


def compare(new: float, old: float) -> int:
    """Return 1 if ``new`` is better, -1 if worse, 0 if they tie."""
    if abs(new - old) <= TIE * max(abs(new), abs(old)):
        return 0
    return 1 if new > old else -1


class Preferences(ABC):
    """What each agent thinks of each set of partners."""

    cardinal = True
    """Whether utilities mean more than an order, so that they may be added up."""

    def __init__(self, n_agents: int) -> None:
        self.n_agents = n_agents

    @abstractmethod
    def utility(self, agent: int, partners: Partners) -> float:
        """Utility of an agent with these partners."""

    def values(self, adjacency: IntArray) -> Array:
        """Utility of every agent in a graph, shape (n_agents,)."""
        return np.array(
            [
                self.utility(agent, frozenset(np.flatnonzero(row).tolist()))
                for agent, row in enumerate(adjacency)
            ]
        )

    @cached_property
    def table(self) -> Array:
        """Utilities by agent and bit mask, shape (n_agents, 2 ** n_agents); NaN where the agent is in it."""
        self.refuse_table()
        return self._tabulate()

    def refuse_table(self) -> None:
        """Raise if there are too many agents for a table."""
        if self.n_agents > TABLE_CAP:
            raise InvalidInput(
                f"{self.n_agents} agents have 2**{self.n_agents - 1} sets of partners each; they are written "
                f"down for up to {TABLE_CAP} agents"
            )

    def _tabulate(self) -> Array:
        table = np.full((self.n_agents, 1 << self.n_agents), np.nan)
        for mask in range(table.shape[1]):
            partners = members(mask)
            for agent in range(self.n_agents):
                if agent not in partners:
                    table[agent, mask] = self.utility(agent, partners)
        return table

    @cached_property
    def ranks(self) -> IntArray:
        """Places in each agent's order, 0 the worst, ties sharing one; -1 where the agent is in the set."""
        order = np.argsort(self.table, axis=1, kind="stable")  # NaN comes last
        ordered = np.take_along_axis(self.table, order, axis=1)
        low, high = ordered[:, :-1], ordered[:, 1:]
        places = np.zeros(order.shape, dtype=np.int64)
        np.cumsum(high - low > TIE * np.maximum(np.abs(low), np.abs(high)), axis=1, out=places[:, 1:])
        ranks = np.empty_like(places)
        np.put_along_axis(ranks, order, places, axis=1)
        ranks[np.isnan(self.table)] = -1
        ranks.setflags(write=False)
        return ranks


class TablePreferences(Preferences):
    """A utility for each agent and bit mask; ``cardinal`` is false if the numbers are places."""

    def __init__(self, table: Array, *, cardinal: bool = True) -> None:
        super().__init__(len(table))
        self.cardinal = cardinal
        self._given = table

    def utility(self, agent: int, partners: Partners) -> float:
        """See `Preferences`."""
        return float(self._given[agent, sum(1 << partner for partner in partners)])

    def _tabulate(self) -> Array:
        return self._given


class FunctionPreferences(Preferences):
    """A function ``u(agent, partners)`` of the user's own; each value is asked for once."""

    def __init__(self, function: Callable[[int, Partners], float], n_agents: int) -> None:
        super().__init__(n_agents)
        self._function = function
        self._known: dict[tuple[int, Partners], float] = {}

    def utility(self, agent: int, partners: Partners) -> float:
        """See `Preferences`."""
        key = (agent, partners)
        if key not in self._known:
            self._known[key] = _number(
                self._function(agent, partners), f"utilities({agent}, {sorted(partners)})"
            )
        return self._known[key]


class SizePreferences(Preferences):
    """Utility of the total amount of data, minus a cost of the number of partners.

    Parameters
    ----------
    gains : callable, or sequence of n_agents callables
        One function of the array of all agents' totals, which returns as many values, or a function an agent.
    data_size : array, shape (n_agents,)
        Records of each agent, > 0.
    count_costs : callable, array, sequence of callables, or None
        Cost of 0, 1, ... n_agents - 1 partners.
    """

    def __init__(self, gains: Any, data_size: Array, count_costs: Any = None) -> None:
        super().__init__(data_size.size)
        self.data_size = data_size
        self.count_costs = _count_costs(count_costs, self.n_agents)
        # Functions with the agents that share them, and the same in as few calls as can be.
        self.parts: list[tuple[Any, IntArray]] = []
        self._calls = self.parts
        everybody = np.arange(self.n_agents)
        if callable(gains):
            self.parts.append((gains, everybody))
            self.gains: list[Any] = [gains] * self.n_agents
        else:
            self.gains = list(gains)
            # A function that many agents share is evaluated once for all of them.
            shared: dict[Any, list[int]] = {}
            for agent, gain in enumerate(self.gains):
                key = gain if isinstance(gain, ConcaveFunction) else ("own", agent)
                shared.setdefault(key, []).append(agent)
            for key, agents in shared.items():
                gain = key if isinstance(key, ConcaveFunction) else _one_by_one(self.gains[agents[0]])
                self.parts.append((gain, np.array(agents)))
            together = _stacked(self.gains, self.data_size)
            if together is not None:
                self._calls = [(together, everybody)]
        self.evaluate(self.data_size, np.zeros(self.n_agents, dtype=np.int64))

    def evaluate(self, totals: Array, counts: IntArray) -> Array:
        """Utility of each agent at its total amount and number of partners, shape (n_agents,)."""
        worth = np.empty(self.n_agents)
        for gain, agents in self._calls:
            found = np.asarray(gain(totals[agents]), dtype=float)
            if found.shape != agents.shape:
                raise InvalidInput(
                    f"utilities returned shape {found.shape} for the totals of {agents.size} agents; one "
                    "function must be elementwise in the array of totals; otherwise give a list, one an agent"
                )
            worth[agents] = found
        if not np.all(np.isfinite(worth)):
            agent = int(np.argmax(~np.isfinite(worth)))
            raise InvalidInput(
                f"utilities: agent {agent} has {worth[agent]} at a total of {totals[agent]:g}; every value "
                "must be finite"
            )
        return worth - self.count_costs[np.arange(self.n_agents), counts]

    def utility(self, agent: int, partners: Partners) -> float:
        """See `Preferences`."""
        totals, counts = self.data_size.copy(), np.zeros(self.n_agents, dtype=np.int64)
        totals[agent] += sum(self.data_size[partner] for partner in sorted(partners))
        counts[agent] = len(partners)
        return float(self.evaluate(totals, counts)[agent])

    def values(self, adjacency: IntArray) -> Array:
        """See `Preferences`."""
        return self.evaluate(self.data_size + adjacency @ self.data_size, adjacency.sum(axis=1))

    def _tabulate(self) -> Array:
        table = np.full((self.n_agents, 1 << self.n_agents), np.nan)
        agents = np.arange(self.n_agents)
        for mask in range(table.shape[1]):
            there = mask >> agents & 1
            others = self.data_size @ there
            # Members of the set read the value of one more partner than there is: it is thrown away.
            counts = np.minimum(int(there.sum()), self.n_agents - 1)
            values = self.evaluate(self.data_size + others, np.full(self.n_agents, counts))
            table[there == 0, mask] = values[there == 0]
        return table

    @cached_property
    def why_not_ordered(self) -> str:
        """Why the family is not known to have the top agent property and limited complementarity, or ''.

        Known it is for concave gains that still rise at the total of all data, and convex costs of count.
        """
        total = float(self.data_size.sum())
        for agent, gain in enumerate(self.gains):
            if not isinstance(gain, ConcaveFunction):
                return f"the utility of agent {agent} is not a ConcaveFunction"
            if not float(gain.derivative(total)) > 0:
                return f"the utility of agent {agent} does not rise any more at a total of {total:g}"
        bends = np.diff(self.count_costs, 2, axis=1)
        slack = TIE * (1 + np.abs(self.count_costs).max(axis=1, keepdims=True))
        if np.any(bends < -slack):
            return f"count_costs of agent {int(np.argwhere(bends < -slack)[0, 0])} are not convex"
        return ""

    @cached_property
    def order(self) -> IntArray:
        """Agents by falling data size."""
        return np.argsort(-self.data_size, kind="stable")


def preferences_of(
    utilities: Any, n_agents: int | None, data_size: ArrayLike | None, count_costs: Any
) -> Preferences:
    """Read utilities in any of the forms that `SharingNetwork` takes."""
    if n_agents is not None:
        n_agents = checks.count(n_agents, "n_agents")
    if data_size is not None:
        return _by_size(utilities, n_agents, data_size, count_costs)
    if count_costs is not None:
        raise InvalidInput("count_costs go with data_size: utility = gain of total size - cost of count")
    if callable(utilities):
        if n_agents is None:
            raise InvalidInput("n_agents is needed with a function utilities(agent, partners)")
        return FunctionPreferences(utilities, n_agents)
    if not isinstance(utilities, np.ndarray | Sequence) or isinstance(utilities, str):
        raise InvalidInput(
            "utilities must be a function u(agent, partners), a table (n_agents, 2**n_agents), a list of "
            "dicts from frozensets to numbers, a list of rankings over sets, or, with data_size, functions "
            f"of total size; got {utilities!r}"
        )
    found: Preferences
    first: Any = utilities[0] if len(utilities) else None
    if isinstance(first, Mapping):
        found = TablePreferences(_table_of_dicts(utilities))
    elif isinstance(first, Collection) and any(isinstance(entry, Collection) for entry in first):
        found = TablePreferences(_table_of_rankings(utilities), cardinal=False)
    elif callable(first):
        raise InvalidInput("utilities are functions of total size: give data_size too")
    else:
        found = TablePreferences(_table_of_numbers(utilities))
    if n_agents is not None and n_agents != found.n_agents:
        raise InvalidInput(f"n_agents = {n_agents}, but utilities are those of {found.n_agents} agents")
    return found


def _by_size(utilities: Any, n_agents: int | None, data_size: ArrayLike, count_costs: Any) -> SizePreferences:
    sizes = checks.vector(data_size, "data_size")
    checks.all_finite(sizes, "data_size")
    if sizes.size == 0:
        raise InvalidInput("data_size is empty; give at least one agent")
    if np.any(sizes <= 0):
        index = int(np.argmax(sizes <= 0))
        raise InvalidInput(f"data_size[{index}] = {sizes[index]:g} must be > 0")
    if n_agents is not None and n_agents != sizes.size:
        raise InvalidInput(f"n_agents = {n_agents}, but data_size has {sizes.size} entries")
    if not callable(utilities):
        if not isinstance(utilities, Sequence) or not all(callable(gain) for gain in utilities):
            raise InvalidInput(
                "with data_size, utilities must be one function of total size or a list of them, one an "
                f"agent; got {utilities!r}"
            )
        if len(utilities) != sizes.size:
            raise InvalidInput(f"utilities has {len(utilities)} functions for {sizes.size} agents")
    return SizePreferences(utilities, sizes, count_costs)


def _count_costs(value: Any, n_agents: int) -> Array:
    """Cost by agent and number of partners, shape (n_agents, n_agents)."""
    shape = (n_agents, n_agents)
    if value is None:
        return np.broadcast_to(0.0, shape)
    counts = range(n_agents)
    if callable(value):
        value = [value(count) for count in counts]
    elif isinstance(value, Sequence) and value and all(callable(cost) for cost in value):
        value = [[cost(count) for count in counts] for cost in value]
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"count_costs must be numbers or functions of the count: {error}") from None
    if array.shape not in ((n_agents,), shape):
        raise InvalidInput(
            f"count_costs has shape {array.shape}; give the cost of 0 to {n_agents - 1} partners, "
            f"({n_agents},) for all agents or {shape} for each"
        )
    if not np.all(np.isfinite(array)):
        index = ", ".join(map(str, np.argwhere(~np.isfinite(array))[0]))
        raise InvalidInput(f"count_costs[{index}] must be finite")
    return np.broadcast_to(array, shape)


def _one_by_one(gain: Callable[[float], float]) -> Callable[[Array], Array]:
    """Evaluate a function of one total, which may not take arrays."""
    return lambda totals: np.array([gain(float(total)) for total in totals], dtype=float)


def _stacked(gains: list[Any], data_size: Array) -> Callable[[Array], Array] | None:
    """Return one function for functions of the same kind with other numbers, which takes all totals at once.

    Thousands of calls with a number each would take minutes in the ordered match. A formula need not carry
    over to arrays of parameters, so it is compared with the functions themselves; None if it does not.
    """
    kind: Any = type(gains[0])
    if len(gains) < 2 or not (issubclass(kind, ConcaveFunction) and hasattr(kind, "__dataclass_fields__")):
        return None
    names = [part.name for part in fields(kind)]
    if not all(
        type(gain) is kind and all(type(getattr(gain, name)) is float for name in names) for gain in gains
    ):
        return None
    together: Any = object.__new__(kind)
    for name in names:
        object.__setattr__(together, name, np.array([getattr(gain, name) for gain in gains]))
    for totals in (data_size, data_size.sum() - data_size / 2):
        try:
            found = np.asarray(together(totals))
        except Exception:  # a function that takes no arrays of parameters is called agent by agent instead
            return None
        each = [float(gain(total)) for gain, total in zip(gains, totals, strict=True)]
        if found.shape != totals.shape or not np.allclose(found, each, rtol=TIE, atol=0):
            return None
    return lambda totals: np.asarray(together(totals))


def _number(value: Any, name: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InvalidInput(f"{name} must be a number, got {value!r}") from None
    if not np.isfinite(number):
        raise InvalidInput(f"{name} is {number}; every utility must be finite")
    return number


def _table_of_numbers(utilities: Any) -> Array:
    try:
        table = np.array(utilities, dtype=float)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"utilities must be numbers: {error}") from None
    if table.ndim != 2 or not len(table) or table.shape[1] != 1 << len(table):
        raise InvalidInput(
            f"utilities has shape {table.shape}; a table has (n_agents, 2**n_agents) entries, by the bit "
            "mask of the partners"
        )
    for agent, values in enumerate(table):
        values[(np.arange(values.size) >> agent & 1) == 1] = np.nan  # not sets of partners
    with_self = np.isnan(table) & ~np.array(
        [np.arange(table.shape[1]) >> agent & 1 for agent in range(len(table))], dtype=bool
    )
    wrong = with_self | np.isinf(table)
    if np.any(wrong):
        agent, mask = (int(index) for index in np.argwhere(wrong)[0])
        raise InvalidInput(
            f"utilities[{agent}, {mask}], of partners {sorted(members(mask))}, is {table[agent, mask]}; "
            "every utility must be finite"
        )
    table.setflags(write=False)
    return table


def _table_of_dicts(utilities: Any) -> Array:
    return _table_of_sets(utilities, lambda agent, entry: entry.items())


def _table_of_rankings(utilities: Any) -> Array:
    """Utility 0 for the last set of a ranking, one more for each better place."""

    def places(agent: int, ranking: Any) -> list[tuple[Any, float]]:
        return [(partners, float(len(ranking) - 1 - place)) for place, partners in enumerate(ranking)]

    return _table_of_sets(utilities, places)


def _table_of_sets(utilities: Any, entries: Callable[[int, Any], Any]) -> Array:
    n_agents = len(utilities)
    if n_agents > TABLE_CAP:
        raise InvalidInput(
            f"utilities list the sets of {n_agents} agents; for more than {TABLE_CAP} give a function"
        )
    table = np.full((n_agents, 1 << n_agents), np.nan)
    for agent, given in enumerate(utilities):
        if not isinstance(given, Collection):
            raise InvalidInput(f"utilities[{agent}] must be of the same kind as utilities[0], got {given!r}")
        for partners, value in entries(agent, given):
            mask = _mask(partners, agent, n_agents)
            if not np.isnan(table[agent, mask]):
                raise InvalidInput(f"utilities[{agent}] has the set {sorted(partners)} twice")
            table[agent, mask] = _number(value, f"utilities[{agent}], of {sorted(partners)},")
        missing = [
            mask for mask in range(1 << n_agents) if not mask >> agent & 1 and np.isnan(table[agent, mask])
        ]
        if missing:
            raise InvalidInput(
                f"utilities[{agent}] lacks the set {sorted(members(missing[0]))}; give all "
                f"{1 << (n_agents - 1)} sets of partners"
            )
    table.setflags(write=False)
    return table


def _mask(partners: Any, agent: int, n_agents: int) -> int:
    if not isinstance(partners, Collection) or isinstance(partners, str):
        raise InvalidInput(f"utilities[{agent}]: {partners!r} is not a set of agents")
    mask = 0
    for partner in partners:
        if not isinstance(partner, int | np.integer) or not 0 <= partner < n_agents:
            raise InvalidInput(
                f"utilities[{agent}]: {partner!r} is not an agent; they are numbered 0 to {n_agents - 1}"
            )
        if partner == agent:
            raise InvalidInput(
                f"utilities[{agent}] has a set with agent {agent} in it (self-sharing); "
                "sets hold partners only"
            )
        mask |= 1 << int(partner)
    return mask
