"""Benchmarks of our own code, each beside what one would do otherwise, in the same run.

``versus`` times a call and its alternatives in turn and holds their answers together; ``growth`` times one
call over sizes. Without ``--full`` everything runs once on the smallest sizes, and only the answers count. A
test marked ``sizes(100, 1000, smoke=5)`` is run for each ``size``; without ``--full`` for that of ``smoke``
alone, or the first one.

Seconds are those of the processor, ``time.process_time``: both sides run in one process and on one thread,
and what else the machine does then makes no difference. A benchmark that uses several processes is marked
``benchmark(timer=time.perf_counter)``; ``--benchmark-timer`` changes the clock of all others.
"""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pkgutil import resolve_name
from statistics import median
from typing import Any

# One thread on either side: what is compared is the work, and several processes of tests share the cores.
# Child processes, and what is loaded from now on, read this; for what is loaded already see pytest_configure.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import pytest

from mechopt.studies.bench.measures import growth as fitted_growth

SLOW = 2.0
"""Seconds from which one run of a call is enough."""

COLD = 10.0
"""Seconds up to which a slow call is given a second run: the first one may have imported, or compiled."""

BUDGET = 3.0
"""Seconds for all rounds of a benchmark, slow calls apart."""

MOST_ROUNDS = 25

SHORT = 1e-3
"""Seconds below which a call is repeated within a round, against the coarseness of the clock."""

PACKAGES = ("mechopt", "numpy", "scipy", "cvxpy", "clarabel", "highspy", "shapiq", "pygambit", "pot")
"""Whose versions are recorded."""

Call = Callable[[], Any]
Clock = Callable[[], float]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--full",
        action="store_true",
        help="benchmarks: real sizes, timed, in one process; ratios must be met",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Say what a full run needs: the clock, one process, time, and the name of each benchmark as it runs."""
    if config.option.full:
        if not any(str(given).startswith("--benchmark-timer") for given in config.invocation_params.args):
            config.option.benchmark_timer = "time.process_time"
        config.option.benchmark_enable = True
        config.option.benchmark_quiet = True  # report.py says it better
        config.option.numprocesses = 0
        config.option.timeout = 1200
        config.option.verbose = max(1, config.option.verbose)


def pytest_configure(config: pytest.Config) -> None:
    # To know the warnings that its settings name, pytest has imported us, and so numpy. A second thread that
    # waits for work counts as work of the processor, thirtyfold for small products.
    with suppress(ImportError):
        from threadpoolctl import threadpool_limits

        threadpool_limits(1)
    config.addinivalue_line(
        "markers", "sizes(*sizes, smoke): run for each `size`; without --full for `smoke`, or the first"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("sizes")
    if marker is not None:
        smoke = marker.kwargs.get("smoke", marker.args[0])
        metafunc.parametrize("size", marker.args if metafunc.config.option.full else [smoke])


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Record versions, and how busy the machine was at the end."""
    machine_info["packages"] = {}
    for name in PACKAGES:
        try:
            machine_info["packages"][name] = version(name)
        except PackageNotFoundError:
            machine_info["packages"][name] = None
    machine_info["clock"] = config.option.benchmark_timer
    machine_info["load"] = os.getloadavg()[1] if hasattr(os, "getloadavg") else None


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """Whether real sizes are asked for."""
    if request.config.option.full:
        faulthandler.cancel_dump_traceback_later()  # the slow are not stuck
    return bool(request.config.option.full)


@pytest.fixture
def clock(request: pytest.FixtureRequest) -> Clock:
    """Return what seconds are measured by, the same for own and others."""
    marker = request.node.get_closest_marker("benchmark")
    own: Clock | None = marker and marker.kwargs.get("timer")
    timer: Clock = own or resolve_name(request.config.option.benchmark_timer)
    return timer


class Timed:
    """A call that has been made once, and its seconds in each round."""

    def __init__(self, call: Call, clock: Clock) -> None:
        self.call, self.clock = call, clock
        begin = clock()
        self.answer = call()
        self.first = clock() - begin
        if SLOW < self.first <= COLD:
            begin = clock()
            call()
            self.first = clock() - begin
        self.slow = self.first > SLOW
        self.repeats = max(1, min(1000, int(SHORT / max(self.first, 1e-9))))
        self.rounds: list[float] = []

    def run(self) -> None:
        """One more round."""
        begin = self.clock()
        for _ in range(self.repeats):
            self.call()
        self.rounds.append((self.clock() - begin) / self.repeats)

    @property
    def seconds(self) -> float:
        """Median over rounds; of a slow call, its one run."""
        return median(self.rounds) if self.rounds else self.first


def rounds_of(own: Timed, others: Iterable[Timed]) -> int:
    """Return how many rounds the budget pays for, at least 3 unless the call itself is slow."""
    if own.slow:
        return 1
    spent = sum(each.first * each.repeats for each in (own, *others) if not each.slow)
    return max(3, min(MOST_ROUNDS, int(BUDGET / max(spent, 1e-9))))


@pytest.fixture
def versus(benchmark: Any, full: bool, clock: Clock) -> Callable[..., Any]:
    """Time a call beside its alternatives: ``versus(own, others, agree=..., at_least=..., size=...)``."""

    def measure(
        own: Call,
        others: Mapping[str, Call] | None = None,
        *,
        agree: Callable[[Any, Any], None] | None = None,
        at_least: Mapping[str, float] | None = None,
        needs: Mapping[str, str] | None = None,
        rounds: int | None = None,
        size: int | str | None = None,
    ) -> Any:
        """Measure, record, and compare.

        Parameters
        ----------
        own : callable
            What the package does, without arguments.
        others : mapping of str to callable, optional
            By name: what one would do otherwise. One that takes over 10 seconds runs once, without a warm-up,
            and one over 2 seconds once after it.
        agree : callable
            Given the answers of own and of an alternative, asserts that they are the same. Needed for others.
        at_least : mapping of str to float, optional
            Least ratio of an alternative's seconds to our own. Below 1: how far behind a bound we may be.
        needs : mapping of str to str, optional
            Module that an alternative imports; it is left out, and recorded as such, where that is missing,
            and without ``--full``: some take seconds to import.
        rounds : int, optional
            Default: what 3 seconds pay for, from 3 to 25.
        size : int or str, optional
            For the record.

        Returns
        -------
        object
            The answer of own.
        """
        others, asked, needs = others or {}, at_least or {}, needs or {}
        assert set(asked) | set(needs) <= set(others), "at_least and needs are about alternatives"
        assert agree is not None or not others, "an alternative without `agree` compares nothing"
        first = Timed(own, clock)
        timed: dict[str, Timed] = {}
        record: dict[str, dict[str, Any]] = {name: {"asked": asked.get(name)} for name in others}
        for name, call in others.items():
            if name in needs and not full:
                continue
            if name in needs and find_spec(needs[name]) is None:
                record[name]["status"] = "not installed"
                continue
            if name in needs:
                __import__(needs[name])  # not on the clock
            timed[name] = Timed(call, clock)
            agree(first.answer, timed[name].answer)  # type: ignore[misc]  # asserted above
        benchmark.extra_info.update(size=size, others=record)
        if not full or benchmark.disabled:
            return benchmark.pedantic(lambda: first.answer)

        def in_turn(*_: Any) -> None:
            for each in timed.values():
                if not each.slow:
                    each.run()

        benchmark.pedantic(
            own,
            rounds=rounds or rounds_of(first, timed.values()),
            iterations=first.repeats,
            teardown=in_turn,
        )
        seconds = benchmark.stats.stats.median
        benchmark.extra_info["seconds"] = seconds
        missed = []
        for name, each in timed.items():
            ratio = each.seconds / seconds
            record[name].update(
                status="measured", seconds=each.seconds, ratio=ratio, rounds=len(each.rounds) or 1
            )
            if name in asked and ratio < asked[name]:
                missed.append(f"{name}: {ratio:.3g} times our seconds, asked {asked[name]:g}")
        assert not missed, "; ".join(missed)
        return first.answer

    return measure


@pytest.fixture
def growth(benchmark: Any, full: bool, clock: Clock) -> Callable[..., dict[Any, Any]]:
    """Time a call over sizes and fit the exponent: ``growth(make, sizes, at_most=...)``."""

    def measure(
        make: Callable[[int], Call], sizes: Iterable[int], *, at_most: float | None = None
    ) -> dict[int, Any]:
        """Measure and record.

        Parameters
        ----------
        make : callable
            Given a size, prepares (not timed) the call that is timed.
        sizes : iterable of int
            Increasing. Only the first one is run without ``--full``.
        at_most : float, optional
            Largest exponent asked for, fitted over all sizes.

        Returns
        -------
        dict of int to object
            The answer for each size.
        """
        every = list(sizes)
        if not full or benchmark.disabled:
            return {every[0]: benchmark.pedantic(make(every[0]))}
        timed = {size: Timed(make(size), clock) for size in every}
        *smaller, last = timed.values()
        for each in smaller:
            if not each.slow:
                for _ in range(rounds_of(each, [])):
                    each.run()
        benchmark.pedantic(last.call, rounds=rounds_of(last, []), iterations=last.repeats)
        seconds = [*(each.seconds for each in smaller), benchmark.stats.stats.median]
        exponent = fitted_growth(every, seconds).exponent
        benchmark.extra_info.update(
            size=every[-1],
            seconds=seconds[-1],
            growth={"sizes": every, "seconds": seconds, "exponent": exponent, "asked": at_most},
        )
        assert at_most is None or exponent <= at_most, (
            f"grows with exponent {exponent:.2f}, asked {at_most:g}"
        )
        return {size: each.answer for size, each in timed.items()}

    return measure
