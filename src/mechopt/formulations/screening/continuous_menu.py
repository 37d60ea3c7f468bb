"""The optimal menu for a continuum of types, and whether the formula gives it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations import checks, menus
from mechopt.formulations.screening.model import ScreeningContract
from mechopt.formulations.screening.quadrature import (
    WEIGHTS,
    TailIntegral,
    expectation_weights,
    panel_nodes,
    panels,
)
from mechopt.solvers.errors import NotApplicable
from mechopt.verification.audit import Audit, audit_choices

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from mechopt.formulations.screening.continuous import ContinuousContract

FloatArray = NDArray[np.float64]


class Pool(NamedTuple):
    """An interval of types that share one contract."""

    start: float
    stop: float
    quantity: float


@dataclass(frozen=True, eq=False)
class ContinuousForm:
    """Whether the formula, eq. (29) clipped at 0, is the optimal menu.

    Attributes
    ----------
    contract : ContinuousContract
        The contract.
    valid : bool
        Whether the clipped formula is optimal: exactly if it never rises.
    reason_code : {"", "negative", "non_monotone", "unbounded"}
        What is not as in eq. (29). ``"negative"`` is harmless: high types are excluded.
    reason : str
        The same in a sentence; empty if nothing is.
    witness : tuple of float or None
        Two types, low and high, of which the formula gives the higher one more. Of all pairs on the search
        grid, the one with the largest rise.
    """

    contract: ContinuousContract
    valid: bool
    reason_code: str
    reason: str
    witness: tuple[float, float] | None

    def quantity(self, eps: ArrayLike) -> FloatArray:
        """Quantities of the clipped formula (records), valid or not."""
        return self.contract.formula_quantity(eps)

    def require(self) -> ContinuousForm:
        """Return this form if it is valid.

        Raises
        ------
        NotApplicable
            If the formula does not give the optimal menu.
        """
        if not self.valid:
            raise NotApplicable(f"the closed form does not apply: {self.reason}", reason=self.reason)
        return self


@dataclass(frozen=True, eq=False)
class ContinuousMenu:
    """The optimal menu for a continuum of types.

    Quantities are exact up to rounding (relative 1e-12 or so in pools, whose ends are roots of an integral);
    rents, payments and expectations are integrated to about 1e-13 of their largest value.

    Attributes
    ----------
    contract : ContinuousContract
        The contract that it solves.
    cutoff : float
        Types above it (nats) get nothing; ``hi`` if nobody is excluded, ``lo`` if nobody trades.
    pools : tuple of Pool
        Intervals of types that ironing gave one contract, in increasing order; null contract not included.
    regular : bool
        Whether the formula held everywhere, so that nothing had to be ironed.
    objective : float
        Expected utility of the demander per holder.
    expected_payment, expected_rent : float
        Per holder (utility).
    expected_quantity : float
        Per holder (records).
    """

    contract: ContinuousContract
    cutoff: float
    pools: tuple[Pool, ...]
    regular: bool
    objective: float = field(init=False)
    expected_payment: float = field(init=False)
    expected_rent: float = field(init=False)
    expected_quantity: float = field(init=False)
    _rent: TailIntegral = field(init=False, repr=False)

    def __post_init__(self) -> None:
        surplus, cost, rent, quantity = panels(self._expectations, self._edges)[2].sum(axis=0).tolist()
        for name, value in {
            "objective": surplus - rent,
            "expected_payment": cost + rent,
            "expected_rent": rent,
            "expected_quantity": quantity,
            "_rent": TailIntegral(self._rents, self._edges),
        }.items():
            object.__setattr__(self, name, value)

    def quantity(self, eps: ArrayLike) -> FloatArray:
        """Compute the quantity of each type.

        Parameters
        ----------
        eps : array_like
            Privacy levels (nats) in [lo, hi], any shape.

        Returns
        -------
        ndarray, shape of ``eps``
            Quantities (records), non-increasing in ``eps``, >= 0.
        """
        return self._quantity(self.contract._levels(eps))[()]

    def rent(self, eps: ArrayLike) -> FloatArray:
        r"""Compute the information rent of each type.

        .. math:: u(\varepsilon) = c \int_\varepsilon^{hi} q

        Parameters
        ----------
        eps : array_like
            Privacy levels (nats) in [lo, hi], any shape.

        Returns
        -------
        ndarray, shape of ``eps``
            Rents (utility), non-increasing in ``eps``, >= 0.
        """
        return self._rent(self.contract._levels(eps))[()]

    def payment(self, eps: ArrayLike) -> FloatArray:
        r"""Compute the payment to each type.

        .. math:: \gamma(\varepsilon) = c \varepsilon q(\varepsilon) + u(\varepsilon)

        Parameters
        ----------
        eps : array_like
            Privacy levels (nats) in [lo, hi], any shape.

        Returns
        -------
        ndarray, shape of ``eps``
            Payments (utility), non-increasing in ``eps``, >= 0.
        """
        levels = self.contract._levels(eps)
        payment: FloatArray = self.contract.unit_cost * levels * self._quantity(levels) + self._rent(levels)
        return payment[()]

    def ironing_multiplier(self, eps: ArrayLike) -> FloatArray:
        r"""Compute the price of monotonicity, which certifies that the menu is optimal.

        .. math:: \mu(\varepsilon) = -\int_{lo}^{\varepsilon} D(t, q(t)) \, dt

        with D the expected utility of one more record from type t. The problem is concave, so quantities that
        never rise are optimal if and only if μ >= 0 everywhere and μ = 0 wherever they fall.

        Parameters
        ----------
        eps : array_like
            Privacy levels (nats) in [lo, hi], any shape.

        Returns
        -------
        ndarray, shape of ``eps``
            Prices (utility per record): 0 outside pools and up to the cutoff.
        """
        levels = self.contract._levels(eps)
        price = np.zeros(levels.shape)
        for (start, stop, level), tail in zip(self._shared, self._marginals, strict=True):
            where = (levels > start) & (levels <= stop)
            # Within a pool all sums to 0; the excluded types have no such condition at their upper end.
            rest = 0.0 if level > 0 else float(tail(np.asarray(start)))
            price[where] = tail(levels[where]) - rest
        return price[()]

    def audit(self, n: int = 200) -> Audit:
        """Check incentives by the definition: ``n`` types and more choose among each other's contracts.

        Parameters
        ----------
        n : int
            Number of types, evenly spaced on [lo, hi]; the cutoff and the ends of pools are added.

        Returns
        -------
        Audit
            Indices refer to these types in increasing order.
        """
        contract = self.contract
        eps = np.union1d(np.linspace(contract.lo, contract.hi, checks.count(n, "n")), self._kinks)
        payment = self.payment(eps)
        table = menus.utility_matrix(eps, self.quantity(eps), payment, contract.unit_cost)
        return audit_choices(table, scale=float(payment.max()) or None)

    def to_frame(self, n: int = 201) -> pd.DataFrame:
        """Return a table of ``n`` evenly spaced types: ``eps``, ``quantity``, ``payment``, ``rent``."""
        import pandas as pd

        eps = np.linspace(self.contract.lo, self.contract.hi, checks.count(n, "n"))
        columns = {"quantity": self.quantity(eps), "payment": self.payment(eps), "rent": self.rent(eps)}
        return pd.DataFrame({"eps": eps, **columns})

    def plot(self, kind: str = "menu", *, discrete: ScreeningContract | None = None) -> Figure:
        """Draw the menu against the types, or how fast the menus of grids approach it.

        Parameters
        ----------
        kind : {"menu", "rents", "convergence"}
            Quantities and payments; rents beside virtual and true cost; or errors of the value and of the
            payments of grid menus, against their number of types.
        discrete : ScreeningContract, optional
            A contract such as ``menu.contract.discretize(10)``, whose own menu is drawn over it as markers.
        """
        from mechopt.formulations.screening import figures

        return figures.plot_continuous(self, kind, discrete=discrete)

    @property
    def _kinks(self) -> FloatArray:
        ends = [end for pool in self.pools for end in pool[:2]]
        return np.unique([self.contract.lo, *ends, self.cutoff, self.contract.hi])

    @property
    def _edges(self) -> FloatArray:
        """Ends of the first panels: where the formula changes, and a coarse grid that knows the types."""
        return np.union1d(self._kinks, self.contract._scan.coarse)

    def _quantity(self, eps: FloatArray) -> FloatArray:
        quantity, scan = np.array(self.contract._formula(eps)), self.contract._scan
        # A density that is infinite at hi lifts the formula there, behind the last node: a pool of no width.
        np.minimum(quantity, scan.target[-1], out=quantity, where=eps > scan.nodes[-1])
        for start, stop, level in self.pools:
            # Not only inside: where the density jumps at an end, rounding must not let a type slip through.
            np.maximum(quantity, level, out=quantity, where=eps <= stop)
            np.minimum(quantity, level, out=quantity, where=eps >= start)
        return np.where(eps <= self.cutoff, quantity, 0.0)

    def _rents(self, left: FloatArray, right: FloatArray) -> FloatArray:
        quantity = self._quantity(panel_nodes(left, right))
        return np.asarray((self.contract.unit_cost * (right - left) * (quantity @ WEIGHTS))[:, None])

    def _expectations(self, left: FloatArray, right: FloatArray) -> FloatArray:
        """Integrate surplus, cost, rent and quantity over the types in each panel."""
        contract, nodes = self.contract, panel_nodes(left, right)
        weights = expectation_weights(contract._law, left, right, nodes)
        quantity = self._quantity(nodes)
        amount = nodes * quantity
        cost = contract.unit_cost * np.sum(weights * amount, axis=1)
        gain = np.sum(weights * contract.gain(amount), axis=1)
        # E[u] = c ∫ q F by parts: a record from type ε is paid as rent to all types below.
        below = contract._law.cdf(nodes)
        rent = contract.unit_cost * (right - left) * ((quantity * below) @ WEIGHTS)
        return np.stack((gain - cost, cost, rent, np.sum(weights * quantity, axis=1)), axis=1)

    @property
    def _shared(self) -> tuple[Pool, ...]:
        """Pools, and the excluded types as one more."""
        hi = self.contract.hi
        return self.pools + ((Pool(self.cutoff, hi, 0.0),) if self.cutoff < hi else ())

    @cached_property
    def _marginals(self) -> list[TailIntegral]:
        return [self.contract._marginal_tail(*pool) for pool in self._shared]
