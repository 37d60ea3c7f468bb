"""The grid of a sweep: its points, and how what was found at them becomes one labelled data set."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mechopt.solvers.errors import InvalidInput
from mechopt.studies.sweep_store import Record, needed

if TYPE_CHECKING:
    import xarray as xr

RESERVED = ("objective", "status", "reason", "seconds", "backend")
"""What a sweep says about every cell."""

MISSING = "missing"
"""Status of a cell that an interrupted sweep did not come to."""


@dataclass(frozen=True)
class Axis:
    """One dimension of the grid, and the parameters that move along it.

    Attributes
    ----------
    values : dict
        What each parameter takes along it.
    labels : dict
        The same as coordinates: numbers or strings.
    """

    values: dict[str, tuple[Any, ...]]
    labels: dict[str, tuple[Any, ...]]

    @property
    def name(self) -> str:
        """Name of the dimension: its first parameter's."""
        return next(iter(self.labels))

    def __len__(self) -> int:
        return len(self.labels[self.name])


@dataclass(frozen=True)
class Grid:
    """The product of its axes, the last one moving fastest."""

    axes: tuple[Axis, ...]

    @classmethod
    def of(
        cls,
        grid: Mapping[str, Any],
        zipped: Iterable[Sequence[str]] = (),
        replicates: int | None = None,
        seed: int = 0,
    ) -> Grid:
        """Read a user's grid; see `mechopt.studies.sweep.sweep`."""
        if not isinstance(grid, Mapping):
            raise InvalidInput(f"grid must map names of parameters to their values, got {grid!r}")
        columns = {name: _column(name, given) for name, given in grid.items()}
        group_of: dict[str, tuple[str, ...]] = {}
        for group in zipped:
            if isinstance(group, str):
                raise InvalidInput(f"zipped must hold groups of names, as in [('lo', 'hi')], got {group!r}")
            for name in group:
                if name not in columns:
                    raise InvalidInput(f"zipped: {name!r} is not in the grid; it has {', '.join(columns)}")
                if name in group_of:
                    raise InvalidInput(f"zipped: {name!r} is in more than one place")
                group_of[name] = tuple(group)
            sizes = {name: len(columns[name][0]) for name in group}
            if len(set(sizes.values())) > 1:
                raise InvalidInput(f"zipped: {sizes} values; those that move together must be as many")
        axes = []
        for group in dict.fromkeys(group_of.get(name, (name,)) for name in columns):
            axis = Axis({n: columns[n][0] for n in group}, {n: columns[n][1] for n in group})
            seen: dict[tuple[Any, ...], int] = {}
            for position, row in enumerate(zip(*axis.labels.values(), strict=True)):
                if seen.setdefault(row, position) != position:
                    what, shown = ", ".join(map(repr, group)), ", ".join(map(repr, row))
                    raise InvalidInput(f"grid: {what} has {shown} twice, at {seen[row]} and {position}")
            axes.append(axis)
        if replicates is not None:
            axes.append(_replicates(columns, replicates, seed))
        return cls(tuple(axes))

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of points along each axis."""
        return tuple(map(len, self.axes))

    @property
    def size(self) -> int:
        """Number of cells."""
        return math.prod(self.shape)

    def points(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Parameters of every cell in order, and their labels."""
        for place in itertools.product(*map(range, self.shape)):
            yield (
                {
                    n: column[i]
                    for axis, i in zip(self.axes, place, strict=True)
                    for n, column in axis.values.items()
                },
                {
                    n: column[i]
                    for axis, i in zip(self.axes, place, strict=True)
                    for n, column in axis.labels.items()
                },
            )

    def coordinates(self) -> dict[str, Any]:
        """Coordinates as xarray takes them."""
        return {
            name: (axis.name, np.array(labels)) for axis in self.axes for name, labels in axis.labels.items()
        }

    def names(self) -> tuple[str, ...]:
        """Names of all coordinates."""
        return tuple(self.coordinates())


def _column(name: str, given: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Values and labels of one parameter."""
    if not isinstance(name, str) or not name:
        raise InvalidInput(f"grid: a parameter needs a name, got {name!r}")
    if name in RESERVED:
        raise InvalidInput(f"grid: {name!r} is what a sweep says about a cell; name the parameter otherwise")
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InvalidInput(
            f"grid: the values of {name!r} must be a list, or map labels to values; got {given!r}"
        )
    if isinstance(given, Mapping):
        labels, values = tuple(given), tuple(given.values())
        bad = [label for label in labels if not isinstance(label, str)]
        if bad:
            raise InvalidInput(f"grid: labels of {name!r} must be strings, got {bad[0]!r}")
    else:
        values = labels = _scalars(name, list(given))
    if not values:
        raise InvalidInput(f"grid: {name!r} has no values")
    return values, labels


def _scalars(name: str, given: list[Any]) -> tuple[Any, ...]:
    values = [entry.item() if isinstance(entry, np.generic) else entry for entry in given]
    for position, value in enumerate(values):
        if not isinstance(value, bool | int | float | str):
            raise InvalidInput(
                f"grid: {name!r}[{position}] is a {type(value).__name__}, which is no label on an axis; "
                f"give such values names, as in {{{name!r}: {{'first': ..., 'second': ...}}}}"
            )
        if value != value:
            raise InvalidInput(f"grid: {name!r}[{position}] is NaN")
    kinds = {float if type(value) is int else type(value) for value in values}
    if len(kinds) > 1:
        raise InvalidInput(f"grid: {name!r} mixes {' and '.join(sorted(kind.__name__ for kind in kinds))}")
    if any(type(value) is float for value in values):
        values = [float(value) for value in values]
    return tuple(values)


def _replicates(columns: Mapping[str, Any], replicates: int, seed: int) -> Axis:
    for name in ("seed", "replicate"):
        if name in columns:
            raise InvalidInput(f"grid: {name!r} is in the grid, and replicates= make one too; give either")
    if isinstance(replicates, bool) or not isinstance(replicates, int) or replicates < 1:
        raise InvalidInput(f"replicates must be a whole number >= 1, got {replicates!r}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InvalidInput(f"seed must be a whole number >= 0, got {seed!r}")
    # 31 bits, which every file format can hold.
    seeds = tuple(
        int(np.random.SeedSequence([seed, number]).generate_state(1)[0] >> 1) for number in range(replicates)
    )
    return Axis({"seed": seeds}, {"replicate": tuple(range(replicates)), "seed": seeds})


# ---------------------------------------------------------------- the data set


def to_dataset(
    grid: Grid, records: Mapping[int, Record], dims: Mapping[str, Sequence[str]], attrs: Mapping[str, Any]
) -> xr.Dataset:
    """Put the records of cells, by their number, into one data set.

    Arrays whose shapes differ between cells are padded with NaN (strings with ""); those that differ in their
    number of axes are left out, and named in the attribute ``left_out``.
    """
    xr = needed("xarray")
    names = tuple(axis.name for axis in grid.axes)

    def cells(name: str, missing: Any) -> Any:
        return np.array([records[i][name] if i in records else missing for i in range(grid.size)])

    variables: dict[str, Any] = {
        name: (names, cells(name, missing).reshape(grid.shape))
        for name, missing in zip(RESERVED, (math.nan, MISSING, "", math.nan, ""), strict=True)
    }
    arrays, left_out = _by_name(records)
    dimensions = _Dimensions(dims, grid.names())
    axes_of = {name: dimensions.of(name, found) for name, found in arrays.items()}
    for name, found in arrays.items():
        axes = axes_of[name]
        sizes = dimensions.sizes(axes)
        text = next(iter(found.values())).dtype.kind == "U"
        width = max(array.dtype.itemsize for array in found.values())
        whole = np.full(
            (grid.size, *sizes), "" if text else math.nan, dtype=f"U{max(width // 4, 1)}" if text else float
        )
        for index, array in found.items():
            place: tuple[Any, ...] = (index, *(slice(length) for length in array.shape))
            whole[place] = array
        padded = any(array.shape != sizes for array in found.values())
        told = {"padded": "cells with fewer entries end in NaN"} if padded else {}
        shown = f"solution_{name}" if name in (*RESERVED, *grid.names()) else name
        variables[shown] = ((*names, *axes), whole.reshape((*grid.shape, *sizes)), told)
    attrs = dict(attrs) | ({"left_out": "; ".join(left_out)} if left_out else {})
    return xr.Dataset(variables, grid.coordinates(), attrs)


def _by_name(records: Mapping[int, Record]) -> tuple[dict[str, dict[int, Any]], list[str]]:
    """What was found, by name and cell; and what cannot stand in one array, with the reason."""
    arrays: dict[str, dict[int, Any]] = {}
    for index in sorted(records):
        for name, value in records[index]["values"].items():
            arrays.setdefault(name, {})[index] = np.asarray(value)
    left_out = []
    for name, found in list(arrays.items()):
        kinds = {(array.ndim, array.dtype.kind == "U") for array in found.values()}
        if len(kinds) > 1:
            del arrays[name]
            left_out.append(f"{name}: cells differ in its number of axes, or in whether it is text")
    return arrays, left_out


class _Dimensions:
    """Names the axes of arrays: axes that are as long as each other in every cell share one dimension."""

    def __init__(self, given: Mapping[str, Sequence[str]], taken: tuple[str, ...]) -> None:
        self.given = given
        self.taken = taken
        self.lengths: dict[str, dict[int, int]] = {}

    def of(self, name: str, found: Mapping[int, Any]) -> tuple[str, ...]:
        """Dimensions of an array."""
        n_axes = next(iter(found.values())).ndim
        axes: list[str] = []
        wanted = tuple(self.given.get(name, ()))
        if wanted and len(wanted) != n_axes:
            raise InvalidInput(f"dims: {name!r} has {n_axes} axes, and {len(wanted)} names: {wanted}")
        if set(wanted) & set(self.taken) or len(set(wanted)) < len(wanted):
            raise InvalidInput(f"dims: the names {wanted} for {name!r} must differ, also from the grid's")
        for position in range(n_axes):
            lengths = {index: array.shape[position] for index, array in found.items()}
            axes.append(self._shared(lengths, axes) if not wanted else wanted[position])
            known = self.lengths.setdefault(axes[-1], {})
            known |= {index: max(length, known.get(index, 0)) for index, length in lengths.items()}
        return tuple(axes)

    def sizes(self, axes: Sequence[str]) -> tuple[int, ...]:
        """Lengths of dimensions once all arrays are known."""
        return tuple(max(self.lengths[axis].values()) for axis in axes)

    def _shared(self, lengths: Mapping[int, int], used: Sequence[str]) -> str:
        for axis, known in self.lengths.items():
            common = known.keys() & lengths.keys()
            if axis not in used and common and all(known[index] == lengths[index] for index in common):
                return axis
        names = ("entry" if number == 1 else f"entry_{number}" for number in itertools.count(1))
        return next(axis for axis in names if axis not in self.lengths and axis not in self.taken)
