"""Many mechanisms in one call: those that are alike are solved side by side."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

from mechopt.formulations.accuracy_shaping import batch as accuracy_shaping
from mechopt.formulations.accuracy_shaping.model import AccuracyShaping
from mechopt.formulations.screening import batch as screening
from mechopt.formulations.screening.model import ScreeningContract
from mechopt.solvers.errors import InvalidInput, MechanismError
from mechopt.solvers.exact import asked_exactly
from mechopt.solvers.program import OnFailure
from mechopt.solvers.solution import Solution

__all__ = ["answers", "fits", "solve_batch"]

# A key that mechanisms share which fit together, and what solves them. A class derived from one of these may
# have a ``solve`` of its own, and is none of them.
_KINDS: dict[type, tuple[Callable[[Any], Hashable], Callable[[Sequence[Any], float], list[Solution]]]] = {
    ScreeningContract: (screening.alike, screening.solve_together),
    AccuracyShaping: (accuracy_shaping.alike, accuracy_shaping.solve_together),
}

_ACCEPTED = frozenset({"backend", "tolerance", "time_limit", "verbose", "on_failure"})
# Groups in which something fails are halved down to this size, and then solved one by one.
_FEW = 8


def solve_batch(
    mechanisms: Iterable[Any], backend: str | None = None, *, on_failure: OnFailure = "raise", **settings: Any
) -> list[Solution]:
    """Solve many mechanisms, those that are alike side by side: as ``[m.solve() for m in mechanisms]``.

    By default their exact algorithms answer. Those of `ScreeningContract` and `AccuracyShaping` take
    thousands of small mechanisms at once, if they have the same number of types, or agents, and functions of
    one family, whose parameters may differ but for exponents. What is not alike is solved one by one.

    Parameters
    ----------
    mechanisms : iterable
        Mechanisms or programs, of any kinds, at least one.
    backend : str, optional
        As for the ``solve`` of each.
    on_failure : {"raise", "return"}
        With ``"return"``, failures are solutions with a status, as of ``solve``.
    **settings
        Other arguments of ``solve``, such as ``tolerance``.

    Returns
    -------
    list of Solution
        In the order given; each is what the mechanism's own ``solve`` returns, but for the last digits.
        ``seconds`` are a mechanism's share of its group's.

    Raises
    ------
    InvalidInput
        If there are none, or one has no ``solve``.
    MechanismError
        What the first failing ``solve`` raises; its message says which it is.

    Examples
    --------
    >>> from mechopt.formulations.functions import LogGain
    >>> contracts = [ScreeningContract([0.1, 0.2], gain=LogGain(weight=w, scale=2)) for w in (10, 100, 1000)]
    >>> [round(solution.objective, 2) for solution in solve_batch(contracts)]
    [18.55, 410.18, 6398.79]
    """
    every = list(mechanisms)
    if not every:
        raise InvalidInput("mechanisms is empty; give at least one")
    for i, mechanism in enumerate(every):
        if not callable(getattr(mechanism, "solve", None)):
            raise InvalidInput(
                f"mechanisms[{i}] must be a mechanism or a Program, something with solve(); "
                f"got {type(mechanism).__name__}"
            )
    asked = settings | ({} if backend is None else {"backend": backend})
    if on_failure != "raise":
        asked["on_failure"] = on_failure
    found = answers(every, asked)
    for i, answer in enumerate(found):
        if isinstance(answer, MechanismError):
            answer.args = (f"mechanisms[{i}]: {answer}",)
        if isinstance(answer, Exception):
            raise answer
    return found


def fits(mechanism: Any, settings: Mapping[str, Any]) -> bool:
    """Whether it can be solved beside others, with these arguments of ``solve``."""
    return (
        type(mechanism) in _KINDS
        and settings.get("backend") in (None, "exact")
        and settings.keys() <= _ACCEPTED
    )


def answers(mechanisms: Sequence[Any], settings: Mapping[str, Any]) -> list[Any]:
    """What the ``solve`` of each returns for these arguments, or the exception that it raises."""
    found: list[Any] = [None] * len(mechanisms)
    groups: dict[Hashable, list[int]] = {}
    for i, mechanism in enumerate(mechanisms):
        if fits(mechanism, settings):
            groups.setdefault((type(mechanism), _KINDS[type(mechanism)][0](mechanism)), []).append(i)
        else:
            found[i] = _alone(mechanism, settings)
    waiting = list(groups.values())
    while waiting:
        group = waiting.pop()
        some = [mechanisms[i] for i in group]
        together = _together(some, settings) if len(group) > 1 else None
        if together is None and len(group) > _FEW:
            # One that fails must not make the others slow.
            half = len(group) // 2
            waiting += [group[:half], group[half:]]
            continue
        for i, answer in zip(group, together or [_alone(m, settings) for m in some], strict=True):
            found[i] = answer
    return found


def _alone(mechanism: Any, settings: Mapping[str, Any]) -> Any:
    try:
        return mechanism.solve(**settings)
    except Exception as error:
        return error


def _together(mechanisms: Sequence[Any], settings: Mapping[str, Any]) -> list[Solution] | None:
    """Solutions of mechanisms that are alike; None if something is wrong with one of them or the settings."""
    asked = {"tolerance": None, "time_limit": None, "verbose": False, "on_failure": "raise", **settings}
    try:
        tolerance = asked_exactly(asked.pop("backend", None), **asked, options={})
        assert tolerance is not None  # `fits` has seen to that
        return _KINDS[type(mechanisms[0])][1](mechanisms, tolerance)
    except Exception:
        # One that fails, for whatever reason, must not take the others with it; its own ``solve`` tells why.
        # That alike mechanisms do come out of here is held by tests, lest a fault hide as slowness.
        return None
