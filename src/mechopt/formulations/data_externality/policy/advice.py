"""Whether to shut a data market down, and what would do better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mechopt.formulations.data_externality.duopoly import printed_surplus_bound
from mechopt.formulations.data_externality.duopoly.welfare import best_for_sets
from mechopt.formulations.data_externality.exact import platform_optimum
from mechopt.formulations.data_externality.policy.release import mediator_surplus
from mechopt.formulations.data_externality.policy.surplus import MOST_TABLED, efficient_sharing, rounding
from mechopt.formulations.data_externality.policy.tax import uniform_shutdown_tax
from mechopt.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from mechopt.formulations.data_externality.model import DataExternality

Market = Literal["monopoly", "duopoly"]

MOST_JOINING = 12
"""Users up to which every set that may have joined is solved for what is best for all."""

MOST_MIXED = 14
"""Users up to which the mixed equilibrium is computed, and not sampled."""

MOST_TAXED = 40
"""Users up to which the rate of a tax that stops all trade is computed."""

SURE = 3.0
"""Standard errors from 0 at which the sign of a sampled surplus counts as known."""


@dataclass(frozen=True)
class ShutdownAdvice:
    """Whether a data market is worse than none, and what is better than either.

    Attributes
    ----------
    market : {"monopoly", "duopoly"}
        One platform that all join, or two that each user joins with probability 1/2.
    data_surplus : float
        Surplus of the market's equilibrium from data alone (money). Users keep the platforms' services
        without it; with services in the sum it could not be negative where they are worth more than what
        leaks.
    standard_error : float
        Of the data surplus, if it was sampled; 0 otherwise.
    shut : bool or None
        Whether no data trade at all is better; None if sampling does not tell.
    shutdown_tax : float or None
        Tax on each user's sharing from which nothing is bought (money); None for many users.
    taxed_surplus : float or None
        Surplus if each platform is taxed by the loss that nobody is paid for (money); None for many users.
    mediator_surplus : float
        Surplus with a mediator who holds all data (money), and passes the same on to both platforms of a
        duopoly.
    no_leak_surplus : float
        The same, if nothing may leak about users with a value of privacy above 1 (money).
    printed_bound : float or None
        Theorem 4's (7's) bound as printed (money), for a duopoly; negative, it would advise to shut the
        market.
    """

    market: Market
    data_surplus: float
    standard_error: float
    shut: bool | None
    shutdown_tax: float | None
    taxed_surplus: float | None
    mediator_surplus: float
    no_leak_surplus: float
    printed_bound: float | None

    @property
    def printed_bound_misleads(self) -> bool:
        """Whether the printed bound would have a market shut that does good."""
        return self.printed_bound is not None and self.printed_bound < 0 and self.shut is False

    def __str__(self) -> str:
        about = f"The {self.market}'s data trade has a surplus of {self.data_surplus:.6g}"
        if self.standard_error:
            about += f" (sampled, standard error {self.standard_error:.2g})"
        verdict = {
            True: "it does harm: no data trade would be better",
            False: "it does not do harm: do not shut it",
            None: "whether it does harm cannot be told from the sample; draw more",
        }[self.shut]
        told = f"{about}; {verdict}."
        if self.shut and self.shutdown_tax is not None:
            told += f" A tax of {self.shutdown_tax:.6g} for each user who shares ends it."
        told += f" A mediator who holds all data would reach {self.mediator_surplus:.6g}"
        told += f", or {self.no_leak_surplus:.6g} with no leak about users of high value"
        if self.taxed_surplus is not None:
            told += f"; taxes on what platforms buy {self.taxed_surplus:.6g}"
        told += "."
        if self.printed_bound_misleads:
            told += (
                f" (Theorem 4 as printed bounds the surplus by {self.printed_bound:.6g} and would have it "
                "shut; that bound is wrong here.)"
            )
        return told


def should_shut(
    x: DataExternality, market: Market = "monopoly", *, n_draws: int = 2000, seed: int = 0
) -> ShutdownAdvice:
    """Say whether a data market should be shut down: whether its equilibrium has a negative data surplus.

    Parameters
    ----------
    x : DataExternality
    market : {"monopoly", "duopoly"}
        One platform that all join, or two platforms in the mixed equilibrium of Theorem 2.
    n_draws, seed : int
        For a duopoly with more than 14 users, whose surplus is estimated from random joining profiles.

    Returns
    -------
    ShutdownAdvice
        ``print`` it for a sentence.

    References
    ----------
    Pal et al., section VIII, recommendation R3; Theorems 4 and 7, as corrected.

    Examples
    --------
    >>> import mechopt as mo
    >>> model = mo.DataExternality([[1.0, 0.6, 0.2], [0.6, 1.0, 0.4], [0.2, 0.4, 1.0]], [0.5, 1.3, 3.0])
    >>> advice = should_shut(model)
    >>> advice.shut, round(advice.data_surplus, 6), round(advice.taxed_surplus, 6)
    (True, -0.057143, 0.156)
    """
    if market not in ("monopoly", "duopoly"):
        raise InvalidInput(f"market must be 'monopoly' or 'duopoly', got {market!r}")
    alone = market == "monopoly"
    surplus, error = _of_monopoly(x) if alone else _of_duopoly(x, n_draws, seed)
    shut: bool | None = surplus < -rounding(x)
    if error and abs(surplus) < SURE * error:
        shut = None
    # With two platforms the mediator passes the same on to both.
    channels = 1.0 if alone else 1.0 + x.spillover
    return ShutdownAdvice(
        market,
        surplus,
        error,
        shut,
        uniform_shutdown_tax(x) if x.n_users <= MOST_TAXED else None,
        _taxed_monopoly(x) if alone else _taxed_duopoly(x),
        channels * mediator_surplus(x),
        channels * mediator_surplus(x, no_leak=x.value_of_privacy > 1),
        None if alone else printed_surplus_bound(x),
    )


def _of_monopoly(x: DataExternality) -> tuple[float, float]:
    found = platform_optimum(x.scaled_covariance, x.value_of_privacy)
    return x.data_surplus(found.sharing), 0.0


def _of_duopoly(x: DataExternality, n_draws: int, seed: int) -> tuple[float, float]:
    game = x.duopoly()
    if x.n_users <= MOST_MIXED:
        return game.mixed_data_surplus, 0.0
    sample = game.sample_mixed(n_draws, seed)
    return sample.data_surplus, sample.data_error


def _taxed_monopoly(x: DataExternality) -> float | None:
    return x.data_surplus(efficient_sharing(x)) if x.n_users <= MOST_TABLED else None


def _taxed_duopoly(x: DataExternality) -> float | None:
    """Expected surplus if users mix, and each platform buys what is best for all."""
    n = x.n_users
    if n > MOST_JOINING:
        return None
    data, _, _ = best_for_sets(x)
    return float(data.sum() / 2 ** (n - 1))
