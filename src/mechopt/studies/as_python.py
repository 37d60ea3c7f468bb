"""Instances of claims as Python that can be pasted: the imports that they need, and the instance."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

WIDTH = 88


def as_python(instance: Any) -> str:
    """Write an instance as Python, in lines of at most 88 characters where that can be.

    Parameters
    ----------
    instance : object
        A tree of what counterexamples are made of: numbers, strings, fractions, tuples, lists, sets,
        dictionaries, arrays, enumerations and dataclasses. Anything else stands as its ``repr``.

    Examples
    --------
    >>> print(as_python({"share": Fraction(1, 2), "level": math.inf}))
    from fractions import Fraction
    from math import inf
    <BLANKLINE>
    {'share': Fraction(1, 2), 'level': inf}
    """
    modules: dict[str, set[str]] = {}
    for module, name in _names(instance):
        modules.setdefault(module, set()).add(name)
    imports = [f"from {module} import {', '.join(sorted(modules[module]))}" for module in sorted(modules)]
    return "\n".join([*imports, "", _text(instance, 0)] if imports else [_text(instance, 0)])


def _text(node: Any, indent: int, before: str = "", after: str = "") -> str:
    """Write a node that starts in this column: on one line, or with a line for each of its parts."""
    opening, parts, closing = _taken_apart(node)
    one = before + _flat(node) + after
    if not parts or indent + len(one) <= WIDTH:
        return one
    lines = [" " * (indent + 4) + _text(part, indent + 4, label, ",") for label, part in parts]
    return "\n".join([before + opening, *lines, " " * indent + closing + after])


def _flat(node: Any) -> str:
    opening, parts, closing = _taken_apart(node)
    comma = "," if isinstance(node, tuple) and len(parts) == 1 else ""
    return opening + ", ".join(label + _flat(part) for label, part in parts) + comma + closing


def _taken_apart(node: Any) -> tuple[str, list[tuple[str, Any]], str]:
    """What opens a node, its parts with what stands before each, and what closes it; a leaf has no parts."""
    if isinstance(node, enum.Enum):
        return f"{_class_name(node)}.{node.name}", [], ""
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        fields = [(f"{f.name}=", getattr(node, f.name)) for f in dataclasses.fields(node) if f.init]
        return f"{_class_name(node)}(", fields, ")"
    if isinstance(node, np.ndarray):
        return "array(", [("", node.tolist())], ")"
    if isinstance(node, np.generic):
        return repr(node.item()), [], ""
    if isinstance(node, dict):
        return "{", [(f"{_flat(key)}: ", value) for key, value in node.items()], "}"
    if isinstance(node, set | frozenset):
        opening, closing = ("{", "}") if isinstance(node, set) else ("frozenset({", "})")
        parts = [("", part) for part in sorted(node, key=repr)]
        return (opening, parts, closing) if node else (f"{type(node).__name__}()", [], "")
    if isinstance(node, tuple | list):
        opening, closing = "()" if isinstance(node, tuple) else "[]"
        return (opening, [("", part) for part in node], closing) if node else (opening + closing, [], "")
    return repr(node), [], ""


def _names(node: Any) -> Iterator[tuple[str, str]]:
    """Names that the text of a node uses, with their modules."""
    if isinstance(node, float | np.floating) and not math.isfinite(node):
        yield "math", str(float(node)).lstrip("-")
    elif isinstance(node, np.ndarray):
        yield "numpy", "array"
    elif isinstance(node, Fraction | enum.Enum) or dataclasses.is_dataclass(node):
        yield type(node).__module__, _class_name(node).split(".")[0]
    for key in node if isinstance(node, dict) else ():
        yield from _names(key)
    for _, part in _taken_apart(node)[1]:
        yield from _names(part)


def _class_name(node: Any) -> str:
    return type(node).__qualname__.rpartition("<locals>.")[2]
