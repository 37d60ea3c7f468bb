"""What leaks: formula against elimination, updates, tables, and the structure of sets."""

import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.data_externality import leakage
from mechopt.formulations.data_externality.families import EVERY, random_covariance
from tests.oracles.data_externality import Definition

SUPPRESSOR = np.array([[1.0, 0.5, 0.0], [0.5, 1.0, 0.8], [0.0, 0.8, 1.0]])
"""User 2 tells nothing of user 0, and what user 1 tells of it the better."""


def sets_of(n):
    return (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(bool)


@pytest.mark.parametrize("kind", EVERY)
def test_formula_posterior_and_elimination_agree(kind):
    rng = np.random.default_rng(1)
    for _ in range(8):
        covariance = random_covariance(rng, kind, 5)
        plain = Definition(covariance.tolist(), [0.0] * 5)
        scale = covariance.max()
        for sharing in sets_of(5):
            leaked = leakage.leaked_information(covariance, sharing)
            posterior = leakage.posterior_covariance(covariance, sharing)
            by_hand = [plain.leak(i, frozenset(np.flatnonzero(sharing).tolist())) for i in range(5)]
            # Matrices of order five and condition below 1e3.
            np.testing.assert_allclose(leaked, by_hand, atol=1e-12 * scale)
            np.testing.assert_allclose(np.diag(covariance - posterior), by_hand, atol=1e-12 * scale)


def test_noise_is_a_unit():
    """I(Sigma; N) = N I(Sigma / N; 1), against the definition with that noise."""
    rng = np.random.default_rng(2)
    for noise in (0.1, 3.0):
        covariance = random_covariance(rng, "dense", 4)
        plain = Definition(covariance.tolist(), [0.0] * 4, noise)
        model = mo.DataExternality(covariance, np.zeros(4), noise_variance=noise)
        for sharing in sets_of(4):
            by_hand = [plain.leak(i, frozenset(np.flatnonzero(sharing).tolist())) for i in range(4)]
            np.testing.assert_allclose(model.leaked_information(sharing), by_hand, atol=1e-13)


def test_nobody_shares_nothing_leaks():
    assert not leakage.leaked_information(SUPPRESSOR, np.zeros(3, dtype=bool)).any()


def test_of_oneself_half_a_unit():
    """Variance 1 and noise 1: own data halve the variance."""
    assert leakage.leaked_information(np.eye(1), np.ones(1, dtype=bool)) == pytest.approx([0.5], abs=1e-15)


@pytest.mark.parametrize("kind", EVERY)
def test_updates_undo_each_other(kind):
    rng = np.random.default_rng(3)
    covariance = random_covariance(rng, kind, 6)
    sharing = np.array([1, 0, 1, 0, 0, 1], dtype=bool)
    before = leakage.posterior_covariance(covariance, sharing)
    for user in range(6):
        other = sharing.copy()
        other[user] ^= True
        update = leakage.remove_user if sharing[user] else leakage.add_user
        after = update(before, user)
        np.testing.assert_allclose(after, leakage.posterior_covariance(covariance, other), atol=1e-11)
        back = leakage.add_user if sharing[user] else leakage.remove_user
        np.testing.assert_allclose(back(after, user), before, atol=1e-11)


def test_who_does_not_share_cannot_stop():
    with pytest.raises(mo.InvalidInput, match=r"posterior\[1, 1\] = 2 is not below 1: user 1 does not share"):
        leakage.remove_user(np.diag([0.5, 2.0]), 1)


@pytest.mark.parametrize("kind", EVERY)
def test_doubt_is_one_less_weighted_variances(kind):
    rng = np.random.default_rng(12)
    covariance = random_covariance(rng, kind, 4)
    for weights in (rng.uniform(0, 1, 4), np.array([1.0, 0.0, 1.0, 0.2]), np.zeros(4)):
        posterior, doubt = leakage.posterior_and_doubt(covariance, weights)
        np.testing.assert_allclose(doubt, 1 - weights * np.diag(posterior), atol=1e-12)
        np.testing.assert_allclose(posterior, posterior.T, atol=1e-12 * covariance.max())


def test_variances_and_doubts_of_all_sets():
    covariance = random_covariance(np.random.default_rng(13), "dense", 5)
    start = np.array([0, 1, 0, 0, 0], dtype=bool)
    variances, doubts = leakage.variances_and_doubts(
        *leakage.posterior_and_doubt(covariance, start), np.array([4, 0, 2])
    )
    for row, bits in enumerate(sets_of(3)):
        sharing = start.copy()
        sharing[[4, 0, 2]] = bits
        posterior, doubt = leakage.posterior_and_doubt(covariance, sharing)
        np.testing.assert_allclose(variances[row], np.diag(posterior), atol=1e-13)
        np.testing.assert_allclose(doubts[row], doubt, atol=1e-13)


def test_posteriors_of_many_weights_at_once():
    rng = np.random.default_rng(4)
    covariance = random_covariance(rng, "singular", 5)
    weights = rng.uniform(0, 1, (7, 5))
    many = leakage.posterior_covariance(covariance, weights)
    for one, weight in zip(many, weights, strict=True):
        np.testing.assert_allclose(one, leakage.posterior_covariance(covariance, weight), atol=1e-13)


@pytest.mark.parametrize("kind", ["dense", "singular"])
def test_variances_are_convex_with_the_gradient_of_the_spec(kind):
    rng = np.random.default_rng(5)
    covariance = random_covariance(rng, kind, 5)
    for _ in range(20):
        at, to = rng.uniform(0, 1, (2, 5))
        posterior = leakage.posterior_covariance(covariance, at)
        beyond = np.diag(leakage.posterior_covariance(covariance, to))
        tangent = np.diag(posterior) - posterior**2 @ (to - at)
        assert np.all(beyond >= tangent - 1e-12 * covariance.max())
        step = 1e-6 * (to - at)
        moved = np.diag(leakage.posterior_covariance(covariance, at + step) - posterior)
        # Second-order terms of a step of 1e-6.
        np.testing.assert_allclose(moved, -(posterior**2) @ step, atol=1e-9 * covariance.max() ** 3)


@pytest.mark.parametrize(
    ("kind", "n"), [(kind, n) for kind in EVERY for n in (1, 3, 6) if kind != "suppressor" or n >= 3]
)
def test_table_is_set_by_set(kind, n):
    covariance = random_covariance(np.random.default_rng(6), kind, n)
    table = leakage.leak_table(covariance)
    for leaked, sharing in zip(table, sets_of(n), strict=True):
        np.testing.assert_allclose(
            leaked, leakage.leaked_information(covariance, sharing), atol=1e-12 * covariance.max()
        )


def test_tables_have_a_limit():
    with pytest.raises(mo.InvalidInput, match=r"all sets of 21 users .* at most 20 users"):
        leakage.leak_table(np.eye(21))


# ------------------------------------------------------------ structure


@pytest.mark.parametrize("kind", EVERY)
def test_leaks_are_monotone(kind):
    rng = np.random.default_rng(7)
    for _ in range(10):
        assert leakage.monotonicity_violation(leakage.leak_table(random_covariance(rng, kind, 5))) is None


def test_suppressor_is_found():
    """I_1({2}) = .125 and I_1({2, 3}) = .148810, though I_1({3}) = 0, in the paper's labels."""
    found = leakage.submodularity_violation(leakage.leak_table(SUPPRESSOR)[:, 0])
    assert (found.base, {found.added, found.context}) == (frozenset(), {1, 2})
    assert found.amount == pytest.approx(0.148810 - 0.125, abs=5e-7)


def test_planted_violations_are_found():
    """Sizes of sets are modular; one value lowered breaks both properties where it is."""
    sizes = sets_of(4).sum(axis=1).astype(float)
    assert leakage.monotonicity_violation(sizes) is None
    assert leakage.submodularity_violation(sizes) is None
    for mask in (0b0110, 0b1111, 0b0001):
        table = sizes.copy()
        table[mask] -= 1.5
        found = leakage.monotonicity_violation(table)
        assert found.amount == pytest.approx(0.5)
        assert sum(1 << user for user in found.base | {found.added}) == mask
        curved = leakage.submodularity_violation(table)
        if mask == 0b1111:
            assert curved is None  # the last set being worth less is submodular
            continue
        bits = {user for user in range(4) if mask >> user & 1}
        corners = (curved.base, curved.base | {curved.added, curved.context})
        assert curved.amount == pytest.approx(1.5)
        # A set that is too low is between the others of its square.
        assert frozenset(bits) in (curved.base | {curved.added}, curved.base | {curved.context})
        assert frozenset(bits) not in corners


def test_amounts_are_the_differences_at_the_witness():
    rng = np.random.default_rng(8)
    found_some = 0
    for _ in range(20):
        covariance = random_covariance(rng, "dense", 4)
        table = leakage.leak_table(covariance)
        found = leakage.submodularity_violation(table)
        if found is None:
            continue
        found_some += 1
        plain = Definition(covariance.tolist(), [0.0] * 4)

        def leak(*more, found=found, plain=plain):
            return plain.leak(found.of, found.base | set(more))

        with_context = leak(found.added, found.context) - leak(found.context)
        assert found.amount == pytest.approx(with_context - (leak(found.added) - leak()), abs=1e-12)
    assert found_some >= 10


def test_tables_of_another_shape_are_refused():
    with pytest.raises(
        mo.InvalidInput, match=r"shape \(3,\); it must have a row for each of 2\^n_users sets"
    ):
        leakage.submodularity_violation(np.zeros(3))


@pytest.mark.parametrize("kind", ["mtp2", "equicorrelated"])
def test_mtp2_makes_all_leaks_submodular(kind):
    rng = np.random.default_rng(9)
    seen = 0
    for _ in range(25):
        covariance = random_covariance(rng, kind, 5)
        if leakage.is_mtp2(covariance):
            seen += 1
            assert leakage.submodularity_violation(leakage.leak_table(covariance)) is None
    assert seen >= 15


def test_mtp2_by_the_definition():
    """Sign by sign, off-diagonal entries of the inverse."""
    rng = np.random.default_rng(10)
    answers = set()
    for kind in ("dense", "mtp2", "suppressor", "equicorrelated"):
        for _ in range(10):
            covariance = random_covariance(rng, kind, 3)
            precision = np.linalg.inv(covariance)
            flips = [np.outer(s, s) for s in np.array(np.meshgrid(*[[1, -1]] * 3)).reshape(3, -1).T]
            off = ~np.eye(3, dtype=bool)
            expected = any(np.all((flip * precision)[off] <= 1e-9) for flip in flips)
            signs = leakage.mtp2_signs(covariance)
            assert (signs is not None) is expected
            if expected:
                assert np.all((np.outer(signs, signs) * precision)[off] <= 1e-6)
            answers.add(expected)
    assert answers == {True, False}


def test_mtp2_of_singular_covariances():
    ones = np.outer([1, -1, 1, 1], [1, -1, 1, 1]).astype(float)
    assert leakage.mtp2_signs(ones).tolist() == [1, -1, 1, 1]
    assert leakage.is_mtp2(np.eye(3))
    # Three vectors in a plane, 120 degrees apart: no signs make all correlations positive.
    angles = 2 * np.pi / 3 * np.arange(3)
    assert not leakage.is_mtp2(np.cos(np.subtract.outer(angles, angles)))


@pytest.mark.parametrize("kind", EVERY)
def test_information_gain_is_submodular_where_leaks_are_not(kind):
    covariance = random_covariance(np.random.default_rng(11), kind, 5)
    gains = np.array([leakage.information_gain(covariance, sharing) for sharing in sets_of(5)])
    assert gains[0] == 0
    assert leakage.monotonicity_violation(gains) is None
    assert leakage.submodularity_violation(gains) is None


def test_information_gain_of_one_user():
    assert leakage.information_gain(np.array([[3.0]]), np.ones(1, dtype=bool)) == pytest.approx(np.log(4) / 2)
