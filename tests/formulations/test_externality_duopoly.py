"""The joining game: three roads to its numbers, the paper's examples, limits, symmetries and bad input."""

import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.data_externality import duopoly as dp
from mechopt.formulations.data_externality import examples
from mechopt.formulations.data_externality.duopoly.tables import partitions
from tests.oracles.duopoly import Game, nothing

DataExternality = mo.DataExternality


def covariance_of(rng, n):
    factor = rng.normal(size=(n, int(rng.choice([n, 2 * n]))))
    return factor @ factor.T / factor.shape[1] + 0.05 * np.eye(n)


def network(base, slope):
    """Services that grow with who joins, differently for each user."""
    return lambda user, joined: base + slope * (1 + 0.2 * user) * len(joined) + 0.01 * slope * sum(joined)


def random_game(rng, n, *, spillover=0.0, n_platforms=2, slope=0.3, most=2.0):
    covariance, value = covariance_of(rng, n), rng.uniform(0, most, n)
    service = network(2 + np.max(value * np.diag(covariance)), slope)
    model = DataExternality(covariance, value, spillover=spillover, joining_utility=service)
    return model, Game(covariance, value, service, spillover, n_platforms)


CASES = [
    (2, 2, 0.0),
    (3, 2, 0.0),
    (4, 2, 0.0),
    (4, 2, 0.4),
    (3, 2, 1.0),
    (3, 3, 0.0),
    (3, 3, 0.6),
    (2, 4, 0.3),
]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]} users, {case[1]} platforms, spillover {case[2]}")
def pair(request):
    n, n_platforms, spillover = request.param
    rng = np.random.default_rng([n, n_platforms, int(10 * spillover)])
    model, oracle = random_game(rng, n, spillover=spillover, n_platforms=n_platforms)
    return model, model.duopoly(n_platforms), oracle


# ------------------------------------------------------------ against the definitions


def test_payoffs_deviations_and_surplus_of_single_profiles(pair):
    model, game, oracle = pair
    for joining in oracle.profiles()[:: max(1, len(oracle.profiles()) // 12)]:
        payoffs = [oracle.payoff(joining, user) for user in range(model.n_users)]
        np.testing.assert_allclose(game.payoffs(joining), payoffs, atol=1e-10)
        gains = oracle.gains(joining, may_leave=True)
        best = game.best_deviation(joining, may_leave=True)
        assert best.gain == pytest.approx(max(gains.values()), abs=1e-10)
        assert gains[best.agent, best.choice or 0] == pytest.approx(best.gain, abs=1e-10)
        stay = {where: gain for where, gain in gains.items() if where[1]}
        assert game.best_deviation(joining).gain == pytest.approx(max(stay.values()), abs=1e-10)
        assert game.is_equilibrium(joining) == (max(stay.values()) <= 1e-9)
        assert game.social_surplus(joining) == pytest.approx(oracle.surplus(joining), abs=1e-10)
        assert game.data_surplus(joining) == pytest.approx(oracle.surplus(joining, service=False), abs=1e-10)


def test_profits_are_receipts_less_payments(pair):
    model, game, oracle = pair
    joining = oracle.profiles()[-2]
    for profit, joined in zip(game.profits(joining), oracle.parts(joining), strict=True):
        info = model.leaked_information(oracle.bought(joined))
        paid = game.outcome(frozenset(joined)).price.sum()
        worth = sum(info[i] * (1 if i in joined else model.spillover) for i in range(model.n_users))
        assert profit == pytest.approx(worth - paid, abs=1e-10)
    users = game.payoffs(joining).sum()
    # Money that changes hands cancels: surplus is what platforms and users have together.
    assert game.profits(joining).sum() + users == pytest.approx(oracle.surplus(joining), abs=1e-10)


def test_pure_equilibria_are_all(pair):
    _, game, oracle = pair
    expected = {tuple(_named(joining)) for joining in oracle.equilibria()}
    assert {tuple(found.tolist()) for found in game.pure_equilibria} == expected


def _named(joining):
    """Platforms numbered in the order in which users use them."""
    names = {}
    return [names.setdefault(label, len(names) + 1) for label in joining]


def test_mixed_equilibrium(pair):
    _, game, oracle = pair
    assert game.mixed_social_surplus == pytest.approx(oracle.mixed_surplus(), abs=1e-10)
    assert game.mixed_data_surplus == pytest.approx(oracle.mixed_surplus(service=False), abs=1e-10)
    payoffs = game.mixed_payoffs()
    np.testing.assert_allclose(payoffs, oracle.mixed_payoffs(), atol=1e-10)
    assert np.ptp(payoffs, axis=1).max() < 1e-12


def test_first_best(pair):
    model, _, oracle = pair
    if model.n_users > 3:
        model = DataExternality(model.covariance[:3, :3], model.value_of_privacy[:3], spillover=0.4)
        oracle = Game(model.covariance, model.value_of_privacy, nothing, 0.4)
    found = model.first_best(oracle.k)
    assert found.social_surplus == pytest.approx(oracle.first_best(), abs=1e-10)
    own = oracle.surplus(found.joining, set(np.flatnonzero(found.sharing)))
    assert own == pytest.approx(found.social_surplus, abs=1e-10)
    assert oracle.surplus(found.joining, set(np.flatnonzero(found.sharing)), service=False) == pytest.approx(
        found.data_surplus, abs=1e-10
    )


def test_corrected_bound_holds(pair):
    model, _, oracle = pair
    assert oracle.mixed_surplus() <= dp.surplus_bound(model, oracle.k) + 1e-10
    if oracle.k == 2:
        assert model.surplus_bound() == dp.surplus_bound(model)


def test_frame_has_the_profiles(pair):
    _, game, oracle = pair
    frame = game.to_frame()
    assert len(frame) == len({tuple(_named(joining)) for joining in oracle.profiles()})
    for row in frame.iloc[:: max(1, len(frame) // 5)].itertuples():
        gains = oracle.gains(row.joining)
        assert row.gain == pytest.approx(max(gains.values()), abs=1e-10)
        assert gains[row.deviator, row.moves_to] == pytest.approx(row.gain, abs=1e-10)
        assert row.social_surplus == pytest.approx(oracle.surplus(row.joining), abs=1e-10)
    assert frame.equilibrium.sum() == len(game.pure_equilibria)


def test_partition_program(pair):
    """The declared program, by HiGHS, against enumeration; and with one more constraint."""
    model, game, oracle = pair
    best, bought = game.program(), game.program("equilibrium")
    assert best.solve().objective == pytest.approx(model.first_best(oracle.k).social_surplus, abs=1e-7)
    surplus = {joining: oracle.surplus(joining) for joining in oracle.profiles()}
    assert bought.solve().objective == pytest.approx(max(surplus.values()), abs=1e-7)
    bought.add("apart", bought["together"][0, 1] == 0)
    apart = max(value for joining, value in surplus.items() if joining[0] != joining[1])
    assert bought.solve().objective == pytest.approx(apart, abs=1e-7)


# ------------------------------------------------------------ the paper's examples


FIGURE_2 = [
    ((1, 1, 2), (-5.0e-6, -0.000495, 0), 5.0e-6, 0, 5.0e-6),
    ((2, 1, 1), (0, -0.190385, -0.055), 0.189890, 1, 0.189890),
    ((1, 2, 1), (0, 0, -0.000792), -0.054208, 0, -5.0e-6),
    ((1, 1, 1), (-0.000029, -0.190528, -0.055666), 0.055666, 1, 0.190528),
]


def test_figure_2():
    frame = examples.figure_2()
    for row, (joining, payoffs, leaver_gain, deviator, gain) in zip(
        frame.itertuples(), FIGURE_2, strict=True
    ):
        assert row.joining == joining
        np.testing.assert_allclose([row.payoff_0, row.payoff_1, row.payoff_2], payoffs, atol=6e-7)
        assert row.leaver_gain == pytest.approx(leaver_gain, abs=6e-7)
        assert (row.best_deviator, row.best_gain) == (deviator, pytest.approx(gain, abs=6e-7))


def test_example_1_has_an_equilibrium_and_its_repair_none():
    game = examples.example_1().duopoly()
    assert [found.tolist() for found in game.pure_equilibria] == [[1, 2, 1]]
    assert game.mixed_data_surplus == pytest.approx(3.195046, abs=5e-7)
    bought = {(0, 1): [0, 1], (1, 2): [1, 2], (0, 2): [0], (0, 1, 2): [0, 1, 2], (2,): []}
    for joined, sharers in bought.items():
        assert np.flatnonzero(game.outcome(frozenset(joined)).sharing).tolist() == sharers
    repaired = examples.example_1(repaired=True)
    assert not repaired.duopoly().pure_equilibria
    gains = examples.figure_2(repaired).best_gain
    np.testing.assert_allclose(gains, [5.0e-6, 0.016640, 0.003850, 0.017279], atol=6e-7)
    assert repaired.duopoly().find_equilibrium() is None


def test_example_2():
    high, low = examples.example_2(3.0), examples.example_2(0.8)
    assert high.duopoly().data_surplus([1, 1]) == pytest.approx(0.0, abs=1e-12)
    assert high.duopoly().outcome(frozenset({0, 1})).sharing.tolist() == [True, False]
    assert high.duopoly().data_surplus([1, 2]) == pytest.approx(0.25)
    assert high.duopoly().mixed_data_surplus == pytest.approx(0.125)
    np.testing.assert_allclose(low.leaked_information([1, 1]), 2 / (4 - 0.25))
    assert low.duopoly().data_surplus([1, 1]) == pytest.approx(0.373333, abs=5e-7)
    assert low.duopoly().data_surplus([1, 2]) == pytest.approx(0.35)
    assert low.duopoly().mixed_data_surplus == pytest.approx(0.361667, abs=5e-7)


@pytest.mark.parametrize(("r", "low"), [(0.5, 0.5), (0.9, 0.2), (1.0, 0.5), (0.2, 1.0)])
def test_threshold_of_example_2(r, low):
    threshold = examples.purchase_threshold(r, low)
    assert examples.purchase_threshold(0.5, 0.5) == pytest.approx(1.193878, abs=5e-7)
    assert examples.purchase_threshold(1.0, low) == pytest.approx(2 + 2 * low)
    for value, both in ((threshold - 1e-6, True), (threshold + 1e-6, False)):
        outcome = examples.example_2(value, r, low).duopoly().outcome(frozenset({0, 1}))
        assert outcome.sharing.tolist() == [True, both]


def test_theorem_4_fails_by_a_suppressor():
    covariance = 100 * np.array([[1, 0.5, 0], [0.5, 1, 0.8], [0, 0.8, 1]])
    for spillover, mixed, printed in ((0.0, 38.467, -34.368), (0.3, 9.607, -44.679), (1.0, -57.735, -68.737)):
        model = DataExternality(covariance, [8, 0, 0], spillover=spillover)
        assert model.duopoly().mixed_data_surplus == pytest.approx(mixed, abs=6e-4)
        assert dp.printed_surplus_bound(model) == pytest.approx(printed, abs=6e-4)
        assert model.surplus_bound() >= mixed


# ------------------------------------------------------------ limits and symmetries


def test_users_relabelled():
    rng = np.random.default_rng(4)
    covariance, value = covariance_of(rng, 5), rng.uniform(0, 2, 5)
    order = rng.permutation(5)
    one = DataExternality(covariance, value, spillover=0.3)
    other = DataExternality(covariance[np.ix_(order, order)], value[order], spillover=0.3)
    assert one.duopoly().mixed_data_surplus == pytest.approx(other.duopoly().mixed_data_surplus, abs=1e-11)
    assert one.first_best().social_surplus == pytest.approx(other.first_best().social_surplus, abs=1e-11)
    assert one.surplus_bound() == pytest.approx(other.surplus_bound(), abs=1e-11)
    joining = np.array([1, 2, 1, 2, 2])
    np.testing.assert_allclose(
        one.duopoly().payoffs(joining)[order], other.duopoly().payoffs(joining[order]), atol=1e-11
    )


def test_units_of_noise():
    """With noise N and covariance N times as large everything is N times as large."""
    rng = np.random.default_rng(5)
    covariance, value = covariance_of(rng, 4), rng.uniform(0, 2, 4)
    one = DataExternality(covariance, value, spillover=0.2)
    large = DataExternality(7 * covariance, value, noise_variance=7, spillover=0.2)
    joining = [1, 2, 2, 1]
    np.testing.assert_allclose(
        large.duopoly().payoffs(joining), 7 * one.duopoly().payoffs(joining), atol=1e-11
    )
    np.testing.assert_allclose(
        large.duopoly().profits(joining), 7 * one.duopoly().profits(joining), atol=1e-11
    )
    for number in (
        lambda model: model.duopoly().mixed_data_surplus,
        lambda model: model.first_best().data_surplus,
        lambda model: model.surplus_bound(),
        dp.printed_surplus_bound,
    ):
        assert number(large) == pytest.approx(7 * number(one), abs=1e-11)


def test_many_platforms_tell_users_apart():
    """With ever more platforms users are alone, and what leaks is what each sells of itself."""
    rng = np.random.default_rng(6)
    model = DataExternality(covariance_of(rng, 3), [0.2, 0.5, 3.0])
    alone = sum((1 - model.value_of_privacy[i]) * model.leaked_information({i})[i] for i in (0, 1))
    assert model.duopoly(10**6).mixed_data_surplus == pytest.approx(alone, abs=1e-4)


def test_uncorrelated_users_do_not_care():
    model = DataExternality(np.diag([1.0, 2.0, 3.0]), [0.5, 0.9, 1.5])
    game = model.duopoly()
    assert len(game.pure_equilibria) == 4
    assert game.mixed_data_surplus == pytest.approx(0.5 * 0.5 + 0.1 * 4 / 3)
    assert game.mixed_data_surplus == pytest.approx(model.first_best().data_surplus)


def test_full_spillover_makes_platforms_alike():
    """With spillover 1 and everybody sharing, users of low value are indifferent to where they are."""
    rng = np.random.default_rng(7)
    model = DataExternality(covariance_of(rng, 4), rng.uniform(0, 1, 4), spillover=1.0)
    assert len(model.duopoly().pure_equilibria) == 8
    with pytest.raises(mo.NotApplicable, match="spillover 1"):
        model.duopoly().potential([1, 1, 1, 2])


def test_partitions_are_counted_once():
    assert [len(partitions(n, 2)) for n in range(1, 6)] == [1, 2, 4, 8, 16]
    assert [len(partitions(n, 5)) for n in range(1, 6)] == [1, 2, 5, 15, 52]
    rows = partitions(4, 3)
    assert len({tuple(_named(row)) for row in rows.tolist()}) == len(rows) == 14


# ------------------------------------------------------------ potential, dynamics, sampling


def test_low_values_move_to_an_equilibrium_however_many():
    rng = np.random.default_rng(8)
    factor = rng.normal(size=(24, 5))
    model = DataExternality(factor @ factor.T / 5 + 0.1 * np.eye(24), rng.uniform(0.1, 1, 24))
    game = model.duopoly()
    end = game.find_equilibrium()
    assert game.is_equilibrium(end)
    assert game.potential(end) > game.potential(np.ones(24))
    assert game.find_equilibrium(end).tolist() == end.tolist()
    assert game.find_equilibrium(max_moves=1) is None


def test_sampling_agrees_with_the_exact_surplus():
    rng = np.random.default_rng(2)
    model, _ = random_game(rng, 6, spillover=0.3)
    game = model.duopoly()
    found = game.sample_mixed(3000, seed=1)
    # Four standard errors: once in sixteen thousand seeds.
    assert abs(found.data_surplus - game.mixed_data_surplus) < 4 * found.data_error
    assert abs(found.social_surplus - game.mixed_social_surplus) < 4 * found.social_error
    assert 0 < found.data_error < 0.1
    assert found == game.sample_mixed(3000, seed=1)
    assert found != game.sample_mixed(3000, seed=2)


def test_sampling_many_users():
    groups = examples.example_3(0.1, 3.0)
    found = groups.full().duopoly().sample_mixed(150, seed=0)
    assert abs(found.data_surplus - groups.duopoly().mixed_data_surplus) < 4 * found.data_error


def test_other_mixtures():
    model, _ = random_game(np.random.default_rng(9), 3)
    game = model.duopoly()
    assert game.mixed_surplus(np.full((3, 2), 0.5)) == pytest.approx(game.mixed_social_surplus)
    pure = np.array([[1, 0], [0, 1], [1, 0]])
    assert game.mixed_surplus(pure) == pytest.approx(game.social_surplus([1, 2, 1]))
    payoffs = game.mixed_payoffs(pure)
    now = game.payoffs([1, 2, 1])
    np.testing.assert_allclose([payoffs[0, 0], payoffs[1, 1], payoffs[2, 0]], now, atol=1e-11)
    assert payoffs[1, 0] == pytest.approx(game.payoffs([1, 1, 1])[1])


# ------------------------------------------------------------ efficiency


def test_each_part_says_both():
    """The theorem's answers occur: yes and no in part 1, no and nothing in the others."""

    def services(size):
        return lambda user, joined: 5.0 + size * len(joined)

    pair = [[1.0, 0.5], [0.5, 1.0]]
    isolated = np.diag([1.0, 1.0, 1.0])
    isolated[:2, :2] = pair
    apart = np.kron(np.eye(2), pair)
    cases = [
        (isolated, [0.5, 0.8, 2.0], 0.3, 0.0, 1, True),
        (isolated, [0.5, 0.8, 2.0], 0.01, 0.0, 1, False),
        (isolated, [0.5, 0.8, 2.0], 0.01, 0.9, 1, None),
        (pair, [0.9, 4.0], 0.3, 0.0, 2, False),
        (pair, [0.9, 1.1], 0.3, 0.0, 2, None),
        (pair, [0.9, 4.5], 0.001, 0.0, 2, None),
        (pair, [0.9, 4.5], 0.001, 0.5, 2, False),
        (apart, [0.5, 0.5, 1.2, 1.5], 0.3, 0.0, 3, False),
        (apart, [0.5, 0.5, 1.3, 1.5], 0.3, 0.0, 3, None),
        (apart, [0.2, 0.2, 1.2, 1.2], 0.001, 0.5, 3, None),
        (apart, [0.2, 0.2, 1.1, 1.1], 0.001, 0.5, 3, False),
    ]
    for covariance, value, size, spillover, part, efficient in cases:
        model = DataExternality(covariance, value, spillover=spillover, joining_utility=services(size))
        told = dp.efficiency(model)
        assert (told.part, told.efficient) == (part, efficient), told
        best = model.first_best().social_surplus
        frame = model.duopoly().to_frame()
        reached = frame.social_surplus >= best - 1e-9
        if part == 1 and efficient is not None:
            assert bool((reached & frame.equilibrium).any()) is efficient
        elif efficient is False:
            assert not reached.any()


def test_conditions_in_numbers():
    def services(user, joined):
        return 5.0 + 0.3 * (len(joined) - 1)

    model = DataExternality([[1, 0.5], [0.5, 1]], [0.5, 0.8], spillover=0.2, joining_utility=services)
    # The other's data tell r^2 / 2 = .125 about each.
    np.testing.assert_allclose(dp.isolated_slack(model), 0.3 - 0.8 * np.array([0.5, 0.8]) * 0.125)
    together, own, other = 2 / 3.75, 0.5, 0.125
    threshold = (0.6 + 0.7 * (together - own)) / (0.7 * other)
    assert dp.spillover_threshold(model) == pytest.approx(threshold)
    high = DataExternality([[1, 0.5], [0.5, 1]], [0.9, 4.0], joining_utility=services)
    np.testing.assert_allclose(dp.efficiency(high).threshold, [np.nan, 1 + 0.1 * together / 0.125])
    assert "0.6" in dp.efficiency(high).condition


def test_no_low_user_leaves_nothing_to_gain():
    model = DataExternality(np.eye(2), [2.0, 3.0], joining_utility=lambda user, joined: 5.0 + len(joined))
    assert dp.spillover_threshold(model) == np.inf
    assert dp.isolated_slack(model).size == 0
    assert dp.efficiency(model).efficient is True


# ------------------------------------------------------------ what is asked for


def test_names_on_the_model():
    model = examples.example_2(3.0)
    assert isinstance(model.duopoly(), dp.Duopoly)
    assert isinstance(model.first_best(), dp.FirstBest)
    assert "2 users, 1 of high value, 3 platforms" in repr(model.duopoly(3))
    assert "users [0] share" in repr(model.first_best())
    assert model.duopoly().sharing([1, 2]).tolist() == [True, False]
    assert model.duopoly().joined([2, 0]) == [frozenset(), frozenset({0})]


def test_staying_out():
    game = examples.example_2(3.0).duopoly()
    assert game.is_equilibrium([1, 2])
    assert game.payoffs([1, 0]).tolist() == [0.0, 0.0]
    assert game.data_surplus([1, 0]) == game.data_surplus([1, 2]) == pytest.approx(0.25)
    served = DataExternality([[1, 0.5], [0.5, 1]], [0.5, 3.0], joining_utility=5.0).duopoly()
    found = served.best_deviation([0, 0])
    assert (found.agent, found.choice, found.gain) == (0, 1, 5.0)
    low = served.best_deviation([1, 1], may_leave=True)
    assert (low.agent, low.choice) == (1, 2)
    leaving = game.best_deviation([1, 1], may_leave=True)
    assert leaving.choice is None
    assert leaving.gain == pytest.approx(0.375)


def test_bad_input():
    model = examples.example_2(3.0)
    game = model.duopoly()
    for joining, said in (
        ([1, 3], r"joining\[1\] = 3 must be a platform, 1 to 2"),
        ([1, 0.5], r"joining\[1\] = 0.5"),
        ([1], r"shape \(1,\)"),
        (["a", 1], "must be platforms"),
        ([np.nan, 1], r"joining\[0\] = nan"),
    ):
        with pytest.raises(mo.InvalidInput, match=said):
            game.payoffs(joining)
    for n_platforms in (1, 2.5, True):
        with pytest.raises(mo.InvalidInput, match="n_platforms must be a whole number >= 2"):
            model.duopoly(n_platforms)
    with pytest.raises(mo.InvalidInput, match=r"shape \(2,\); it must be \(2, 2\)"):
        game.mixed_payoffs([0.5, 0.5])
    with pytest.raises(mo.InvalidInput, match=r"joining_probability\[1\] = \[0.5, 0.6\]"):
        game.mixed_payoffs([[0.5, 0.5], [0.5, 0.6]])
    with pytest.raises(mo.InvalidInput, match="n_draws"):
        game.sample_mixed(1)
    with pytest.raises(mo.NotApplicable, match=r"value_of_privacy\[1\] = 3 is above 1"):
        game.potential([1, 2])
    grows = DataExternality([[1, 0.5], [0.5, 1]], [0.5, 0.5], joining_utility=network(5, 1))
    with pytest.raises(mo.NotApplicable, match="depends on who joined"):
        grows.duopoly().potential([1, 2])


def test_too_many_users():
    many = DataExternality(np.eye(15), np.ones(15))
    game = many.duopoly()
    for ask in (
        lambda: game.mixed_data_surplus,
        lambda: game.pure_equilibria,
        game.mixed_payoffs,
        many.first_best,
        lambda: dp.efficiency(many),
    ):
        with pytest.raises(mo.InvalidInput, match=r"15 users.*at most 14.*ExchangeableGroups"):
            ask()
    with pytest.raises(mo.InvalidInput, match=r"2\^13 sets of 13 users"):
        DataExternality(np.eye(13), np.ones(13)).duopoly().program()
    with pytest.raises(mo.InvalidInput, match="sharing must be 'first_best' or 'equilibrium', got 'all'"):
        examples.example_2(3.0).duopoly().program("all")
    with pytest.raises(mo.InvalidInput, match="21 users of low value"):
        DataExternality(np.eye(21), np.ones(21)).surplus_bound()
    with pytest.raises(mo.InvalidInput, match="14 users can be divided among 5 platforms"):
        _ = DataExternality(np.eye(14), np.ones(14)).duopoly(5).pure_equilibria


def test_ten_users_are_quick_and_right():
    rng = np.random.default_rng(10)
    model = DataExternality(covariance_of(rng, 10), rng.uniform(0.5, 1.6, 10), spillover=0.2)
    game = model.duopoly()
    frame = game.to_frame()
    for row in frame.iloc[::200].itertuples():
        assert game.best_deviation(row.joining).gain == pytest.approx(row.gain, abs=1e-11)
        assert game.social_surplus(row.joining) == pytest.approx(row.social_surplus, abs=1e-11)
    # Theorem 2 by another sum: uniform over profiles with user 0 on platform 1.
    assert frame.data_surplus.mean() == pytest.approx(game.mixed_data_surplus, abs=1e-11)
    assert frame.data_surplus.max() <= model.first_best().data_surplus + 1e-11
