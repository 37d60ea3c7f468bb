"""Backends that Pyomo drives, and the translation of a declared program into a Pyomo model.

``translate.py`` walks the declaration, ``atoms.py`` is its table of nonlinear functions, ``pairs.py`` writes
complementarity, ``lagrange.py`` recomputes bounds, ``backends.py`` calls the solvers.
"""

from mechopt.solvers.pyomo.backends import PyomoHighs, PyomoPounce, PyomoScip
from mechopt.solvers.pyomo.translate import Translation, unsupported

__all__ = ["PyomoHighs", "PyomoPounce", "PyomoScip", "Translation", "unsupported"]
