r"""The declared programs of fair values: the axioms themselves, the core, the least core and the nucleolus.

The players are the users, and the platform if it is a member; without the platform a coalition is worth
nothing. Users of a group are alike, and each solution concept treats them alike: one variable a group, and
one row for each vector of counts instead of each coalition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray

from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.program import Program

Array = NDArray[np.float64]
Sense = Literal["maximize", "minimize"]

MAX_ROWS = 2**17
"""Most coalitions (or vectors of counts) that a program has rows for."""
MAX_AXIOM_PLAYERS = 7
"""Most players for the axioms, which have a game for each coalition."""


@dataclass(frozen=True, eq=False)
class PlayerGame:
    """What each coalition of players is worth, in rows.

    Attributes
    ----------
    sizes : array, shape (n_kinds,)
        Players of each kind: the groups, and the platform as the last if it is a player.
    counts : array, shape (n_rows, n_kinds)
        Members of each kind: all coalitions but the empty and the grand one.
    worth : array, shape (n_rows,)
    total : float
        Worth of the grand coalition.
    include_platform : bool
    """

    sizes: Array
    counts: Array
    worth: Array
    total: float
    include_platform: bool

    @property
    def scale(self) -> float:
        """Typical value of a player."""
        return max(float(np.max(np.abs(self.worth), initial=0.0)), abs(self.total)) or 1.0


def player_game(grid: Array, include_platform: bool, most: int = MAX_ROWS) -> PlayerGame:
    """List the coalitions of a utility on the grid of counts, shape (m_1 + 1, ..., m_G + 1)."""
    full = np.stack([np.zeros_like(grid), grid], axis=-1) if include_platform else np.asarray(grid)
    if full.size > most:
        raise InvalidInput(
            f"there are {full.size} coalitions, more than the {most} that this program is meant for; form "
            "groups of users that are alike (group_sizes), fewer or smaller"
        )
    counts = np.stack(np.unravel_index(np.arange(full.size), full.shape), axis=1).astype(float)
    worth = full.ravel()
    return PlayerGame(
        sizes=counts[-1],
        counts=counts[1:-1],
        worth=worth[1:-1],
        total=float(worth[-1]),
        include_platform=include_platform,
    )


def _declare_values(program: Program, game: PlayerGame) -> cp.Expression:
    """Declare what each player gets; returns the expression of all kinds in a row."""
    n_groups = game.sizes.size - int(game.include_platform)
    users = program.variable("user_values", n_groups, scale=game.scale / max(game.sizes.sum(), 1.0))
    if not game.include_platform:
        return users
    platform = program.variable("platform_value", scale=game.scale)
    return cp.hstack([users, platform])


def _stable(program: Program, game: PlayerGame, values: cp.Expression, excess: cp.Expression | float) -> None:
    """Add a row for each coalition; those without the platform, worth nothing, as a family of their own."""
    alone = game.counts[:, -1] == 0 if game.include_platform else np.zeros(game.worth.size, dtype=bool)
    for family, rows in (("stability", ~alone), ("users_alone", alone)):
        if rows.any():
            program.add(family, game.counts[rows] @ values + excess >= game.worth[rows])


def declare_core(game: PlayerGame) -> Program:
    """Declare the least total for which no coalition would leave; see `FairValue.core_program`."""
    program = Program("core", objective_scale=game.scale)
    values = _declare_values(program, game)
    total = program.define("total_value", game.sizes @ values)
    program.minimize(total)
    _stable(program, game, values, 0.0)
    program.add("grand_coalition", total >= game.total)
    return program.seal()


def declare_least_core(game: PlayerGame) -> Program:
    """Declare the smallest largest excess; see `FairValue.least_core_program`."""
    return _declare_excess(game, np.zeros(game.worth.size, dtype=bool), np.zeros(0))


def _declare_excess(game: PlayerGame, settled: NDArray[np.bool_], excess_settled: Array) -> Program:
    """Minimise the largest excess of the coalitions that are not settled, with that of the others fixed."""
    program = Program("least core", objective_scale=game.scale)
    values = _declare_values(program, game)
    excess = program.variable("excess", scale=game.scale)
    total = program.define("total_value", game.sizes @ values)
    program.minimize(excess)
    rest = PlayerGame(
        game.sizes, game.counts[~settled], game.worth[~settled], game.total, game.include_platform
    )
    _stable(program, rest, values, excess)
    program.add("efficiency", total == game.total)
    if settled.any():
        program.add("settled", game.counts[settled] @ values == game.worth[settled] - excess_settled)
    return program.seal()


@dataclass(frozen=True, eq=False)
class Nucleolus:
    """The division whose largest excesses are smallest, one after the other.

    Attributes
    ----------
    user_values : array, shape (n_users,)
    platform_value : float
        0 without the platform.
    group_values : array, shape (n_groups,)
        Value of one user of each group.
    excesses : array
        Excess that each round settles, falling: what coalitions are worth beyond what they get.
    n_rounds : int
        Linear programs solved.
    """

    user_values: Array
    platform_value: float
    group_values: Array
    excesses: Array
    n_rounds: int


def nucleolus(game: PlayerGame, backend: str | None, tolerance: float) -> tuple[Array, Array]:
    """Solve the sequence of linear programs; the values of all kinds, and the excess of each round.

    A coalition with a price is at its excess in every optimum: it is settled. Those that depend linearly on
    settled ones are, too. When the settled ones determine all values, these follow from linear equations, to
    rounding.
    """
    n_kinds = game.sizes.size
    rounds: list[NDArray[np.intp]] = []
    excesses: list[float] = []
    settled = np.zeros(game.worth.size, dtype=bool)
    fixed = np.zeros(game.worth.size)
    basis = game.sizes[None, :]
    while np.linalg.matrix_rank(basis) < n_kinds:
        program = _declare_excess(game, settled, fixed[settled])
        solution = program.solve(backend, tolerance=tolerance)
        price = np.zeros(game.worth.size)
        alone = game.counts[:, -1] == 0 if game.include_platform else np.zeros(game.worth.size, dtype=bool)
        for family, rows in (("stability", ~alone & ~settled), ("users_alone", alone & ~settled)):
            if rows.any():
                price[rows] = solution.dual(family)
        # The prices sum to 1, and those of a vertex are 0 or a ratio of small whole numbers.
        now = np.flatnonzero(price > 1e-7 * price.max())
        rounds.append(now)
        excesses.append(float(solution["excess"]))
        basis = np.vstack([basis, game.counts[now]])
        values, excesses = _determine(game, rounds, excesses)
        # Whatever the settled ones span keeps its excess from here on.
        projector = np.linalg.pinv(basis) @ basis
        apart = np.linalg.norm(game.counts @ projector - game.counts, axis=1)
        settled = apart <= 1e-9 * game.sizes.sum()
        fixed[settled] = game.worth[settled] - game.counts[settled] @ values
    if not rounds:
        values = np.array([game.total / game.sizes[0]])
    return values, np.array(excesses)


def _determine(
    game: PlayerGame, rounds: list[NDArray[np.intp]], excesses: list[float]
) -> tuple[Array, list[float]]:
    """Values and excesses from the equations of the settled coalitions, which determine the excesses."""
    n_kinds, n_rounds = game.sizes.size, len(rounds)
    rows, right = [np.concatenate([game.sizes, np.zeros(n_rounds)])], [game.total]
    for number, members in enumerate(rounds):
        mark = np.zeros((members.size, n_rounds))
        mark[:, number] = 1
        rows.extend(np.hstack([game.counts[members], mark]))
        right.extend(game.worth[members])
    start = np.concatenate([np.full(n_kinds, game.total / game.sizes.sum()), excesses])
    matrix = np.array(rows)
    change = np.linalg.lstsq(matrix, np.array(right) - matrix @ start, rcond=None)[0]
    found = start + change
    return found[:n_kinds], [float(excess) for excess in found[n_kinds:]]


# ------------------------------------------------------------------ the axioms


def dividends(table: Array) -> Array:
    """Return the dividends b_T, the coordinates of a game in the unanimity games, by masks."""
    found = np.array(table, dtype=float)
    n = found.size.bit_length() - 1
    for player in range(n):
        pairs = found.reshape(-1, 2, 1 << player)
        pairs[:, 1] -= pairs[:, 0]
    return found


def declare_axioms(
    table: Array,
    *,
    include_platform: bool,
    payment_share: float,
    player: int,
    sense: Sense,
    platform_symmetry: bool,
) -> Program:
    """Declare the axioms on a basis of games; see `FairValue.axioms_program`."""
    players = table.size.bit_length() - 1 + int(include_platform)
    if players > MAX_AXIOM_PLAYERS:
        raise InvalidInput(
            f"{players} players: the axioms are declared for at most {MAX_AXIOM_PLAYERS}, since there is a "
            "game for each coalition"
        )
    full = np.concatenate([np.zeros(table.size), table]) if include_platform else table
    masks = np.arange(full.size)
    dividend = dividends(full)
    # Without the platform no coalition is worth anything: the other unanimity games are not in this space.
    basis = masks[(masks >> (players - 1)) & 1 == 1] if include_platform else masks[1:]
    games = dividend[basis, None] * ((masks & basis[:, None]) == basis[:, None])
    games = np.vstack([games, full])  # the last is the utility itself, the sum of the others
    scale = float(np.max(np.abs(games))) or 1.0
    program = Program("axioms of fair value", objective_scale=scale)
    values = program.variable("values", len(games) * players, scale=scale)
    by_game = cp.reshape(values, (len(games), players), order="C")
    fair = program.define("fair_values", by_game[-1, :])
    program.maximize(fair[player]) if sense == "maximize" else program.minimize(fair[player])
    n_users = players - int(include_platform)
    close = 1e-12 * scale
    users = range(n_users)
    pairs = {"symmetry": list(combinations(users, 2))}
    if include_platform and platform_symmetry:
        pairs["platform_symmetry"] = [(i, n_users) for i in users]
    for family, candidates in pairs.items():
        game, first, second = _alike(games, candidates, close).T
        if game.size:
            program.add(family, values[game * players + first] == values[game * players + second])
    null = np.array(
        [(g, i) for i in users for g in np.flatnonzero(_marginal_size(games, i) <= close)], dtype=int
    ).reshape(-1, 2)
    if null.size:
        program.add("null_user", values[null[:, 0] * players + null[:, 1]] == 0)
    program.add("efficiency", cp.sum(by_game, axis=1) == payment_share * games[:, -1])
    if len(games) > 2:
        program.add("additivity", cp.sum(by_game[:-1, :], axis=0) == fair)
    return program.seal()


def _marginal_size(games: Array, player: int) -> Array:
    """Largest absolute marginal contribution of a player in each game."""
    pairs = games.reshape(len(games), -1, 2, 1 << player)
    return np.asarray(np.abs(pairs[:, :, 1] - pairs[:, :, 0]).max(axis=(1, 2)))


def _alike(games: Array, pairs: Sequence[tuple[int, int]], close: float) -> NDArray[np.intp]:
    """Rows (game, i, j) in which i and j add the same to every coalition of others."""
    masks = np.arange(games.shape[1])
    found = []
    for i, j in pairs:
        others = masks[(masks >> i & 1 == 0) & (masks >> j & 1 == 0)]
        apart = np.abs(games[:, others | 1 << i] - games[:, others | 1 << j]).max(axis=1)
        found += [(game, i, j) for game in np.flatnonzero(apart <= close)]
    return np.array(found, dtype=int).reshape(-1, 3)
