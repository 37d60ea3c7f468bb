"""What several test modules share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from mechopt import Backend, register, unregister


@pytest.fixture
def registered() -> Iterator[Callable[[Backend], Backend]]:
    """Register backends for one test only."""
    names: list[str] = []

    def add(backend: Backend) -> Backend:
        register(backend, replace=True)
        names.append(backend.name)
        return backend

    yield add
    for name in names:
        unregister(name)
