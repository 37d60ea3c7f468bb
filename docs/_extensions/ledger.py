"""What the ledger has on the site: the sources that it leads to, and contents that stop at the numbers.

``[`solve`](../src/mechopt/a/b.py#Menu.solve)`` opens the file on a code host. Here it leads to a page that
has the file, with an anchor at every function, method and class.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

LEDGER = "ledger"
DEPTH = 3
"""Headings that its contents show: pages, wings, numbers."""

_LINK = re.compile(r"\[`([^`\]]+)`\]\(\.\./src/([\w/]+)\.py#([\w.]+)\)")


def rewrite(app: Sphinx, docname: str, source: list[str]) -> None:
    """Turn links to sources into roles as a page is read, and limit the contents of the ledger."""
    if "/" not in docname:
        source[0] = _LINK.sub(r"{source}`\1 <\2#\3>`", source[0])
    if docname == LEDGER:
        source[0] = f"---\ntocdepth: {DEPTH}\n---\n\n{source[0]}"


def source_role(
    name: str, rawtext: str, text: str, lineno: int, inliner: Any, options: Any = None, content: Any = None
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    """Link to a function on the page of its file."""
    title, _, target = text.removesuffix(">").partition(" <")
    file, _, anchor = target.partition("#")
    link = nodes.reference(rawtext, "", refuri=f"{page_of(file)}.html#{anchor}", internal=True)
    link += nodes.literal(title, title)
    return [link], []


def page_of(file: str) -> str:
    """Page of ``mechopt/a/b``, which is a file without its ending."""
    return f"_modules/{file}"


def linked_files(folder: Path) -> list[str]:
    """Files that the pages of a folder lead to."""
    pages = sorted(folder.glob("*.md"))
    return sorted({match[2] for page in pages for match in _LINK.finditer(page.read_text(encoding="utf-8"))})


def source_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Make the pages of these files."""
    for file in linked_files(Path(app.srcdir)):
        analyzer = ModuleAnalyzer.for_module(file.removesuffix("/__init__").replace("/", "."))
        analyzer.find_tags()
        lines = app.builder.highlighter.highlight_block(analyzer.code, "python").splitlines()
        for name, (_, start, _) in analyzer.tags.items():
            lines[start - 1] = f'<span id="{name}"></span>{lines[start - 1]}'
        body = "\n".join([f"<section><h1>{file}.py</h1>", *lines, "</section>"])
        yield page_of(file), {"title": f"{file}.py", "body": body, "parents": []}, "page.html"


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the role ``source``, and the pages of sources."""
    app.add_role("source", source_role)
    app.connect("source-read", rewrite)
    app.connect("html-collect-pages", source_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
