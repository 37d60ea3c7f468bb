"""Data externality on a real social graph: who sells, at what price, and what leaks about the others.

Types (opinions, habits) are correlated as a kernel of the graph says: friends are alike, friends of friends
less. A platform that buys some members' data learns about all of them, and pays only those who sell.

- The graphs are real and come with networkx. That types follow ties is the study's assumption, and so is what
  privacy is worth to whom.
- The regularised Laplacian kernel is that of a Gaussian field on the graph, in which a member's type depends
  on its neighbours' alone; its correlations are positive, so that what leaks has diminishing returns.
- Of more than twenty members the sellers that are best for all are found by changing one or two of them at a
  time, from several starts: good, and not proven best.
- What leaks is checked against a regression on simulated types and data, prices against every member's best
  response, the platform's choice and the taxes against other choices tried, and the mediator's formula
  against semidefinite programs on every backend that takes them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy import linalg

from mechopt.formulations import figures
from mechopt.formulations.data_externality.figures import plot_network
from mechopt.formulations.data_externality.leakage import is_mtp2
from mechopt.formulations.data_externality.model import DataExternality
from mechopt.formulations.data_externality.monopoly import Monopoly
from mechopt.formulations.data_externality.policy import (
    ShutdownAdvice,
    efficient_sharing,
    mediator_program,
    pigovian_tax,
    should_shut,
)
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.solution import Solution
from mechopt.studies.report import print_plain, show_checks, show_grid, show_others
from mechopt.studies.run import (
    BackendAnswer,
    Check,
    Progress,
    agreement_check,
    solve_everywhere,
    write_tables,
)
from mechopt.studies.scenario import SolvedScenario, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

EXACT = 1e-9
"""What numbers that two algorithms compute may differ by, relative to the money involved."""

ERRORS = 4.5
"""Standard errors that the farthest of many variances may be off: of 100, one in 1500 is by chance."""

N_DRAWS = 20_000
"""Simulated types and data, from which what leaks is found by regression."""

N_TRIED = 3000
"""Sets of sellers drawn to be tried against the platform's, besides all that differ by one or two members."""

MOST_PROVEN = 20
"""Members up to which the sellers that are best for all are found by trying all sets."""

N_STARTS = 5
"""Random sets from which better ones are looked for, besides three that suggest themselves."""

MOST_MEMBERS = 40
"""Members beyond which a picture cannot be read."""

BACKENDS = "share of the backends whose mediator has the surplus of the formula, by the money involved"
"""What the check of the backends measures."""

N_STEPS = 6


# ------------------------------------------------------------ the scenario


class Network(Table):
    """A graph that comes with networkx, and how types follow it."""

    graph: Literal["karate-club", "florentine-families", "davis-southern-women"]
    kernel: Literal["regularised-laplacian", "diffusion"] = "regularised-laplacian"
    strength: float = Field(default=1.0, gt=0)
    variance: float = Field(default=1.0, gt=0)

    @cached_property
    def source(self) -> Any:
        """The graph."""
        import networkx as nx

        made = {
            "karate-club": nx.karate_club_graph,
            "florentine-families": nx.florentine_families_graph,
            "davis-southern-women": nx.davis_southern_women_graph,
        }
        return made[self.graph]()

    @property
    def names(self) -> tuple[str, ...]:
        """Members by name."""
        return tuple(str(node) for node in self.source)

    def covariance(self) -> Array:
        """Covariance of types: the kernel, scaled to equal variances."""
        import networkx as nx

        laplacian = self.strength * nx.laplacian_matrix(self.source, weight="weight").toarray().astype(float)
        if self.kernel == "diffusion":
            kernel = linalg.expm(-laplacian)
        else:
            kernel = linalg.inv(np.eye(len(laplacian)) + laplacian)
        size = np.sqrt(np.diag(kernel))
        covariance: Array = self.variance * kernel / np.outer(size, size)
        return (covariance + covariance.T) / 2


class Privacy(Table):
    """What privacy is worth to whom: by group, with log-normal differences within groups."""

    value: float = Field(default=1.0, ge=0)
    attribute: str | None = None
    values: dict[str, float] = Field(default_factory=dict)
    spread: float = Field(default=0.0, ge=0, le=3)

    @model_validator(mode="after")
    def _groups_have_an_attribute(self) -> Privacy:
        if self.values and self.attribute is None:
            raise ValueError("`values` are by group: name the members' `attribute` that says which")
        for group, value in self.values.items():
            if value < 0:
                raise ValueError(f"`values.{group}` must be >= 0 (got {value:g})")
        return self

    def groups(self, network: Network) -> tuple[str, ...]:
        """Group of each member, all one without an attribute."""
        if self.attribute is None:
            return ("all",) * len(network.names)
        given = dict(network.source.nodes(data=self.attribute))
        missing = [str(node) for node, group in given.items() if group is None]
        if missing:
            raise InvalidInput(
                f"privacy.attribute: {missing[0]} of {network.graph} has no {self.attribute!r}; leave it out"
            )
        groups = tuple(str(group) for group in given.values())
        unknown = sorted(set(self.values) - set(groups))
        if unknown:
            raise InvalidInput(
                f"privacy.values: nobody is of {unknown[0]!r}; there is {', '.join(sorted(set(groups)))}"
            )
        return groups

    def draw(self, network: Network, rng: np.random.Generator) -> Array:
        """Value of privacy of each member."""
        typical = np.array([self.values.get(group, self.value) for group in self.groups(network)])
        drawn: Array = typical * np.exp(self.spread * rng.standard_normal(typical.size))
        return drawn


class SocialNetwork(SolvedScenario):
    """A whole scenario; ``backends`` solve the mediator's semidefinite program."""

    mechanism: Literal["data-externality"]
    seed: int = Field(ge=0)
    network: Network
    privacy: Privacy = Privacy()


# ------------------------------------------------------------ the run


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
        _show(self, console)

    def notes(self) -> list[str]:
        """Sentences that the numbers must not be read without."""
        return _notes(self)

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
    scale = _money(model)
    answers = tuple(
        BackendAnswer(
            name, answer, (mediator.objective - answer.objective) / scale if answer.values else math.nan
        )
        for name, answer in solutions.items()
    )
    progress("checks", 4, N_STEPS)
    checks = (
        *_network_checks(scenario, model, market, types),
        *_market_checks(model, market, tries),
        *_policy_checks(model, tax, mediator, tries),
        agreement_check("6 backends agree", BACKENDS, answers, scenario.tolerance),
    )
    return SocialReport(scenario, model, groups, market, tax, mediator, advice, answers, skipped, checks)


def best_for_all(model: DataExternality, rng: np.random.Generator) -> BoolArray:
    """Find sellers with most data surplus: among all sets for few members, else by changes from starts."""
    if model.n_users <= MOST_PROVEN:
        return efficient_sharing(model)
    starts = [model.value_of_privacy <= 1, model.monopoly().sharing, np.zeros(model.n_users, dtype=bool)]
    starts += [rng.random(model.n_users) < rng.random() for _ in range(N_STARTS)]
    reached = [_climb(model, start) for start in starts]
    return max(reached, key=model.data_surplus)


def _climb(model: DataExternality, start: BoolArray) -> BoolArray:
    """Change one member at a time, the best first, and two where no one change helps."""
    sharing = start.copy()
    n, value = model.n_users, model.data_surplus(start)
    pairs = [(i,) for i in range(n)] + [(i, j) for i in range(n) for j in range(i)]
    while True:
        best, at = value + EXACT, None
        for number, changed in enumerate(pairs):
            if number == n and at is not None:
                break
            other = sharing.copy()
            other[list(changed)] = ~other[list(changed)]
            surplus = model.data_surplus(other)
            if surplus > best:
                best, at = surplus, other
        if at is None:
            return sharing
        sharing, value = at, best


def _money(model: DataExternality) -> float:
    """Size of the money involved: what all information is worth to platform and users."""
    return float(np.sum((1 + model.value_of_privacy) * model.variance))


# ------------------------------------------------------------ checks


def _network_checks(
    scenario: SocialNetwork, model: DataExternality, market: Monopoly, rng: np.random.Generator
) -> list[Check]:
    factor = linalg.sqrtm(model.covariance).real
    types = rng.standard_normal((N_DRAWS, model.n_users)) @ factor
    data = types + rng.standard_normal(types.shape)
    sold = data[:, market.sharing]
    # Of each member's type, what a regression on the data sold leaves unexplained.
    left = types - sold @ np.linalg.lstsq(sold, types, rcond=None)[0] if sold.size else types
    unexplained = (left**2).sum(axis=0) / (N_DRAWS - sold.shape[1])
    expected = model.variance - market.leaked_information
    errors = expected * math.sqrt(2 / N_DRAWS)
    farthest = int(np.argmax(np.abs(unexplained - expected) / errors))
    checks = [
        Check(
            "1 what leaks",
            f"variance of member {scenario.network.names[farthest]}'s type that a regression on {N_DRAWS} "
            "simulated data leaves, against the formula; the farthest",
            float(unexplained[farthest]),
            float(expected[farthest]),
            ERRORS * float(errors[farthest]),
            f"{ERRORS:g} standard errors",
        )
    ]
    if scenario.network.kernel == "regularised-laplacian":
        checks.append(
            Check(
                "1 kind of kernel",
                "whether types depend on neighbours alone, and positively (MTP2)",
                float(is_mtp2(model.covariance)),
                1.0,
                0.0,
                "of this kernel it is a theorem",
            )
        )
    return checks


def _profit(model: DataExternality, sharing: BoolArray, tax: Array | None = None) -> float:
    """Of a set of sellers, from the definition: information less what each must be paid."""
    leaked = model.leaked_information(sharing)
    paid = 0.0
    for user in np.flatnonzero(sharing).tolist():
        without = sharing.copy()
        without[user] = False
        paid += float(model.value_of_privacy[user] * (leaked - model.leaked_information(without))[user])
    owed = 0.0 if tax is None else float(tax[sharing].sum())
    return float(leaked.sum()) - paid - owed


def _others(sharing: BoolArray, rng: np.random.Generator) -> Iterable[BoolArray]:
    """Sets to try: all that differ by one member, most that differ by two, and some at random."""
    n = sharing.size
    for i in range(n):
        other = sharing.copy()
        other[i] = ~other[i]
        yield other
    for _ in range(N_TRIED // 10):
        other = sharing.copy()
        changed = rng.choice(n, min(int(rng.integers(2, 6)), n), replace=False)
        other[changed] = ~other[changed]
        yield other


def _market_checks(model: DataExternality, market: Monopoly, rng: np.random.Generator) -> list[Check]:
    scale = _money(model)
    regret = 0.0
    for user in range(model.n_users):
        other = market.sharing.copy()
        other[user] = ~other[user]
        mine, theirs = market.leaked_information[user], model.leaked_information(other)[user]
        paid = float(market.prices[user])
        gain = model.value_of_privacy[user] * (mine - theirs) - (paid if market.sharing[user] else -paid)
        regret = max(regret, float(gain))
    profit = _profit(model, market.sharing)
    better = max((_profit(model, other) for other in _others(market.sharing, rng)), default=-math.inf)
    return [
        Check(
            "2 members' choice",
            "the most that a member gains by selling or not selling, at the prices (money)",
            regret,
            0.0,
            EXACT * scale,
            "rounding",
        ),
        Check(
            "2 profit",
            "of the platform, against information less what each seller must be paid (money)",
            market.profit,
            profit,
            EXACT * scale,
            "rounding",
        ),
        Check(
            "3 best purchase",
            "the most that other sets of sellers would add to the profit (money)",
            max(0.0, better - profit),
            0.0,
            EXACT * scale,
            "rounding; all that differ by one member, and others",
        ),
        Check(
            "3 surplus",
            "profit and payoffs together, against (1 - v) times information (money)",
            market.profit + float(market.payoffs.sum()),
            float((1 - model.value_of_privacy) @ market.leaked_information),
            EXACT * scale,
            "rounding",
        ),
    ]


def _policy_checks(
    model: DataExternality, tax: Solution, mediator: Solution, rng: np.random.Generator
) -> list[Check]:
    scale = _money(model)
    wanted = tax["sharing"] > 0
    at_best = _profit(model, wanted, tax["tax"])
    tried = list(_others(wanted, rng))
    tempted = max((_profit(model, other, tax["tax"]) for other in tried), default=-math.inf)
    surplus = model.data_surplus(wanted)
    better = max((model.data_surplus(other) for other in tried), default=-math.inf)
    passed = mediator["estimate_covariance"]
    least = float(np.linalg.eigvalsh(passed)[0])
    everything = _most_passed(model)
    room = float(np.linalg.eigvalsh(everything - passed)[0])
    return [
        Check(
            "4 taxed purchase",
            "the most that other sets would add to the taxed profit (money)",
            max(0.0, tempted - at_best),
            0.0,
            1e-7 * scale,
            "taxes come from a linear program",
        ),
        Check(
            "4 best for all",
            "the most that other sets would add to the surplus of the target (money)",
            max(0.0, better - surplus),
            0.0,
            EXACT * scale,
            "rounding; all that differ by one member, and others",
        ),
        Check(
            "5 mediator",
            "smallest eigenvalue of what it passes on, and of what it keeps back, if negative",
            max(0.0, -least, -room),
            0.0,
            1e-7 * float(np.max(model.variance)),
            "rounding",
        ),
        Check(
            "5 no leak",
            "most that leaks about a member with a value of privacy above 1",
            float(np.max(mediator["leaked_information"][model.high_value], initial=0.0)),
            0.0,
            1e-7 * float(np.max(model.variance)),
            "rounding",
        ),
    ]


def _most_passed(model: DataExternality) -> Array:
    """Covariance of the best estimates from everybody's data."""
    total = model.covariance + model.noise_variance * np.eye(model.n_users)
    passed: Array = model.covariance @ np.linalg.solve(total, model.covariance)
    return passed


# ------------------------------------------------------------ the terminal


def _show(report: SocialReport, console: Console) -> None:
    console.print(report.scenario.title, style="bold", markup=False, highlight=False)
    tolerance = report.scenario.tolerance
    show_grid(
        console,
        ("group", "sells", "members", "value", "price", "leaked", "payoff"),
        [
            (
                row["group"],
                "yes" if row["shares"] else "no",
                str(row["members"]),
                f"{row['value_of_privacy']:.3f}",
                f"{row['price']:.4f}",
                f"{row['share_leaked']:.1%}",
                f"{row['payoff']:.4f}",
            )
            for row in report.summary()
        ],
    )
    hidden = sorted(
        (row for row in report.members() if not row["shares"]), key=lambda row: -row["share_leaked"]
    )
    if hidden:
        show_grid(
            console,
            ("sells nothing", "group", "value", "leaked", "loses"),
            [
                (
                    row["member"],
                    row["group"],
                    f"{row['value_of_privacy']:.3f}",
                    f"{row['share_leaked']:.1%}",
                    f"{-row['payoff']:.4f}",
                )
                for row in hidden[:8]
            ],
        )
    show_grid(
        console,
        ("arrangement", "sellers", "leaked", "surplus"),
        [
            (
                row["arrangement"],
                "" if row["sellers"] is None else str(row["sellers"]),
                f"{row['leaked']:.3f}",
                f"{row['data_surplus']:.4f}",
            )
            for row in report.arrangements()
        ],
    )
    show_grid(
        console,
        ("backend", "status", "mediator", "rel. error", "compile", "solve"),
        [
            (
                answer.backend,
                str(answer.solution.status),
                f"{answer.solution.objective:.7g}",
                f"{answer.error:.0e}",
                *(f"{answer.solution.seconds.get(phase, math.nan):.3f} s" for phase in ("compile", "solve")),
            )
            for answer in report.answers
        ],
    )
    print_plain(
        console,
        "averages over members. leaked: share of the variance of a member's type. payoff, loses: price less "
        "what leaks at the value of privacy. Of those who sell nothing the first eight are shown.",
        "dim",
    )
    show_others(console, report.answers, tolerance, "has not the surplus of the formula", report.skipped)
    show_checks(report.checks, console)
    for note in report.notes():
        print_plain(console, note, "dim")


def _notes(report: SocialReport) -> list[str]:
    network, model, tax, market = report.scenario.network, report.model, report.tax, report.market
    ties = network.source.number_of_edges()
    taxed = np.count_nonzero(tax["tax"] > EXACT * _money(model))
    leaked, hidden = market.leaked_information, ~market.sharing
    notes = [
        f"graph: {network.graph}, {model.n_users} members and {ties} ties; kernel {network.kernel}. That "
        "types follow ties, and values of privacy, are assumed.",
        f"the platform buys from {int(market.sharing.sum())} of {model.n_users} members, makes "
        f"{market.profit:.4f}, and learns {leaked.sum():.4f} of a variance of {model.variance.sum():.4f}, "
        f"{leaked[hidden].sum():.4f} of it about members who sell nothing.",
        f"least taxes on {taxed} members, {tax.objective:.4f} in all, would have it buy from "
        f"{int(np.sum(tax['sharing'] > 0))}.",
        str(report.advice),
    ]
    if model.n_users > MOST_PROVEN:
        notes.append(
            "the sellers that taxes aim at are the best that were found, from several starts; not proven."
        )
    return notes
