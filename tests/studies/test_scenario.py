"""Scenario files: what is accepted, how every kind of mistake is answered, and that nothing is executed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import mechopt as mo
from mechopt.studies.scenario import bundled_scenarios, load_scenario

GAIN = 'gain = { kind = "log", weight = 100.0, scale = 2.0 }'
BASE = f"""title = "t"
mechanism = "contract"
[parameters]
types = [0.1, 0.2]
{GAIN}
"""
CONSTRAINT = """
[[constraints]]
family = "own"
terms = [{ name = "expected_payment" }]
sense = "<="
bound = 30
"""


def declare(folder: Path, text: str | bytes) -> mo.Program:
    path = folder / "case.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    scenario, where = load_scenario(path)
    assert where == folder
    return scenario.declare(scenario.parameters.build(where))


def test_bundled_scenarios_load() -> None:
    assert {"contract", "contract-budget"} <= set(bundled_scenarios())
    for name in bundled_scenarios():
        scenario, folder = load_scenario(name)
        assert scenario.title
        if scenario.mechanism == "contract":
            scenario.declare(scenario.parameters.build(folder))


def test_numbers_may_be_written_without_a_point(tmp_path: Path) -> None:
    (tmp_path / "case.toml").write_text(
        BASE.replace("[0.1, 0.2]", "[1, 2]").replace("100.0", "100").replace("2.0", "2")
    )
    scenario, folder = load_scenario(tmp_path / "case.toml")
    contract = scenario.parameters.build(folder)
    assert contract.types.tolist() == [1, 2]
    assert contract.gain == mo.LogGain(100, 2)


@pytest.mark.parametrize(
    ("gain", "expected"),
    [
        ('{ kind = "power", weight = 3, scale = 2, exponent = 0.5 }', mo.PowerGain(3, 2, 0.5)),
        ('{ kind = "saturating", weight = 3, scale = 2 }', mo.SaturatingGain(3, 2)),
        ('{ kind = "quadratic", slope = 3, curvature = 2, scale = 1 }', mo.QuadraticGain(3, 2, 1)),
        (
            '{ kind = "piecewise-linear", slopes = [3, 0], intercepts = [0, 2], scale = 1 }',
            mo.PiecewiseLinearGain([3, 0], [0, 2], 1),
        ),
    ],
)
def test_gains(tmp_path: Path, gain: str, expected: mo.ConcaveFunction) -> None:
    (tmp_path / "case.toml").write_text(BASE.replace(GAIN, f"gain = {gain}"))
    assert load_scenario(tmp_path / "case.toml")[0].parameters.gain.build() == expected


def test_holders_are_read_beside_the_scenario(tmp_path: Path) -> None:
    (tmp_path / "market.csv").write_text("eps,n\n0.3,1\n0.1,3\n")
    source = 'holders = { file = "market.csv", column = "eps", weight = "n" }'
    program = declare(tmp_path, BASE.replace("types = [0.1, 0.2]", source))
    assert program["quantity"].shape == (2,)
    scenario, folder = load_scenario(tmp_path / "case.toml")
    contract = scenario.parameters.build(folder)
    assert contract.types.tolist() == [0.1, 0.3]
    assert contract.probs.tolist() == [0.75, 0.25]


def test_own_constraints_mean_what_they_say(tmp_path: Path) -> None:
    terms = """
[[constraints]]
family = "spread"
terms = [{ name = "payment", index = 0 }, { name = "payment", index = -1, coefficient = -2 }]
sense = "<="
bound = -10
[[constraints]]
family = "weighted"
terms = [{ name = "quantity", weights = [1, 3], coefficient = 0.5 }]
sense = ">="
bound = 100
[[constraints]]
family = "each"
terms = [{ name = "quantity" }, { name = "expected_payment" }]
sense = "<="
bound = 1000
[[constraints]]
family = "gain"
terms = [{ name = "expected_gain" }]
sense = ">="
bound = 5
"""
    program = declare(tmp_path, BASE.replace('title = "t"', 'title = "t"\nform = "local"') + terms)
    program.set_values({"quantity": [7.0, 5.0], "payment": [20.0, 4.0]})
    (spread,), (weighted,), (each,), (gain,) = (
        program.families[name] for name in ("spread", "weighted", "each", "gain")
    )
    assert float(spread.args[0].value - spread.args[1].value) == pytest.approx(20 - 8 + 10)
    assert float(weighted.args[0].value - weighted.args[1].value) == pytest.approx(100 - 0.5 * (7 + 15))
    np.testing.assert_allclose(each.args[0].value - each.args[1].value, [7 + 12 - 1000, 5 + 12 - 1000])
    value = 0.5 * (100 * np.log(1 + 2 * 0.7) + 100 * np.log(1 + 2 * 1.0))
    assert float(gain.args[0].value - gain.args[1].value) == pytest.approx(5 - value)


def swap(old: str, new: str) -> str:
    assert old in BASE + CONSTRAINT
    return (BASE + CONSTRAINT).replace(old, new)


MISTAKES = [
    (swap('title = "t"', 'title = "t"\nbudget = 3'), "budget: unknown key"),
    (swap('title = "t"', 'title = "t"\nconstraint = []'), "constraint: unknown key"),
    (swap('title = "t"\n', ""), "title: is missing"),
    (swap('title = "t"', "title = 3"), r"title: .*valid string \(got 3\)"),
    (swap('mechanism = "contract"\n', ""), "mechanism: is missing"),
    (swap('"contract"', '"auction"'), r"mechanism: must be .*'contract'.* \(got 'auction'\)"),
    (swap('title = "t"', 'title = "t"\nform = "reducd"'), "form: .*'reduced'.*got 'reducd'"),
    (swap('title = "t"', 'title = "t"\nbackends = []'), "backends: .*at least 1"),
    (swap('title = "t"', 'title = "t"\nbackends = "scs"'), r"backends: .*'all' \(got 'scs'\)"),
    (swap('title = "t"', 'title = "t"\nbackends = [1]'), r"backends\[0\]: .*valid string"),
    (swap('title = "t"', 'title = "t"\nbackends = ["scs", "scs"]'), "'scs' is named more than once"),
    (swap('title = "t"', 'title = "t"\ntolerance = 0'), "tolerance: .*greater than 0"),
    (swap('title = "t"', 'title = "t"\ntolerance = 1'), "tolerance: .*less than 1"),
    (swap('title = "t"', 'title = "t"\ntolerance = nan'), "tolerance: .*finite"),
    (swap('title = "t"', 'title = "t"\ntolerance = "1e-6"'), "tolerance: .*valid number"),
    (swap('title = "t"', 'title = "t"\ntime_limit = -1'), "time_limit: .*greater than 0"),
    (swap('title = "t"', 'title = "t"\ntime_limit = inf'), "time_limit: .*finite"),
    (swap("types = [0.1, 0.2]\n", ""), "parameters: give either `types` or `holders`, and not both"),
    (
        swap("types = [0.1, 0.2]", 'types = [0.1, 0.2]\nholders = { file = "a.csv" }'),
        "give either `types` or `holders`, and not both",
    ),
    (swap("types = [0.1, 0.2]", 'holders = { file = "a.csv" }\nprobs = [1.0]'), "leave one of the two out"),
    (swap("types = [0.1, 0.2]", 'holders = { file = "a.csv" }'), "no file of holders at 'a.csv'"),
    (swap("types = [0.1, 0.2]", "holders = { }"), r"parameters.holders.file: is missing"),
    (swap("types = [0.1, 0.2]", 'holders = { file = "a.csv", n_types = 0 }'), "n_types: .*greater than or"),
    (swap("[0.1, 0.2]", '"0.1"'), r"parameters.types: .*valid list \(got '0.1'\)"),
    (swap("[0.1, 0.2]", "[0.1, nan]"), r"parameters.types\[1\]: .*finite"),
    (swap("[0.1, 0.2]", "[0.1, true]"), r"parameters.types\[1\]: .*valid number \(got True\)"),
    (swap("[0.1, 0.2]", '[0.1, "0.2"]'), r"parameters.types\[1\]: .*valid number"),
    (swap("[0.1, 0.2]", "[]"), "types is empty"),
    (swap("[0.1, 0.2]", "[0.2, 0.1]"), "strictly increasing"),
    (swap("[0.1, 0.2]", "{ start = 0.1, stop = 0.2 }"), "parameters.types.count: is missing"),
    (swap("[0.1, 0.2]", "{ start = 0.1, stop = 0.2, count = 2.0 }"), "types.count: .*valid integer"),
    (swap("[0.1, 0.2]", "{ start = 0.1, stop = 0.2, count = 0 }"), "types.count: .*greater than or equal"),
    (swap("[0.1, 0.2]", "{ start = 0.1, end = 0.2, count = 2 }"), "types.end: unknown key"),
    (swap("[0.1, 0.2]", "{ start = 0.3, stop = 0.2, count = 2 }"), "strictly increasing"),
    (swap("[0.1, 0.2]", "[0.1, 0.2]\nprobs = [1.0]"), "probs has 1 entries for 2 types"),
    (swap("[0.1, 0.2]", "[0.1, 0.2]\nprobs = [0.5, 0.6]"), "probs must sum to 1"),
    (swap("[0.1, 0.2]", '[0.1, 0.2]\nunit_cost = "1"'), "unit_cost: .*valid number"),
    (swap("[0.1, 0.2]", "[0.1, 0.2]\nunit_cost = true"), "unit_cost: .*valid number"),
    (swap("[0.1, 0.2]", "[0.1, 0.2]\nunit_cost = 0"), "unit_cost must be a finite number > 0"),
    (swap(GAIN, ""), "parameters.gain: is missing"),
    (swap(GAIN, 'gain = "log"'), "parameters.gain: must be a table"),
    (swap('kind = "log"', 'kind = "logarithm"'), "parameters.gain.kind: .*'piecewise-linear'"),
    (swap('kind = "log", ', ""), "parameters.gain.kind: is missing"),
    (swap("weight = 100.0", 'weight = "100"'), "parameters.gain: `weight` must be a number"),
    (swap("weight = 100.0", "weight = true"), "parameters.gain: `weight` must be a number"),
    (swap("weight = 100.0", "weight = nan"), "weight = nan must be finite"),
    (swap("weight = 100.0", "weight = -1"), "weight = -1.0 must be > 0"),
    (swap("weight = 100.0", "wieght = 1"), "gain of kind 'log': .*'wieght'"),
    (swap("weight = 100.0, ", ""), "gain of kind 'log': .*'weight'"),
    (swap('family = "own"\n', ""), r"constraints\[0\].family: is missing"),
    (swap('family = "own"', 'family = ""'), "a family needs a name"),
    (swap('family = "own"', 'family = "monotone"'), "already has a family 'monotone'"),
    (swap('family = "own"', 'family = "domain"'), "a family needs a name other than 'domain'"),
    (swap('sense = "<="', 'sense = "<"'), r"constraints\[0\].sense: .*'<=', '>=' or '=='.*got '<'"),
    (swap("bound = 30", "bound = nan"), r"constraints\[0\].bound: .*finite"),
    (swap("bound = 30", 'bound = "30"'), r"constraints\[0\].bound: .*valid number"),
    (swap("bound = 30\n", ""), r"constraints\[0\].bound: is missing"),
    (swap("bound = 30", "bounds = 30"), "bounds: unknown key"),
    (swap('[{ name = "expected_payment" }]', "[]"), r"constraints\[0\].terms: .*at least 1"),
    (swap('[{ name = "expected_payment" }]', "[3]"), r"constraints\[0\].terms\[0\]: must be a table"),
    (
        swap('"expected_payment"', '"spending"'),
        "constraint 'own': no 'spending' in the program; it has quantity",
    ),
    (swap('"expected_payment"', '"quantity", index = 2'), "'quantity' has shape .2,., there is no index 2"),
    (swap('"expected_payment"', '"quantity", index = 1.0'), r"terms\[0\].index: .*valid integer"),
    (swap('"expected_payment"', '"expected_payment", index = 0'), "there is no index 0"),
    (swap('"expected_payment"', '"quantity", weights = [1, 2, 3]'), "3 weights for 'quantity' of shape"),
    (swap('"expected_payment"', '"quantity", weights = [1, nan]'), r"weights\[1\]: .*finite"),
    (
        swap('"expected_payment"', '"quantity", index = 0, weights = [1, 2]'),
        "a term has an `index` or `weights`, not both",
    ),
    (swap('"expected_payment"', '"quantity", coefficient = inf'), r"coefficient: .*finite"),
    (swap('sense = "<="', 'sense = ">="'), "family 'own' rewards higher payments.*form='local'"),
    (swap('"expected_payment"', '"expected_gain"'), "sum of its terms is concave.*'<='.*nonconvex"),
    ("[", "is not valid TOML"),
    ("title = 1\ntitle = 2\n", "is not valid TOML"),
    (b"title = '\xff'\n", "is not UTF-8 text"),
]


@pytest.mark.parametrize(("text", "words"), MISTAKES, ids=[words for _, words in MISTAKES])
def test_mistakes_are_named(tmp_path: Path, text: str | bytes, words: str) -> None:
    with pytest.raises(mo.InvalidInput, match=words) as caught:
        declare(tmp_path, text)
    assert len(str(caught.value)) < 500
    assert "validation error" not in str(caught.value)


def test_several_mistakes_are_told_together(tmp_path: Path) -> None:
    text = BASE.replace('title = "t"', "title = 3\ntolerance = 7").replace('"log"', '"lug"')
    with pytest.raises(mo.InvalidInput, match=r"title: .*; tolerance: .*; .*gain.kind: "):
        declare(tmp_path, text)


def test_missing_scenario_names_the_bundled_ones(tmp_path: Path) -> None:
    for name in ("contrat", str(tmp_path / "none.toml"), str(tmp_path), ""):
        with pytest.raises(mo.InvalidInput, match=r"bundled scenarios.*contract, contract-budget"):
            load_scenario(name)


@pytest.mark.parametrize(
    "code",
    ["__import__('os').system('touch pwned')", "{__import__('os')}", "$(touch pwned)", "!!python/object:os"],
)
@pytest.mark.parametrize(
    "field",
    [
        '"contract"',
        '"log"',
        '"own"',
        '"expected_payment"',
        '"<="',
        '"t"\nform = "FIELD"',
        '"t"\nbackends = ["FIELD"]',
        '[0.1, 0.2]\nunit_cost = "FIELD"',
        '{ file = "FIELD" }',
        '100.0, offset = "FIELD"',
    ],
)
def test_strings_are_never_executed(
    tmp_path: Path, code: str, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = BASE + CONSTRAINT
    if field.startswith("{"):
        text = text.replace("types = [0.1, 0.2]", f"holders = {field.replace('FIELD', code)}")
    elif "FIELD" in field:
        text = text.replace(field.split("\n")[0].split(",")[0], field.replace("FIELD", code), 1)
        if field.startswith("["):
            text = BASE.replace("[0.1, 0.2]", field.replace("FIELD", code))
    else:
        text = text.replace(field, f'"{code}"', 1)
    assert code in text
    try:
        program = declare(tmp_path, text)
    except mo.InvalidInput:
        pass
    else:
        # A family may have any name, and backends are looked up when they are needed.
        assert code in program.families or "backends" in field
    assert not (tmp_path / "pwned").exists()


def test_a_title_is_only_a_title(tmp_path: Path) -> None:
    (tmp_path / "case.toml").write_text(BASE.replace('"t"', "\"__import__('os') [/red] {0}\""))
    assert load_scenario(tmp_path / "case.toml")[0].title == "__import__('os') [/red] {0}"


# ------------------------------------------------------------ extensions


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("outside_option = [1, 0]", {"outside_option": [1.0, 0.0]}),
        ("outside_option = 2", {"outside_option": 2.0}),
        ("max_menu_size = 1", {"max_menu_size": 1}),
        ("fairness_ratio = 2", {"fairness_ratio": 2.0}),
        ('ambiguity = { kind = "wasserstein", radius = 0.1 }', {"ambiguity": mo.Wasserstein(0.1)}),
        ('ambiguity = { kind = "kullback-leibler", radius = 1 }', {"ambiguity": mo.KullbackLeibler(1)}),
        ('ambiguity = { kind = "chi-squared", radius = 0.1 }', {"ambiguity": mo.ChiSquared(0.1)}),
        ('risk = { kind = "cara", aversion = 0.1 }', {"risk": mo.CARA(0.1)}),
        ('risk = { kind = "cvar", level = 0.5 }', {"risk": mo.CVaR(0.5)}),
    ],
)
def test_extensions_are_read(tmp_path: Path, text: str, options: dict[str, object]) -> None:
    path = tmp_path / "case.toml"
    path.write_text(BASE.replace("[parameters]", 'form = "local"\n[parameters]') + f"[extensions]\n{text}\n")
    scenario, folder = load_scenario(path)
    assert scenario.extensions.options() == options
    contract = scenario.parameters.build(folder)
    declared, expected = scenario.declare(contract), contract.program("local", **options)
    assert set(declared.families) == set(expected.families)
    backend = "outer" if "max_menu_size" in options else "clarabel"
    assert declared.solve(backend).objective == pytest.approx(expected.solve(backend).objective, rel=1e-9)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            'risk = { kind = "cvar", level = 1.5 }',
            r"extensions.risk of kind 'cvar': level = 1.5 must be below 1",
        ),
        (
            'risk = { kind = "var", level = 0.5 }',
            r"extensions.risk.kind: must be one of 'cara', 'cvar' .got 'var'",
        ),
        ("risk = { level = 0.5 }", r"extensions.risk.kind: is missing"),
        ('ambiguity = { kind = "chi-squared" }', r"extensions.ambiguity of kind 'chi-squared': .*radius"),
        ('ambiguity = { kind = "chi-squared", radius = "big" }', r"`radius` must be a number"),
        ("max_menu_size = 0", "max_menu_size must be a whole number >= 1"),
        ("menu = 3", r"extensions.menu: unknown key"),
    ],
)
def test_extensions_that_are_wrong_are_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(mo.InvalidInput, match=words):
        declare(tmp_path, BASE + f"[extensions]\n{text}\n")


def test_cost_curves_are_read(tmp_path: Path) -> None:
    curve = 'cost_curve = { kind = "power", exponent = 2, scale = 50 }'
    program = declare(tmp_path, BASE + curve + "\n")
    assert "burden" in program
    other = declare(tmp_path, BASE + 'cost_curve = { kind = "quadratic", slope = 1, curvature = 0.1 }\n')
    assert program.solve().objective != pytest.approx(other.solve().objective)
    with pytest.raises(mo.InvalidInput, match=r"parameters.cost_curve of kind 'power': .*exponent = 0.5"):
        declare(tmp_path, BASE + 'cost_curve = { kind = "power", exponent = 0.5 }\n')
