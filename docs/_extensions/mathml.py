r"""Formulas as MathML, which browsers draw themselves: no script, no font, no other host.

`latex2mathml` does the translation. What it draws otherwise than TeX is put right here, and what it does not
know is a warning, so that no page shows a backslash.
"""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging

NAMESPACE = "http://www.w3.org/1998/Math/MathML"
LIMITS = {"max", "min", "sup", "inf", "lim", "argmax", "argmin"}
"""Operators that carry their subscript below them in a displayed formula."""
SPACES = dict.fromkeys(("⟂", "⪯", "⪰", ":"), "0.28em") | dict.fromkeys(
    ("log", "exp", "cos", "arccos"), "0.17em"
)
"""Space around signs that stand between two sides, and around names of functions."""

_BRACE = re.compile(r"\\([Bb]igg?[lrm]?)\s*\\([{}])")
_ARG = re.compile(r"\\arg\s*\\(max|min)(?![A-Za-z])")
_BRACES = {"{": "lbrace", "}": "rbrace"}
_SIGNS = {r"\lbrace": "{", r"\rbrace": "}"}

log = logging.getLogger(__name__)


def mathml(formula: str, *, display: bool) -> str:
    """Translate a formula from LaTeX.

    Raises
    ------
    ValueError
        If a command is not known.
    """
    text = _ARG.sub(r"\\operatorname{arg\1}", formula.strip())
    text = text.replace("{aligned}", "{align*}")
    text = _BRACE.sub(lambda match: rf"\{match[1]}\{_BRACES[match[2]]} ", text)
    root = ElementTree.fromstring(convert(text, display="block" if display else "inline"))
    for element in root.iter():
        element.text = _SIGNS.get(element.text or "", element.text)
        if "\\" in (element.text or ""):
            raise ValueError(f"unknown command {element.text!r}")
        if element.text in SPACES:
            element.tag = f"{{{NAMESPACE}}}mo"
            element.set("lspace", SPACES[element.text])
            element.set("rspace", SPACES[element.text])
        if display and element.tag == f"{{{NAMESPACE}}}msub" and element[0].text in LIMITS:
            element.tag = f"{{{NAMESPACE}}}munder"
    ElementTree.register_namespace("", NAMESPACE)
    return ElementTree.tostring(root, encoding="unicode")


def _visit(self: Any, node: nodes.Element, *, display: bool) -> None:
    try:
        drawn = mathml(node.astext(), display=display)
    except (
        Exception
    ) as error:  # of the translator's many kinds; the reader sees the formula as it was written
        log.warning("formula %r: %s", node.astext(), error, location=node)
        drawn = self.starttag(node, "code") + self.encode(node.astext()) + "</code>"
    self.body.append(f'<div class="formula">{drawn}</div>\n' if display else drawn)
    raise nodes.SkipNode


def visit_inline(self: Any, node: nodes.Element) -> None:
    """Write a formula within a line."""
    _visit(self, node, display=False)


def visit_block(self: Any, node: nodes.Element) -> None:
    """Write a formula on a line of its own."""
    _visit(self, node, display=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer ``mathml``."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
