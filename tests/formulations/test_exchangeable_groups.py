"""Counting users who are alike: equal to the full covariance, the numbers of Example 3, and bad input."""

import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.data_externality import counting, duopoly, examples, policy, users
from mechopt.formulations.data_externality.groups import ExchangeableGroups


def random_groups(rng, *, most_users=8):
    """Groups with correlations of any sign, negative within some, as far as there are such types."""
    while True:
        n_groups = int(rng.integers(1, 4))
        across = rng.uniform(-0.5, 0.7, (n_groups, n_groups))
        sizes = rng.integers(1, 5, n_groups)
        if sizes.sum() > most_users:
            continue

        def utility(group, joined):
            return 4.0 + 0.1 * sum(joined) + 0.05 * (group + 1) * joined[0]

        try:
            return ExchangeableGroups(
                sizes,
                rng.uniform(-0.4, 0.9, n_groups),
                (across + across.T) / 2,
                rng.uniform(0.8, 3, n_groups),
                rng.uniform(0.6, 1.6, n_groups),
                noise_variance=float(rng.choice([1.0, 0.5])),
                spillover=float(rng.choice([0.0, 0.3, 1.0])),
                joining_utility=rng.choice([None, utility]),
            )
        except mo.InvalidInput:
            continue


@pytest.fixture(params=range(12))
def pair(request):
    with pytest.MonkeyPatch.context() as patch:
        # The full model warns of services that do not cover all that can leak; here that does not matter.
        patch.setattr(mo.DataExternality, "_broken_assumption", lambda self: "")
        groups = random_groups(np.random.default_rng(request.param))
        yield groups, groups.full()


def who(groups, counts):
    """The first so many users of each group."""
    return np.concatenate([np.arange(size) < count for size, count in zip(groups.sizes, counts, strict=True)])


# ------------------------------------------------------------ against the full covariance


def test_families_differ():
    drawn = [random_groups(np.random.default_rng(seed)) for seed in range(12)]
    assert any(groups.n_groups == 3 for groups in drawn)
    assert any(np.linalg.eigvalsh(groups._common_and_own[0])[0] < -1e-3 for groups in drawn), "C indefinite"
    assert any(np.any((groups.within < 0) & (groups.sizes > 1)) for groups in drawn)
    bought = [groups.monopoly() for groups in drawn]
    assert any(np.any((b.sharing > 0) & (b.sharing < b.joined)) for b in bought), "some of a group share"


def test_leaks(pair):
    groups, full = pair
    start = np.cumsum([0, *groups.sizes[:-1]])
    for counts in counting.grid_of(groups.sizes)[::3]:
        leaks = groups.leaked_information(counts)
        expected = full.leaked_information(who(groups, counts))
        for g in range(groups.n_groups):
            if counts[g]:
                assert leaks.sharers[g] == pytest.approx(expected[start[g]], abs=1e-11)
            else:
                assert np.isnan(leaks.sharers[g])
            if counts[g] < groups.sizes[g]:
                assert leaks.others[g] == pytest.approx(expected[start[g] + counts[g]], abs=1e-11)
            else:
                assert np.isnan(leaks.others[g])
        assert groups.data_surplus(counts) == pytest.approx(full.data_surplus(who(groups, counts)), abs=1e-10)


def test_purchases(pair):
    groups, full = pair
    game = full.duopoly()
    for joined in counting.grid_of(groups.sizes)[::4]:
        members = frozenset(np.flatnonzero(who(groups, joined)).tolist())
        bought, outcome = groups.solve(joined), game.outcome(members)
        assert bought.profit == pytest.approx(outcome.profit, abs=1e-10)
        starts = np.cumsum([0, *groups.sizes[:-1]])
        if bought.n_ties == 1:
            np.testing.assert_array_equal(
                np.add.reduceat(outcome.sharing.astype(int), starts), bought.sharing
            )
            assert np.nansum(bought.sharing * np.nan_to_num(bought.prices)) == pytest.approx(
                outcome.price.sum(), abs=1e-10
            )
            weight = np.where(who(groups, joined), 1.0, groups.spillover) * (1 - full.value_of_privacy)
            assert bought.data_surplus == pytest.approx(weight @ outcome.leaked, abs=1e-10)
            service = sum(full.service(user, members) for user in members)
            assert bought.social_surplus == pytest.approx(bought.data_surplus + service, abs=1e-10)


@pytest.mark.parametrize("n_platforms", [2, 3])
def test_mixed_surplus_and_bound(pair, n_platforms):
    groups, full = pair
    ours, theirs = groups.duopoly(n_platforms), full.duopoly(n_platforms)
    assert ours.mixed_data_surplus == pytest.approx(theirs.mixed_data_surplus, abs=1e-9)
    assert ours.mixed_social_surplus == pytest.approx(theirs.mixed_social_surplus, abs=1e-9)
    assert groups.surplus_bound(n_platforms) == pytest.approx(
        duopoly.surplus_bound(full, n_platforms), abs=1e-9
    )
    assert groups.printed_surplus_bound() == pytest.approx(duopoly.printed_surplus_bound(full), abs=1e-9)


def test_first_best(pair):
    groups, full = pair
    found, expected = groups.first_best(), full.first_best()
    assert found.social_surplus == pytest.approx(expected.social_surplus, abs=1e-9)
    np.testing.assert_array_equal(found.joining.sum(axis=0), groups.sizes)
    assert np.all(found.sharing <= found.joining)
    # The profile itself, user by user, has that surplus.
    joining, sharing = np.ones(full.n_users, dtype=int), np.zeros(full.n_users, dtype=bool)
    start = 0
    for g, size in enumerate(groups.sizes):
        first = found.joining[0, g]
        joining[start + first : start + size] = 2
        sharing[start : start + found.sharing[0, g]] = True
        sharing[start + first : start + first + found.sharing[1, g]] = True
        start += size
    total = 0.0
    for label in (1, 2):
        weight = np.where(joining == label, 1.0, groups.spillover) * (1 - full.value_of_privacy)
        total += weight @ full.leaked_information(sharing & (joining == label))
    assert total == pytest.approx(found.data_surplus, abs=1e-9)


def test_mediator(pair):
    groups, full = pair
    scaled = full.scaled_covariance
    learnt = scaled @ np.linalg.solve(np.eye(full.n_users) + scaled, scaled)
    values, vectors = np.linalg.eigh(learnt)
    root = vectors * np.sqrt(np.clip(values, 0, None)) @ vectors.T
    spectrum = np.linalg.eigvalsh(root @ np.diag(1 - full.value_of_privacy) @ root)
    expected = full.noise_variance * spectrum[spectrum > 0].sum()
    assert groups.mediator_surplus() == pytest.approx(expected, abs=1e-9)
    assert expected >= groups.monopoly().data_surplus - 1e-9 or groups.spillover > 0
    hidden = np.arange(groups.n_groups) == 0
    assert groups.mediator_surplus(hidden) <= groups.mediator_surplus() + 1e-9
    assert groups.mediator_surplus(np.ones(groups.n_groups)) == 0


def test_brute_force_over_all_subsets_of_twenty():
    """One platform of Example 3, by search over all sets of users and not by counts."""
    for value in (1.05, 1.3):
        groups = examples.example_3(0.1, value)
        outcome = groups.full().duopoly().outcome(frozenset(range(20)))
        bought = groups.monopoly()
        assert outcome.profit == pytest.approx(bought.profit, abs=1e-9)
        assert outcome.sharing.reshape(2, 10).sum(axis=1).tolist() == bought.sharing.tolist()


# ------------------------------------------------------------ Example 3


CURVES = {
    0.05: (5.923077, 9.912684, 10.880921),
    0.08: (2.923077, 4.481517, None),
    0.1: (2.230769, 3.228171, 3.501518),
    0.12: (1.854701, 2.547341, None),
    0.145: (1.585384, 2.059772, 2.222049),
}


def test_curves_of_figure_3():
    frame = examples.figure_3(list(CURVES))
    for r, (monopoly, two, printed) in CURVES.items():
        assert frame.monopoly[r] == pytest.approx(monopoly, abs=6e-7)
        assert frame.duopoly[r] == pytest.approx(two, abs=6e-7)
        if printed is not None:
            assert frame.theorem_4[r] == pytest.approx(printed, abs=6e-7)
        for value, surplus in (
            (frame.monopoly[r], examples.example_3(r, frame.monopoly[r]).monopoly().data_surplus),
            (frame.duopoly[r], examples.example_3(r, frame.duopoly[r]).duopoly().mixed_data_surplus),
            (frame.theorem_4[r], examples.example_3(r, frame.theorem_4[r]).printed_surplus_bound()),
        ):
            assert surplus == pytest.approx(0, abs=1e-12 * value)
    assert (frame.monopoly[0.1] - 1) * 0.01 == pytest.approx(4 / 325, rel=1e-12)
    assert (frame.duopoly[0.1] - 1) * 0.01 == pytest.approx(0.0222817106, abs=1e-10)
    assert (frame.duopoly - 1).div(frame.monopoly - 1).tolist() == pytest.approx([1.810] * 5, abs=5e-4)


def test_second_region():
    frame = examples.figure_3([0.1, 0.12, 0.13, 0.14, 0.145])
    expected = [np.nan, 1.101849, 1.131172, 1.170817, 1.195793]
    np.testing.assert_allclose(frame.second_region, expected, atol=6e-7)
    for r, switch in frame.second_region.dropna().items():
        below = examples.example_3(r, switch - 1e-6).monopoly()
        above = examples.example_3(r, switch + 1e-6).monopoly()
        assert (below.sharing.tolist(), above.sharing.tolist()) == ([10, 10], [10, 0])
        # All share: what leaks about each is the same.
        leak = below.leaked.sharers
        assert leak[0] == pytest.approx(leak[1])
        assert below.data_surplus == pytest.approx(10 * leak[0] * (0.1 - (switch - 1e-6 - 1)), abs=1e-9)
        assert below.data_surplus < 0 < above.data_surplus
    at = [examples.example_3(0.145, 1.195793 + step).monopoly().data_surplus for step in (-1e-5, 1e-5)]
    np.testing.assert_allclose(at, [-0.50, 0.33], atol=0.006)


def test_high_users_share_near_one():
    for value, shares in ((1.0001, 10), (1.060, 10), (1.068, 0), (2.0, 0)):
        assert examples.example_3(0.1, value).monopoly().sharing.tolist() == [10, shares]


def test_no_second_region_with_two_platforms():
    for r in (0.12, 0.145):
        assert all(
            examples.example_3(r, value).duopoly().mixed_data_surplus > 0
            for value in np.arange(1.01, 1.4, 0.03)
        )


def test_mediator_of_example_3():
    groups = examples.example_3(0.1, 3.0)
    assert groups.monopoly().data_surplus == pytest.approx(-0.313972, abs=6e-7)
    assert groups.mediator_surplus() == pytest.approx(0.443352, abs=6e-7)
    assert groups.mediator_surplus([0, 1]) == pytest.approx(0.442394, abs=6e-7)


def test_correlations_of_example_3_end_at_145():
    examples.example_3(0.145, 2.0)
    with pytest.raises(
        mo.InvalidInput, match=r"not positive semidefinite: its smallest eigenvalue is -0.01;"
    ):
        examples.example_3(0.146, 2.0)
    with pytest.raises(mo.InvalidInput, match=r"0.15 must be at most 0.145"):
        examples.zero_surplus_value(0.15)
    with pytest.raises(mo.InvalidInput, match="correlation must be a finite number > 0"):
        examples.figure_3([0.0])


def test_large_groups():
    groups = ExchangeableGroups([50, 50, 50], 0.02, 0.01, 1.0, [0.9, 1.02, 1.1])
    bought = groups.monopoly()
    assert bought.sharing[0] == 50
    assert bought.sharing[1] >= bought.sharing[2]
    others = ExchangeableGroups([50, 50, 50], 0.02, 0.01, 1.0, [0.9, 1.1, 1.02]).monopoly()
    assert others.profit == pytest.approx(bought.profit, rel=1e-12)
    two = examples.example_3(0.04, 1.5)
    larger = ExchangeableGroups([30, 30], two.within, two.across, two.variances, two.value_of_privacy)
    assert larger.surplus_bound() >= larger.duopoly().mixed_data_surplus > 0


# ------------------------------------------------------------ one group, ties, repr, bad input


def test_one_group_of_one():
    groups = ExchangeableGroups([1], within=-7.0, across=0.0, variances=2.0, value_of_privacy=[0.5])
    bought = groups.monopoly()
    assert bought.leaked.sharers[0] == pytest.approx(4 / 3)
    assert bought.prices[0] == pytest.approx(0.5 * 4 / 3)
    assert groups.duopoly().mixed_data_surplus == pytest.approx(0.5 * 4 / 3)


def test_merged_groups_are_one():
    one = ExchangeableGroups([6], 0.3, 0.0, 1.0, [1.05])
    two = ExchangeableGroups([2, 4], 0.3, 0.3, 1.0, [1.05, 1.05])
    assert one.monopoly().profit == pytest.approx(two.monopoly().profit, rel=1e-12)
    assert one.duopoly().mixed_data_surplus == pytest.approx(two.duopoly().mixed_data_surplus, rel=1e-9)
    assert two.monopoly().sharing.sum() == one.monopoly().sharing.sum()


def test_table_and_repr():
    groups = examples.example_3(0.1, 3.0)
    bought = groups.monopoly()
    frame = bought.to_frame()
    assert frame.sharing.tolist() == [10, 0]
    assert np.isnan(frame.price[1])
    assert "[10, 0] of [10, 10] share" in repr(bought)
    assert "sizes [10, 10]" in repr(groups)
    assert "2 platforms" in repr(groups.duopoly())
    with pytest.raises(mo.NotApplicable, match="full"):
        _ = groups.duopoly().pure_equilibria


GOOD = {"sizes": [3, 2], "within": 0.1, "across": 0.05, "variances": 1.0, "value_of_privacy": [0.5, 2.0]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sizes": []}, "sizes is empty"),
        ({"sizes": [3, 0]}, r"sizes\[1\] = 0 must be a whole number >= 1"),
        ({"sizes": [3, 1.5]}, r"sizes\[1\] = 1.5"),
        ({"sizes": [3, np.inf]}, r"sizes\[1\] = inf"),
        ({"within": [0.1, 0.2, 0.3]}, "within has 3 entries for 2 groups"),
        ({"within": [0.1, np.nan]}, r"within\[1\] is nan"),
        ({"within": 1.5}, r"within\[0\] = 1.5 is above the variance 1 of group 0"),
        ({"within": [-0.6, 0.1]}, "smallest eigenvalue is -0.2"),
        ({"across": 0.9}, "lower within or across"),
        (
            {"across": [[0, 0.1], [0.2, 0]]},
            r"across is not symmetric: entry \[0, 1\] is 0.1, and \[1, 0\] is 0.2",
        ),
        ({"across": [0.1, 0.2]}, r"across has shape \(2,\)"),
        ({"variances": [1.0, -1.0]}, r"variances\[1\] = -1 must be > 0"),
        ({"value_of_privacy": [0.5, -2.0]}, r"value_of_privacy\[1\] = -2 must be >= 0"),
        ({"noise_variance": 0.0}, "noise_variance must be a finite number > 0"),
        ({"spillover": 1.2}, r"spillover = 1.2 must be in \[0, 1\]"),
        ({"joining_utility": [1.0, -1.0]}, r"joining_utility\[1\] = -1 must be >= 0"),
    ],
)
def test_bad_parameters(change, said):
    with pytest.raises(mo.InvalidInput, match=said):
        ExchangeableGroups(**(GOOD | change))


def test_bad_counts_and_sizes():
    groups = ExchangeableGroups(**GOOD)
    with pytest.raises(mo.InvalidInput, match=r"sharing\[1\] = 3 must be a whole number from 0 to 2"):
        groups.leaked_information([0, 3])
    with pytest.raises(mo.InvalidInput, match=r"joined\[0\] = 0.5"):
        groups.solve([0.5, 0])
    with pytest.raises(mo.InvalidInput, match="sharing has 1 entries for 2 groups"):
        groups.data_surplus([1])
    with pytest.raises(mo.InvalidInput, match="n_platforms"):
        groups.duopoly(1)
    broken = ExchangeableGroups(**GOOD, joining_utility=lambda group, joined: -1.0)
    with pytest.raises(mo.InvalidInput, match=r"joining_utility\(0, \[3, 2\]\) = -1"):
        broken.monopoly()
    large = ExchangeableGroups([200, 200, 200], 0.01, 0.01, 1.0, [1.1, 1.2, 1.3])
    for ask in (large.monopoly, large.first_best, lambda: large.duopoly().mixed_data_surplus):
        with pytest.raises(mo.InvalidInput, match="merge groups of high-value users"):
            ask()


# ------------------------------------------------------------ users at given prices, and policy


def test_payoffs(pair):
    groups, full = pair
    bought = groups.monopoly()
    chosen, everybody = who(groups, bought.sharing), np.ones(full.n_users, dtype=bool)
    expected = users.payoffs(full, everybody, chosen, np.repeat(np.nan_to_num(bought.prices), groups.sizes))
    group = np.repeat(np.arange(groups.n_groups), groups.sizes)
    got = np.where(chosen, bought.payoffs.sharers[group], bought.payoffs.others[group])
    np.testing.assert_allclose(got, expected, atol=1e-10)
    assert np.array_equal(np.isnan(bought.payoffs.sharers), bought.sharing == 0)
    assert np.array_equal(np.isnan(bought.payoffs.others), bought.sharing == groups.sizes)


def test_users_at_given_prices(pair):
    groups, full = pair
    rng = np.random.default_rng(full.n_users)
    # From prices that nobody would take to prices that all would.
    for share in (0.0, 0.4, 0.8, 1.2):
        prices = share * rng.uniform(0.7, 1.0, groups.n_groups) * groups.value_of_privacy * groups.variances
        found = groups.user_equilibria(prices)
        by_user = full.user_equilibria(np.repeat(prices, groups.sizes))
        np.testing.assert_array_equal(who(groups, found.least), by_user.least)
        np.testing.assert_array_equal(who(groups, found.greatest), by_user.greatest)
        group = np.repeat(np.arange(groups.n_groups), groups.sizes)
        by_counts = {
            tuple(np.bincount(group[row], minlength=groups.n_groups).tolist()) for row in by_user.all()
        }
        assert {tuple(row) for row in found.all().tolist()} == by_counts
        for counts in counting.grid_of(groups.sizes):
            assert found.is_equilibrium(counts) == (tuple(counts.tolist()) in by_counts)


def test_users_who_joined_alone_may_share():
    groups = ExchangeableGroups([4, 3], 0.4, 0.3, 1.0, [0.8, 1.3])
    found = groups.user_equilibria([5.0, 5.0], joined=[2, 0])
    assert found.least.tolist() == found.greatest.tolist() == [2, 0]
    assert "to [2, 0] of [2, 0] share" in repr(found)
    with pytest.raises(mo.InvalidInput, match="prices has 3 entries for 2 groups"):
        groups.user_equilibria([1.0, 1.0, 1.0])
    with pytest.raises(mo.InvalidInput, match=r"sharing\[1\] = 1 must be a whole number from 0 to 0"):
        found.is_equilibrium([0, 1])


def test_indifferent_users_are_in_the_greatest_equilibrium():
    """Users who do not mind at a price of nothing: sharing or not are both equilibria."""
    groups = ExchangeableGroups([2], 0.3, 0.0, 1.0, [0.0])
    found, by_user = groups.user_equilibria([0.0]), groups.full().user_equilibria([0.0, 0.0])
    assert found.least.tolist() == [0]
    assert found.greatest.tolist() == [2]
    assert by_user.least.tolist() == [False, False]
    assert by_user.greatest.tolist() == [True, True]


def test_mediator_says_what_leaks(pair):
    groups, full = pair
    for hidden in (None, {0}):
        found = groups.mediator(hidden)
        barred = None if hidden is None else np.repeat(np.arange(groups.n_groups) == 0, groups.sizes)
        if barred is not None and barred.all():
            assert found.objective == 0
            continue
        expected = full.mediator(barred)
        assert found.objective == pytest.approx(expected.objective, abs=1e-9)
        # Passed on are directions of positive surplus, whatever they are: the answer is the only one.
        np.testing.assert_allclose(
            np.repeat(found.leaked_information, groups.sizes), expected["leaked_information"], atol=1e-8
        )
        np.testing.assert_allclose(found.compensation, groups.value_of_privacy * found.leaked_information)
    assert "data surplus" in repr(found)
    with pytest.raises(mo.InvalidInput, match="no_leak: there is no group 7"):
        groups.mediator({7})


def test_taxes(pair):
    groups, full = pair
    found = groups.pigovian_tax()
    counts = np.round(found["sharing"]).astype(int)
    best = max(groups.data_surplus(row) for row in counting.grid_of(groups.sizes))
    assert groups.data_surplus(counts) == pytest.approx(best, abs=1e-9)
    assert found.objective == pytest.approx(groups.sizes @ found["tax"], abs=1e-9)
    # At these taxes the platform prefers no other set.
    rate = np.repeat(found["tax"], groups.sizes)
    left = policy.taxed_purchase(full, np.maximum(rate, 0.0)).profit
    wanted = float(policy.surplus.profits(full, who(groups, counts)[None])[0]) - rate @ who(groups, counts)
    assert left <= wanted + 1e-8 * full.total_information
    if np.all((counts == 0) | (counts == groups.sizes)):
        least = full.pigovian_tax(who(groups, counts))
        assert found.objective == pytest.approx(least.objective, abs=1e-8 * full.total_information)


def test_taxes_reach_a_target_or_say_that_they_cannot():
    groups = ExchangeableGroups([3, 2], 0.5, 0.3, 1.0, [0.5, 1.2])
    assert groups.monopoly().sharing.tolist() == [3, 2]
    found = groups.pigovian_tax([3, 0])
    assert found["tax"][1] > 0.01
    assert found["tax"][0] == pytest.approx(0, abs=1e-9)
    with pytest.raises(mo.Infeasible):
        # The second user is much cheaper than the first: a platform that wants one wants both.
        ExchangeableGroups([2], 0.8, 0.0, 1.0, [1.5]).pigovian_tax([1])
    with pytest.raises(mo.InvalidInput, match="a row for each of 1030301 numbers"):
        ExchangeableGroups([100] * 3, 0.01, 0.01, 1.0, [1.1, 1.2, 1.3]).pigovian_tax()


def test_what_counts_do_not_settle_names_the_full_market():
    game = ExchangeableGroups([3, 2], 0.5, 0.3, 1.0, [0.5, 1.2]).duopoly()
    with pytest.raises(mo.NotApplicable, match=r"full\(\)"):
        game.best_deviation([1, 1])
