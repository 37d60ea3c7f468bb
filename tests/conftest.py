"""What several test modules share."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

# Several test processes with as many linear-algebra threads each as there are cores wait for one another, and
# dense solvers then overrun their time limits. This must be said before numpy is imported.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

# A shell's background jobs ignore Ctrl-C, and so would the processes that tests start and interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

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
