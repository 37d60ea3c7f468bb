"""The file that a sweep writes its cells into as they come, and how a later one knows which are its own."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import json
import os
import pickle
import time
import types
import warnings
import zlib
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import numpy as np

from mechopt.solvers.errors import BackendUnavailable, InvalidInput, MechanismWarning

FORMAT = "mechopt sweep 1"
SECONDS_BETWEEN_SYNCS = 1.0
"""A killed process loses no cell; a machine that loses its power loses at most those of this last while."""

Record = dict[str, Any]
"""A cell: status, reason, objective, seconds, backend; ``values`` by name (numbers, strings, arrays)."""


def needed(module: str) -> Any:
    """Import a library of the extra ``sweep``.

    Raises
    ------
    BackendUnavailable
        If it is not installed; the message says how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise BackendUnavailable(f'a sweep needs {module}: pip install "mechopt[sweep]"') from error


# ---------------------------------------------------------------- who wrote it


def identity(value: Any) -> Any:
    """What tells a value from others, as plain JSON: the same in every process and every session.

    Functions are told apart by their compiled code, defaults, what they close over and the constants of their
    module that they use, not by what the functions that they call do; dataclasses by their fields, whatever
    they have cached; other objects by their attributes; objects that can be called by the code of that, too.
    """
    if value is None or isinstance(value, bool | str):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, int | np.integer) and abs(int(value)) < 2**53:
        return repr(float(value))  # 10 and 10.0 ask for the same cell
    if isinstance(value, int | float | np.integer | np.floating):
        return repr(value.item() if isinstance(value, np.generic) else value)
    if isinstance(value, list | tuple):
        return [identity(entry) for entry in value]
    if isinstance(value, Mapping):
        return {str(key): identity(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray) and value.dtype != object:
        content = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return ["array", str(value.dtype), list(value.shape), content]
    if isinstance(value, functools.partial):
        return ["partial", identity(value.func), identity(value.args), identity(value.keywords)]
    if isinstance(value, types.MethodType):
        return ["method", identity(value.__func__), identity(value.__self__)]
    if isinstance(value, type | types.BuiltinFunctionType | np.ufunc):
        return f"{getattr(value, '__module__', '')}:{getattr(value, '__qualname__', value.__name__)}"
    if isinstance(value, types.FunctionType):
        return _function(value)
    if dataclasses.is_dataclass(value):
        fields = {f.name: identity(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return [identity(type(value)), _call(value), fields]
    kind: Any = type(value)
    if kind.__reduce__ is object.__reduce__ and hasattr(value, "__dict__"):
        return [identity(type(value)), _call(value), identity(value.__getstate__())]
    try:
        return [identity(type(value)), needed("joblib").hash(value)]
    except (pickle.PicklingError, TypeError) as error:
        raise InvalidInput(
            f"store: {value!r} cannot be told from others ({error}), so that a later sweep could not know "
            "its cells; pass numbers, arrays or dataclasses, and make it from them inside the factory"
        ) from error


_CONSTANTS = (bool, int, float, str, tuple, np.ndarray)


def _call(value: Any) -> Any:
    return identity(type(value).__call__) if callable(value) else None


def _function(function: types.FunctionType) -> Any:
    seen = inspect.getclosurevars(function)
    # Constants of its module count; lists and the like do not, which may be where it notes what it does.
    constants = {name: cell for name, cell in seen.globals.items() if isinstance(cell, _CONSTANTS)}
    closure = {
        name: identity(cell) for name, cell in {**constants, **seen.nonlocals}.items() if cell is not function
    }
    return [
        f"{function.__module__}:{function.__qualname__}",
        _code(function.__code__),
        identity(function.__defaults__),
        identity(function.__kwdefaults__),
        closure,
    ]


def _code(code: types.CodeType) -> str:
    constants = [_code(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts]
    parts = (code.co_code.hex(), repr(code.co_names), repr(constants))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def key_of(point: Mapping[str, Any]) -> str:
    """Name a cell by its parameters, whatever grid it lies in."""
    return _digest({name: identity(point[name]) for name in sorted(point)})


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def fingerprint(**parts: Any) -> dict[str, str]:
    """Digest each part of what a cell depends on beside its own parameters."""
    return {name: _digest(identity(part)) for name, part in parts.items()}


# ---------------------------------------------------------------- the file


class Store:
    """A file of cells, one JSON line each, appended as they come.

    Each line carries a checksum, so that a line that was cut short is noticed and its cell done again. The
    file is locked while it is open, where the system can do that.

    Parameters
    ----------
    path : Path
        Made if it does not exist.
    header : mapping of str to str
        The `fingerprint` of what all cells depend on.
    told : mapping of str to str
        The same for people.

    Raises
    ------
    InvalidInput
        If the file is something else, was written with another header, or is in use.
    """

    def __init__(self, path: Path, header: Mapping[str, str], told: Mapping[str, str]) -> None:
        self.path = path
        self.cells: dict[str, Record] = {}
        """What was found in the file, by key."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
        except OSError as error:
            raise InvalidInput(f"store: cannot write {path}: {error.strerror or error}") from None
        try:
            self._lock()
            self._read(header, told)
        except BaseException:
            self._file.close()
            raise
        self._synced = time.monotonic()

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # not on this system
            return
        try:
            # A lock of this process alone, that no child inherits: it ends with the process, however it ends.
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InvalidInput(
                f"store: {self.path} is in use by another sweep; wait for it, or give another path"
            ) from None

    def _read(self, header: Mapping[str, str], told: Mapping[str, str]) -> None:
        self._file.seek(0)
        content = self._file.read()
        if not content:
            self._write({"format": FORMAT, "made_by": dict(header), "told": dict(told)})
            self.sync()
            return
        *lines, rest = content.split(b"\n")
        first = _content(lines[0]) if lines else None
        if first is None or first.get("format") != FORMAT:
            raise InvalidInput(f"store: {self.path} is not the file of a sweep; give another path")
        for name, digest in header.items():
            if first["made_by"].get(name) != digest:
                before, now = first["told"].get(name, "nothing"), told[name]
                how = f"{before}, and now it is {now}" if before != now else f"another version of {now}"
                raise InvalidInput(
                    f"store: the cells in {self.path} are of another sweep: its {name} was {how}; "
                    "give another path, or delete the file"
                )
        damaged = 0
        for line in lines[1:]:
            cell = _content(line)
            if cell is None:
                damaged += 1
            else:
                self.cells[cell["key"]] = _read_record(cell["record"])
        # A last line that was cut short, by a kill, is no line.
        self._file.truncate(len(content) - len(rest))
        if damaged:
            warnings.warn(
                f"{damaged} of {len(lines) - 1} lines of {self.path} are damaged; their cells are done again",
                MechanismWarning,
                stacklevel=2,
            )

    def add(self, key: str, point: Mapping[str, Any], record: Record) -> None:
        """Append a cell: with the operating system when this returns, on disk within a second."""
        self._write({"key": key, "point": dict(point), "record": _written_record(record)})
        if time.monotonic() - self._synced > SECONDS_BETWEEN_SYNCS:
            self.sync()

    def _write(self, content: Mapping[str, Any]) -> None:
        self._file.write(_line(content))
        self._file.flush()

    def sync(self) -> None:
        """Have everything on disk."""
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sync()
        self._file.close()


def _line(content: Mapping[str, Any]) -> bytes:
    text = json.dumps(content).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _content(line: bytes) -> Any:
    """What a line says, or None if it is not whole."""
    checksum, _, text = line.partition(b" ")
    try:
        return json.loads(text) if int(checksum, 16) == zlib.crc32(text) else None
    except ValueError:
        return None


def _written_record(record: Record) -> Record:
    values = {
        name: {"shape": value.shape, "data": value.ravel().tolist()}
        if isinstance(value, np.ndarray)
        else value
        for name, value in record["values"].items()
    }
    return {**record, "values": values}


def _read_record(record: Record) -> Record:
    values = {
        name: np.array(value["data"], dtype=None if value["data"] else float).reshape(value["shape"])
        if isinstance(value, dict)
        else value
        for name, value in record["values"].items()
    }
    return {**record, "values": values}
