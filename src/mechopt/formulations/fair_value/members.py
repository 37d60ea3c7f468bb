"""Who is in a coalition."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.solvers.errors import InvalidInput


def members(coalition: ArrayLike | Iterable[int] | None, n_users: int) -> NDArray[np.bool_]:
    """Return a coalition as a mask.

    Parameters
    ----------
    coalition : iterable of int, or array of bool of shape (n_users,), optional
        Users by index, or a mask; None is everybody.
    n_users : int

    Returns
    -------
    array of bool, shape (n_users,)

    Raises
    ------
    InvalidInput
        For a user that does not exist or is named twice, or a mask of another length.
    """
    if coalition is None:
        return np.ones(n_users, dtype=bool)
    given: Any = coalition
    if not isinstance(coalition, np.ndarray):
        try:
            given = list(given)
        except TypeError:
            raise InvalidInput(f"a coalition is a list of users such as [0, 2], got {coalition!r}") from None
    array = np.atleast_1d(given)
    if array.dtype == bool and array.size:
        if array.shape != (n_users,):
            raise InvalidInput(
                f"a mask of a coalition needs shape ({n_users},), one entry a user; got {array.shape}"
            )
        return array
    mask = np.zeros(n_users, dtype=bool)
    for position, user in enumerate(array.tolist()):
        if not (isinstance(user, int) and 0 <= user < n_users):
            raise InvalidInput(f"coalition[{position}] = {user!r}; users are numbered 0 to {n_users - 1}")
        if mask[user]:
            raise InvalidInput(f"coalition[{position}] names user {user} a second time; name each once")
        mask[user] = True
    return mask
