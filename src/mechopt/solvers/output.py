"""What compiled solvers print although nobody asked them to."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache


@contextmanager
def quiet() -> Iterator[None]:
    """Send what compiled code prints to nowhere: Python's own redirection does not reach it."""
    streams = (sys.stdout, 1), (sys.stderr, 2)
    for stream, _ in streams:
        stream.flush()
    saved, nowhere = [os.dup(number) for _, number in streams], os.open(os.devnull, os.O_WRONLY)
    try:
        for _, number in streams:
            os.dup2(nowhere, number)
        yield
    finally:
        for (_, number), copy in zip(streams, saved, strict=True):
            os.dup2(copy, number)
            os.close(copy)
        os.close(nowhere)


@cache
def hush_highs() -> None:
    """Let HiGHS print its banner to nowhere, before anything else makes one.

    From version 1.16 on, the first instance of a process prints it as it is made, before any option can be
    set.
    """
    import highspy

    with quiet():
        highspy.Highs()
