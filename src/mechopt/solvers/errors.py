"""The errors of the package: a small family, each with what to do next."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mechopt.solvers.solution import Solution


class MechanismError(Exception):
    """Base of every error that this package raises on purpose."""


class MechanismWarning(UserWarning):
    """An answer was returned, and there is something about it that its reader must know."""


class InvalidInput(MechanismError, ValueError):
    """An argument breaks a rule; the message names the argument, the index, the value and the rule."""


class NotApplicable(MechanismError):
    """A closed form or algorithm was asked for outside the region where it is valid.

    Attributes
    ----------
    reason : str
        The condition that fails, for people.
    """

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), str(self), {"reason": self.reason})


class MissingCapability(MechanismError):
    """The backend asked for cannot solve this class of program; others may.

    Attributes
    ----------
    backend : str
        The backend that refused.
    missing : tuple of str
        What it lacks: names of capabilities, or of families for an exact algorithm.
    alternatives : tuple of str
        Available backends that could solve the program.
    """

    def __init__(
        self,
        message: str,
        *,
        backend: str = "",
        missing: Iterable[str] = (),
        alternatives: Iterable[str] = (),
    ) -> None:
        super().__init__(message)
        self.backend = backend
        self.missing = tuple(missing)
        self.alternatives = tuple(alternatives)

    def __reduce__(self) -> tuple[Any, ...]:
        state = {"backend": self.backend, "missing": self.missing, "alternatives": self.alternatives}
        return _rebuild, (type(self), str(self), state)


class BackendUnavailable(MechanismError):
    """The backend is unknown, not installed, or its licence does not answer."""


class _Unsolved(MechanismError):
    """A solve that gave no usable answer; ``solution`` keeps whatever came back."""

    def __init__(
        self, message: str, *, solution: Solution | None = None, families: Iterable[str] = ()
    ) -> None:
        super().__init__(message)
        self.solution = solution
        self.families = tuple(families)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), str(self), {"solution": self.solution, "families": self.families})


class Infeasible(_Unsolved):
    """No point meets all families.

    Attributes
    ----------
    families : tuple of str
        A smallest set of families that cannot hold together (drop any one and the rest can).
    solution : Solution
        The record of the attempt.
    """


class Unbounded(_Unsolved):
    """The objective improves without end; a bound or a constraint is missing from the declaration."""


class SolverFailure(_Unsolved):
    """The solver stopped without an answer, or its answer fails our own checks.

    Attributes
    ----------
    families : tuple of str
        The families, if any, that the returned point violates.
    solution : Solution
        The record of the attempt, residuals included.
    """


def _rebuild(kind: type[MechanismError], message: str, state: dict[str, Any]) -> MechanismError:
    return kind(message, **state)
