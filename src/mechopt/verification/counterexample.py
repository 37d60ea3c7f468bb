"""Counterexamples on file: written as typed JSON, read without running anything that the file says.

An instance is a tree of numbers, strings, tuples, lists, dictionaries, arrays, fractions, enumerations and
dataclasses. A class is written by name, and looked for only in this package and in the modules of the
ledger's own claims; there is no pickle and no evaluation.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib
import json
import math
import sys
from collections.abc import Callable, Iterable
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from mechopt.solvers.errors import InvalidInput
from mechopt.verification.claim import (
    Claim,
    Ledger,
    Outcome,
    Trial,
    Verdict,
    borne_out_exactly,
    try_instance,
)

FORMAT = "mechopt counterexamples"
FORMAT_VERSION = 1
_KINDS = "biuf"
"""Kinds of arrays that are written: truth values, integers, floats."""


# ------------------------------------------------------------ instances


def encode(instance: Any) -> Any:
    """Turn an instance into plain JSON.

    Raises
    ------
    InvalidInput
        If something in it is no number, string, tuple, list, dictionary, set, array, fraction, enumeration
        or dataclass of some module; the message names where it is.

    Examples
    --------
    >>> encode((1, 0.5, Fraction(1, 3)))
    {'tuple': [1, 0.5, {'fraction': '1/3'}]}
    """
    return _encode(instance, "instance")


def _encode(node: Any, where: str) -> Any:
    if isinstance(node, enum.Enum):  # before strings and integers: some are both
        return {"enum": _class_name(type(node), where), "name": node.name}
    if node is None or isinstance(node, bool | str | int):
        return node
    if isinstance(node, np.ndarray | np.generic) and node.dtype.kind in _KINDS:  # before float: some are both
        entries = [_encode(value, where) for value in np.asarray(node).ravel().tolist()]
        return {"array": entries, "shape": list(node.shape), "dtype": node.dtype.str}
    if isinstance(node, float):
        return node if math.isfinite(node) else {"float": repr(node)}
    if isinstance(node, Fraction):
        return {"fraction": str(node)}
    for kind in (tuple, list, frozenset, set):
        if type(node) is kind:
            ordered = node if kind in (tuple, list) else sorted(node, key=repr)
            parts = [_encode(value, f"{where}[{i}]") for i, value in enumerate(ordered)]
            return parts if kind is list else {kind.__name__: parts}
    if isinstance(node, dict):
        return {"dict": [[_encode(k, where), _encode(v, f"{where}[{k!r}]")] for k, v in node.items()]}
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        inside = {
            f.name: _encode(getattr(node, f.name), f"{where}.{f.name}")
            for f in dataclasses.fields(node)
            if f.init
        }
        return {"record": _class_name(type(node), where), "fields": inside}
    raise InvalidInput(
        f"{where} is of type {type(node).__name__}, which cannot be written to a file; use numbers, tuples, "
        "arrays and dataclasses in instances"
    )


def _class_name(kind: type, where: str) -> str:
    if "<locals>" in kind.__qualname__:
        raise InvalidInput(
            f"{where} is a {kind.__qualname__}, a class inside a function, which cannot be found again; "
            "define it at the top of its module"
        )
    return f"{kind.__module__}:{kind.__qualname__}"


def decode(content: Any, modules: Iterable[str] = ()) -> Any:
    """Build an instance from what `encode` wrote.

    Parameters
    ----------
    content : JSON
    modules : iterable of str
        Modules, besides this package's own, whose dataclasses may be built; they must be imported already.

    Raises
    ------
    InvalidInput
        If the content is not of this form, or names a class from elsewhere.
    """
    return _decode(content, frozenset(modules))


def _decode(node: Any, modules: frozenset[str]) -> Any:
    if node is None or isinstance(node, bool | int | float | str):
        return node
    if isinstance(node, list):
        return [_decode(value, modules) for value in node]
    if isinstance(node, dict):
        for key, build in _BUILDERS.items():
            if key in node:
                try:
                    return build(node, modules)
                except InvalidInput:
                    raise
                except Exception as error:  # a hand-edited file can be wrong in any way
                    raise InvalidInput(
                        f"cannot read {key} {str(node)[:80]}: {type(error).__name__}: {error}"
                    ) from error
    raise InvalidInput(f"cannot read {str(node)[:80]!r}: no such kind of value")


def _array(node: dict[str, Any], modules: frozenset[str]) -> Any:
    dtype = np.dtype(str(node["dtype"]))
    if dtype.kind not in _KINDS:
        raise InvalidInput(f"arrays of {node['dtype']!r} are not read")
    entries = [_decode(value, modules) for value in node["array"]]
    return np.array(entries, dtype=dtype).reshape(node["shape"])[()]


def _record(node: dict[str, Any], modules: frozenset[str]) -> Any:
    kind = _class(node["record"], modules)
    if not dataclasses.is_dataclass(kind):
        raise InvalidInput(f"{node['record']!r} is no dataclass")
    return kind(**{name: _decode(value, modules) for name, value in node["fields"].items()})


def _enum(node: dict[str, Any], modules: frozenset[str]) -> Any:
    kind = _class(node["enum"], modules)
    if not issubclass(kind, enum.Enum):
        raise InvalidInput(f"{node['enum']!r} is no enumeration")
    return kind[node["name"]]


_BUILDERS: dict[str, Callable[[dict[str, Any], frozenset[str]], Any]] = {
    "tuple": lambda node, modules: tuple(_decode(value, modules) for value in node["tuple"]),
    "set": lambda node, modules: {_decode(value, modules) for value in node["set"]},
    "frozenset": lambda node, modules: frozenset(_decode(value, modules) for value in node["frozenset"]),
    "dict": lambda node, modules: {_decode(k, modules): _decode(v, modules) for k, v in node["dict"]},
    "float": lambda node, modules: float(node["float"]),
    "fraction": lambda node, modules: Fraction(str(node["fraction"])),
    "array": _array,
    "record": _record,
    "enum": _enum,
}


def _class(name: Any, modules: frozenset[str]) -> type:
    module_name, _, path = str(name).partition(":")
    own = module_name == "mechopt" or module_name.startswith("mechopt.")
    if not own and module_name not in modules:
        raise InvalidInput(
            f"the file names a class of {module_name!r}; only classes of mechopt and of the modules of the "
            "ledger's claims are built"
        )
    try:
        found: Any = importlib.import_module(module_name) if own else sys.modules[module_name]
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, KeyError, AttributeError):
        raise InvalidInput(f"there is no {name!r} in this version of the package") from None
    # What a module only imported belongs to another, which may not be one of these.
    if not isinstance(found, type) or found.__module__ != module_name:
        raise InvalidInput(f"{name!r} is no class of {module_name!r}")
    return found


# ------------------------------------------------------------ files


@dataclasses.dataclass(frozen=True)
class Counterexample:
    """One counterexample, as kept on file.

    Attributes
    ----------
    claim_id : str
    instance : object
    gap : float
        By how much the statement failed.
    witness : str
    exact_gap : Fraction or None
        The same in rationals.
    tolerance : float
        The claim's, then.
    seed : int
        Of the run that found it.
    version : str
        Of the package that found it.
    found_as : object or None
        The instance before it was made smaller.
    """

    claim_id: str
    instance: Any
    gap: float
    witness: str = ""
    exact_gap: Fraction | None = None
    tolerance: float = float("nan")
    seed: int = 0
    version: str = ""
    found_as: Any = None

    @classmethod
    def of(cls, outcome: Outcome, seed: int) -> Counterexample:
        """Take the counterexample out of a refutation."""
        if outcome.verdict is not Verdict.REFUTED:
            raise InvalidInput(f"{outcome.claim.id} is not refuted: it has no counterexample")
        return cls(
            outcome.claim.id,
            outcome.counterexample,
            outcome.gap,
            outcome.witness,
            outcome.exact_gap,
            outcome.claim.tolerance,
            seed,
            package_version(),
            outcome.found_as,
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "claim": self.claim_id,
            "instance": encode(self.instance),
            "shown": repr(self.instance),
            "gap": encode(self.gap),
            "exact_gap": None if self.exact_gap is None else str(self.exact_gap),
            "witness": self.witness,
            "tolerance": self.tolerance,
            "seed": self.seed,
            "version": self.version,
            "found_as": encode(self.found_as),
        }


@dataclasses.dataclass(frozen=True)
class Replay:
    """What a counterexample from a file does here.

    Attributes
    ----------
    counterexample : Counterexample
        As read.
    claim : Claim
    gap : float
        Now; NaN if the check broke.
    witness : str
        Now, or why it broke.
    exact_gap : Fraction or None
    fails : bool
        Whether the statement still fails.
    confirmed : tuple of str
        What a second computation bore out.
    """

    counterexample: Counterexample
    claim: Claim
    gap: float
    witness: str
    exact_gap: Fraction | None
    fails: bool
    confirmed: tuple[str, ...] = ()

    @property
    def twice_computed(self) -> bool:
        """Whether the failure was borne out in rationals or by a second computation, here and now."""
        return self.fails and (self.exact_gap is not None or bool(self.confirmed))

    def __str__(self) -> str:
        then = self.counterexample
        if self.fails:
            state = "fails" if self.twice_computed else "fails, with no second computation to bear it out"
        else:
            state = "could not be judged" if math.isnan(self.gap) else "no longer fails"
        told = (
            f"{then.claim_id}: {state}, gap {self.gap:.3g} (on file {then.gap:.3g}, mechopt {then.version})"
            f"\n  at {then.instance}"
        )
        told += f"\n  {self.witness}" if self.witness else ""
        if self.exact_gap is not None:
            told += f"\n  in rationals {self.exact_gap}"
        for fact in self.confirmed:
            told += f"\n  confirmed: {fact}"
        return told


def keepable(outcome: Outcome) -> bool:
    """Whether the counterexample of a refutation can be written to a file; see `encode`."""
    try:
        encode((outcome.counterexample, outcome.found_as))
    except InvalidInput:
        return False
    return True


def write_counterexamples(path: str | Path, found: Iterable[Counterexample]) -> int:
    """Write counterexamples to a file that `read_counterexamples` reads; return how many."""
    path = Path(path)
    listed = [counterexample.to_json() for counterexample in found]
    content = {"format": FORMAT, "format_version": FORMAT_VERSION, "counterexamples": listed}
    try:
        path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror or error}") from None
    return len(listed)


def read_counterexamples(path: str | Path, ledger: Ledger) -> tuple[Counterexample, ...]:
    """Read a file of counterexamples to claims of a ledger.

    Raises
    ------
    InvalidInput
        If the file cannot be read, is of another form, or has a claim that is not in the ledger.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror or error}") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InvalidInput(f"{path} is no JSON: {error}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InvalidInput(f"{path} is no file of counterexamples: write one with `--counterexamples`")
    if content.get("format_version") != FORMAT_VERSION:
        raise InvalidInput(
            f"{path} is of format {content.get('format_version')!r}; this version reads {FORMAT_VERSION}"
        )
    entries = content.get("counterexamples")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InvalidInput(f"{path} is damaged: it has no list of counterexamples")
    modules = {part.__module__ for claim in ledger for part in (claim.check, claim.instances)}
    return tuple(
        _read(f"{path}, {entry.get('claim', f'counterexample {number}')}", entry, ledger, modules)
        for number, entry in enumerate(entries)
    )


def _read(where: str, entry: dict[str, Any], ledger: Ledger, modules: set[str]) -> Counterexample:
    try:
        claim = ledger.claims.get(entry["claim"])
        if claim is None:
            raise InvalidInput("there is no such claim in this version")
        exact = entry["exact_gap"]
        return Counterexample(
            claim.id,
            decode(entry["instance"], modules),
            float(decode(entry["gap"])),
            str(entry["witness"]),
            None if exact is None else Fraction(exact),
            float(entry["tolerance"]),
            int(entry["seed"]),
            str(entry["version"]),
            decode(entry["found_as"], modules),
        )
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"{where}: it is incomplete or damaged: {type(error).__name__} {error}") from None


def replay(counterexample: Counterexample, ledger: Ledger) -> Replay:
    """Check a counterexample from a file again."""
    claim = ledger.claims[counterexample.claim_id]
    trial: Trial = try_instance(claim, 0, counterexample.instance)
    if trial.finding is None:
        why = f"the check broke: {type(trial.error).__name__}: {trial.error}"
        return Replay(counterexample, claim, float("nan"), why, None, False)
    if not trial.applies:
        why = f"outside the hypotheses; {trial.finding.witness}"
        return Replay(counterexample, claim, float(trial.finding.gap), why, None, False)
    stands, exact_gap = borne_out_exactly(claim, counterexample.instance)
    fails = trial.fails(claim) and stands
    return Replay(
        counterexample,
        claim,
        float(trial.finding.gap),
        trial.finding.witness,
        exact_gap,
        fails,
        trial.confirmed,
    )


def package_version() -> str:
    """Version of the installed package, or ``""``."""
    try:
        return version("mechopt")
    except PackageNotFoundError:
        return ""
