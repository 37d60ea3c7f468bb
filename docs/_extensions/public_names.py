"""The reference: every name that the package makes public, on the page of the part that it comes from."""

from __future__ import annotations

import inspect
import re
import sys
from itertools import takewhile
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util.docutils import SphinxDirective

import mechopt

PACKAGE = "mechopt"
_NAME = re.compile(r"(mo\.(?=\w)|(?=[A-Z]))(?P<name>\w+(\.\w+)*)(\(.*\))?")
"""A class, or anything of the package with its prefix: ``solve()`` alone may be anybody's."""


def home(name: str) -> str:
    """Name of the module in which a public name is defined."""
    value = getattr(mechopt, name)
    return value.__name__ if inspect.ismodule(value) else value.__module__


def names_in(*parts: str) -> list[str]:
    """Public names defined in these modules, or in modules below them."""
    return [
        name
        for name in mechopt.__all__
        if any(home(name) == part or home(name).startswith(f"{part}.") for part in parts)
    ]


def _returned() -> dict[type, None]:
    """Classes that public functions and methods return, and that have no public name themselves."""
    classes: dict[str, list[type]] = {}
    for name, module in sorted(sys.modules.items()):
        for key, value in vars(module).items() if name.startswith(f"{PACKAGE}.") else ():
            if inspect.isclass(value) and value.__module__ == name and not key.startswith("_"):
                classes.setdefault(value.__name__, []).append(value)
    found: dict[type, None] = {}
    for owner in (getattr(mechopt, name) for name in mechopt.__all__):
        methods = vars(owner) if inspect.isclass(owner) else {owner.__name__: owner}
        for method in (value for name, value in methods.items() if not name.startswith("_")):
            function = getattr(method, "fget", None) or getattr(method, "func", None)
            function = function or getattr(method, "__func__", method)
            annotation = getattr(function, "__annotations__", {}).get("return")
            for word in set(re.findall(r"\w+", str(annotation))) & set(classes) - set(mechopt.__all__):
                # Wings have records of the same name; the one meant shares most of the way.
                place = function.__module__
                nearest = max(classes[word], key=lambda record: _shared(place, record.__module__))
                found[nearest] = None
    return found


def _shared(one: str, other: str) -> int:
    """How many parts two dotted names have in common at their beginning."""
    pairs = zip(one.split("."), other.split("."), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def records_in(*parts: str) -> list[str]:
    """Addresses of records defined in these modules that public functions and methods return."""
    records = (f"{record.__module__}.{record.__name__}" for record in _returned())
    return sorted(record for record in records if any(record.startswith(f"{part}.") for part in parts))


def addresses() -> dict[str, str]:
    """Where each class that docstrings name as a type is documented."""
    records = {record.rpartition(".")[2]: record for record in records_in(PACKAGE)}
    return records | {name: f"{PACKAGE}.{name}" for name in mechopt.__all__}


def describe(name: str) -> list[str]:
    """Return the directive that documents a public name, in reStructuredText."""
    value = getattr(mechopt, name)
    if inspect.ismodule(value):
        return [f".. automodule:: {value.__name__}", "   :members:"]
    if inspect.isclass(value):
        return [f".. autoclass:: {PACKAGE}.{name}", "   :members:"]
    return [f".. {'autofunction' if callable(value) else 'autodata'}:: {PACKAGE}.{name}"]


def summary(names: list[str]) -> list[str]:
    """Return the directive that lists names with the first line of their docstrings."""
    return [".. autosummary::", "   :nosignatures:", "", *(f"   {name}" for name in names)] if names else []


class PublicNames(SphinxDirective):
    """List and document the public names of the modules given as arguments, those of ``first`` first."""

    required_arguments = 1
    optional_arguments = 99
    option_spec: ClassVar[dict[str, Any]] = {"first": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """Write the directives of autodoc, and parse them."""
        names = names_in(*self.arguments)
        first = self.options.get("first", "").split()
        if not names or not set(first) <= set(names):
            raise self.error(
                f"no public names {set(first) - set(names) or ''} in {', '.join(self.arguments)}"
            )
        names.sort(key=lambda name: first.index(name) if name in first else len(first))
        modules = [name for name in names if inspect.ismodule(getattr(mechopt, name))]
        names = [name for name in names if name not in modules]
        records = records_in(*self.arguments)
        lines = [f".. currentmodule:: {PACKAGE}", "", *summary(names)]
        lines += [line for name in names for line in ["", *describe(name)]]
        for name in modules:
            lines += ["", f".. rubric:: The module ``{PACKAGE}.{name}``", "", *describe(name)]
        if records:
            lines += ["", ".. rubric:: What they return", "", ".. currentmodule:: None", ""]
            lines += summary([f"~{record}" for record in records])
        lines += [line for record in records for line in ["", f".. autoclass:: {record}", "   :members:"]]
        container = nodes.section()
        container.document = self.state.document
        self.state.nested_parse(StringList(lines, source=f"{self.env.docname}.rst"), 0, container)
        return container.children


class LinkNames(SphinxTransform):
    """Make links of public names that stand as code within a line, as ``Program`` or ``mo.solve``."""

    default_priority = 5

    def apply(self, **_: Any) -> None:
        """Wrap each such literal into a reference."""
        for literal in list(self.document.findall(nodes.literal)):
            match = _NAME.fullmatch(literal.astext())
            linked = isinstance(literal.parent, pending_xref | nodes.reference)
            if match is None or linked or match["name"].split(".")[0] not in mechopt.__all__:
                continue
            target = pending_xref(
                "",
                literal.deepcopy(),
                refdomain="py",
                reftype="obj",
                reftarget=f"{PACKAGE}.{match['name']}",
                refdoc=self.env.docname,
                refwarn=False,
            )
            literal.replace_self(target)


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive ``public-names`` and the links."""
    app.add_directive("public-names", PublicNames)
    app.add_transform(LinkNames)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
