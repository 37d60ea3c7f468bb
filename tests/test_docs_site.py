"""The documentation builds without a warning, is complete, and asks no other host for anything."""

import importlib.util
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import urlparse

import pytest

import mechopt as mo

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NEEDED = ("sphinx", "furo", "myst_parser", "numpydoc", "sphinx_copybutton", "sphinx_gallery", "latex2mathml")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
needs_site = pytest.mark.skipif(
    bool(MISSING), reason=f'{", ".join(MISSING)} not installed; python -m pip install -e ".[docs]"'
)
NAMESPACES = {
    "http://www.w3.org/1999/xhtml",
    "http://www.w3.org/2000/svg",
    "http://www.w3.org/1998/Math/MathML",
}


MECHANISM_PAGES = {
    "screening": 4,
    "accuracy_shaping": 5,
    "sharing_market": 8,
    "fair_value": 6,
    "data_externality": 8,
}
"""Pages of mechanisms, each with at least so many formulas on lines of their own."""


def load(name: str) -> ModuleType:
    """A module of the folder of extensions, which is not a package."""
    spec = importlib.util.spec_from_file_location(name, DOCS / "_extensions" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Loads(HTMLParser):
    """Addresses that a browser fetches on its own when it opens a page, and its words that people see."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "srcset", "data", "poster", "action", "formaction", "xlink:href") or (
                name == "href" and tag not in ("a", "area")
            ):
                self.fetched.append(value or "")
            if name == "style":
                self.fetched += addresses_in_styles(value or "")


def addresses_in_styles(text: str) -> list[str]:
    """What a style sheet loads."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    return re.findall(r"""(?:url\(|@import)\s*["']?([^"')\s;]+)""", text)


def is_elsewhere(address: str) -> bool:
    return bool(urlparse(address.strip()).netloc)


def outside_comments(script: str) -> str:
    """A script without comments; an address in a string has a colon before its slashes and stays."""
    script = re.sub(r"/\*.*?\*/", "", script, flags=re.DOTALL)
    return re.sub(r"(?<![:\"'\w])//[^\n]*", "", script)


def build(folder: Path) -> Path:
    """Build the site as its configuration says, warnings being errors, and return where it is."""
    for entry in ROOT.iterdir():
        if entry.name != "docs" and not entry.name.startswith("."):
            (folder / entry.name).symlink_to(entry)
    # A copy, since the gallery writes its pages beside its scripts.
    shutil.copytree(DOCS, folder / "docs", ignore=shutil.ignore_patterns("auto_gallery", "__pycache__"))
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", "site"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder / "site"


def every_page_is_built_and_in_the_navigation(site: Path) -> None:
    front = (site / "index.html").read_text(encoding="utf-8")
    pages = [page.relative_to(DOCS).with_suffix(".html") for page in DOCS.glob("*.md")]
    pages += [Path("auto_gallery") / f"{script.stem}.html" for script in (DOCS / "gallery").glob("*.py")]
    for page in pages:
        assert (site / page).exists()
        assert page == Path("index.html") or f'href="{page}"' in front, page
    assert '<span class="caption-text">Do</span>' in front
    assert '<span class="caption-text">More</span>' not in front  # each page is in a section


def every_public_name_is_in_the_reference(site: Path) -> None:
    reference = "".join(page.read_text(encoding="utf-8") for page in (site / "reference").glob("*.html"))
    for name in mo.__all__:
        value = getattr(mo, name)
        anchor = f"module-{value.__name__}" if isinstance(value, ModuleType) else f"mechopt.{name}"
        # Exactly once, so that each name belongs to one part of the package.
        assert len(re.findall(rf'<\w+[^>]* id="{re.escape(anchor)}"', reference)) == 1, name


def names_in_text_lead_to_the_reference(site: Path) -> None:
    page = (site / "screening.html").read_text(encoding="utf-8")
    assert 'href="reference/screening.html#mechopt.ContinuousContract"' in page


def no_page_asks_another_host(site: Path) -> None:
    looked_at = 0
    for path in sorted(site.rglob("*")):
        if path.suffix == ".html":
            found = Loads(path).fetched
        elif path.suffix in (".css", ".svg"):
            found = addresses_in_styles(path.read_text(encoding="utf-8"))
        elif path.suffix == ".js":
            script = outside_comments(path.read_text(encoding="utf-8"))
            found = [x for x in re.findall(r"""https?://[^\s"'`)]+""", script) if x not in NAMESPACES]
        else:
            continue
        looked_at += len(found)
        assert not [address for address in found if is_elsewhere(address)], path.relative_to(site)
    assert looked_at > 100


def test_a_foreign_address_would_be_found(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        '<a href="https://a.org">in text</a><script src="https://b.org/x.js"></script>'
        '<link href="//c.org/y.css"><p style="background: url(https://d.org/z.png)"><img src="near.png">'
    )
    fetched = Loads(page).fetched
    assert [urlparse(x).netloc for x in fetched if is_elsewhere(x)] == ["b.org", "c.org", "d.org"]
    assert addresses_in_styles('@import "https://e.org/f.css"; /* url(https://g.org) */') == [
        "https://e.org/f.css"
    ]
    assert "h.org" not in outside_comments('// see https://h.org\nlet x = "y";')
    assert "k.org" in outside_comments('fetch("https://k.org/data")')


def formulas_are_drawn_by_the_browser(site: Path) -> None:
    for name, most in MECHANISM_PAGES.items():
        page = (site / f"{name}.html").read_text(encoding="utf-8")
        written = (DOCS / f"{name}.md").read_text(encoding="utf-8").count("```math\n")
        drawn = page.count('<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">')
        assert drawn == written >= most, name
        assert 'display="inline"' in page, name
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"<math\b[^>]*>(?:(?!</math>).)*\\", text, re.DOTALL), path
        assert "MathJax" not in text


def the_ledger_leads_to_functions_in_sources(site: Path) -> None:
    page = (site / "ledger.html").read_text(encoding="utf-8")
    targets = set(re.findall(r'href="(_modules/[^"#]+)#([^"]+)"', page))
    assert len(targets) > 400
    for address in {address for address, _ in targets}:
        source = (site / address).read_text(encoding="utf-8")
        anchors = set(re.findall(r'id="([^"]+)"', source))
        assert {name for target, name in targets if target == address} <= anchors, address
    assert "../src/" not in page


@needs_site
def test_the_site(tmp_path: Path) -> None:
    # One test, so that tests in several processes build it once.
    site = build(tmp_path)
    every_page_is_built_and_in_the_navigation(site)
    every_public_name_is_in_the_reference(site)
    names_in_text_lead_to_the_reference(site)
    formulas_are_drawn_by_the_browser(site)
    the_ledger_leads_to_functions_in_sources(site)
    no_page_asks_another_host(site)


@needs_site
def test_formulas_in_mathml() -> None:
    mathml = load("mathml").mathml
    assert "<mfrac>" in mathml(r"\frac{a}{b}", display=False)
    shown = mathml(r"\arg\max_m a(m)", display=True)
    assert "argmax" in shown
    assert "<munder>" in shown
    assert ">{</mo>" in mathml(r"\Bigl\{ x \Bigr\}", display=True)
    assert mathml(r"\begin{aligned} a &\le b \\ c &= d \end{aligned}", display=True).count("<mtr>") == 2
    assert '<mo lspace="0.28em" rspace="0.28em">⟂</mo>' in mathml(r"a \perp b", display=False)
    assert '<mo lspace="0.17em" rspace="0.17em">log</mo>' in mathml(r"q \log p", display=False)
    with pytest.raises(ValueError, match="unknown command"):
        mathml(r"\nonsense x", display=True)


@needs_site
def test_a_page_that_nobody_placed_comes_last() -> None:
    sections = load("pages").sections
    placed = sections({"A": {"one": "One", "ledger": "Ledger"}}, {"one", "new", "reference/x"})
    assert placed == {"A": {"one": "One"}, "More": {"new": ""}}
    assert "More" not in sections({"A": {"one": ""}}, {"one"})
