r"""Algorithm 1 with simulated holders, who choose from the menu, release their data with noise, and are paid.

A holder of privacy level ε that delivers q records in [0, 1] releases their mean with Laplace noise of scale
:math:`b = 1 / (q \varepsilon)`. Changing one record moves the mean by at most 1/q, so the release is
ε-differentially private, and what the demander's gain depends on, :math:`\varepsilon q = 1 / b`, is how
accurate the release is: the noise has variance :math:`2 / (q \varepsilon)^2`.

The privacy level is the holder's own and nobody verifies it. The menu makes holders *choose* the contract
meant for them; that they then add noise for the ε they chose by, and not more, is assumed (the paper has no
moral hazard).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations import checks, menus
from mechopt.formulations.screening.model import ScreeningContract
from mechopt.solvers.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "NULL",
    "Release",
    "Rounding",
    "Simulation",
    "choose",
    "draw_types",
    "laplace_log_ratio",
    "laplace_scale",
    "round_menu",
    "simulate",
    "whole_records",
]

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
Draw = Callable[[np.random.Generator, int], Array]

NULL = -1
"""Index of the null contract: no data, no payment."""

TIE = 1e-10
"""Utilities that differ by less than this share of the largest payment are ties: the incentive constraints of
an optimal menu bind exactly, and rounding must not decide."""

SAME = 1e-9
"""Contracts whose entries differ by less than this share of the menu's largest are one contract."""

_TABLE_ENTRIES = 1 << 22


class Release(Protocol):
    """A private release of the mean of a fixed number of records in [0, 1].

    Attributes
    ----------
    scale : float
        Scale b of the Laplace noise, in units of the mean.
    loss : float
        Privacy loss (nats) that the library which adds the noise accounts for when one record changes.
    """

    @property
    def scale(self) -> float:
        """Scale of the noise."""

    @property
    def loss(self) -> float:
        """Privacy loss when one record changes."""

    def __call__(self, records: Array) -> float:
        """Return the mean of the records with noise."""


# ------------------------------------------------------------ choice


def choose(menu: Any, eps: ArrayLike, unit_cost: float) -> Indices:
    r"""Let holders choose the contract that leaves them most, or none.

    .. math:: \arg\max_j \; \gamma_j - c \varepsilon q_j, \qquad \text{or } 0 \text{ for the null contract}

    Parameters
    ----------
    menu : mapping with ``quantity`` and ``payment``, each of shape (n_contracts,)
        The published contracts (records; utility).
    eps : array_like, shape (n_holders,)
        Privacy levels (nats), > 0; on the menu's grid of types or anywhere else.
    unit_cost : float
        Cost c (utility per nat and record), > 0.

    Returns
    -------
    ndarray of int, shape (n_holders,)
        Index of the chosen contract, or -1 for none. Between contracts that leave the same (to 1e-10 of the
        largest payment) a holder takes the larger quantity, then the larger payment, then the earlier one. A
        contract of no data and no payment counts as none.

    Examples
    --------
    >>> menu = {"quantity": [5.0, 3.0], "payment": [8.0, 6.0]}
    >>> choose(menu, [0.5, 1.0, 1.5, 2.0, 2.5], unit_cost=1.0).tolist()
    [0, 0, 1, 1, -1]
    """
    quantity, payment = _read(menu)
    levels = checks.vector(eps, "eps")
    checks.all_finite(levels, "eps")
    unit_cost = checks.positive(unit_cost, "unit_cost")
    tolerance = TIE * float(np.max(np.abs(payment)))
    index = np.append(np.arange(quantity.size), NULL)
    quantity, payment = np.append(quantity, 0.0), np.append(payment, 0.0)
    index[(quantity == 0) & (np.abs(payment) <= tolerance)] = NULL
    # In order of preference between equals, so that the first contract that is nearly the best is taken.
    order = np.lexsort((np.arange(quantity.size), -payment, -quantity))
    choice = np.empty(levels.size, dtype=np.intp)
    n_rows = max(1, _TABLE_ENTRIES // quantity.size)
    for start in range(0, levels.size, n_rows):
        rows = slice(start, start + n_rows)
        utility = menus.utility_matrix(levels[rows], quantity[order], payment[order], unit_cost)
        best = utility.max(axis=1, keepdims=True)
        choice[rows] = index[order[np.argmax(utility >= best - tolerance, axis=1)]]
    return choice


def draw_types(contract: ScreeningContract, n_holders: int, rng: np.random.Generator) -> Array:
    """Draw privacy levels from a contract's types and probabilities.

    Returns
    -------
    ndarray, shape (n_holders,)
        Privacy levels (nats).
    """
    return rng.choice(contract.types, size=n_holders, p=contract.probs / contract.probs.sum())


@dataclass(frozen=True, eq=False)
class Simulation:
    """What simulated holders did with a menu, one entry a holder; arrays have shape (n_holders,).

    Attributes
    ----------
    eps : array
        Privacy levels (nats).
    intended : array of int
        Contract meant for each: that of the next type at or above its level, -1 (none) above the last type.
    choice : array of int
        Contract that each chose, -1 for none.
    quantity, payment : array
        Data delivered (records) and payment received (utility); 0 without a contract.
    rent : array
        Payment less cost (utility).
    utility : array
        The demander's gain less payment (utility).
    truthful : array of bool
        Whether the chosen contract is the intended one. Contracts are compared, not indices: types that are
        pooled have one contract under several indices.
    """

    eps: Array
    intended: Indices
    choice: Indices
    quantity: Array
    payment: Array
    rent: Array
    utility: Array
    truthful: NDArray[np.bool_]

    def __post_init__(self) -> None:
        for array in vars(self).values():
            array.setflags(write=False)

    @property
    def n_holders(self) -> int:
        """Number of holders."""
        return int(self.eps.size)

    @property
    def truthful_share(self) -> float:
        """Share of holders that took the contract meant for them."""
        return float(self.truthful.mean())

    @property
    def took_null(self) -> NDArray[np.bool_]:
        """Who took no contract, shape (n_holders,)."""
        return np.equal(self.choice, NULL)

    @property
    def mean_utility(self) -> float:
        """The demander's mean utility per holder."""
        return float(self.utility.mean())

    @property
    def standard_error(self) -> float:
        """Standard error of `mean_utility`."""
        return float(self.utility.std(ddof=1) / np.sqrt(self.n_holders))

    def to_frame(self) -> pd.DataFrame:
        """Return one row a holder."""
        import pandas as pd

        return pd.DataFrame(vars(self))


def simulate(
    contract: ScreeningContract,
    menu: Any,
    n_holders: int,
    rng: np.random.Generator | int,
    *,
    draw: Draw | None = None,
) -> Simulation:
    """Publish a menu to holders drawn at random, and let them choose and be paid.

    Parameters
    ----------
    contract : ScreeningContract
        Types, gain and cost.
    menu : mapping with ``quantity`` and ``payment``, each of shape (n_types,)
        The published menu; usually ``contract.solve()``.
    n_holders : int
        Number of holders, >= 2, independent of each other.
    rng : numpy.random.Generator or int
        Source of randomness, or its seed.
    draw : callable, optional
        ``draw(rng, n_holders)`` returns privacy levels (nats), e.g. from a continuum. Default: the contract's
        own types and probabilities.

    Returns
    -------
    Simulation

    Raises
    ------
    InvalidInput
        If the menu or an argument breaks its rule.

    References
    ----------
    Contract paper, Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> contract = ScreeningContract(types=np.linspace(0.05, 0.2, 4))
    >>> found = simulate(contract, contract.solve(), 1000, rng=1)
    >>> found.truthful_share, bool(found.took_null.any())
    (1.0, False)
    """
    quantity, payment = _read(menu)
    if quantity.size != contract.n_types:
        raise InvalidInput(f"menu has {quantity.size} contracts for {contract.n_types} types")
    n_holders = checks.count(n_holders, "n_holders", 2)
    rng = np.random.default_rng(rng)
    eps = checks.vector(
        draw_types(contract, n_holders, rng) if draw is None else draw(rng, n_holders), "draw"
    )
    if eps.size != n_holders or not eps.min() > 0:
        raise InvalidInput(f"draw must return {n_holders} privacy levels > 0")
    # What a contract costs a holder is its burden, which rises with the quantity.
    burden = np.append(contract.burden(quantity), 0.0)
    choice = choose({"quantity": burden[:-1], "payment": payment}, eps, contract.unit_cost)
    intended = np.searchsorted(contract.types, eps)
    intended = np.where(intended == contract.n_types, NULL, intended)
    # The null contract is the last entry, which is where the index -1 leads.
    amounts, payments = np.append(quantity, 0.0), np.append(payment, 0.0)
    truthful = np.ones(n_holders, dtype=bool)
    for entries in (amounts, payments):
        truthful &= np.abs(entries[choice] - entries[intended]) <= SAME * np.abs(entries).max()
    quantity, payment = amounts[choice], payments[choice]
    return Simulation(
        eps=eps,
        intended=intended,
        choice=choice,
        quantity=quantity,
        payment=payment,
        rent=payment - contract.unit_cost * eps * burden[choice],
        utility=np.asarray(contract.gain(eps * quantity)) - payment,
        truthful=truthful,
    )


# ------------------------------------------------------------ whole records


def whole_records(quantity: ArrayLike) -> NDArray[np.int64]:
    """Round quantities to whole records; who trades at all delivers at least one.

    Examples
    --------
    >>> whole_records([241.52, 0.2, 0.0]).tolist()
    [242, 1, 0]
    """
    amounts = np.asarray(quantity, dtype=np.float64)
    trades = amounts > SAME * np.max(amounts, initial=0.0)
    return np.where(trades, np.maximum(np.rint(amounts), 1.0), 0.0).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Rounding:
    r"""What whole records do to a menu.

    Attributes
    ----------
    records : array of int, shape (n_types,)
        Whole records of each contract.
    ic_violation, ir_violation : float
        The most that a type gains by taking another's contract, or none, if the quantities are rounded and
        the payments left as they are (utility).
    ic_bound : float
        What neither can exceed if the menu kept both constraints: with rounding errors
        :math:`e_k`, :math:`\max_{k, j} c \delta_k (|e_k| + |e_j|)` (utility).
    payment : array, shape (n_types,)
        The least payments, eq. (41), that make the rounded quantities incentive compatible again (utility).
    objective : float
        The demander's expected utility per holder with these.
    """

    records: NDArray[np.int64]
    ic_violation: float
    ir_violation: float
    ic_bound: float
    payment: Array
    objective: float


def round_menu(contract: ScreeningContract, menu: Any) -> Rounding:
    """Round a menu to whole records, and tell what that does to incentives.

    Parameters
    ----------
    contract : ScreeningContract
    menu : mapping with ``quantity`` and ``payment``, each of shape (n_types,)

    Returns
    -------
    Rounding

    Examples
    --------
    >>> import numpy as np
    >>> contract = ScreeningContract(types=np.linspace(0.05, 0.2, 4))
    >>> rounded = round_menu(contract, contract.solve())
    >>> rounded.records.tolist(), 0 < rounded.ic_violation < rounded.ic_bound
    ([1990, 662, 397, 283], True)
    """
    quantity, payment = _read(menu)
    records = whole_records(quantity)
    burden = contract.burden(records)
    error = np.abs(burden - contract.burden(quantity))
    cost = contract.unit_cost * contract.types
    audit = contract.audit({"quantity": records, "payment": payment})
    exact = menus.payments(contract.types, burden, contract.unit_cost)
    value = contract.probs @ (np.asarray(contract.gain(contract.types * records)) - exact)
    return Rounding(
        records=records,
        ic_violation=audit.ic_violation,
        ir_violation=audit.ir_violation,
        ic_bound=float(np.max(cost * (error + error.max()))),
        payment=exact,
        objective=float(value),
    )


# ------------------------------------------------------------ privacy


def laplace_scale(n_records: int, eps: float) -> float:
    r"""Compute the scale of Laplace noise that makes the mean of records in [0, 1] private.

    .. math:: b = \frac{1}{q \varepsilon}

    Parameters
    ----------
    n_records : int
        Number of records q, >= 1, which is no secret.
    eps : float
        Privacy level ε (nats), > 0, for data sets that differ in one record.

    Returns
    -------
    float
        Scale b, in units of the mean.

    Examples
    --------
    >>> laplace_scale(100, 0.5)
    0.02
    """
    return 1.0 / (checks.count(n_records, "n_records") * checks.positive(eps, "eps"))


def laplace_log_ratio(
    release: ArrayLike, records: ArrayLike, neighbour: ArrayLike, scale: float
) -> NDArray[np.float64]:
    r"""Log ratio of the densities of a release under two data sets, exactly.

    .. math:: \log \frac{p(y \mid D)}{p(y \mid D')} = \frac{|y - \bar x'| - |y - \bar x|}{b}

    The release is ε-differentially private if that is at most ε for every y and all D, D' that differ in one
    record. Between a record of 0 and one of 1, and with y below or above both means, it is ±1 / (q b).

    Parameters
    ----------
    release : array_like, any shape
        Released values y.
    records, neighbour : array_like, shape (n_records,)
        The two data sets D and D', in [0, 1].
    scale : float
        Scale b of the noise, in units of the mean, > 0.

    Returns
    -------
    ndarray, shape of ``release``
        Log ratios (nats).

    Examples
    --------
    >>> laplace_log_ratio([-1.0, 2.0], [0.0, 0.4], [1.0, 0.4], laplace_scale(2, 0.3)).round(12).tolist()
    [0.3, -0.3]
    """
    first, second = checks.vector(records, "records"), checks.vector(neighbour, "neighbour")
    if not first.size or first.shape != second.shape:
        raise InvalidInput(
            f"records and neighbour must have the same number of entries, >= 1; got {first.size} and "
            f"{second.size} (the number of records is no secret)"
        )
    for name, array in (("records", first), ("neighbour", second)):
        if not (array.min() >= 0 and array.max() <= 1):
            raise InvalidInput(f"{name} must lie in [0, 1]; scale them by public bounds")
    scale = checks.positive(scale, "scale")
    # Not the difference of two means: where one record changes, this has all its digits.
    shift = float(np.sum(second - first)) / first.size
    above = np.asarray(release, dtype=np.float64) - first.mean()
    # |above - shift| - |above|, without the difference of two numbers that are nearly equal.
    nearer = np.clip(np.sign(shift) * (shift - 2 * above), -abs(shift), abs(shift))
    return np.asarray(nearer / scale)


def _read(menu: Any) -> tuple[Array, Array]:
    arrays = []
    for name in ("quantity", "payment"):
        try:
            value = menu[name] if hasattr(menu, "__getitem__") else getattr(menu, name)
        except (KeyError, IndexError, TypeError, AttributeError):
            raise InvalidInput(
                f"a menu needs {name!r}, one entry a contract; got {type(menu).__name__}"
            ) from None
        array = checks.vector(value, f"menu {name}")
        checks.all_finite(array, f"menu {name}")
        arrays.append(array)
    if not arrays[0].size or arrays[0].size != arrays[1].size:
        raise InvalidInput(f"menu has {arrays[0].size} quantities and {arrays[1].size} payments; pair them")
    return arrays[0], arrays[1]
