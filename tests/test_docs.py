"""Every Python snippet of the README and the docs runs, and prints what the page says it prints."""

import io
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def squeezed(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.strip().splitlines()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_snippets_print_what_the_page_says(page: Path) -> None:
    found = blocks(page)
    assert any(language == "python" for language, _ in found)
    namespace: dict[str, object] = {"__name__": "snippet"}
    for position, (language, code) in enumerate(found):
        if language != "python":
            continue
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile(code, f"{page.name}, block {position}", "exec"), namespace)
        if position + 1 < len(found) and found[position + 1][0] == "text":
            assert squeezed(printed.getvalue()) == squeezed(found[position + 1][1])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target


def anchor(heading: str) -> str:
    """The address of a heading within its page, as code hosts and the site make it."""
    plain = re.sub(r"[`*]", "", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    return {anchor(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


def test_links_lead_to_headings_that_exist() -> None:
    known = {page: anchors(page) for page in PAGES}
    n_links = 0
    for page in PAGES:
        for target, place in re.findall(r"\]\(([\w/.]*)#([^)]+)\)", page.read_text(encoding="utf-8")):
            there = (page.parent / target).resolve() if target else page
            if there in known:
                assert place in known[there], (page.name, place)
                n_links += 1
    assert n_links > 100
    assert anchor("`mo.claim`: of R7-costate, (29)") == "moclaim-of-r7-costate-29"


def claims_linked(text: str) -> list[str]:
    return re.findall(r"\]\(ledger\.md#([\w-]+)\)", text)


@pytest.mark.parametrize(
    "wing", ["contract", "accuracy-shaping", "sharing-market", "fair-value", "data-externality"]
)
def test_pages_of_mechanisms_link_errata_to_claims(wing: str) -> None:
    from mechopt.formulations.ledger import ledger
    from mechopt.verification import Verdict

    name = {"contract": "screening"}.get(wing, wing.replace("-", "_"))
    text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    rows = [
        row.split(" | ") for row in text[text.index("says otherwise") :].splitlines() if "ledger.md#" in row
    ]
    expected = {anchor(claim.id): claim.expected for claim in ledger().select(f"{wing}/*")}
    for _, wrong, right in rows:
        assert all(expected[claim] is Verdict.REFUTED for claim in claims_linked(wrong))
        assert all(expected[claim] is Verdict.HOLDS for claim in claims_linked(right))
        assert claims_linked(wrong)
        assert claims_linked(right)
    assert len(rows) >= 7


def test_readme_names_every_registered_backend() -> None:
    import mechopt as mo

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for row in mo.backends():
        assert f"`{row['name']}`" in text
