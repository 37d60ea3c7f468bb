"""The study: who sells in a real social graph, what leaks about the others, and what policies do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations import figures
from mechopt.formulations.data_externality.figures import plot_network
from mechopt.formulations.data_externality.model import DataExternality
from mechopt.formulations.data_externality.monopoly import Monopoly
from mechopt.formulations.data_externality.policy import (
    ShutdownAdvice,
    mediator_program,
    pigovian_tax,
    should_shut,
)
from mechopt.solvers.solution import Solution
from mechopt.studies.run import (
    BackendAnswer,
    Check,
    Progress,
    agreement_check,
    solve_everywhere,
    write_tables,
)
from mechopt.studies.social_network.checks import (
    best_for_all,
    market_checks,
    money_involved,
    network_checks,
    policy_checks,
)
from mechopt.studies.social_network.scenario import MOST_MEMBERS, Network, SocialNetwork
from mechopt.studies.social_network.tables import notes_of, show_tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

Array = NDArray[np.float64]

BACKENDS = "share of the backends whose mediator has the surplus of the formula, by the money involved"
"""What the check of the backends measures."""

N_STEPS = 6


@dataclass(frozen=True, eq=False)
class SocialReport:
    """What the study found.

    Attributes
    ----------
    scenario : SocialNetwork
    model : DataExternality
    groups : tuple of str
        Of the members.
    market : Monopoly
    tax : Solution
        The least taxes at which the platform buys what is best for all.
    mediator : Solution
        With nothing that leaks about members who value privacy above what the platform gains.
    advice : ShutdownAdvice
    answers : tuple of BackendAnswer
    skipped : dict of str to str
        Backends that were not run, and why.
    checks : tuple of Check
    """

    scenario: SocialNetwork
    model: DataExternality
    groups: tuple[str, ...]
    market: Monopoly
    tax: Solution
    mediator: Solution
    advice: ShutdownAdvice
    answers: tuple[BackendAnswer, ...]
    skipped: dict[str, str]
    checks: tuple[Check, ...]

    @property
    def agreement(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def members(self) -> list[dict[str, Any]]:
        """One record a member."""
        market, model = self.market, self.model
        return [
            {
                "member": name,
                "group": group,
                "value_of_privacy": float(model.value_of_privacy[i]),
                "shares": bool(market.sharing[i]),
                "price": float(market.prices[i]),
                "leaked": float(market.leaked_information[i]),
                "share_leaked": float(market.leaked_information[i] / model.variance[i]),
                "payoff": float(market.payoffs[i]),
                "tax": float(self.tax["tax"][i]),
                "leaked_with_tax": float(model.leaked_information(self.tax["sharing"])[i]),
                "leaked_with_mediator": float(self.mediator["leaked_information"][i]),
            }
            for i, (name, group) in enumerate(zip(self.scenario.network.names, self.groups, strict=True))
        ]

    def summary(self) -> list[dict[str, Any]]:
        """One record a group and whether its members share."""
        rows = self.members()
        found = []
        for group in dict.fromkeys(self.groups):
            for shares in (True, False):
                part = [row for row in rows if row["group"] == group and row["shares"] is shares]
                if part:
                    found.append(
                        {
                            "group": group,
                            "shares": shares,
                            "members": len(part),
                            **{
                                name: float(np.mean([row[name] for row in part]))
                                for name in ("value_of_privacy", "price", "share_leaked", "payoff")
                            },
                        }
                    )
        return found

    def arrangements(self) -> list[dict[str, Any]]:
        """One record an arrangement: sellers, what leaks in all, and the surplus."""
        model = self.model
        rows = []
        for name, sharing, leaked in (
            ("the market", self.market.sharing, self.market.leaked_information),
            ("least taxes", self.tax["sharing"] > 0, model.leaked_information(self.tax["sharing"])),
            ("mediator, no leak", None, self.mediator["leaked_information"]),
            ("no trade", np.zeros(model.n_users, dtype=bool), np.zeros(model.n_users)),
        ):
            rows.append(
                {
                    "arrangement": name,
                    "sellers": None if sharing is None else int(np.sum(sharing)),
                    "leaked": float(np.sum(leaked)),
                    "data_surplus": float((1 - model.value_of_privacy) @ leaked),
                }
            )
        return rows

    def show(self, console: Console) -> None:
        """Print tables, checks and what else a reader must know, on 80 columns."""
        show_tables(self, console)

    def notes(self) -> list[str]:
        """Sentences that the numbers must not be read without."""
        return notes_of(self)

    def write(self, folder: Path) -> list[Path]:
        """Write tables, the full record and the picture into a folder."""
        tables = {
            "checks": [check.record() for check in self.checks],
            "members": self.members(),
            "groups": self.summary(),
            "arrangements": self.arrangements(),
            "backends": [answer.record("data_surplus") for answer in self.answers],
        }
        files = write_tables(folder, tables, self.record())
        if self.model.n_users <= MOST_MEMBERS:
            files += figures.save(self.figure(), folder, "network")
        return files

    def record(self) -> dict[str, Any]:
        """Plain record for JSON."""
        return {
            "title": self.scenario.title,
            "mechanism": self.scenario.mechanism,
            "scenario": self.scenario.model_dump(),
            "libraries": {"networkx": version("networkx")},
            "agreement": self.agreement,
            "checks": [check.record() for check in self.checks],
            "profit": self.market.profit,
            "data_surplus": self.market.data_surplus,
            "members": self.members(),
            "groups": self.summary(),
            "arrangements": self.arrangements(),
            "advice": str(self.advice),
            "backends": [answer.record("data_surplus") for answer in self.answers],
            "skipped": self.skipped,
            "notes": self.notes(),
        }

    def figure(self) -> Figure:
        """Draw who sells, at what price, and what leaks about those who do not."""
        market = self.market
        return plot_network(
            self.model,
            {
                "sharing": market.sharing,
                "prices": market.prices,
                "leaked_information": market.leaked_information,
            },
            names=self.scenario.network.names,
            positions=_places(self.scenario.network),
        )


def _places(network: Network) -> Array:
    """Where to draw members: friends together, the same each time."""
    import networkx as nx

    places = nx.kamada_kawai_layout(network.source, weight=None)
    return np.array([places[node] for node in network.source])


def run_social_network(
    scenario: SocialNetwork, folder: Path, *, progress: Progress = lambda *_: None
) -> SocialReport:
    """Find what the platform buys and what leaks, what would be better, and check each.

    Parameters
    ----------
    scenario : SocialNetwork
    folder : Path
        What the scenario's own paths are relative to; it has none.
    progress : callable
        Called as ``progress(step, number, total)`` before each step.

    Returns
    -------
    SocialReport

    Raises
    ------
    BackendUnavailable
        If a backend asked for by name is not installed.
    InvalidInput
        If a parameter breaks its rule.

    References
    ----------
    Pal, Wang, Li, Liu, Crowcroft, Li and Tarkoma, "Social Data Trading is Privacy Welfare Damaging",
    Theorem 1 and section VIII.
    """
    draws, aims, types, tries = (
        np.random.default_rng(seed) for seed in np.random.SeedSequence(scenario.seed).spawn(4)
    )
    progress("network", 0, N_STEPS)
    groups = scenario.privacy.groups(scenario.network)
    model = DataExternality(scenario.network.covariance(), scenario.privacy.draw(scenario.network, draws))
    progress("market", 1, N_STEPS)
    market = model.monopoly()
    progress("policy", 2, N_STEPS)
    target = best_for_all(model, aims)
    tax = pigovian_tax(model, target)
    private = set(model.high_value.tolist())
    mediator = model.mediator(no_leak=private)
    advice = should_shut(model)
    barred = np.isin(np.arange(model.n_users), list(private))
    solutions, skipped = solve_everywhere(
        scenario,
        mediator_program(model, no_leak=barred),
        progress=lambda name, *_: progress(f"solve: {name}", 3, N_STEPS),
    )
    scale = money_involved(model)
    answers = tuple(
        BackendAnswer(
            name, answer, (mediator.objective - answer.objective) / scale if answer.values else math.nan
        )
        for name, answer in solutions.items()
    )
    progress("checks", 4, N_STEPS)
    checks = (
        *network_checks(scenario, model, market, types),
        *market_checks(model, market, tries),
        *policy_checks(model, tax, mediator, tries),
        agreement_check("6 backends agree", BACKENDS, answers, scenario.tolerance),
    )
    return SocialReport(scenario, model, groups, market, tax, mediator, advice, answers, skipped, checks)
