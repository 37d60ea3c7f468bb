"""How the pages of this folder become a site, with no word from another host.

``python -m pip install -e ".[docs]"``, then ``python -m sphinx -W -b html docs build/docs`` from the root;
open ``build/docs/index.html``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import mechopt

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))

from numpydoc.xref import DEFAULT_LINKS  # noqa: E402
from public_names import addresses  # noqa: E402

DEFAULT_LINKS.clear()  # they lead to the pages of Python, which this site does not know

# ------------------------------------------------------------------ what is where

navigation = {
    "Learn": {
        "tutorial": "Tutorial",
        "auto_gallery/index": "Gallery",
    },
    "Do": {
        "own_mechanism": "Add a mechanism",
        "add_backend": "Add a backend",
        "infeasible": "My program is infeasible",
        "backends": "Choose a solver",
        "duals": "Read the duals",
        "extensions": "Extend the contract",
        "verify": "Check claims",
        "sweeps": "Sweep parameters",
        "benchmarks": "Benchmark backends",
        "wings": "How a wing is built",
    },
    "Mechanisms": {
        "screening": "Screening contracts",
        "accuracy_shaping": "Accuracy shaping",
        "sharing_market": "Sharing markets",
        "fair_value": "Fair value",
        "data_externality": "Data externality",
    },
    "Look up": {
        "reference/index": "Reference",
        "ledger": "Ledger of claims",
        "reference/changes": "Changes",
    },
}
"""Pages by section, with their names at the side; a page that is in none comes under "More"."""

pictures = {
    "tutorial": ["01_contract_menu", "02_own_constraint"],
    "extensions": ["02_own_constraint"],
    "screening": ["01_contract_menu", "02_own_constraint"],
    "accuracy_shaping": ["03_federated_learning"],
    "sharing_market": ["04_sharing_graph", "05_vcg_payments"],
    "fair_value": ["06_fair_value", "07_platform_regimes"],
    "data_externality": ["08_data_externality"],
    "infeasible": ["09_infeasible"],
    "backends": ["10_backends_compared"],
}
"""Figures of the gallery that a page shows at its end."""

# ------------------------------------------------------------------ Sphinx

project = "mechopt"
author = "The mechopt developers"
copyright = author
version = release = mechopt.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "ledger",
    "mathml",
    "pages",
    "public_names",
]
exclude_patterns = ["_*", "gallery", "auto_gallery/*.ipynb", "Thumbs.db"]
default_role = "py:obj"
nitpicky = False

html_theme = "furo"
html_title = "mechopt"
html_static_path = ["_static"]
html_css_files = ["mechopt.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_copyright = False
pygments_style = "friendly"
pygments_dark_style = "monokai"

# ------------------------------------------------------------------ extensions

myst_fence_as_directive = ["math"]  # a code host draws these fences as formulas, too
myst_enable_extensions = ["dollarmath"]  # and formulas within a line, between dollars
myst_heading_anchors = 4

toc_object_entries_show_parents = "hide"
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc's sections name types, with shapes and units
autodoc_class_signature = "mixed"
autosummary_generate = False
numpydoc_show_class_members = False  # autodoc lists them already
numpydoc_xref_param_type = True
numpydoc_xref_aliases = addresses()
numpydoc_xref_ignore = "all"
maximum_signature_line_length = 90

copybutton_exclude = ".linenos, .gp, .go"

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "auto_gallery",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": ("figures.scrape",),
    "reset_modules": (),
    "abort_on_example_error": True,
    "capture_repr": (),
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "download_all_examples": False,
    "min_reported_time": 3600,
}
