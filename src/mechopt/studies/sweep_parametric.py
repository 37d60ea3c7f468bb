"""A factory for sweeps that declares its program once, and lets parameters of CVXPY vary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cvxpy as cp

from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.program import Program


class Parametric:
    """Factory of one program whose `cvxpy.Parameter` take the values of the grid, by name.

    The program is declared when it is first needed, once in each process, and compiled once where its
    parameters enter affinely. It does not travel to other processes, nor is it written to stores: its
    declaration does.

    Parameters
    ----------
    declare : callable
        Without arguments; returns a `Program` in which each parameter of the grid is a ``cvxpy.Parameter`` of
        that name. Parameters of the program that are not in the grid must have a value.

    Raises
    ------
    InvalidInput
        When called: if ``declare`` returns something else, or a name or a value does not fit.

    Examples
    --------
    >>> import mechopt as mo
    >>> def declare():
    ...     program = mo.ScreeningContract(types=[0.1, 0.2, 0.3]).program("local")
    ...     budget = cp.Parameter(name="budget")
    ...     return program.add("budget", program["expected_payment"] <= budget)
    >>> found = mo.sweep(Parametric(declare), {"budget": [20, 40]}, {}, "clarabel", progress=False)
    >>> found["objective"].round(2).values.tolist()
    [321.76, 369.38]
    """

    def __init__(self, declare: Callable[[], Program]) -> None:
        self.declare = declare
        self._made: tuple[Program, dict[str, cp.Parameter]] | None = None

    def __call__(self, **values: Any) -> Program:
        """Return the program, with these values of its parameters."""
        if self._made is None:
            self._made = _declared(self.declare)
        program, parameters = self._made
        for name, value in values.items():
            if name not in parameters:
                raise InvalidInput(
                    f"{program.name!r} has no cvxpy.Parameter named {name!r}; "
                    f"it has {', '.join(parameters) or 'none'}"
                )
            try:
                parameters[name].value = value
            except ValueError as error:
                raise InvalidInput(f"{name} = {value!r} is no value of that parameter: {error}") from None
        return program

    def __getstate__(self) -> dict[str, Any]:
        return {"declare": self.declare, "_made": None}


def _declared(declare: Callable[[], Program]) -> tuple[Program, dict[str, cp.Parameter]]:
    program = declare()
    if not isinstance(program, Program):
        raise InvalidInput(f"declare must return a Program, got {type(program).__name__}")
    parameters: dict[str, cp.Parameter] = {}
    for parameter in program.problem.parameters():
        if parameters.setdefault(parameter.name(), parameter) is not parameter:
            raise InvalidInput(f"{program.name!r} has two parameters named {parameter.name()!r}; rename one")
    return program, parameters


__all__ = ["Parametric"]
