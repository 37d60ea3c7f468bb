"""Figures of the gallery: the package draws without pyplot, where Sphinx-Gallery looks for them."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst

DPI = 150


def scrape(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Save each figure that a block of a script has made, and show it below the block.

    Returns
    -------
    str
        The figures in reStructuredText.
    """
    shown = block_vars["example_globals"].setdefault("__shown__", [])
    saved = []
    for figure in block_vars["example_globals"].values():
        if isinstance(figure, Figure) and not any(figure is other for other in shown):
            path = next(block_vars["image_path_iterator"])
            figure.savefig(path, dpi=DPI)
            shown.append(figure)
            saved.append(path)
    return figure_rst(saved, gallery_conf["src_dir"])
