r"""Incentive constraints of a menu for private types, as families of a program.

Each of K types has a marginal cost :math:`c_1 < \dots < c_K` and a contract (reward :math:`r_k`, amount
:math:`m_k`); taking contract j leaves it :math:`r_j - c_k m_j`. With :math:`u_k = r_k - c_k m_k`:

==================  ==========================================================================================
``full``            ``ic``: u_k >= r_j - c_k m_j for all j != k;  ``ir``: u_k >= the outside option
``local``           ``ic_up`` (k against k+1), ``ic_down`` (k+1 against k), ``ir``
``local-monotone``  ``ic_up``, ``monotone``: m_k >= m_{k+1}, ``ir`` of the highest type only, if all have
                    the same outside option
==================  ==========================================================================================

``full`` and ``local`` are equivalent by single crossing, whatever is added to them. ``local-monotone`` has
the same optimum as long as nothing makes higher rewards than the least worth while.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import cvxpy as cp
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.program import Program

MenuForm = Literal["full", "local", "local-monotone"]
MENU_FORMS: tuple[str, ...] = get_args(MenuForm)

FULL_FORM_LIMIT = 500
"""Types above which the full form, with its K(K-1) rows, is only built when forced."""


def ic_pairs(n_types: int) -> NDArray[np.intp]:
    """Row by row, which pair the family ``ic`` of the full form is about.

    Returns
    -------
    array, shape (n_types * (n_types - 1), 2)
        Row ``i`` says that type ``[i, 0]`` does not gain by choosing the contract of type ``[i, 1]``.
    """
    agent, choice = np.nonzero(~np.eye(n_types, dtype=bool))
    return np.column_stack([agent, choice])


def check_form(form: str, forms: tuple[str, ...] = MENU_FORMS) -> None:
    """Refuse an unknown form."""
    if form not in forms:
        raise InvalidInput(f"form must be one of {', '.join(map(repr, forms))}, got {form!r}")


def check_full_size(form: str, n_types: int, *, force: bool) -> None:
    """Refuse a full form of many types."""
    if form == "full" and n_types > FULL_FORM_LIMIT and not force:
        raise InvalidInput(
            f"form='full' with {n_types} types has {n_types * (n_types - 1)} incentive rows, and conic "
            f"solvers lose accuracy beyond a few hundred types; use form='local' (equivalent), or pass "
            "force=True"
        )


def declare_incentives(
    program: Program,
    reward: cp.Expression,
    amount: cp.Expression,
    costs: NDArray[np.float64],
    form: str,
    *,
    outside_option: Any = 0.0,
    prefix: str = "",
) -> None:
    """Add the families of a form to a program.

    Parameters
    ----------
    program : Program
    reward, amount : CVXPY expression, shape (n_types,)
        Affine: what each contract pays, and what it asks for.
    costs : array, shape (n_types,)
        Marginal cost of each type, increasing.
    form : {"full", "local", "local-monotone"}
    outside_option : float or array, shape (n_types,)
        What each type gets by staying out.
    prefix : str
        Put before the names of the families.
    """
    n_types = costs.size
    utility = reward - cp.multiply(costs, amount)
    if form == "full":
        pairs = ic_pairs(n_types)
        if pairs.size:
            temptation = _pick(pairs[:, 1], n_types) @ reward - (
                _pick(pairs[:, 1], n_types, costs[pairs[:, 0]]) @ amount
            )
            program.add(f"{prefix}ic", temptation <= _pick(pairs[:, 0], n_types) @ utility)
    elif n_types > 1:
        lower, upper = slice(None, -1), slice(1, None)
        tempting = reward[upper] - cp.multiply(costs[lower], amount[upper])
        program.add(f"{prefix}ic_up", tempting <= utility[lower])
        if form == "local":
            down = reward[lower] - cp.multiply(costs[upper], amount[lower])
            program.add(f"{prefix}ic_down", down <= utility[upper])
        else:
            program.add(f"{prefix}monotone", amount[upper] <= amount[lower])
    lowest_alone = form == "local-monotone" and np.ndim(outside_option) == 0
    program.add(f"{prefix}ir", (utility[-1:] if lowest_alone else utility) >= outside_option)


def _pick(columns: Any, n_columns: int, weights: Any = None) -> sp.csr_array:
    """Sparse matrix whose row ``i`` picks entry ``columns[i]``, times ``weights[i]``."""
    rows = np.arange(len(columns))
    values = np.ones(len(columns)) if weights is None else weights
    return sp.csr_array((values, (rows, columns)), shape=(len(columns), n_columns))
