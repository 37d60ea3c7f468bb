"""Federated mean estimation: each user's own mean, from data shared directly, in an average, or not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations import checks
from mechopt.formulations.fair_value.federated import closed_form as oracle
from mechopt.formulations.fair_value.federated.program import declare
from mechopt.formulations.fair_value.members import members
from mechopt.formulations.fair_value.shapley import FairValue
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.program import Program
from mechopt.solvers.solution import Solution

Array = NDArray[np.float64]

MOST_COUNTS = 2**24
"""Vectors of counts up to which a monotone cover is taken."""


@dataclass(frozen=True, eq=False)
class EstimatorWeights:
    """The estimator of one user's mean.

    Attributes
    ----------
    federated_weight : float
        Weight of the average of federated users; 0 if there is none.
    direct_weights : array, shape (n_direct,)
        Weights of the users that share directly.
    direct_users : array of int, shape (n_direct,)
        Who they are.
    per_user : array, shape (n_users,)
        What each user's own data weigh, 0 for those that do not share; they sum to 1.
    emse : float
        Expected squared error with these weights, by its definition.
    solution : Solution or None
        The solved program, if a backend was asked for.
    """

    federated_weight: float
    direct_weights: Array
    direct_users: NDArray[np.intp]
    per_user: Array
    emse: float
    solution: Solution | None = None


@dataclass(frozen=True, eq=False, repr=False)
class FederatedMeanEstimation:
    r"""Estimation of the mean of each user, who shares its data directly, in an average, or not.

    User i draws :math:`n_i` samples of mean :math:`\theta_i`, and the platform wants all :math:`\theta_i`. It
    sees the sample means of users at level 2, the plain average of those of users at level 1, and nothing of
    users at level 0. Means vary among users with variance :math:`s^2`, samples around them with variance
    :math:`t^2` on average.

    Parameters
    ----------
    levels : array of int, shape (n_users,)
        0 (no data), 1 (federated) or 2 (direct); a larger one is *less* private.
    num_samples : int, or array of int, shape (n_users,)
        Samples :math:`n_i \ge 1`; one number stands for all.
    between_user_variance : float
        :math:`s^2 = \operatorname{Var}(\theta_i) > 0`.
    within_user_variance : float
        :math:`t^2 = E \sigma_i^2 > 0`.
    importance : float, or array, shape (n_users,), optional
        How much the platform cares about each mean, :math:`a_i \ge 0`; default 1.

    Raises
    ------
    InvalidInput
        If an argument breaks its rule; the message names it, the index, the value and the rule.

    References
    ----------
    "The Fair Value of Data Under Heterogeneous Privacy Constraints in Federated Learning", section 4,
    (14)-(17), and Propositions 4 and 5.

    Examples
    --------
    >>> estimation = FederatedMeanEstimation(
    ...     [2, 1, 1, 0], [10, 10, 40, 5], between_user_variance=1.0, within_user_variance=10.0
    ... )
    >>> estimation.emse().round(4).tolist()
    [0.6444, 0.7778, 0.7778, 1.5778]
    >>> weights = estimation.weights(0)
    >>> round(weights.federated_weight, 4), weights.direct_weights.round(4).tolist()
    (0.3556, [0.6444])
    >>> round(estimation.utility(), 4)
    10.4256
    """

    levels: NDArray[np.intp]
    num_samples: Array
    between_user_variance: float
    within_user_variance: float
    importance: Array | None = None

    def __post_init__(self) -> None:
        levels = _levels(self.levels)
        n_users = levels.size
        samples = _one_each(self.num_samples, "num_samples", n_users)
        wrong = ~((samples >= 1) & (samples == np.floor(samples)))
        if np.any(wrong):
            index = int(np.argmax(wrong))
            raise InvalidInput(
                f"num_samples[{index}] = {samples[index]:g} must be a whole number >= 1; a user that "
                "gives no data has level 0"
            )
        importance = _one_each(1.0 if self.importance is None else self.importance, "importance", n_users)
        if np.any(importance < 0):
            index = int(np.argmax(importance < 0))
            raise InvalidInput(f"importance[{index}] = {importance[index]:g} must be >= 0")
        for name, value in (("levels", levels), ("num_samples", samples), ("importance", importance)):
            object.__setattr__(self, name, value)
        for name in ("between_user_variance", "within_user_variance"):
            object.__setattr__(self, name, checks.positive(getattr(self, name), name))

    def __repr__(self) -> str:
        private, federated, direct = (int(np.sum(self.levels == level)) for level in (0, 1, 2))
        return (
            f"FederatedMeanEstimation({private} private, {federated} federated, {direct} direct users, "
            f"{self.num_samples.min():g} to {self.num_samples.max():g} samples, "
            f"between_user_variance={self.between_user_variance:g}, "
            f"within_user_variance={self.within_user_variance:g})"
        )

    @property
    def n_users(self) -> int:
        """Number of users, N."""
        return int(self.levels.size)

    # ------------------------------------------------------------------ estimators

    def program(self, user: int) -> Program:
        r"""Declare the estimator of a user's mean as a convex quadratic program.

        Parameters
        ----------
        user : int
            Whose mean is estimated.

        Returns
        -------
        Program
            With variables ``federated_weight`` (if somebody is federated) and ``direct_weights`` of shape
            (n_direct,) (if somebody shares directly), expressions ``user_weights`` of shape (n_users,) and
            ``emse``, and family ``total_weight``.

        Raises
        ------
        InvalidInput
            If there is no such user, or nobody shares data.

        References
        ----------
        Equations (14), (16) and (55).

        Examples
        --------
        >>> estimation = FederatedMeanEstimation([2, 2, 1, 0], 10, 1.0, 10.0)
        >>> program = estimation.program(3)
        >>> program = program.add("no more than", program["direct_weights"] <= 0.3)
        >>> solution = program.solve("clarabel")
        >>> round(solution.objective, 4), solution["direct_weights"].round(4).tolist()
        (1.68, [0.3, 0.3])
        """
        self._user(user)
        if not self._shared:
            raise InvalidInput(
                "nobody shares data (all levels are 0), so there is nothing to weigh; the error is "
                "t^2 + 2 s^2 by convention"
            )
        return declare(self, user)

    def weights(self, user: int, backend: str | None = None, **options: Any) -> EstimatorWeights | None:
        """Compute the weights of least expected squared error.

        Parameters
        ----------
        user : int
            Whose mean is estimated.
        backend : str, optional
            Solve the declared program on this backend; by default, evaluate Proposition 5.
        **options
            See `Program.solve`.

        Returns
        -------
        EstimatorWeights or None
            None if nobody shares data.

        References
        ----------
        Proposition 5, (58)-(63).
        """
        self._user(user)
        if backend is None and options:
            raise InvalidInput(f"without a backend there are no options, got {', '.join(options)}")
        if not self._shared:
            return None
        solution = None
        federated, direct = np.flatnonzero(self.levels == 1), np.flatnonzero(self.levels == 2)
        if backend is None:
            average, single = oracle.optimal_weights(
                self.levels, self.num_samples, self.between_user_variance, self.within_user_variance, user
            )
        else:
            solution = self.program(user).solve(backend, **options)
            average = float(solution["federated_weight"]) if federated.size else 0.0
            single = np.asarray(solution["direct_weights"]) if direct.size else np.zeros(0)
        per_user = np.zeros(self.n_users)
        per_user[federated] = average / max(federated.size, 1)
        per_user[direct] = single
        return EstimatorWeights(
            average, single, direct, per_user, self.error_of_weights(user, per_user), solution
        )

    def error_of_weights(self, user: int, weights: ArrayLike) -> float:
        r"""Compute the expected squared error of any linear estimate of a user's mean, by (55).

        .. math:: t^2 \sum_j \frac{v_j^2}{n_j} + s^2 \Bigl( (1 - v_i)^2 + \sum_{j \ne i} v_j^2 \Bigr)

        Parameters
        ----------
        user : int
            Whose mean is estimated.
        weights : array, shape (n_users,)
            Weight of each user's sample mean; they must sum to 1, so that the common mean drops out.

        Returns
        -------
        float
        """
        i = self._user(user)
        v = checks.vector(weights, "weights")
        if v.size != self.n_users:
            raise InvalidInput(f"weights has {v.size} entries for {self.n_users} users; give one each")
        total = float(v.sum())
        # Solvers meet the sum to a tolerance; what is off by more is no estimate of a mean.
        if not abs(total - 1) <= 1e-4:
            raise InvalidInput(f"weights must sum to 1, but they sum to {total:.9g}")
        target = (np.arange(self.n_users) == i).astype(float)
        noise = self.within_user_variance / self.num_samples
        return float(noise @ v**2 + self.between_user_variance * np.sum((v - target) ** 2))

    @overload
    def emse(self, user: None = None, *, coalition: ArrayLike | Iterable[int] | None = None) -> Array: ...

    @overload
    def emse(self, user: int, *, coalition: ArrayLike | Iterable[int] | None = None) -> float: ...

    def emse(
        self, user: int | None = None, *, coalition: ArrayLike | Iterable[int] | None = None
    ) -> Array | float:
        """Compute the least expected squared error of the estimate of each mean, or of one.

        Parameters
        ----------
        user : int, optional
            Whose mean is estimated; default all.
        coalition : iterable of int, or array of bool of shape (n_users,), optional
            Users that take part; the others are at level 0. Default: everybody.

        Returns
        -------
        array, shape (n_users,), or float
            All are t^2 + 2 s^2, by convention, if nobody shares.

        References
        ----------
        (54) as corrected, with the weights of Proposition 5.
        """
        levels = np.where(members(coalition, self.n_users), self.levels, 0)
        every = oracle.errors(levels, self.num_samples, self.between_user_variance, self.within_user_variance)
        return every if user is None else float(every[self._user(user)])

    # ------------------------------------------------------------------ what data are worth

    def utility(
        self, coalition: ArrayLike | Iterable[int] | None = None, *, monotone_cover: bool = False
    ) -> float:
        r"""Compute what the estimates are worth, :math:`U = \sum_i a_i \log((t^2 + 2 s^2) / EMSE_i)`.

        Parameters
        ----------
        coalition : iterable of int, or array of bool of shape (n_users,), optional
            Users that take part; the others are at level 0. Default: everybody.
        monotone_cover : bool
            Take the best that the members can reach if some of them stay away. A federated user makes the
            plain average worse if its data are few, so that U itself is not monotone.

        Returns
        -------
        float
            0 if nobody shares. The sum is over all users, whoever takes part.

        References
        ----------
        (17), whose sum runs to N.
        """
        mask = members(coalition, self.n_users)
        if not monotone_cover:
            start = self.within_user_variance + 2 * self.between_user_variance
            errors = self.emse(coalition=mask)
            assert self.importance is not None  # set in __post_init__
            return float(self.importance @ np.log(start / errors))
        if not np.any(mask & (self.levels > 0)):
            return 0.0
        present = np.bincount(self._kind_of[mask & (self.levels > 0)], minlength=len(self._kinds.sizes))
        return float(self._table(present.tolist()).max())

    def fair_value(self, payment_share: float = 1.0, *, monotone_cover: bool = False) -> Array:
        r"""Compute the fair value of each user's data, exactly, by counting users that are alike.

        .. math:: \phi_i = \frac{\alpha}{N} \sum_{S \not\ni i} \binom{N-1}{|S|}^{-1}
           \bigl( U(S \cup \{i\}) - U(S) \bigr)

        Users are alike if they share level, number of samples and importance.

        Parameters
        ----------
        payment_share : float
            Fraction :math:`\alpha` of the utility that is paid to users, in [0, 1].
        monotone_cover : bool
            Value the monotone cover of the utility: see `utility`. No value is then negative.

        Returns
        -------
        array, shape (n_users,)
            In units of utility; the sum is payment_share times the utility. Values can be negative without
            the cover: a federated user with few data makes everybody's estimates worse.

        Raises
        ------
        InvalidInput
            If users are of too many kinds to count coalitions; see `mo.FairValue` for sampling.

        References
        ----------
        Theorem 2, (12), for the utility (17).

        Examples
        --------
        >>> estimation = FederatedMeanEstimation([2, 1, 1, 0], [10, 10, 40, 5], 1.0, 10.0)
        >>> estimation.fair_value().round(4).tolist()
        [3.3387, 2.6051, 4.4818, 0.0]
        """
        values = np.zeros(self.n_users)
        share = checks.nonnegative(payment_share, "payment_share")
        # Users at level 0 add nothing: their value is 0, and without them the others' is the same.
        sharing = self.levels > 0
        if np.any(sharing):
            game = FairValue(
                lambda counts: self._of_counts(counts.T),
                group_sizes=self._kinds.sizes,
                payment_share=share,
                vectorized=True,
            )
            if monotone_cover:
                game = game.monotone_cover()
            division = game.solve(method="groups")
            values[sharing] = division.group_values[self._kind_of[sharing]]
        values.setflags(write=False)
        return values

    @property
    def _shared(self) -> bool:
        return bool(np.any(self.levels > 0))

    @cached_property
    def _kinds(self) -> oracle.Kinds:
        """Kinds of users that share: those of one level, number of samples and importance."""
        return self._sorted_by_kind[0]

    @cached_property
    def _kind_of(self) -> NDArray[np.intp]:
        """Kind of each user, shape (n_users,); -1 at level 0."""
        return self._sorted_by_kind[1]

    @cached_property
    def _sorted_by_kind(self) -> tuple[oracle.Kinds, NDArray[np.intp]]:
        assert self.importance is not None  # set in __post_init__
        sharing = self.levels > 0
        rows = np.stack([self.levels.astype(float), self.num_samples, self.importance], axis=1)[sharing]
        alike, place, sizes = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
        kind_of = np.full(self.n_users, -1)
        kind_of[sharing] = place.ravel()
        kinds = oracle.Kinds(
            levels=tuple(int(level) for level in alike[:, 0]),
            num_samples=alike[:, 1],
            importance=alike[:, 2],
            sizes=tuple(int(size) for size in sizes),
            outside_importance=float(self.importance[~sharing].sum()),
        )
        return kinds, kind_of

    def _of_counts(self, counts: Any) -> Array:
        return oracle.utility_on_counts(
            self._kinds, self.between_user_variance, self.within_user_variance, counts
        )

    def _table(self, most: list[int]) -> Array:
        """Utility for all numbers of members of each kind, up to ``most``."""
        n_counts = prod(size + 1 for size in most)
        if n_counts > MOST_COUNTS:
            raise InvalidInput(
                f"the users are of so many kinds that there are {n_counts} vectors of counts, more than "
                f"{MOST_COUNTS}; give users the same num_samples and importance, or do without monotone_cover"
            )
        return self._of_counts(
            np.meshgrid(*(np.arange(size + 1.0) for size in most), indexing="ij", sparse=True)
        )

    def _user(self, user: Any) -> int:
        whole = isinstance(user, int | np.integer) and not isinstance(user, bool)
        if not whole or not 0 <= user < self.n_users:
            raise InvalidInput(f"user = {user!r}; users are numbered 0 to {self.n_users - 1}")
        return int(user)


def _levels(value: ArrayLike) -> NDArray[np.intp]:
    levels = checks.vector(value, "levels")
    if levels.size == 0:
        raise InvalidInput("levels is empty; give at least one user's, 0, 1 or 2")
    wrong = ~np.isin(levels, (0, 1, 2))
    if np.any(wrong):
        index = int(np.argmax(wrong))
        raise InvalidInput(
            f"levels[{index}] = {levels[index]:g} must be 0 (no data), 1 (federated) or 2 (direct)"
        )
    whole = levels.astype(np.intp)
    whole.setflags(write=False)
    return whole


def _one_each(value: ArrayLike, name: str, n_users: int) -> Array:
    """One finite number a user; a single one stands for all."""
    array = checks.vector(np.full(n_users, value) if np.ndim(value) == 0 else value, name)
    if array.size != n_users:
        raise InvalidInput(
            f"{name} has {array.size} entries for {n_users} users; give one each, or one number"
        )
    checks.all_finite(array, name)
    return array
