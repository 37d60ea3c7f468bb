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


def test_readme_names_every_registered_backend() -> None:
    import mechopt as mo

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for row in mo.backends():
        assert f"`{row['name']}`" in text
