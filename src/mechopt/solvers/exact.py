"""The backend ``exact``: a mechanism's own algorithm, as long as the program is what the algorithm solves."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mechopt.solvers.backend import DEFAULT_TOLERANCE, Answer, Backend, Settings
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.solution import Status

if TYPE_CHECKING:
    from mechopt.solvers.program import Program

Array = NDArray[np.float64]


def _prices(program: Program, family: str, price: Any) -> tuple[Array, ...]:
    """One read-only array, of the shape of the family's only constraint."""
    (term,) = program.families[family]
    array = np.broadcast_to(np.asarray(price, dtype=float), term.shape).copy()
    array.setflags(write=False)
    return (array,)


def asked_exactly(
    backend: str | None,
    *,
    tolerance: float | None,
    time_limit: float | None,
    verbose: bool,
    on_failure: str,
    options: Mapping[str, Any],
) -> float | None:
    """Check the arguments of a mechanism's ``solve`` that its own algorithm answers, by the rules of all.

    Returns
    -------
    float or None
        The tolerance for its record; None if another backend is asked for.
    """
    if on_failure not in ("raise", "return"):
        raise InvalidInput(f"on_failure must be 'raise' or 'return', got {on_failure!r}")
    if backend is not None and backend != "exact":
        return None
    if options:
        raise InvalidInput(f"backend 'exact' has no options, got {', '.join(options)}")
    tolerance = DEFAULT_TOLERANCE if tolerance is None else tolerance
    Settings(tolerance, time_limit, verbose, options)
    return tolerance


class Exact(Backend):
    """Calls the algorithm with which the mechanism sealed its program.

    It applies while the program is as declared, or differs only by what the algorithm knows how to price;
    otherwise it refuses and names the families that stopped it.
    """

    name = "exact"
    capabilities = frozenset()
    rank = 0
    globally = True
    duals = False
    distribution = "mechopt"
    licence = "Apache-2.0"

    def lacks(self, program: Program) -> tuple[str, ...]:
        """See `Backend.lacks`."""
        if program.exact is None:
            return ("an exact algorithm for this program",)
        return tuple(
            "a way to price a changed objective" if part == "objective" else f"a way to price family {part!r}"
            for part in program.exact.refuses(program, program.changes())
        )

    def solve(self, program: Program, settings: Settings) -> Answer:
        """See `Backend.solve`."""
        if settings.options:
            raise InvalidInput(f"backend 'exact' has no options, got {', '.join(settings.options)}")
        assert program.exact is not None  # `lacks` has been asked
        started = time.perf_counter()
        found = program.exact(program, program.changes(), settings)
        spent = {"compile": 0.0, "solve": time.perf_counter() - started}
        if found.conflict:
            return Answer(Status.INFEASIBLE, found.reason, conflict=found.conflict, seconds=spent)
        answer = Answer(Status.OPTIMAL, found.reason, no_duals="the exact algorithm computes no prices")
        answer.primal = program.inner_values(found.values)
        answer.prices = {family: _prices(program, family, price) for family, price in found.prices.items()}
        answer.proved, answer.seconds = True, spent
        if any(not np.all(np.isfinite(value)) for value in answer.primal.values()):
            answer.status = Status.FAILED
        return answer
