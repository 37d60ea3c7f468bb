"""Types and their probabilities, counted from a table of data holders."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mechopt.solvers.errors import InvalidInput

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Holders:
    """What a table of holders says about types.

    Attributes
    ----------
    types : array, shape (n_types,)
        Distinct privacy levels, increasing, in nats.
    probs : array, shape (n_types,)
        Share of holders, or of their weight, of each type.
    n_holders : int
        Rows of the table.
    """

    types: Array
    probs: Array
    n_holders: int


def read_holders(
    path: Path | str, *, column: str = "privacy_level", weight: str | None = None, n_types: int | None = None
) -> Holders:
    """Read a CSV file of data holders, one a row.

    Parameters
    ----------
    path : path
        CSV with a header, UTF-8.
    column : str
        Column of privacy levels, in nats, > 0.
    weight : str, optional
        Column of weights, > 0; by default every holder counts once.
    n_types : int, optional
        Group the holders into at most so many types of about equal share. Each group's type is its *highest*
        privacy level, so that every holder in it accepts the contract meant for the group.

    Raises
    ------
    InvalidInput
        Naming file, line and column of the first malformed entry.
    """
    path = Path(path)
    if not path.is_file():
        raise InvalidInput(
            f"no file of holders at {path.name!r} (paths are relative to the scenario's folder)"
        )
    levels, weights = [], []
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, strict=True)
            header = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = header
            twice = [name for name in dict.fromkeys(header) if header.count(name) > 1]
            if twice:
                raise InvalidInput(f"{path.name} has the column {twice[0]!r} more than once")
            for wanted in (column, weight):
                if wanted is not None and wanted not in header:
                    raise InvalidInput(
                        f"{path.name} has no column {wanted!r}; it has {', '.join(header) or 'none'}"
                    )
            for row in reader:
                line = reader.line_num
                if None in row or None in row.values():
                    raise InvalidInput(f"{path.name}, line {line}: expected {len(header)} fields")
                levels.append(_positive(row[column], path.name, line, column))
                weights.append(1.0 if weight is None else _positive(row[weight], path.name, line, weight))
    except OSError as error:
        raise InvalidInput(f"cannot read {path.name}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path.name} is not UTF-8 text: {error}") from None
    except csv.Error as error:
        raise InvalidInput(f"{path.name}, line {reader.reader.line_num}: {error}") from None
    if not levels:
        raise InvalidInput(f"{path.name} has a header and no holders")
    types, where = np.unique(np.array(levels), return_inverse=True)
    mass = np.bincount(where, weights=np.array(weights)).astype(np.float64)
    if n_types is not None and n_types < types.size:
        types, mass = _group(types, mass, n_types)
    return Holders(types, mass / mass.sum(), len(levels))


def _group(types: Array, mass: Array, n_types: int) -> tuple[Array, Array]:
    share = np.cumsum(mass) / mass.sum()
    group = np.minimum(np.ceil(share * n_types - 1e-12).astype(int) - 1, n_types - 1)
    last = np.flatnonzero(np.diff(group, append=n_types))
    return types[last], np.diff(np.cumsum(mass)[last], prepend=0.0)


def _positive(text: str, file: str, line: int, column: str) -> float:
    try:
        value = float(text)
    except ValueError:
        shown = text.strip() or "empty"
        raise InvalidInput(f"{file}, line {line}, column {column!r}: {shown!r} is not a number") from None
    if not (math.isfinite(value) and value > 0):
        raise InvalidInput(f"{file}, line {line}, column {column!r}: {text.strip()} must be finite and > 0")
    return value
