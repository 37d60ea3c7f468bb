"""A claim of one's own: a function of an instance and its solution, and the tolerance to which it holds."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import islice
from typing import Any

import numpy as np

from mechopt.solvers.errors import InvalidInput, NotApplicable
from mechopt.solvers.solution import Solution
from mechopt.verification.claim import Claim, Finding, Instance, Ledger, Verdict
from mechopt.verification.evidence import row

DEFAULT_INSTANCES = 100
_INSTANCE = inspect.Parameter("instance", inspect.Parameter.POSITIONAL_OR_KEYWORD)


def claim(
    id: str,
    *,
    instances: Iterable[Instance] | Callable[..., Any],
    tolerance: float,
    statement: str | None = None,
    source: str = "own",
    backend: str | None = None,
    solve: Callable[[Instance], Any] | None = None,
    ledger: Ledger | None = None,
    expected: Verdict = Verdict.HOLDS,
    corrected_by: str = "",
    n_instances: int | None = None,
    confirm_exactly: Callable[[Instance], Fraction] | None = None,
) -> Callable[[Callable[..., Any]], Claim]:
    """Make a claim of the decorated function of an instance, or of an instance and its solution.

    The function returns what it has: two sides that should be equal (numbers or arrays; the gap is their
    largest difference over their largest entry), a gap, True or False, or a `Finding`. It raises
    `NotApplicable`, as closed forms do, where the hypotheses are not met.

    Parameters
    ----------
    id : str
        For example ``"mine/no-rent"``; what is before the slash groups claims in tables.
    instances : iterable, or callable
        The instances, or ``instances(rng)`` that draws one, or ``instances(rng, n)`` that yields ``n``.
    tolerance : float
        The gap up to which the statement counts as true, >= 0.
    statement : str, optional
        One sentence; default: the first line of the function's docstring.
    source : str
        Where it is stated.
    backend : str, optional
        Where instances are solved; default: what the mechanism chooses, its exact algorithm if it has one.
    solve : callable, optional
        ``solve(instance)`` gives the solution; default: the instance's own ``solve``, or that of its
        ``program()``.
    ledger : Ledger, optional
        Where the claim is entered.
    expected, corrected_by, n_instances, confirm_exactly
        See `Claim`. The number of instances is that of a sequence, else 100.

    Returns
    -------
    Claim
        Under the name of the function: run it with `run_claim`.

    Raises
    ------
    InvalidInput
        If the function takes neither one nor two arguments, says nothing, or ``instances`` are no instances.

    Examples
    --------
    >>> import mechopt as mo
    >>> from mechopt.verification.own import claim
    >>> @claim("mine/double", instances=[1.0, 2.5], tolerance=1e-12)
    ... def double(x):
    ...     "Twice a number is the number and itself."
    ...     return 2 * x, x + x
    >>> print(mo.run_claim(double))
    mine/double: holds on 2 instances, worst gap 0.0e+00
    """
    if not isinstance(tolerance, int | float | np.number) or not tolerance >= 0:
        raise InvalidInput(f"claim {id!r}: tolerance must be a number >= 0, got {tolerance!r}")
    if expected not in list(Verdict):
        raise InvalidInput(f"claim {id!r}: expected must be {', '.join(Verdict)}, got {expected!r}")
    if n_instances is not None and n_instances < 1:
        raise InvalidInput(f"claim {id!r}: n_instances must be at least 1, got {n_instances!r}")
    family, count = _family(id, instances)

    def enter(function: Callable[..., Any]) -> Claim:
        said = statement or next(iter((inspect.getdoc(function) or "").splitlines()), "")
        if not said:
            raise InvalidInput(f"claim {id!r} says nothing: pass statement=..., or write a docstring")
        n_arguments = len(inspect.signature(function).parameters)
        if n_arguments not in (1, 2):
            raise InvalidInput(
                f"claim {id!r}: a check takes an instance, or an instance and its solution; "
                f"{function.__name__} takes {n_arguments} arguments"
            )

        @functools.wraps(function)
        def check(instance: Instance) -> Finding:
            try:
                if n_arguments == 1:
                    return _finding(id, function(instance))
                solution = solve(instance) if solve is not None else _solved(id, instance, backend)
                return _finding(id, function(instance, solution))
            except NotApplicable as error:
                return Finding(0.0, error.reason, applies=False)

        # It takes an instance only, whatever it wraps: so another claim can be made of it.
        vars(check)["__signature__"] = inspect.Signature([_INSTANCE])
        made = Claim(
            id=id,
            source=source,
            statement=said.rstrip("."),
            instances=family,
            check=check,
            tolerance=float(tolerance),
            expected=Verdict(expected),
            corrected_by=corrected_by,
            n_instances=n_instances or count or DEFAULT_INSTANCES,
            confirm_exactly=confirm_exactly,
        )
        return made if ledger is None else ledger.add(made)

    return enter


def _family(
    id: str, instances: Any
) -> tuple[Callable[[np.random.Generator, int], Iterable[Any]], int | None]:
    """Bring instances to the form of `Claim.instances`; also tell how many there are, if that is known."""
    if callable(instances):
        n_arguments = len(inspect.signature(instances).parameters)
        if n_arguments == 2:
            return instances, None
        if n_arguments != 1:
            raise InvalidInput(
                f"claim {id!r}: instances is a function of {n_arguments} arguments; write instances(rng), "
                "which draws one, or instances(rng, n), which yields n"
            )

        def draw(rng: np.random.Generator, n: int) -> Iterator[Any]:
            for _ in range(n):
                yield instances(rng)

        return draw, None
    try:
        kept = tuple(instances)
    except TypeError:
        raise InvalidInput(
            f"claim {id!r}: instances is of type {type(instances).__name__}; give a list of instances, or a "
            "function that draws them"
        ) from None
    if not kept:
        raise InvalidInput(f"claim {id!r}: there are no instances; give at least one")
    return (lambda rng, n: islice(kept, n)), len(kept)


def _solved(id: str, instance: Instance, backend: str | None) -> Any:
    if hasattr(instance, "solve"):
        return instance.solve(backend)
    if hasattr(instance, "program"):
        return instance.program().solve(backend)
    raise InvalidInput(
        f"claim {id!r}: an instance of type {type(instance).__name__} has neither solve() nor program(); "
        "pass solve=<function of an instance>"
    )


def _finding(id: str, result: Any) -> Finding:
    """Read what a check returned."""
    if isinstance(result, Finding):
        return result
    if isinstance(result, bool | np.bool_):
        return Finding(float(not result), "the statement is true" if result else "the statement is false")
    if isinstance(result, tuple) and len(result) == 2:
        return _sides(id, *result)
    if isinstance(result, int | float | np.integer | np.floating) or (
        isinstance(result, np.ndarray) and result.ndim == 0
    ):
        return Finding(float(result), f"gap {float(result):.6g}")
    if isinstance(result, np.ndarray):
        raise InvalidInput(
            f"claim {id!r}: the check returned an array of shape {result.shape}; return it with what it "
            "should equal, (array, other), or its largest entry as the gap, or .all() of truth values"
        )
    what = "None: it has no return" if result is None else f"something of type {type(result).__name__}"
    raise InvalidInput(
        f"claim {id!r}: the check returned {what}; return two sides that should be equal, a gap, True or "
        "False, or a Finding"
    )


def _sides(id: str, left: Any, right: Any) -> Finding:
    if isinstance(left, Solution) or isinstance(right, Solution):
        raise InvalidInput(f"claim {id!r}: compare numbers or arrays of a solution, not the solution itself")
    a, b = np.asarray(left, dtype=float), np.asarray(right, dtype=float)
    if a.shape != b.shape and a.size != 1 and b.size != 1:
        raise InvalidInput(f"claim {id!r}: the two sides have shapes {a.shape} and {b.shape}")
    return Finding(relative_gap(a, b), f"{_side(a)} against {_side(b)}")


def relative_gap(a: Any, b: Any, floor: float = 0.0) -> float:
    """Return the largest difference over the largest entry of both (at least ``floor``); 0 if all are 0."""
    difference = float(np.max(np.abs(np.subtract(a, b)), initial=0.0))
    size = max(float(np.max(np.abs(a), initial=0.0)), float(np.max(np.abs(b), initial=0.0)), floor)
    return difference / size if difference else 0.0


def _side(values: Any) -> str:
    return f"{float(values):.9g}" if values.size == 1 else row(values.ravel()[:12])
