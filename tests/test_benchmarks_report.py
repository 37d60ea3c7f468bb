"""Benchmarks of our own code: what is measured beside what, what counts as missed, and the table of it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

CODE = Path(__file__).parents[1] / "benchmarks" / "code"

BENCHMARKS = """
import pytest
from fake import spend

def same(own, other):
    assert own == other

@pytest.mark.sizes(10, 1000)
def test_sum(versus, full, size):
    assert full
    numbers = list(range(size))
    calls = []
    versus(
        lambda: spend(0.001) or calls.append("own") or sum(numbers),
        {
            "slower": lambda: spend(0.1) or calls.append("slower") or sum(range(size)),
            "slow": lambda: spend(15) or calls.append("slow") or sum(numbers),
            "other": lambda: 1 / 0,
        },
        agree=same, at_least={"slower": 90, "other": 7}, needs={"other": "no_such_package"},
        rounds=4, size=size,
    )
    assert calls == ["own", "slower", "slow", *4 * ["own", "slower"]]

def test_missed(versus):
    versus(lambda: spend(0.02), {"fast": lambda: spend(0.01)}, agree=same, at_least={"fast": 1.0})

def test_short(versus):
    versus(lambda: spend(1e-5), {"shorter": lambda: spend(1e-6)}, agree=same, at_least={"shorter": 0.09})

def test_cold(versus):
    first = [5.0]
    versus(lambda: spend(0.1), {"cold": lambda: spend(first.pop() if first else 0.2)}, agree=same)

def test_disagreement(versus):
    versus(lambda: 1, {"wrong": lambda: 2}, agree=same)

def test_growth(growth):
    found = growth(lambda n: lambda: spend(n / 1000) or n, [2, 8, 32], at_most=1.01)
    assert found == {2: 2, 8: 8, 32: 32}

def test_steep(growth):
    growth(lambda n: lambda: spend(n * n / 1000), [1, 4], at_most=1.99)
"""


CLOCK = """
now = 0.0  # other programs do not disturb it

def spend(seconds):
    global now
    now += seconds

def clock():
    return now
"""


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", CODE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def report() -> ModuleType:
    return load("report")


Run = tuple[subprocess.CompletedProcess[str], Path]


def run_benchmarks(folder: Path, source: str, *options: str) -> Run:
    """Run a file of benchmarks under our conftest; return what pytest said, and where its results are."""
    shutil.copy(CODE / "conftest.py", folder)
    (folder / "bench_small.py").write_text(source)
    (folder / "fake.py").write_text(CLOCK)
    (folder / "none.ini").write_text("[pytest]\n")
    results = folder / "results.json"
    # A worker of xdist would pass on that it is one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    command = [sys.executable, "-m", "pytest", "-c", "none.ini", "bench_small.py", *options]
    done = subprocess.run(
        [*command, "--benchmark-disable", f"--benchmark-json={results}"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done, results


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("benchmarks")
    return run_benchmarks(folder, BENCHMARKS, "--full", "-n", "auto", "--benchmark-timer=fake.clock")


def found(results: Path) -> dict[str, Any]:
    return {b["name"]: b["extra_info"] for b in json.loads(results.read_text())["benchmarks"]}


CLOCKS = """
import time
import pytest

def test_of_the_processor(versus):
    versus(lambda: time.sleep(0.2))

@pytest.mark.benchmark(timer=time.perf_counter)
def test_on_the_wall(versus):
    versus(lambda: time.sleep(0.2))
"""


def test_seconds_are_those_of_the_processor_unless_marked(tmp_path: Path) -> None:
    done, results = run_benchmarks(tmp_path, CLOCKS, "--full")
    assert done.returncode == 0, done.stdout
    assert json.loads(results.read_text())["machine_info"]["clock"] == "time.process_time"
    infos = found(results)
    assert infos["test_of_the_processor"]["seconds"] < 0.1
    assert infos["test_on_the_wall"]["seconds"] >= 0.2


SMOKE = """
def test_sum(versus):
    versus(lambda: 1, {"other": lambda: 1 / 0}, agree=lambda own, other: None, needs={"other": "heavy"})
"""


def test_without_full_no_other_package_is_imported(tmp_path: Path) -> None:
    (tmp_path / "heavy.py").write_text("1 / 0")
    assert run_benchmarks(tmp_path, SMOKE)[0].returncode == 0


def test_a_full_run_measures_in_one_process(run: Run) -> None:
    done, results = run
    assert done.returncode == 1
    outcomes = dict(re.findall(r"::(\S+) (PASSED|FAILED)", done.stdout))
    assert outcomes == {
        "test_sum[10]": "PASSED",
        "test_sum[1000]": "PASSED",
        "test_missed": "FAILED",
        "test_short": "PASSED",
        "test_cold": "PASSED",
        "test_disagreement": "FAILED",
        "test_growth": "PASSED",
        "test_steep": "FAILED",
    }
    # Answers that disagree have no times to report; times that are missed do.
    assert set(found(results)) == set(outcomes) - {"test_disagreement"}


def test_ratios_and_exponents_are_those_of_the_calls(run: Run) -> None:
    infos = found(run[1])
    assert infos["test_sum[10]"]["seconds"] == pytest.approx(1e-3)
    others = infos["test_sum[10]"]["others"]
    assert (others["slower"]["seconds"], others["slower"]["rounds"]) == (pytest.approx(0.1), 4)
    assert others["slower"]["ratio"] == pytest.approx(100)
    assert (others["slow"]["seconds"], others["slow"]["rounds"]) == (pytest.approx(15), 1)
    assert others["other"] == {"asked": 7, "status": "not installed"}
    assert infos["test_missed"]["others"]["fast"]["ratio"] == pytest.approx(0.5)
    assert infos["test_short"]["others"]["shorter"]["ratio"] == pytest.approx(0.1)
    assert infos["test_cold"]["others"]["cold"]["ratio"] == pytest.approx(2)
    curve = infos["test_growth"]["growth"]
    assert curve["sizes"] == [2, 8, 32]
    assert curve["exponent"] == pytest.approx(1)
    assert infos["test_steep"]["growth"]["exponent"] == pytest.approx(2)


def test_the_report_of_a_run(run: Run, report: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(run[1])]) == 1
    lines = [re.split(r" *\| *", line)[1:-1] for line in capsys.readouterr().out.splitlines() if "|" in line]
    rows = {(row[0], row[3]): row[4:] for row in lines}
    assert rows["small: sum[10]", "slower"] == ["100 ms", "100", "90", "met"]
    assert rows["small: sum[10]", "slow"] == ["15.0 s", "15,000", "", ""]
    assert rows["small: sum[10]", "other"] == ["not installed", "", "7", ""]
    assert rows["small: missed", "fast"] == ["10.0 ms", "0.5", "1", "MISSED"]
    curves = {row[0]: row[1:] for row in lines if len(row) == 6}
    assert curves["small: growth"][1:] == ["2.00 ms, 8.00 ms, 32.0 ms", "1.00", "<= 1.01", "met"]
    assert curves["small: steep"][-1] == "MISSED"


def measured(ratio: float, asked: float | None) -> dict[str, Any]:
    other = {"asked": asked, "status": "measured", "seconds": ratio * 1e-3, "ratio": ratio}
    return {
        "fullname": "benchmarks/code/bench_fair_value.py::test_all_sets[12]",
        "stats": {"median": 1e-3},
        "extra_info": {"size": 12, "seconds": 1e-3, "others": {"other": other}},
    }


MACHINE = {
    "clock": "time.perf_counter",
    "python_version": "3.13.0",
    "machine": "x86_64",
    "packages": {"numpy": "2.0", "shapiq": None},
}


@pytest.mark.parametrize(
    ("ratio", "asked", "status", "said"), [(9.9, 10, 1, "MISSED"), (10, 10, 0, "met"), (0.3, None, 0, "")]
)
def test_status_is_by_what_was_asked(
    report: ModuleType, tmp_path: Path, ratio: float, asked: float | None, status: int, said: str
) -> None:
    file = tmp_path / "results.json"
    file.write_text(json.dumps({"benchmarks": [measured(ratio, asked)], "machine_info": MACHINE}))
    assert report.main([str(file)]) == status
    row = report.ratio_rows([measured(ratio, asked)])[0]
    assert row[0] == "fair value: all sets[12]"
    assert row[-1] == said


@pytest.mark.parametrize("content", [None, "not json", '{"benchmarks": []}'])
def test_nothing_to_report(
    report: ModuleType, tmp_path: Path, content: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "results.json"
    if content is not None:
        file.write_text(content)
    assert report.main([str(file)]) == 2
    assert str(file) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(12.345, "12.3 s"), (123.4, "123 s"), (0.9996, "1.00 s"), (1e-3, "1.00 ms"), (5e-8, "50.0 ns")],
)
def test_times_have_three_digits(report: ModuleType, seconds: float, text: str) -> None:
    assert report.told(seconds) == text
