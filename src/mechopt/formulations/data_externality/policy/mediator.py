r"""A mediator who holds all data, and passes on to the platform only what is best for all.

From the data of senders A an honest mediator can produce estimates of types with any covariance G between 0
and
:math:`G_{\max} = \Sigma - \mathrm{Var}(X \mid S_A)`, and no other; what leaks about user i is
:math:`G_{ii}`. With :math:`G_{\max} = F F^\top` these are :math:`G = F H F^\top`, with H between 0 and I: the
part passed on of each direction of information. That form has an interior, however few users send, and if
nothing may leak about some users it keeps one with F projected to what is orthogonal to their rows. As rows
:math:`G_{ii} \le 0` the same condition leaves no interior, and solvers were off by 1e-3 in the objective
while they met every row to 1e-6.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import cvxpy as cp
import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations.data_externality.leakage import posterior_covariance
from mechopt.solvers.backend import Settings
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.program import Changes, ExactAnswer, Program
from mechopt.solvers.solution import Solution
from mechopt.solvers.terms import Term

if TYPE_CHECKING:
    from mechopt.formulations.data_externality.model import DataExternality

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

RANK = 1e-12
"""Directions of information that count as none, relative to all."""


def mediator_program(
    x: DataExternality,
    sharing: ArrayLike | Iterable[int] | None = None,
    no_leak: ArrayLike | Iterable[int] | None = None,
) -> Program:
    """Declare the mediator's choice: a semidefinite program.

    Parameters
    ----------
    x : DataExternality
    sharing : array of shape (n_users,), or set of indices, optional
        Who sends data to the mediator; all by default.
    no_leak : array of shape (n_users,), or set of indices, optional
        Users about whom nothing may leak; a row with a bound of 0 on their information is refused, see the
        module.

    Returns
    -------
    Program
        With the variable ``release`` between 0 and I, on directions of information; and
        ``estimate_covariance``, shape (n_users, n_users); ``leaked_information``, its diagonal;
        ``buyer_value``, its trace; ``compensation`` of each user for what leaks, ``compensation_total`` and
        ``budget``, what the platform's value leaves (money).

    Raises
    ------
    InvalidInput
        If nobody sends, or nothing at all may be passed on.

    Notes
    -----
    With ``compensation`` every user is as well off as if nothing leaked, so that all take part, senders or
    not; it is covered by what the platform gains exactly if ``budget`` is >= 0, the data surplus. Further
    rows take a line each: ``program["buyer_value"] >= u``, or ``program["leaked_information"] <= cap``.

    Examples
    --------
    >>> import mechopt as mo
    >>> model = mo.DataExternality([[1.0, 0.6, 0.2], [0.6, 1.0, 0.4], [0.2, 0.4, 1.0]], [0.5, 1.3, 3.0])
    >>> program = mediator_program(model)
    >>> _ = program.add("use", program["buyer_value"] >= 1)
    >>> answer = program.solve("clarabel")
    >>> round(answer.objective, 4), answer.dual("use").round(3).tolist()
    (0.105, -0.439)
    """
    senders = np.ones(x.n_users, dtype=bool) if sharing is None else x.profile(sharing)
    barred = np.zeros(x.n_users, dtype=bool) if no_leak is None else x.profile(no_leak, "no_leak")
    if not senders.any():
        raise InvalidInput("sharing: nobody sends data, there is nothing to mediate; let some user send")
    factor = _factor(x, senders, barred)
    if not factor.shape[1]:
        raise InvalidInput(
            "no_leak: whatever is passed on leaks about one of these users, so that nothing can be; "
            "leave some out"
        )
    gain = 1 - x.value_of_privacy
    most = np.sum(factor**2, axis=1)
    program = Program("mediated data", objective_scale=float(np.abs(gain) @ most) or float(most.sum()))
    release = program.variable("release", (factor.shape[1],) * 2, symmetric=True)
    estimates = program.define("estimate_covariance", factor @ release @ factor.T)
    leaked = program.define("leaked_information", cp.sum(cp.multiply(factor @ release, factor), axis=1))
    program.define("buyer_value", cp.sum(leaked))
    compensation = program.define("compensation", cp.multiply(x.value_of_privacy, leaked))
    program.define("compensation_total", cp.sum(compensation))
    program.define("budget", gain @ leaked)
    program.define("sending", senders.astype(float))
    assert estimates.shape == (x.n_users, x.n_users)
    program.maximize(gain @ leaked)
    program.add("informative", release >> 0)
    program.add("held", np.eye(factor.shape[1]) - release >> 0)
    return program.seal(exact=ExactMediator(factor, gain), guard=refuse_no_interior)


def mediator(
    x: DataExternality,
    no_leak: ArrayLike | Iterable[int] | None = None,
    backend: str | None = None,
    *,
    sharing: ArrayLike | Iterable[int] | None = None,
    **options: Any,
) -> Solution:
    """Find what a mediator should pass on to the platform; see `mediator_program`.

    Parameters
    ----------
    x : DataExternality
    no_leak : array of shape (n_users,), or set of indices, optional
        Users about whom nothing may leak.
    backend : str, optional
        Default ``"exact"``: passed on are the directions of information with a positive surplus.
    sharing : array of shape (n_users,), or set of indices, optional
        Who sends data to the mediator; all by default.
    **options
        See `Program.solve`.

    Returns
    -------
    Solution
        ``estimate_covariance``, ``leaked_information``, ``compensation`` and the rest of the program; the
        objective is the data surplus (money).

    References
    ----------
    Pal et al., section VIII, recommendation R3.

    Examples
    --------
    >>> import mechopt as mo
    >>> model = mo.DataExternality([[1.0, 0.6, 0.2], [0.6, 1.0, 0.4], [0.2, 0.4, 1.0]], [0.5, 1.3, 3.0])
    >>> round(mediator(model).objective, 6), round(mediator(model, no_leak={1, 2}).objective, 6)
    (0.190935, 0.100605)
    """
    return mediator_program(x, sharing, no_leak).solve(backend, **options)


def _factor(x: DataExternality, senders: BoolArray, barred: BoolArray) -> Array:
    """Return F, of full column rank, with rows of 0 for users about whom nothing may leak."""
    most: Array = x.scaled_covariance - posterior_covariance(x.scaled_covariance, senders.astype(float))
    values, vectors = np.linalg.eigh((most + most.T) / 2)
    kept = values > RANK * values.sum()
    factor = np.sqrt(x.noise_variance) * vectors[:, kept] * np.sqrt(values[kept])
    if barred.any():
        # What tells nothing about them is orthogonal to their rows.
        _, sizes, directions = np.linalg.svd(factor[barred])
        rank = int(np.sum(sizes > np.sqrt(RANK) * np.linalg.norm(factor)))
        factor = factor @ directions[rank:].T
        factor[barred] = 0.0
    return np.asarray(factor)


class ExactMediator:
    r"""Passes on the directions of information that have a positive surplus.

    The objective is the trace of H with :math:`F^\top \mathrm{diag}(1 - v) F`; between 0 and I the best H
    is the projector on that matrix's eigenvectors of positive eigenvalues. It applies to the program as
    declared.
    """

    def __init__(self, factor: Array, gain: Array) -> None:
        self.factor, self.gain = factor, gain

    def refuses(self, program: Program, changes: Changes) -> tuple[str, ...]:
        """Families, or ``"objective"``, that it cannot price: all that are new."""
        return (*changes.added, *changes.dropped, *(("objective",) if changes.objective else ()))

    def __call__(self, program: Program, changes: Changes, settings: Settings) -> ExactAnswer:
        """Solve."""
        values, vectors = np.linalg.eigh(self.factor.T @ (self.gain[:, None] * self.factor))
        # Directions without effect on the surplus are kept back.
        taken = vectors[:, values > RANK * float(np.sum(self.factor**2))]
        return ExactAnswer({"release": taken @ taken.T})


def refuse_no_interior(program: Program, what: str, term: Term | cp.Expression) -> None:
    """Guard: a row that only a release of 0 in some direction meets leaves the program without an interior.

    Such a row reads ``<C, release> <= 0`` with C positive semidefinite and not 0.
    """
    if type(term).__name__ not in ("Inequality", "Equality"):
        return
    release = program["release"]
    difference = term.args[0] - term.args[1]
    if not difference.is_affine() or release.id not in {v.id for v in difference.variables()}:
        return
    before = [(variable, variable.value) for variable in difference.variables()]
    for variable, _ in before:
        variable.save_value(np.zeros(variable.shape))
    constants = np.atleast_1d(difference.value).ravel(order="F")
    slopes = sp.csc_matrix(difference.grad[release]).toarray().T
    for variable, value in before:
        variable.save_value(value)
    for slope, constant in zip(slopes, constants, strict=True):
        matrix = slope.reshape(release.shape)
        values = np.linalg.eigvalsh((matrix + matrix.T) / 2)
        top = float(np.max(np.abs(values)))
        one_sided = values[0] >= -RANK * top or (
            type(term).__name__ == "Equality" and values[-1] <= RANK * top
        )
        if top > 0 and one_sided and abs(constant) <= RANK * top:
            raise InvalidInput(
                f"{what} asks that nothing be passed on in some direction (a bound of 0 on something >= 0); "
                "solvers meet it only roughly, and the objective would be wrong by far more. If it is about "
                "leaked information, declare the program with no_leak={users}"
            )
