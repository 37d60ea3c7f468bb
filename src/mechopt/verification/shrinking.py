"""Counterexamples made smaller: fewer entries, rounder numbers, as long as they stay counterexamples.

An instance is taken apart along its frozen dataclasses, tuples, lists, dictionaries and arrays. What belongs
to one agent or type goes together: from every sequence of the same length the same entries are left out.
Only constructors put instances together again, so that what breaks a rule of its class is passed over.

Rounder numbers keep the order of the old ones: among the fields of a record or the entries of a sequence, and
with 0 and 1. Families of instances draw rising types, positive costs and shares below one without the check
asking for them, and a counterexample must not be led out of what its statement silently supposes.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from mechopt.solvers.errors import InvalidInput

Path = tuple[Any, ...]
NumberRule = Callable[[Path, Any], Any]


class _Spent(Exception):
    """No checks are left."""


def shrink(instance: Any, fails: Callable[[Any], bool], *, max_checks: int = 200) -> tuple[Any, int]:
    """Look for a smaller instance that still fails, one step at a time.

    A step leaves out entries, or makes numbers rounder in the same order.

    Parameters
    ----------
    instance : object
        One that fails.
    fails : callable
        Whether an instance fails; False for one that means nothing. It must not raise.
    max_checks : int
        How often ``fails`` may be asked: the search is bounded by this, not by a clock, and so comes out the
        same everywhere.

    Returns
    -------
    (object, int)
        The smallest instance found (``instance`` itself if none is smaller), and the number of checks.

    Examples
    --------
    >>> shrink((3.14159, 2.71828, 1.41421), lambda x: sum(x) > 5)[0]
    (3.0, 2.7)
    """
    search = _Search(instance, fails, max_checks)
    try:
        progress = True
        while progress:
            progress = search.with_fewer_entries()
            progress |= search.with_rounder_numbers()
    except _Spent:
        pass
    return search.best, search.n_checks


class _Search:
    """The smallest instance so far, and what has been tried."""

    def __init__(self, instance: Any, fails: Callable[[Any], bool], max_checks: int) -> None:
        self.best, self.size = instance, size_of(instance)
        self.fails, self.max_checks, self.n_checks = fails, max_checks, 0
        self.tried: set[str] = set()

    def accepts(self, make: Callable[[], Any]) -> bool:
        """Take a candidate if it is smaller and fails."""
        try:
            candidate = make()
            size = size_of(candidate)
        except Exception:  # the class refuses it, in whatever way its author chose
            return False
        with np.printoptions(threshold=sys.maxsize):
            key = repr(candidate)
        if not size < self.size or key in self.tried:
            return False
        self.tried.add(key)
        if self.n_checks >= self.max_checks:
            raise _Spent
        self.n_checks += 1
        if not self.fails(candidate):
            return False
        self.best, self.size = candidate, size
        return True

    def with_fewer_entries(self) -> bool:
        """Leave out entries: half of them, then fewer, then one after the other."""
        progress = False
        for length in sorted(set(_lengths(self.best)), reverse=True):
            left = length
            # Pairs at the last: some come only in even numbers.
            for chunk in sorted({length >> k for k in range(1, length.bit_length())} | {2}, reverse=True):
                # From the end, so that what comes first, the worked part of an instance, stays.
                start = left - chunk
                while start >= 0 and left > chunk:
                    if self._without(left, start, chunk):
                        progress, left = True, left - chunk
                    start = min(start, left) - chunk
        return progress

    def _without(self, length: int, start: int, count: int) -> bool:
        kept = [i for i in range(length) if not start <= i < start + count]
        best = self.best
        if self.accepts(lambda: _cut(best, length, kept)):
            return True
        # A field may count the entries.
        return self.accepts(lambda: _cut(best, length, kept, counts=True))

    def with_rounder_numbers(self) -> bool:
        """Round all numbers at once; then try simpler ones in each place."""
        progress = False
        for digits in (1, 2, 3):
            if self._replaced(lambda _, x, digits=digits: _round(x, digits)):  # type: ignore[misc]
                progress = True
                break
        for path, number in list(_numbers(self.best)):
            for simpler in _simpler(number):

                def rule(where: Path, x: Any, path: Path = path, simpler: Any = simpler) -> Any:
                    return simpler if where == path else x

                if self._replaced(rule):
                    progress = True
                    break
        return progress

    def _replaced(self, rule: NumberRule) -> bool:
        def make() -> Any:
            candidate = _mapped(self.best, rule)
            if _order(candidate) != _order(self.best):
                raise InvalidInput("the numbers change their order")
            return candidate

        return self.accepts(make)


# ------------------------------------------------------------ sizes


def size_of(instance: Any) -> tuple[int, float]:
    """Return how much there is to read: how many numbers and entries, then the length of the numbers."""
    weights = [_weight(number) for _, number in _numbers(instance)]
    return len(weights) + sum(_lengths(instance)), sum(weights)


NOUGHT = 0.4
"""Length of a nought at the end: 100.0 is rounder than 94.0; of integers, which count, 94 is less."""


def _weight(number: Any) -> float:
    """Length of a number in print; of two as long, the one closer to zero is lighter."""
    value = number.item() if isinstance(number, np.generic) else number
    text = repr(value) if not isinstance(value, Fraction) else str(value)
    noughts = 0
    if isinstance(value, float) and text.endswith(".0"):
        text = text[:-2]
        noughts = len(text) - len(text.rstrip("0")) if value else 0
    magnitude = abs(float(value))
    size = magnitude / (1 + magnitude) if math.isfinite(magnitude) else 1.0
    return len(text) - (1 - NOUGHT) * noughts + size


def _simpler(number: Any) -> Iterator[Any]:
    """Simpler numbers of the same kind, the simplest first."""
    value = number.item() if isinstance(number, np.generic) else number
    if isinstance(value, Fraction):
        candidates: list[Any] = [Fraction(1), Fraction(2)]
        candidates += [value.limit_denominator(limit) for limit in (1, 2, 10, 100)]
    elif isinstance(value, int):
        candidates = [1, 2, value // 2, value - 1]
    elif math.isfinite(value):
        candidates = [1.0, 2.0, float(math.floor(value)), float(math.ceil(value))]
        candidates += [_round(value, digits) for digits in (1, 2, 3, 4, 6)]
        if value.is_integer():
            candidates += [float(value // 2), _round(value / 2, 1), value - 1]
    else:
        candidates = []
    weight = _weight(number)
    for candidate in sorted(dict.fromkeys(candidates), key=_weight):
        if _weight(candidate) < weight:
            yield type(number)(candidate)


def _round(number: Any, digits: int) -> Any:
    value = number.item() if isinstance(number, np.generic) else number
    if isinstance(value, float) and math.isfinite(value):
        return type(number)(float(f"{value:.{digits}g}"))
    return number


# ------------------------------------------------------------ taking apart and putting together


def _is_number(node: Any) -> bool:
    kinds = (int, float, Fraction, np.integer, np.floating)
    return isinstance(node, kinds) and not isinstance(node, bool | enum.Enum)


def _is_record(node: Any) -> bool:
    return dataclasses.is_dataclass(node) and not isinstance(node, type)


def _fields(record: Any) -> dict[str, Any]:
    """Fields that its constructor takes."""
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record) if field.init}


def _is_numeric(node: Any) -> bool:
    return isinstance(node, np.ndarray) and node.dtype.kind in "iuf"


def _numbers(node: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every number in an instance, with the way to it."""
    if _is_number(node):
        yield path, node
    elif _is_numeric(node):
        yield from (((*path, index), node[index]) for index in np.ndindex(node.shape))
    elif _is_record(node):
        for name, value in _fields(node).items():
            yield from _numbers(value, (*path, name))
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _numbers(value, (*path, key))
    elif isinstance(node, tuple | list):
        for index, value in enumerate(node):
            yield from _numbers(value, (*path, index))


def _lengths(node: Any) -> Iterator[int]:
    """Lengths of the sequences, and of the axes of arrays."""
    if isinstance(node, np.ndarray):
        yield from node.shape
    elif _is_record(node):
        for value in _fields(node).values():
            yield from _lengths(value)
    elif isinstance(node, dict):
        for value in node.values():
            yield from _lengths(value)
    elif isinstance(node, tuple | list):
        yield len(node)
        for value in node:
            yield from _lengths(value)


def _order(node: Any) -> Any:
    """Ranks of the numbers in each record and sequence, 0 and 1 among them."""
    if _is_numeric(node):
        return _ranks(node.ravel().tolist())
    if _is_record(node):
        parts = list(_fields(node).values())
    elif isinstance(node, dict):
        parts = list(node.values())
    elif isinstance(node, tuple | list):
        parts = list(node)
    else:
        return _ranks([node]) if _is_number(node) else ()
    inside = tuple(_order(part) for part in parts if not _is_number(part))
    return _ranks([part for part in parts if _is_number(part)]), inside


def _ranks(numbers: list[Any]) -> tuple[int, ...]:
    rank = {number: place for place, number in enumerate(sorted({0, 1, *numbers}))}
    return (rank[0], rank[1], *(rank[number] for number in numbers))


def _cut(node: Any, length: int, kept: list[int], *, counts: bool = False) -> Any:
    """Keep these entries of every sequence of that length; ``counts`` lowers integers equal to it as well."""
    if isinstance(node, np.ndarray):
        for axis, size in enumerate(node.shape):
            if size == length:
                node = np.take(node, kept, axis=axis)
        return node
    if isinstance(node, tuple | list):
        inside = [node[i] for i in kept] if len(node) == length else list(node)
        return _sequence(node, [_cut(value, length, kept, counts=counts) for value in inside])
    if counts and isinstance(node, int) and not isinstance(node, bool) and node == length:
        return len(kept)
    return _inside(node, lambda _, value: _cut(value, length, kept, counts=counts))


def _mapped(node: Any, rule: NumberRule, path: Path = ()) -> Any:
    """Replace every number by what the rule says."""
    if _is_number(node):
        return rule(path, node)
    if _is_numeric(node):
        array = node.copy()
        for index in np.ndindex(node.shape):
            array[index] = rule((*path, index), node[index])
        return array
    if isinstance(node, tuple | list):
        return _sequence(node, [_mapped(value, rule, (*path, i)) for i, value in enumerate(node)])
    return _inside(node, lambda name, value: _mapped(value, rule, (*path, name)))


def _inside(node: Any, rule: Callable[[Any, Any], Any]) -> Any:
    """Apply a rule to the fields of a record or the values of a dictionary; leave what did not change."""
    if isinstance(node, dict):
        return {key: rule(key, value) for key, value in node.items()}
    if not _is_record(node):
        return node
    before = _fields(node)
    after = {name: rule(name, value) for name, value in before.items()}
    if all(after[name] is before[name] for name in before):
        return node
    return type(node)(**after)


def _sequence(like: Any, values: list[Any]) -> Any:
    if len(values) == len(like) and all(a is b for a, b in zip(values, like, strict=True)):
        return like
    if isinstance(like, list):
        return values
    return type(like)(*values) if hasattr(like, "_fields") else tuple(values)
