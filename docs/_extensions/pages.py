"""What the site adds to the Markdown pages: the navigation, and figures of the gallery at their end."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx


def sections(navigation: dict[str, dict[str, str]], pages: set[str]) -> dict[str, dict[str, str]]:
    """Keep what exists of the navigation, and put pages that are in no section under "More".

    Parameters
    ----------
    navigation : dict of str to dict of str to str
        Short titles by page, by section.
    pages : set of str
        All pages but the first. Pages in folders have a way of their own.
    """
    kept = {
        section: {page: title for page, title in listed.items() if page in pages}
        for section, listed in navigation.items()
    }
    placed = {page for listed in kept.values() for page in listed}
    left = sorted(page for page in pages - placed if "/" not in page)
    return kept | ({"More": dict.fromkeys(left, "")} if left else {})


def trees(app: Sphinx) -> str:
    """Trees of the first page, hidden there and shown at the side."""
    blocks = []
    for section, listed in sections(app.config.navigation, app.env.found_docs - {"index"}).items():
        entries = [f"{title} <{page}>" if title else page for page, title in listed.items()]
        blocks.append("\n".join(["```{toctree}", ":hidden:", f":caption: {section}", "", *entries, "```"]))
    return "\n\n".join(blocks)


def pictures(scripts: list[str]) -> str:
    """Figures of these scripts, each with the way to its script."""
    lines = ["## Figures", "", "```{eval-rst}"]
    for script in scripts:
        lines += [
            f".. figure:: /auto_gallery/images/sphx_glr_{script}_001.png",
            f"   :target: auto_gallery/{script}.html",
            "   :class: from-gallery",
            "",
            f"   :doc:`/auto_gallery/{script}`",
            "",
        ]
    return "\n".join([*lines, "```"])


def append(app: Sphinx, docname: str, source: list[str]) -> None:
    """Add to a page, as it is read, what only the site has."""
    if docname == "index":
        source[0] += "\n\n" + trees(app)
    elif docname in app.config.pictures:
        source[0] += "\n\n" + pictures(app.config.pictures[docname])


def setup(app: Sphinx) -> dict[str, Any]:
    """Take ``navigation`` and ``pictures`` from the configuration."""
    app.add_config_value("navigation", {}, "env")
    app.add_config_value("pictures", {}, "env")
    app.connect("source-read", append)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
