"""The study: publish the menu, let holders choose, add noise, share, pay."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations import figures, menus
from mechopt.formulations.screening import ScreeningContract
from mechopt.formulations.screening.simulation import (
    Rounding,
    Simulation,
    laplace_scale,
    round_menu,
    simulate,
)
from mechopt.solvers.errors import InvalidInput
from mechopt.studies.private_mean.checks import (
    average,
    choice_checks,
    continuous_checks,
    noise_checks,
    privacy_checks,
    rounding_checks,
)
from mechopt.studies.private_mean.figures import draw_releases
from mechopt.studies.private_mean.releases import Build, OpenDPMean, Population, Releases, release_means
from mechopt.studies.private_mean.scenario import LIBRARIES, MOST_RECORDS, PrivateMean
from mechopt.studies.report import print_plain, show_checks
from mechopt.studies.run import Check, Progress, plain, write_csv

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PrivateMeanReport:
    """What the study found.

    Attributes
    ----------
    scenario : PrivateMean
    contract : ScreeningContract
        The market, on its grid of types.
    menu : mapping
        The published menu.
    population : Population
    found : Simulation
        What the holders chose and got.
    releases : Releases
    rounding : Rounding
        What whole records do to the menu.
    value : float
        The optimum's expected utility per holder.
    checks : tuple of Check
    types : tuple of dict
        One record a type, as in ``holders.csv``.
    """

    scenario: PrivateMean
    contract: ScreeningContract
    menu: Any
    population: Population
    found: Simulation
    releases: Releases
    rounding: Rounding
    value: float
    checks: tuple[Check, ...]
    types: tuple[dict[str, Any], ...]

    @property
    def agreement(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def show(self, console: Console) -> None:
        """Print the checks and what else a reader must know."""
        console.print(self.scenario.title, style="bold", markup=False, highlight=False)
        show_checks(self.checks, console)
        for note in self.notes():
            print_plain(console, note, "dim")

    def notes(self) -> list[str]:
        """Sentences that the numbers must not be read without."""
        data, records, rounding = self.scenario.data, self.rounding.records, self.rounding
        return [
            f"data: {data.column} of {data.dataset}, {self.population.records.size} records scaled to [0, 1] "
            f"by the public bounds {data.bounds[0]:g} and {data.bounds[1]:g} ({self.population.n_clipped} "
            f"beyond them); each holder's {records[records > 0].min()} to {records.max()} records are drawn "
            "with replacement.",
            f"whole records: with payments as published a type gains up to {rounding.ic_violation:.3g} by "
            f"taking another's contract and loses up to {rounding.ir_violation:.3g} by taking part; payments "
            f"made for whole records restore both, and are worth {rounding.objective:.8g} a holder to the "
            f"demander instead of {self.value:.8g}.",
            "privacy levels are the holders' own and not verified: the menu makes them choose truthfully; it "
            "cannot make them add the noise that they promised.",
        ]

    def write(self, folder: Path) -> list[Path]:
        """Write checks, types, the full record and the figure into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / "checks.csv", folder / "holders.csv", folder / "result.json"]
        write_csv(files[0], [check.record() for check in self.checks])
        write_csv(files[1], self.types)
        record = json.dumps(plain(self.record()), indent=2, allow_nan=False)
        files[2].write_text(record + "\n", encoding="utf-8")
        return [*files, *figures.save(self.figure(), folder, "utility_against_privacy")]

    def record(self) -> dict[str, Any]:
        """Plain record for JSON."""
        return {
            "title": self.scenario.title,
            "mechanism": self.scenario.mechanism,
            "scenario": self.scenario.model_dump(),
            "libraries": {name: version(name) for name in LIBRARIES.values()},
            "agreement": self.agreement,
            "checks": [check.record() for check in self.checks],
            "value": self.value,
            "mean_utility": self.found.mean_utility,
            "standard_error": self.found.standard_error,
            "population": {
                "n_records": self.population.records.size,
                "n_clipped": self.population.n_clipped,
                "mean": self.population.mean,
                "variance": self.population.moments[0],
            },
            "whole_records": dict(vars(self.rounding)),
            "types": list(self.types),
            "notes": self.notes(),
        }

    def figure(self) -> Figure:
        """Draw utility against privacy: what holders get, what the demander gets, and how accurate it is."""
        return draw_releases(self)


def run_private_mean(
    scenario: PrivateMean,
    folder: Path,
    *,
    progress: Progress = lambda *_: None,
    menu: Any = None,
    build: Build = OpenDPMean,
) -> PrivateMeanReport:
    """Publish a menu, let holders choose, add noise, share and be paid, and check it all.

    Parameters
    ----------
    scenario : PrivateMean
    folder : Path
        What the scenario's own paths are relative to; it has none.
    progress : callable
        Called as ``progress(step, number, total)`` before each step.
    menu : mapping with ``quantity`` and ``payment``, each of shape (n_types,), optional
        What to publish instead of the optimal menu.
    build : callable
        ``build(n_records, eps)`` makes the private release; by default OpenDP's.

    Returns
    -------
    PrivateMeanReport

    Raises
    ------
    BackendUnavailable
        If OpenDP or scikit-learn is not installed.
    InvalidInput
        If a parameter breaks its rule, or nobody trades under the parameters.

    References
    ----------
    Contract paper, Algorithm 1.
    """
    scenario.check_ready()
    n_steps = scenario.parameters.types.count + 3
    progress("publish", 0, n_steps)
    continuous = scenario.parameters.build()
    contract = continuous.discretize(scenario.parameters.types.count)
    population = scenario.data.load()
    menu = contract.solve() if menu is None else menu
    rounding = round_menu(contract, menu)
    if not rounding.records.any():
        raise InvalidInput("nobody trades under these parameters: raise parameters.gain or lower unit_cost")
    if rounding.records.max() > MOST_RECORDS:
        raise InvalidInput(
            f"a contract asks for {rounding.records.max()} records, more than {MOST_RECORDS}: raise "
            "parameters.types.lo, or lower the weight of the gain"
        )
    rng = np.random.default_rng(scenario.seed)
    progress("choose", 1, n_steps)
    found = simulate(contract, menu, scenario.n_holders, rng)
    releases = release_means(
        contract,
        found,
        rounding.records,
        population,
        rng,
        build,
        lambda k: progress(f"add noise, share: type {k + 1}", 2 + k, n_steps),
    )
    progress("pay, check", n_steps - 1, n_steps)
    form = contract.closed_form()
    best = contract.solve()
    value = form.objective if form.valid else best.objective
    # The rents of theorem 3 come from quantities alone, and not from what was paid.
    quantity = form.quantity if form.valid else best["quantity"]
    rent = menus.rents(contract.types, quantity, contract.unit_cost)
    checks = (
        *choice_checks(contract, menu, found, value, rent, rng),
        *privacy_checks(contract, releases),
        *noise_checks(contract, found, releases, population),
        *continuous_checks(scenario, continuous, contract, menu, rng),
        *rounding_checks(contract, rounding),
    )
    types = tuple(_type_records(contract, menu, found, releases, rounding, population, quantity, rent))
    return PrivateMeanReport(
        scenario, contract, menu, population, found, releases, rounding, value, checks, types
    )


def _type_records(
    contract: ScreeningContract,
    menu: Any,
    found: Simulation,
    releases: Releases,
    rounding: Rounding,
    population: Population,
    quantity: Array,
    rent: Array,
) -> list[dict[str, Any]]:
    """One record a type: theory beside what its holders did."""
    kind = np.searchsorted(contract.types, found.eps)
    released = kind[releases.holder]
    payment = rent + contract.unit_cost * contract.types * quantity
    utility = np.asarray(contract.gain(contract.types * quantity)) - payment
    rows = []
    for k, eps in enumerate(contract.types.tolist()):
        holders, own = kind == k, released == k
        n_records = int(rounding.records[k])
        noise = 2 * laplace_scale(n_records, eps) ** 2 if n_records else np.nan
        sampling = population.moments[0] / n_records if n_records else np.nan
        loss, ratio = releases.accounts.get(k, (np.nan, np.nan))
        rows.append(
            {
                "type": eps,
                "probability": contract.probs[k],
                "holders": int(holders.sum()),
                "truthful_share": average(found.truthful[holders]),
                "null_share": average(found.took_null[holders]),
                "quantity": float(menu["quantity"][k]),
                "records": n_records,
                "payment": average(found.payment[holders]),
                "payment_theory": payment[k],
                "rent": average(found.rent[holders]),
                "rent_theory": rent[k],
                "demander_utility": average(found.utility[holders]),
                "demander_utility_theory": utility[k],
                "noise_mse": average(releases.noise[own] ** 2),
                "noise_mse_theory": noise,
                "release_mse": average(releases.error[own] ** 2),
                "release_mse_theory": noise + sampling,
                "opendp_loss": loss,
                "log_density_ratio": ratio,
            }
        )
    return rows
