"""Bilateral data sharing: agents agree in pairs to share, without money."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import cvxpy as cp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations.sharing_market.network import matching, properties, stability
from mechopt.formulations.sharing_market.network.graphs import (
    ALL_GRAPHS_CAP,
    ONE_GRAPH_CAP,
    IntArray,
    all_graphs,
    from_code,
    from_edges,
    sharing_graph,
)
from mechopt.formulations.sharing_market.network.matching import Match, Ties, Violation, ranking_of
from mechopt.formulations.sharing_market.network.preferences import (
    TABLE_CAP,
    Preferences,
    SizePreferences,
    compare,
    preferences_of,
)
from mechopt.formulations.sharing_market.network.program import declare_blocking, declare_compact
from mechopt.formulations.sharing_market.network.stability import (
    METHODS,
    RULES,
    Blocking,
    Method,
    Rule,
    Stability,
)
from mechopt.solvers.errors import (
    InvalidInput,
    MechanismWarning,
    NotApplicable,
    SolverFailure,
)
from mechopt.solvers.program import Program
from mechopt.solvers.solution import Solution, Status

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
Form = Literal["selectors", "compact"]

CHECK_CAP = 10
"""Agents up to which `SharingNetwork.match` checks both properties by enumeration."""

COMPACT_CAP = 16
"""Agents up to which the compact program is chosen by itself; it may be asked for with more."""


@dataclass(frozen=True, eq=False, repr=False)
class SharingNetwork:
    r"""Agents who share data in pairs, both ways, and care only for whose data they have.

    Parameters
    ----------
    utilities : callable, array, or list
        What each agent thinks of each set of partners, the agent itself not in it:

        - a function ``u(agent, partners) -> float`` of a frozenset, with ``n_agents``;
        - a table, shape (n_agents, 2 ** n_agents), by the bit mask of the partners (bit j is agent j);
        - a list of mappings from frozensets to numbers, or a list of rankings over sets, best first;
        - with ``data_size``: functions of the total size of the data, own data included, one an agent, such
          as ``mo.LogGain(weight=1, scale=1)``; or one function of the array of all agents' totals.
    n_agents : int, optional
        Number of agents; read off the utilities unless they are a function.
    data_size : array, shape (n_agents,), optional
        Records that each agent has, > 0.
    count_costs : callable, array, or list of callables, optional
        Cost of having 0, 1, ..., n_agents - 1 partners: a function of the count, a list of functions, or
        an array of shape (n_agents,) or (n_agents, n_agents). With concave gains, convex costs and distinct
        sizes there is exactly one stable graph, the ordered match.

    Raises
    ------
    InvalidInput
        If an argument breaks its rule; the message names it, the index, the value and the rule.

    References
    ----------
    Rasouli and Jordan, "Data Sharing Markets", section 3.

    Examples
    --------
    >>> import mechopt as mo
    >>> from mechopt.formulations.sharing_market.network import SharingNetwork
    >>> network = SharingNetwork(
    ...     [mo.LogGain(weight=1, scale=1)] * 4,
    ...     data_size=[8, 4, 2, 1],
    ...     count_costs=lambda count: 0.02 * count**2,
    ... )
    >>> graph = network.ordered_match([0, 1, 2, 3])
    >>> graph.tolist()
    [[0, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    >>> network.is_stable(graph)
    stable, rule strong, by enumeration
    >>> len(network.stable_graphs())
    1
    >>> network.is_stable([[0, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]).witness.coalition
    (1, 2)
    """

    utilities: Any
    n_agents: int = None  # type: ignore[assignment]  # read off the utilities
    data_size: ArrayLike | None = None
    count_costs: Any = None
    preferences: Preferences = field(init=False, repr=False)

    def __post_init__(self) -> None:
        preferences = preferences_of(self.utilities, self.n_agents, self.data_size, self.count_costs)
        object.__setattr__(self, "preferences", preferences)
        object.__setattr__(self, "n_agents", preferences.n_agents)
        if isinstance(preferences, SizePreferences):
            object.__setattr__(self, "data_size", preferences.data_size)

    def __repr__(self) -> str:
        kind = type(self.preferences).__name__.removesuffix("Preferences").lower()
        return f"SharingNetwork of {self.n_agents} agents, preferences by {kind}"

    # ---------------------------------------------------------------- values

    def agent_utility(self, adjacency: ArrayLike) -> Array:
        """Return the utility of each agent in a graph; for rankings, the number of sets that are worse.

        Parameters
        ----------
        adjacency : array of 0 and 1, shape (n_agents, n_agents)
            Symmetric, with zero diagonal.

        Returns
        -------
        array, shape (n_agents,)
        """
        return self.preferences.values(sharing_graph(adjacency, self.n_agents))

    def welfare(self, adjacency: ArrayLike) -> float:
        """Return the sum of utilities in a graph.

        Raises
        ------
        NotApplicable
            If preferences are rankings, which cannot be added up.
        """
        self._need_utilities()
        return float(self.agent_utility(adjacency).sum())

    def best_welfare(self) -> tuple[IntArray, float]:
        """Return the graph of most welfare, and its welfare; by enumeration, for up to 6 agents.

        It need not be stable: without money nobody can be paid to share (Remark 3.4).
        """
        self._need_utilities()
        self._cap(ONE_GRAPH_CAP, "the graph of most welfare", "SharingMarket, for markets with money")
        by_graph = np.take_along_axis(self.preferences.table, all_graphs(self.n_agents).partners, axis=1)
        welfare = by_graph.sum(axis=0)
        best = int(np.argmax(welfare))
        return from_code(best, self.n_agents), float(welfare[best])

    def _need_utilities(self) -> None:
        if not self.preferences.cardinal:
            raise NotApplicable("rankings cannot be added up: welfare needs utilities in numbers")

    # ---------------------------------------------------------------- the ordered match

    def ordered_match(self, ranking: ArrayLike, *, ties: Ties = "raise") -> IntArray:
        """Return the graph of the ordered match; see `match`, which also tells whether it is guaranteed."""
        found = self._match(ranking, ties)
        _warn(found)
        return found.adjacency

    def match(self, ranking: ArrayLike, *, ties: Ties = "raise") -> Match:
        """Let agents in turn, best first, ask all later ones to share, who accept if they gain.

        If all agents rank partners as ``ranking`` does (top agent property) and limited complementarity
        holds, both strictly, the outcome is the only strongly stable graph, and the only one that no agent
        and no pair can block.

        Parameters
        ----------
        ranking : array, shape (n_agents,)
            A permutation of the agents, best first.
        ties : {"raise", "refuse"}
            What a tie does: stop, since nothing is guaranteed with ties, or count as a refusal.

        Returns
        -------
        Match
            The graph with its guarantee. Both properties are checked by enumeration for up to 10 agents;
            beyond that they are known for concave gains of total size with convex ``count_costs``.

        Raises
        ------
        InvalidInput
            If ``ranking`` is no permutation, or agents tie: "strict preference required".

        Warns
        -----
        MechanismWarning
            If a property fails, with the witness.

        Notes
        -----
        At most n (n - 1) questions to agents. Utilities of total size are kept as running totals, and many
        pairs are decided at once.

        References
        ----------
        Rasouli and Jordan, Proposition 3.1.
        """
        found = self._match(ranking, ties)
        _warn(found)
        return found

    def _match(self, ranking: ArrayLike, ties: Ties) -> Match:
        order = ranking_of(ranking, self.n_agents)
        if ties not in ("raise", "refuse"):
            raise InvalidInput(f"ties must be 'raise' or 'refuse', got {ties!r}")
        if ties == "raise":
            self._refuse_ties()
        if isinstance(self.preferences, SizePreferences):
            adjacency, queries = matching.sweep_by_size(self.preferences, order, ties)
        else:
            adjacency, queries = matching.sweep(self.preferences, order, ties)
        return Match(adjacency, order, *self._guarantee(order, ties), queries)

    def _refuse_ties(self) -> None:
        """Stop if two agents tie for a third, as far as can be seen."""
        sizes = self.preferences.data_size if isinstance(self.preferences, SizePreferences) else None
        if sizes is not None and self.n_agents > 2:
            order = np.argsort(sizes, kind="stable")
            same = np.flatnonzero(np.diff(sizes[order]) == 0)
            if same.size:
                a, b = sorted(order[same[0] : same[0] + 2].tolist())
                third = next(agent for agent in range(3) if agent not in (a, b))
                raise InvalidInput(
                    f"strict preference required, agents {a} and {b} tie for agent {third}: "
                    f"data_size[{a}] = data_size[{b}] = {sizes[a]:g}"
                )
        if self.n_agents <= CHECK_CAP:
            tie = properties.tie_between_agents(self.preferences.ranks)
            if tie is not None:
                raise InvalidInput(
                    f"strict preference required, agents {tie.higher} and {tie.lower} tie for agent "
                    f"{tie.agent} beside partners {sorted(tie.partners)}"
                )

    def _guarantee(self, order: IntArray, ties: Ties) -> tuple[bool | None, str, Violation | None]:
        if self.n_agents <= CHECK_CAP:
            ranks = self.preferences.ranks
            witness = properties.top_agent_violation(
                ranks, order
            ) or properties.limited_complementarity_violation(ranks, order, prefix=True)
            if witness is not None:
                return False, str(witness), witness
            return True, "both properties hold in every set of partners", None
        if not isinstance(self.preferences, SizePreferences):
            return None, f"properties are checked for up to {CHECK_CAP} agents", None
        if self.preferences.why_not_ordered:
            return None, f"not known to have both properties: {self.preferences.why_not_ordered}", None
        sizes = self.preferences.data_size[order]
        wrong = np.flatnonzero(np.diff(sizes) >= 0)
        if wrong.size:
            higher, lower = order[wrong[0] : wrong[0] + 2].tolist()
            third = next(agent for agent in range(3) if agent not in (higher, lower))
            tie = bool(sizes[wrong[0]] == sizes[wrong[0] + 1])
            found = properties.TopAgentViolation(third, higher, lower, frozenset(), tie)
            return False, str(found), found
        if ties == "refuse":
            return None, "ties were not looked for", None
        return True, "concave gains of distinct sizes, convex costs of count", None

    def top_agent_violation(self, ranking: ArrayLike) -> properties.TopAgentViolation | None:
        """Return an agent who does not rank partners as ``ranking`` does, in all company, or None.

        By enumeration, for up to 12 agents.

        References
        ----------
        Rasouli and Jordan, Definitions 3.3 and 3.4, with strict preference.
        """
        return properties.top_agent_violation(self._ranks(), ranking_of(ranking, self.n_agents))

    def limited_complementarity_violation(
        self, ranking: ArrayLike, *, prefix: bool = False
    ) -> properties.ComplementarityViolation | None:
        """Return an agent who refuses a partner, but takes it with lower ones, or lower ones, or None.

        For every agent k, set S of partners and i not in it: if k does not strictly prefer S + i to S, it
        must strictly prefer S to S + S' for every non-empty set S' of i and agents below i, not in S.

        Parameters
        ----------
        ranking : array, shape (n_agents,)
            Agents, best first.
        prefix : bool
            Look only at sets S of agents above i, which is enough for a stable match.

        References
        ----------
        Rasouli and Jordan, Definition 3.5, which as printed holds for nobody who ever refuses: it lets S'
        be empty.
        """
        return properties.limited_complementarity_violation(
            self._ranks(), ranking_of(ranking, self.n_agents), prefix=prefix
        )

    def _ranks(self) -> IntArray:
        if self.n_agents > TABLE_CAP:
            raise InvalidInput(
                f"properties are checked set by set for up to {TABLE_CAP} agents, and there are "
                f"{self.n_agents}; concave gains of total size with convex count_costs have both, and "
                "match(ranking).guarantee says so"
            )
        return self.preferences.ranks

    # ---------------------------------------------------------------- stability

    def is_stable(
        self,
        adjacency: ArrayLike,
        rule: Rule = "strong",
        *,
        method: Method | None = None,
        backend: str | None = None,
        **options: Any,
    ) -> Stability:
        """Tell whether no coalition can change the graph so that nobody in it loses and somebody gains.

        Parameters
        ----------
        adjacency : array of 0 and 1, shape (n_agents, n_agents)
            Symmetric, with zero diagonal.
        rule : {"strong", "cut"}
            ``"strong"``: a coalition adds edges inside, drops edges that touch it, and keeps what it likes
            (Definition 3.2). ``"cut"``: it loses all edges to others (proof of Proposition 3.1).
        method : {"enumeration", "milp", "ordered-match"}, optional
            All graphs, for up to 6 agents; the blocking program; or, for the strong rule and concave gains of
            distinct sizes with convex ``count_costs``, a comparison with the ordered match, which is then
            the only stable graph. Default: enumeration, then the program with selectors (12 agents), then
            the match, and for the cut rule the compact program (16 agents).
        backend, **options
            For the blocking program, see `Program.solve`.

        Returns
        -------
        Stability
            True in conditions if the graph is stable; else with a ``witness``, recomputed from the graph.

        Raises
        ------
        InvalidInput
            If an argument breaks its rule, or there are too many agents for the method.
        SolverFailure
            If the solver finds no answer, or one that our own check does not confirm.

        Notes
        -----
        For more than 12 agents the program is the compact one, which takes seconds to minutes, and does not
        see gains below about 1e-5 of what is at stake for an agent.

        References
        ----------
        Rasouli and Jordan, Definition 3.2.
        """
        graph = sharing_graph(adjacency, self.n_agents)
        self._check_rule(rule)
        method = self._method(method, rule)
        if method == "enumeration":
            self._cap(ONE_GRAPH_CAP, "a graph", "method='milp'")
            after = stability.simplest_deviation(self.preferences.ranks, graph, rule)
        elif method == "milp":
            after = self._search(graph, rule, backend, options)
        else:
            after = self._first_difference(graph)
        if after is None:
            return Stability(True, rule, method)
        return Stability(False, rule, method, self._witness(graph, after, rule))

    def plot(self, adjacency: ArrayLike, *, names: Sequence[str] | None = None) -> Figure:
        """Draw a sharing graph, with each agent's utility beside it where utilities are numbers.

        Parameters
        ----------
        adjacency : array, shape (n_agents, n_agents)
            Symmetric, zeros and ones.
        names : sequence of str, optional
            By default the agents' indices.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from mechopt.formulations.sharing_market.figures import plot_sharing

        return plot_sharing(adjacency, self.agent_utility(adjacency), names=names)

    def is_pareto_optimal(self, adjacency: ArrayLike) -> Stability:
        """Tell whether no graph is better for somebody and worse for nobody; for up to 6 agents."""
        graph = sharing_graph(adjacency, self.n_agents)
        self._cap(ONE_GRAPH_CAP, "Pareto optimality of a graph", "blocking_program with `member == 1`")
        after = stability.pareto_improvement(self.preferences.ranks, graph)
        if after is None:
            return Stability(True, "pareto", "enumeration")
        gains = self.preferences.values(after) - self.preferences.values(graph)
        everybody = tuple(range(self.n_agents))
        return Stability(False, "pareto", "enumeration", Blocking(everybody, after, gains))

    def stable_graphs(self, rule: Rule = "strong") -> list[IntArray]:
        """Return all stable graphs, by enumeration, for up to 5 agents.

        Parameters
        ----------
        rule : {"strong", "cut"}
            See `is_stable`.
        """
        self._check_rule(rule)
        self._cap(ALL_GRAPHS_CAP, "all graphs", "is_stable(graph, method='milp'), one graph at a time")
        return [
            from_code(int(code), self.n_agents)
            for code in stability.stable_codes(self.preferences.ranks, rule)
        ]

    def blocking_program(
        self, adjacency: ArrayLike, rule: Rule = "strong", *, form: Form = "selectors"
    ) -> Program:
        """Declare the search for a coalition that blocks a graph, to be solved as it is or changed first.

        Parameters
        ----------
        adjacency : array of 0 and 1, shape (n_agents, n_agents)
            The graph that may be blocked.
        rule : {"strong", "cut"}
            See `is_stable`.
        form : {"selectors", "compact"}
            A selector for each agent and set of partners (any utilities, up to 12 agents), or concave
            functions of total size.

        Returns
        -------
        Program
            With variables ``edge`` (of pairs in the order of ``numpy.triu_indices``), ``member`` and
            ``better`` (whether an agent gains; in the compact form, how much of what is at stake), and
            expression ``gain`` (utility). The graph is blocked if the optimum is positive. Families
            ``added_inside`` and ``dropped_touch`` (strong) or ``cut_off`` and ``others_keep`` (cut),
            ``nobody_loses``, ``better_inside``; with selectors ``one_set`` and ``sets_are_edges``.

        Examples
        --------
        Does a pair block, if breaking off a partnership is forbidden?

        >>> import cvxpy as cp
        >>> network = SharingNetwork(lambda agent, partners: -abs(len(partners) - 1), n_agents=4)
        >>> graph = np.array([[0, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
        >>> network.is_stable(graph).witness.coalition
        (0,)
        >>> program = network.blocking_program(graph)
        >>> program = program.add("pair", cp.sum(program["member"]) <= 2)
        >>> program = program.add("no_break", program["edge"] >= graph[np.triu_indices(4, 1)])
        >>> round(program.solve().objective)
        0
        """
        graph = sharing_graph(adjacency, self.n_agents)
        self._check_rule(rule)
        if self.n_agents < 2:
            raise InvalidInput("one agent alone has nobody to share with: n_agents must be >= 2 here")
        if form == "selectors":
            return declare_blocking(self.preferences, graph, rule)
        if form == "compact":
            return declare_compact(self.preferences, graph, rule)
        raise InvalidInput(f"form must be 'selectors' or 'compact', got {form!r}")

    def _method(self, method: Method | None, rule: Rule) -> Method:
        if method is not None and method not in METHODS:
            raise InvalidInput(f"method must be one of {', '.join(METHODS)}, got {method!r}")
        ordered = isinstance(self.preferences, SizePreferences) and not self.preferences.why_not_ordered
        if method == "ordered-match" and (rule != "strong" or not ordered):
            raise NotApplicable(
                "method='ordered-match' needs the strong rule and concave gains of total size with convex "
                "count_costs; method='milp' takes any"
            )
        if method is not None:
            return method
        if self.n_agents <= ONE_GRAPH_CAP:
            return "enumeration"
        if self.n_agents <= TABLE_CAP:
            return "milp"
        if ordered and rule == "strong":
            return "ordered-match"
        if ordered and self.n_agents <= COMPACT_CAP:
            return "milp"
        raise InvalidInput(
            f"stability of general preferences is decided for up to {TABLE_CAP} agents, and there are "
            f"{self.n_agents}; concave gains of total size with convex count_costs can be decided by "
            "method='ordered-match' (strong rule), or method='milp'"
        )

    def _check_rule(self, rule: str) -> None:
        if rule not in RULES:
            raise InvalidInput(f"rule must be 'strong' or 'cut', got {rule!r}")

    def _cap(self, cap: int, what: str, instead: str) -> None:
        if self.n_agents > cap:
            raise InvalidInput(
                f"enumeration decides {what} for up to {cap} agents, and there are {self.n_agents}; "
                f"use {instead}"
            )

    def _search(
        self, graph: IntArray, rule: Rule, backend: str | None, options: dict[str, Any]
    ) -> IntArray | None:
        """Solve the blocking program; a graph that blocks, or None."""
        if self.n_agents < 2:
            return None
        form: Form = "selectors" if self.n_agents <= TABLE_CAP else "compact"
        program = self.blocking_program(graph, rule, form=form)
        # One agent who gains, or a hundredth of what is at stake for one, is enough: no more is looked for.
        enough = 1.0 if form == "selectors" else 0.01
        program.add("enough", cp.sum(program["better"]) <= enough)
        solution = _solve(program, backend, options)
        if solution.values:
            after = from_edges(np.rint(solution["edge"]), self.n_agents)
            if stability.coalition_for(graph, after, self._moves(graph, after), rule) is not None:
                return after  # that holds however the solver stopped
        who = f"is_stable by {solution.backend}"
        if solution.status is not Status.OPTIMAL:
            raise SolverFailure(
                f"{who}: no coalition found, but the search is not complete ({solution.status}: "
                f"{solution.reason}); allow more time, or try another method or backend",
                solution=solution,
            )
        # With selectors the optimum counts agents; the compact one adds up gains, which solvers see to 1e-6.
        if solution.objective >= (0.5 if form == "selectors" else 1e-5):
            raise SolverFailure(
                f"{who}: the graph returned blocks nothing when recomputed", solution=solution
            )
        return None

    def _first_difference(self, graph: IntArray) -> IntArray | None:
        """Return a graph to which one agent or a pair deviates, unless this is the ordered match.

        At the first pair, in order, in which the two differ: if the match has it, both add it, and each
        drops a later partner if it has one; if not, who refused drops it and all later partners.
        """
        assert isinstance(self.preferences, SizePreferences)
        order = self.preferences.order
        match = self._match(order, "raise")
        if match.guarantee is not True:
            raise NotApplicable(f"method='ordered-match': {match.reason}; method='milp' takes any")
        matched = match.adjacency[np.ix_(order, order)]
        now = graph[np.ix_(order, order)]
        differs = np.argwhere(np.triu(matched != now))
        if not differs.size:
            return None
        i, j = (int(place) for place in differs[0])
        options = []
        if matched[i, j]:
            after = now.copy()
            after[i, j] = after[j, i] = 1
            for place, partner in ((i, j), (j, i)):
                later = np.flatnonzero(now[place, partner + 1 :])
                # A later partner of one may be the other's too, but never the pair itself.
                if later.size:
                    dropped = partner + 1 + int(later[-1])
                    after[place, dropped] = after[dropped, place] = 0
            options.append(after)
        else:
            for place, partner in ((i, j), (j, i)):
                after = now.copy()
                after[place, partner:] = after[partner:, place] = 0
                options.append(after)
        back = np.argsort(order)
        for after in (option[np.ix_(back, back)] for option in options):
            if stability.coalition_for(graph, after, self._moves(graph, after), "strong") is not None:
                return after
        raise SolverFailure(
            "the graph is not the ordered match, but no agent or pair gains enough to be seen in floating "
            "point"
        )

    def _moves(self, before: IntArray, after: IntArray) -> IntArray:
        """1 for agents who like ``after`` better, -1 for those who like it less."""
        old, new = self.preferences.values(before), self.preferences.values(after)
        return np.array([compare(a, b) for a, b in zip(new, old, strict=True)])

    def _witness(self, before: IntArray, after: IntArray, rule: Rule) -> Blocking:
        coalition = stability.coalition_for(before, after, self._moves(before, after), rule)
        assert coalition is not None  # every method has checked it
        gains = self.preferences.values(after) - self.preferences.values(before)
        return Blocking(coalition, after, gains[list(coalition)])


def _warn(match: Match) -> None:
    """Tell the caller of the method that calls this if nothing is guaranteed."""
    if match.guarantee is False:
        message = f"the ordered match need not be stable: {match.reason}"
        warnings.warn(message, MechanismWarning, stacklevel=3)


def _solve(program: Program, backend: str | None, options: dict[str, Any]) -> Solution:
    """Solve; once more without presolve where HiGHS fails, as it was seen to do on such programs."""
    solution = program.solve(backend, on_failure="return", **options)
    if solution.status is Status.FAILED and solution.backend == "highspy" and "presolve" not in options:
        solution = program.solve("highspy", on_failure="return", presolve="off", **options)
    return solution
