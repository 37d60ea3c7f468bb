"""What several test modules share."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

# Several test processes with as many linear-algebra threads each as there are cores wait for one another, and
# dense solvers then overrun their time limits. The environment is for processes that tests start; here numpy
# may be there already, since pytest looks up the package's warnings first.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

# A shell's background jobs ignore Ctrl-C, and so would the processes that tests start and interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest

from mechopt import Backend, register, unregister

try:
    from threadpoolctl import threadpool_limits
except ImportError:  # without the extra `sweep` tests are slower
    pass
else:
    threadpool_limits(1)


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
