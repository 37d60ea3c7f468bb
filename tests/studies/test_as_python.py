"""What is written as Python is the instance again when it runs."""

import enum
import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from mechopt.formulations.functions.utilities import TableUtility
from mechopt.studies.as_python import WIDTH, as_python


class Side(enum.StrEnum):
    LEFT = "left"


@dataclass(frozen=True)
class Node:
    name: str
    parts: tuple[Any, ...] = ()
    size: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", len(self.parts))


def run(text: str) -> Any:
    imports, _, instance = text.rpartition("\n\n")
    namespace: dict[str, Any] = {}
    exec(imports, namespace)
    return eval(instance, namespace)


DEEP = Node(
    "outer", tuple(Node(f"inner {i}", (i / 7, Fraction(i, 7), {i: [math.inf, None]})) for i in range(4))
)


@pytest.mark.parametrize(
    "instance",
    [
        1.5,
        -math.inf,
        (1,),
        (),
        [],
        {},
        set(),
        frozenset(),
        {1, 2},
        frozenset({0}),
        {"a": (1, 2)},
        Side.LEFT,
        (Side.LEFT, True, "it's"),
        DEEP,
        TableUtility({frozenset(): 0.0, frozenset({0}): 2.0}),
        tuple(range(100)),
        (tuple(range(60)),),
    ],
    ids=lambda instance: type(instance).__name__,
)
def test_it_comes_back(instance: Any) -> None:
    text = as_python(instance)
    again = run(text)
    assert again == instance
    assert type(again) is type(instance)
    assert max(map(len, text.splitlines())) <= WIDTH


def test_a_table_is_its_repr() -> None:
    table = TableUtility({(): 0.0, (3,): 2.0})
    assert eval(repr(table)) == table


def test_arrays_and_numbers_of_numpy_come_back() -> None:
    array = np.array([[1.0, math.inf], [0.1, -2.0]])
    text = as_python({"array": array, "number": np.float64(0.1), "count": np.int64(3)})
    again = run(text)
    np.testing.assert_array_equal(again["array"], array)
    assert again["number"] == 0.1
    assert again["count"] == 3
    assert text.splitlines()[:2] == ["from math import inf", "from numpy import array"]


def test_long_ones_are_put_on_lines_of_their_own() -> None:
    text = as_python(Node("x" * 40, (0.125, "y" * 40)))
    assert text.splitlines()[2:] == [
        "Node(",
        f"    name='{'x' * 40}',",
        f"    parts=(0.125, '{'y' * 40}'),",
        ")",
    ]
