"""The public ledger says of every numbered result what its claims say, and its counterexamples are some."""

import ast
import re
import runpy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest

from mechopt.formulations import results
from mechopt.formulations.ledger import ledger
from mechopt.studies.ledger_page import entry, slug
from mechopt.verification import RunSettings, Verdict
from mechopt.verification.claim import borne_out_exactly, try_instance

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "ledger.md").read_text(encoding="utf-8")
MAKER = SimpleNamespace(**runpy.run_path(str(DOCS / "make_ledger.py")))
CLAIMS = ledger().claims
LINK = re.compile(r"\]\((\.\./src/[\w/]+\.py)#([\w.]+)\)")
VERDICTS = {"holds": Verdict.HOLDS, "refuted as printed": Verdict.REFUTED}
FULL_SETTINGS = RunSettings(shrink=MAKER.SHRINK)


@dataclass(frozen=True)
class Entry:
    """A claim as the page has it."""

    wing: str
    number: str
    id: str
    text: str

    @property
    def paragraphs(self) -> list[str]:
        return [re.sub(r"\\(.)", r"\1", block) for block in self.text.split("\n\n")[1:]]

    @property
    def counterexample(self) -> str:
        found = re.search(r"^```py\n(.*?)^```", self.text, re.MULTILINE | re.DOTALL)
        return found[1] if found else ""


def parts(text: str, level: int) -> dict[str, str]:
    """What is below each heading of a level."""
    found = re.split(rf"^{'#' * level} (.*)$", text, flags=re.MULTILINE)[1:]
    return dict(zip(found[::2], found[1::2], strict=True))


def entries() -> list[Entry]:
    wings = {title: wing for wing, title in results.WINGS.items()}
    return [
        Entry(wings[title], heading.partition(":")[0], id, text.rstrip())
        for title, wing in parts(PAGE, 2).items()
        for heading, number in parts(wing, 3).items()
        for id, text in parts(number, 4).items()
    ]


def in_one_line(statement: str) -> str:
    return " ".join(statement.split()) + "."


ENTRIES = entries()
REFUTED = [found for found in ENTRIES if CLAIMS[found.id].expected is Verdict.REFUTED]


def test_every_claim_is_there_once_under_its_number() -> None:
    assert sorted(found.id for found in ENTRIES) == sorted(CLAIMS)
    for found in ENTRIES:
        number = results.number_of(found.id)
        in_place = number == f"{found.wing}/{found.number}"
        assert in_place or (number == found.id and found.number.startswith("Further claims")), found.id


def test_every_number_is_there_in_order_under_its_title() -> None:
    for wing, title in results.WINGS.items():
        headings = list(parts(parts(PAGE, 2)[title], 3))
        numbers = [f"{number}: {words}" for number, words in results.TITLES[wing].items()]
        assert headings[: len(numbers)] == numbers
        assert all(heading.startswith("Further claims") for heading in headings[len(numbers) :])


def test_numbers_without_a_claim_have_their_reason() -> None:
    for name, reason in results.NO_CLAIM.items():
        wing, number = name.split("/")
        below = parts(parts(PAGE, 2)[results.WINGS[wing]], 3)[f"{number}: {results.TITLES[wing][number]}"]
        assert re.sub(r"\\(.)", r"\1", below.strip()) == f"No claim: {reason}."
    assert PAGE.count("No claim:") == len(results.NO_CLAIM)


def test_each_says_what_its_claim_says() -> None:
    for found in ENTRIES:
        claim = CLAIMS[found.id]
        statement, told, *rest = found.paragraphs
        assert statement == in_one_line(claim.statement)
        match = re.fullmatch(r"\*(.*)\*: \*\*([\w ]+)\*\*.*\.", told)
        assert match, found.id
        assert match[1] == claim.source
        assert VERDICTS[match[2]] is claim.expected, found.id
        assert bool(found.counterexample) is (claim.expected is Verdict.REFUTED), found.id
        if claim.expected is Verdict.REFUTED:
            right = CLAIMS[claim.corrected_by]
            assert rest[0] == f"Corrected by [{right.id}](#{slug(right.id)}): {in_one_line(right.statement)}"


def test_the_table_counts() -> None:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.splitlines() if line[:1] == "|"]
    assert rows[0][1:] == ["results", "errata", "claims", "hold", "refuted"]
    counts = [list(map(int, row[1:])) for row in rows[2:]]
    assert [sum(column) for column in zip(*counts[:-1], strict=True)] == counts[-1]
    for (wing, title), row in zip(results.WINGS.items(), rows[2:-1], strict=True):
        claims = [claim for claim in ledger() if claim.id.startswith(f"{wing}/")]
        numbers = [n for n in results.TITLES[wing] if f"{wing}/{n}" not in results.NO_CLAIM]
        wrong = sum(claim.expected is Verdict.REFUTED for claim in claims)
        expected = [sum(n.startswith(kind) for n in numbers) for kind in "RE"]
        assert row[0] == f"[{title}](#{slug(title)})"
        assert list(map(int, row[1:])) == [*expected, len(claims), len(claims) - wrong, wrong]


def test_links_within_the_page_lead_somewhere() -> None:
    anchors = [slug(heading) for heading in re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)]
    assert len(set(anchors)) == len(anchors)
    targets = re.findall(r"\]\(#([^)]*)\)", PAGE)
    assert len(targets) > 300
    assert set(targets) <= set(anchors)


@cache
def names_in(path: Path) -> frozenset[str]:
    """Functions, methods and classes of a file."""
    names: set[str] = set()

    def collect(nodes: list[ast.stmt], prefix: str) -> None:
        for node in nodes:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                names.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                collect(node.body, f"{prefix}{node.name}.")

    collect(ast.parse(path.read_text(encoding="utf-8")).body, "")
    return frozenset(names)


def test_links_to_code_lead_to_it() -> None:
    for found in ENTRIES:
        targets = LINK.findall(found.paragraphs[-1])
        assert found.paragraphs[-1].startswith("Check: ["), found.id
        assert targets[0][1] == CLAIMS[found.id].check.__name__
        assert LINK.findall(found.text) == targets
        for file, name in targets:
            assert name in names_in((DOCS / file).resolve()), (file, name)


def evaluated(code: str) -> object:
    """Run the imports of a counterexample, and evaluate it."""
    *imports, instance = ast.parse(code).body
    assert all(isinstance(line, ast.ImportFrom) for line in imports)
    assert isinstance(instance, ast.Expr)
    namespace: dict[str, object] = {}
    exec(compile(ast.Module(imports, []), "imports", "exec"), namespace)
    return eval(compile(ast.Expression(instance.value), "instance", "eval"), namespace)


@pytest.mark.parametrize("found", REFUTED, ids=lambda found: found.id)
def test_a_counterexample_still_is_one_by_two_computations(found: Entry) -> None:
    claim = CLAIMS[found.id]
    instance = evaluated(found.counterexample)
    trial = try_instance(claim, 0, instance)
    assert trial.fails(claim), trial
    stands, exact_gap = borne_out_exactly(claim, instance)
    assert stands
    assert trial.confirmed or exact_gap is not None


QUICK = ("contract/R5", "contract/E7", "accuracy-shaping/E7", "sharing-market/E3", "fair-value/E16")
QUICK += ("data-externality/R1", "data-externality/E13")


@pytest.mark.parametrize("id", QUICK)
def test_the_page_is_what_comes_out(id: str) -> None:
    now = "\n".join(entry(FULL_SETTINGS.run(CLAIMS[id]), CLAIMS, CLAIMS, MAKER.link)).rstrip()
    there = next(found for found in ENTRIES if found.id == id)
    assert now == f"#### {id}{there.text}"


def test_the_page_begins_as_it_is_made() -> None:
    assert PAGE.startswith(MAKER.HEAD)


def test_a_page_is_written_and_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "ledger.md"
    asked = ["contract/E[12]", "--instances", "3", "--out", str(out)]
    assert MAKER.main(asked) == 0
    text = out.read_text(encoding="utf-8")
    assert text.startswith("# Ledger of claims\n")
    assert list(parts(text, 4)) == ["contract/E1", "contract/E2"]
    assert MAKER.main([*asked, "--check"]) == 0
    assert capsys.readouterr().out == ""
    out.write_text(text.replace("**refuted as printed**", "**holds**", 1), encoding="utf-8")
    assert MAKER.main([*asked, "--check"]) == 1
    changes = capsys.readouterr().out.splitlines()
    assert [line for line in changes if line[0] in "+-" and line[:3] not in ("+++", "---")] == [
        "-*(24)*: **holds**.",
        "+*(24)*: **refuted as printed**.",
    ]
    assert out.read_text(encoding="utf-8").count("**holds**") == 1


def test_a_surprise_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = CLAIMS["contract/E1"]
    monkeypatch.setitem(CLAIMS, claim.id, type(claim)(**{**vars(claim), "expected": Verdict.HOLDS}))
    assert MAKER.main([claim.id, "--instances", "1", "--out", str(tmp_path / "ledger.md")]) == 1
    assert "not as expected: contract/E1" in capsys.readouterr().err
    assert "which was not expected" in (tmp_path / "ledger.md").read_text(encoding="utf-8")
