"""Where the code of a claim is: its check, and what of the package the check calls.

Sources are read, nothing runs. The functions of claims are followed into each other, and methods are found by
annotations: `case.contract().audit(menu)` is `ScreeningContract.audit` if ``contract`` says what it returns.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
import typing
from dataclasses import dataclass
from functools import cache, cached_property
from types import FunctionType, MethodType, ModuleType, UnionType
from typing import Any

from mechopt.verification.claim import Claim

FORMULATIONS = "mechopt.formulations."
VOCABULARY = FORMULATIONS + "functions."
"""Gains, costs and the like, which checks use everywhere."""


@dataclass(frozen=True)
class Code:
    """A function, a method or a class.

    Attributes
    ----------
    module : str
    name : str
        ``"ScreeningContract.audit"`` for a method.
    """

    module: str
    name: str

    @property
    def path(self) -> str:
        """File, from the folder of the package on: ``"mechopt/formulations/..."``."""
        is_package = hasattr(sys.modules[self.module], "__path__")
        return self.module.replace(".", "/") + ("/__init__.py" if is_package else ".py")


def code_of_check(claim: Claim) -> Code:
    """Return where the check of a claim is.

    Examples
    --------
    >>> from mechopt.formulations.ledger import ledger
    >>> code_of_check(ledger().claims["contract/R5"]).name
    'no_rent_at_the_top'
    """
    check = inspect.unwrap(claim.check)
    named = check if hasattr(check, "__qualname__") else type(check)
    return Code(named.__module__, named.__qualname__.rpartition("<locals>.")[2])


def code_checked(claim: Claim) -> tuple[Code, ...]:
    """Return the functions, methods and classes of mechanisms that a check calls, itself or by way of others.

    Empty if the check does with definitions alone, as where a formula is held against arithmetic.

    Examples
    --------
    >>> from mechopt.formulations.ledger import ledger
    >>> [code.name for code in code_checked(ledger().claims["contract/R3"])]
    ['payments', 'ScreeningContract.audit']
    """
    found: dict[Code, None] = {}
    _follow(inspect.unwrap(claim.check), found, set())
    owners = {(code.module, code.name.split(".")[0]) for code in found if "." in code.name}
    listed = [code for code in found if (code.module, code.name) not in owners and not _is_aside(code)]
    mechanisms = [code for code in listed if not code.module.startswith(VOCABULARY)]
    return tuple(mechanisms or listed)


# ------------------------------------------------------------ reading


@dataclass(frozen=True)
class _Instance:
    """Some object of a class."""

    kind: type


def _is_of_claims(module: str) -> bool:
    return module.startswith(FORMULATIONS) and (".claims" in module or module.endswith(".families"))


def _is_aside(code: Code) -> bool:
    """Whether it only tells a size: numbers of agents, orders of magnitude."""
    name = code.name.rpartition(".")[2]
    return name.startswith("n_") or name in ("scale", "scales")


@cache
def _body(function: FunctionType) -> list[ast.stmt]:
    """Statements of a function; none if it was made by a decorator, or within an expression."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    except (OSError, SyntaxError):
        return []
    return tree.body if isinstance(tree, ast.FunctionDef) else []


def _follow(function: Any, found: dict[Code, None], seen: set[Any]) -> None:
    """Note what a function of claims calls, and follow it into other functions of claims."""
    if not isinstance(function, FunctionType) or function in seen:
        return
    seen.add(function)
    reader = _Reader(function, found, seen)
    for statement in _body(function):
        reader.visit(statement)


class _Reader(ast.NodeVisitor):
    """Goes through a function, knowing of names what annotations and assignments say."""

    def __init__(self, function: FunctionType, found: dict[Code, None], seen: set[Any]) -> None:
        self.found, self.seen = found, seen
        self.names: dict[str, list[Any]] = {name: [value] for name, value in function.__globals__.items()}
        for name, annotation in function.__annotations__.items():
            self.names[name] = _instances(annotation, function.__globals__)
        owner = function.__qualname__.rpartition(".")[0]
        if owner and owner in function.__globals__:
            self.names["self"] = [_Instance(function.__globals__[owner])]

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(target.elts, node.value.elts, strict=False))
            else:
                pairs = [(target, node.value)]
            for left, right in pairs:
                if isinstance(left, ast.Name):
                    self.names[left.id] = self.meanings(right)

    def visit_Name(self, node: ast.Name) -> None:
        for meaning in self.meanings(node):
            self.note(meaning)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.visit(node.value)
        for meaning in self.meanings(node):
            self.note(meaning)
        for owner in self.meanings(node.value):
            if isinstance(owner, _Instance):
                value = inspect.getattr_static(owner.kind, node.attr, None)
                if isinstance(value, property | cached_property):
                    self.note(_getter(value))

    def note(self, meaning: Any) -> None:
        """Note code of mechanisms, follow code of claims."""
        value = inspect.unwrap(meaning) if callable(meaning) else meaning
        if isinstance(value, MethodType):
            value = value.__func__
        if not isinstance(value, FunctionType | type):
            return
        if _is_of_claims(value.__module__):
            _follow(value, self.found, self.seen)
        elif value.__module__.startswith(FORMULATIONS) and not _is_exception(value):
            self.found[Code(value.__module__, value.__qualname__)] = None

    def meanings(self, node: ast.AST) -> list[Any]:
        """What an expression may be: objects, or instances of classes; nothing if that is not known."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id, [])
        if isinstance(node, ast.Attribute):
            owners = self.meanings(node.value)
            return [value for owner in owners for value in _attributes(owner, node.attr)]
        if isinstance(node, ast.Call):
            return [value for called in self.meanings(node.func) for value in _results(called)]
        return []


def _is_exception(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


def _getter(value: Any) -> Any:
    return value.func if isinstance(value, cached_property) else value.fget


def _attributes(owner: Any, name: str) -> list[Any]:
    if isinstance(owner, ModuleType | type):
        return [getattr(owner, name)] if hasattr(owner, name) else []
    if not isinstance(owner, _Instance):
        return []
    value = inspect.getattr_static(owner.kind, name, None)
    if isinstance(value, FunctionType):
        return [value]
    if isinstance(value, property | cached_property):
        return _results(_getter(value))
    for kind in owner.kind.__mro__:
        annotation = inspect.get_annotations(kind).get(name)
        if annotation is not None:
            return list(_instances(annotation, vars(sys.modules[kind.__module__])))
    return []


def _results(called: Any) -> list[Any]:
    """Instances of what a call returns."""
    value = inspect.unwrap(called) if callable(called) else called
    if isinstance(value, MethodType):
        value = value.__func__
    if isinstance(value, type):
        return [_Instance(value)]
    if isinstance(value, FunctionType):
        return _instances(value.__annotations__.get("return"), value.__globals__)
    return []


def _instances(annotation: Any, names: dict[str, Any]) -> list[Any]:
    if isinstance(annotation, str):
        try:
            annotation = eval(annotation, names)
        except Exception:  # a name that is there for type checkers only
            return []
    parts = typing.get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    return [_Instance(part) for part in parts if isinstance(part, type)]
