"""The command line: exit codes, sentences instead of tracebacks, and a terminal left as it was."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import mechopt as mo
from mechopt.cli import app, main
from mechopt.studies.scenario import bundled_scenarios
from mechopt.verification.evidence import confirm

needs_terminal = pytest.mark.skipif(not hasattr(pty, "openpty"), reason="needs a pseudo-terminal")
COMMAND = [sys.executable, "-c", "from mechopt.cli import main; main()"]

SMALL = """title = "small"
mechanism = "contract"
backends = ["exact", "clarabel"]
[parameters]
types = [0.1, 0.2, 0.3]
gain = { kind = "log", weight = 100, scale = 2 }
"""
PRIVATE = """title = "private means"
mechanism = "private-mean"
seed = 1
n_holders = 500
n_continuous = 10_000
[data]
dataset = "diabetes"
column = "age"
bounds = [0, 100]
[parameters]
types = { lo = 0.2, hi = 1.2, count = 4 }
gain = { kind = "log", weight = 100, scale = 2 }
"""
LONG = """title = "long"
mechanism = "contract"
backends = ["scs"]
form = "full"
[parameters]
types = { start = 0.01, stop = 0.9, count = 150 }
gain = { kind = "power", weight = 100, scale = 2, exponent = 0.7 }
"""


def call(*arguments: str, cwd: Path, columns: int = 80) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": str(columns), "NO_COLOR": "1"}
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_version(invoke: Any) -> None:
    result = invoke("--version")
    assert (result.exit_code, result.output.strip()) == (0, f"mechopt {mo.__version__}")


def test_help_lists_the_commands(invoke: Any) -> None:
    result = invoke("--help")
    assert result.exit_code == 0
    for command in ("run", "backends", "scenarios", "verify", "reproduce"):
        assert command in result.output


def test_backends(invoke: Any) -> None:
    result = invoke("backends")
    assert result.exit_code == 0
    for row in mo.backends():
        assert row["name"] in result.output


def test_scenarios(invoke: Any) -> None:
    result = invoke("scenarios")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.output.splitlines()] == list(bundled_scenarios())


@pytest.mark.parametrize("name", ["contract", "contract-budget"])
def test_bundled_scenarios_run(name: str, tmp_path: Path) -> None:
    result = call("run", name, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert max(map(len, result.stdout.split("\nwritten to")[0].splitlines())) <= 80
    out = tmp_path / "mechopt-results" / name
    written = re.findall(r"written to (\S+)/: (.*)", result.stdout)
    assert written[0][0] == f"mechopt-results/{name}"
    assert sorted(written[0][1].split(", ")) == sorted(path.name for path in out.iterdir())
    assert (out / "menu.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "menu.pdf").read_bytes().startswith(b"%PDF")


def test_private_means_run(tmp_path: Path) -> None:
    for library in ("opendp", "sklearn"):
        pytest.importorskip(library, reason="needs mechopt[privacy]")
    result = call("run", "private-mean", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    table = result.stdout.split("\nwritten to")[0]
    assert max(map(len, table.splitlines())) <= 80
    assert table.count(" ok") == 15
    out = tmp_path / "mechopt-results" / "private-mean"
    written = re.findall(r"written to (\S+)/: (.*)", result.stdout)
    assert sorted(written[0][1].split(", ")) == sorted(path.name for path in out.iterdir())
    # 20 equally likely types with right ends, the paper's parameters: 376.607.
    assert json.loads((out / "result.json").read_text())["value"] == pytest.approx(376.607, abs=1e-3)


def test_federated_hospitals_run(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="needs mechopt[data]")
    result = call("run", "federated-hospitals", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    table = result.stdout.split("\nwritten to")[0]
    assert max(map(len, table.splitlines())) <= 80
    assert table.count(" ok") == 21
    out = tmp_path / "mechopt-results" / "federated-hospitals"
    written = re.findall(r"written to (\S+)/: (.*)", result.stdout)
    assert sorted(written[0][1].split(", ")) == sorted(path.name for path in out.iterdir())
    totals = json.loads((out / "result.json").read_text())["totals"]
    alone, standard, shaped = (row["records"] for row in totals)
    # Theorem 3.4: one hospital does the work; shaped, each gives twice what it collects alone, or nearly.
    assert standard < alone < shaped
    assert 1.5 < shaped / alone < 3


def test_a_failed_check_exits_with_1(invoke: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("opendp", "sklearn"):
        pytest.importorskip(library, reason="needs mechopt[privacy]")
    (tmp_path / "mine.toml").write_text(PRIVATE)
    # Half of the noise that was promised.
    monkeypatch.setattr("mechopt.studies.private_mean.releases.laplace_scale", lambda n, eps: 0.5 / (n * eps))
    result = invoke("run", "mine.toml")
    assert result.exit_code == 1
    assert "FAILED" in result.output
    assert "6 error of noise" in (tmp_path / "mechopt-results" / "mine" / "checks.csv").read_text()


@pytest.mark.parametrize(
    ("module", "scenario", "words", "extra"),
    [
        ("opendp", "private-mean", "mechanism 'private-mean' needs opendp", "privacy"),
        ("sklearn", "federated-hospitals", "mechanism 'federated-learning' needs scikit-learn", "data"),
    ],
)
def test_a_missing_library_is_a_sentence_and_leaves_no_folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    module: str,
    scenario: str,
    words: str,
    extra: str,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["mechopt", "run", scenario])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith(f"BackendUnavailable: {words}")
    assert f'pip install "mechopt[{extra}]"' in complaint
    assert not list(tmp_path.iterdir())


def test_own_scenario_and_folder(invoke: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(SMALL)
    result = invoke("run", "mine.toml", "--out", "a/b")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "a" / "b" / "menu.csv").is_file()
    assert not (tmp_path / "mechopt-results").exists()


def test_disagreement_exits_with_1(invoke: Any, tmp_path: Path) -> None:
    # One step of a first-order method is no answer.
    text = SMALL.replace('"clarabel"', '"scs"').replace("backends", "time_limit = 1e-9\nbackends")
    (tmp_path / "mine.toml").write_text(text)
    result = invoke("run", "mine.toml")
    assert result.exit_code == 1
    assert (tmp_path / "mechopt-results" / "mine" / "result.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "contrat"), "no scenario 'contrat': .*contract, contract-budget"),
        (("run", "[/bold]"), r"no scenario '\[/bold\]'"),
        (("run", "bad.toml"), r"bad.toml: title: .*\(got 3\)"),
        (("run", "marked.toml"), r"title: .*\[/red\]"),
        (("run", "capable.toml"), "MissingCapability: .*lacks EXP"),
        (("run", "mine.toml", "--out", "mine.toml"), "cannot write into mine.toml"),
        (("run", "mine.toml", "--out", "mine.toml/below"), "cannot write into"),
        (("run", "latin.toml"), "not UTF-8"),
    ],
)
def test_bad_input_is_a_sentence_and_exit_code_2(
    tmp_path: Path,
    arguments: tuple[str, ...],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "mine.toml").write_text(SMALL)
    (tmp_path / "bad.toml").write_text(SMALL.replace('"small"', "3"))
    (tmp_path / "marked.toml").write_text(SMALL.replace('"small"', '["[/red]"]'))
    (tmp_path / "capable.toml").write_text(SMALL.replace("clarabel", "highspy"))
    (tmp_path / "latin.toml").write_bytes(b"title = '\xff'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["mechopt", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    complaint = capsys.readouterr().err
    assert re.search(words, complaint.replace("\n", " ")), complaint
    assert not (tmp_path / "mechopt-results" / "bad").exists()


def test_a_mistake_shows_no_traceback(tmp_path: Path) -> None:
    result = call("run", "contrat [/red]", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("InvalidInput: no scenario 'contrat [/red]'")
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_folder_without_permission(invoke: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(SMALL)
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    result = invoke("run", "mine.toml", "--out", str(locked / "out"))
    assert isinstance(result.exception, mo.InvalidInput)


def test_unknown_option_and_command(invoke: Any) -> None:
    for arguments in (("run", "--nonsense"), ("solve",)):
        assert invoke(*arguments).exit_code == 2


class Terminal:
    """The command in a pseudo-terminal of its own, and what it has printed there."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=cwd,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
            start_new_session=True,
        )
        os.close(slave)
        self.seen = b""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)

    def read(self, seconds: float, until: bytes = b"\0never") -> None:
        """Read until the words appear, the other end is closed, or so many seconds have passed."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not re.search(until, self.seen):
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.master, 4096)
                except OSError:
                    return

    def interrupt(self) -> None:
        """Press Ctrl-C, which reaches every process of the terminal; the command must end cleanly."""
        assert self.process.poll() is None, "the command was to be a long one"
        os.killpg(self.process.pid, signal.SIGINT)
        self.read(20)
        assert self.process.wait(20) == 130
        assert b"Traceback" not in self.seen
        assert b"interrupted" in self.seen
        hide, show = self.seen.rfind(b"\x1b[?25l"), self.seen.rfind(b"\x1b[?25h")
        assert -1 < hide < show, "the cursor is hidden by the progress bar, and must come back"
        # Python's own tracker of resources ends a moment after the command that started it.
        deadline = time.monotonic() + 10
        while self.running() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert self.running() == []

    def running(self) -> list[int]:
        """Processes of the terminal that are alive, where the system lists them."""
        alive = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended just now
                state, _, group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
                if int(group) == self.process.pid and state not in ("Z", "X"):
                    alive.append(int(folder.name))
        return alive


@needs_terminal
def test_ctrl_c_leaves_a_clean_terminal(tmp_path: Path) -> None:
    (tmp_path / "long.toml").write_text(LONG)
    with Terminal("run", "long.toml", cwd=tmp_path) as terminal:
        terminal.read(30, until=b"scs")  # the progress bar names the backend that is at work
        assert b"scs" in terminal.seen
        time.sleep(1.0)
        terminal.interrupt()


# ------------------------------------------------------------ verify


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> mo.Ledger:
    """A ledger of claims whose verdicts are known, instead of the papers'."""
    ledger = mo.Ledger()

    def numbers(rng: Any, n: int) -> Any:
        yield from (float(x) for x in rng.uniform(2, 9, n))

    def add(id: str, check: Any, **fields: Any) -> None:
        ledger.add(
            mo.Claim(
                id=id,
                source="a toy",
                statement="so it is",
                instances=numbers,
                check=check,
                tolerance=1e-6,
                n_instances=6,
                **fields,
            )
        )

    def capped(x: float) -> mo.Finding:
        program = mo.Program("capped")
        quantity = program.variable("quantity", nonneg=True)
        program.maximize(quantity)
        program.add("cap", quantity <= x)
        return mo.Finding(abs(program.solve("highspy").objective - x))

    def twice(x: float) -> mo.Finding:
        confirm(x == x / 2 + x / 2, "[half] and half are the same")
        return mo.Finding(x, "[/red] as printed")

    add("toy/R1", lambda x: mo.Finding(0.0))
    add(
        "toy/E1",
        twice,
        expected=mo.Verdict.REFUTED,
        corrected_by="toy/R1",
    )
    add("toy/R2-program", capped)
    add("odd/R3", lambda x: mo.Finding(x - 4, f"{x} is above 4"))
    monkeypatch.setattr("mechopt.formulations.ledger.ledger", lambda: ledger)
    return ledger


def test_verify_prints_the_ledger_and_exits_with_0_as_expected(invoke: Any, toys: mo.Ledger) -> None:
    result = invoke("verify", "toy", "--instances", "3")
    assert result.exit_code == 0, result.output
    assert result.output.count("holds on 3") == 2
    assert "refuted as printed; see R1" in " ".join(result.output.replace("│", " ").split())
    assert "confirmed: [half] and half are the same" in result.output
    assert "corrected, toy/R1: so it is" in result.output
    assert "3 claims: 2 hold, 1 refuted, 0 undecided; not as expected: none" in result.output


def test_verify_exits_with_1_at_a_surprise_and_shows_the_smallest(invoke: Any, toys: mo.Ledger) -> None:
    result = invoke("verify", "--quick")
    assert result.exit_code == 1
    assert "not as expected: odd/R3" in result.output
    assert "counterexample (made smaller): 5.0" in result.output
    assert "keep counterexamples with --counterexamples FILE" in result.output
    assert "made smaller" not in invoke("verify", "--shrink", "0").output


def test_verify_writes_every_file_and_replays_the_counterexamples(
    invoke: Any, toys: mo.Ledger, tmp_path: Path
) -> None:
    names = ("l.json", "l.html", "l.md", "c.json")
    options = ("--json", "--html", "--markdown", "--counterexamples")
    arguments = [word for pair in zip(options, names, strict=True) for word in pair]
    assert invoke("verify", *arguments, "--seed", "3").exit_code == 1
    records = json.loads((tmp_path / "l.json").read_text())
    assert [(r["id"], r["verdict"]) for r in records] == [
        ("toy/R1", "holds"),
        ("toy/E1", "refuted"),
        ("toy/R2-program", "holds"),
        ("odd/R3", "refuted"),
    ]
    assert records[0]["gap"] is None
    assert records[2]["solved_by"] == "highspy"
    assert records[1]["confirmed"] == "[half] and half are the same"
    assert [r["twice_computed"] for r in records] == [False, True, False, False]
    assert (tmp_path / "l.html").read_text().startswith("<!DOCTYPE html>")
    assert "### toy/E1" in (tmp_path / "l.md").read_text()
    replayed = invoke("verify", "--replay", "c.json")
    assert replayed.exit_code == 0, replayed.output
    assert "2 counterexamples: 2 still fail, 1 of them by two computations" in replayed.output
    assert "odd/R3: fails, with no second computation to bear it out, gap 1 (on file 1" in replayed.output


def test_replaying_what_no_longer_fails_exits_with_1(
    invoke: Any, toys: mo.Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    invoke("verify", "odd", "--counterexamples", "c.json")
    corrected = dataclasses.replace(toys.claims["odd/R3"], check=lambda x: mo.Finding(0.0))
    monkeypatch.setitem(toys.claims, "odd/R3", corrected)
    result = invoke("verify", "--replay", "c.json")
    assert result.exit_code == 1
    assert "odd/R3: no longer fails" in result.output
    assert "1 counterexamples: 0 still fail" in result.output


def test_verify_on_several_backends(invoke: Any, toys: mo.Ledger) -> None:
    result = invoke("verify", "toy", "--backend", "clarabel", "--backend", "exact", "--json", "l.json")
    assert result.exit_code == 0, result.output
    assert "toy/R2-program: agrees: clarabel; cannot: exact" in result.output
    assert "no program: toy/R1, toy/E1" in result.output
    rows = json.loads(Path("l.json").read_text())[2]["backends"]
    assert [(row["backend"], row["state"]) for row in rows] == [("clarabel", "agrees"), ("exact", "cannot")]


def test_verify_exits_with_1_where_a_backend_is_at_fault(invoke: Any, toys: mo.Ledger) -> None:
    class Wrong(mo.Backend):
        name = "wrong"
        capabilities = frozenset({mo.Capability.LP})

        def solve(self, program: mo.Program, settings: mo.Settings) -> mo.Answer:
            primal = {v.id: np.zeros(v.shape) for v in program.cvxpy_variables().values()}
            return mo.Answer(mo.Status.OPTIMAL, "sure", primal=primal, proved=True)

    mo.register(Wrong())
    try:
        result = invoke("verify", "toy", "--backend", "wrong")
    finally:
        mo.unregister("wrong")
    assert result.exit_code == 1
    text = " ".join(result.output.split())
    assert "toy/R2-program: wrong at fault on 6" in text
    assert "not as expected: none; backend at fault: wrong (toy/R2-program)" in text


def test_all_backends_are_those_that_can_be_used_here(invoke: Any, toys: mo.Ledger) -> None:
    invoke("verify", "toy/R2-program", "--backend", "all", "--instances", "1", "--json", "l.json")
    (record,) = json.loads(Path("l.json").read_text())
    assert {row["backend"] for row in record["backends"]} == set(mo.solvers.available_backends())
    assert {row["state"] for row in record["backends"]} <= {"agrees", "cannot"}


def test_verify_runs_claims_of_the_papers(invoke: Any) -> None:
    result = invoke("verify", "contract/E*", "--quick", "--counterexamples", "c.json")
    assert result.exit_code == 0, result.output
    assert " refuted, 0 undecided; not as expected: none" in result.output
    again = invoke("verify", "--replay", "c.json")
    assert again.exit_code == 0
    assert re.search(r"(\d+) counterexamples: \1 still fail", again.output)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nothing",), "no claim matches 'nothing'"),
        (("toy", "--backend", "clarabell"), "did you mean 'clarabel'"),
        (("toy", "--html", "no/such/l.html"), "there is no folder no/such"),
        (("toy", "--json", "."), "it is a folder"),
        (("--replay", "none.json"), "cannot read none.json"),
        (("--replay", "bad.json"), "is no JSON"),
    ],
)
def test_bad_input_to_verify_is_told_before_anything_runs(
    toys: mo.Ledger,
    tmp_path: Path,
    arguments: tuple[str, ...],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "bad.json").write_text("{")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["mechopt", "verify", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.out == ""


def test_verify_refuses_numbers_that_mean_nothing(invoke: Any) -> None:
    for option in ("--instances", "--jobs"):
        assert invoke("verify", option, "0").exit_code == 2


@needs_terminal
def test_ctrl_c_in_verify_shows_what_was_found_and_leaves_no_process(tmp_path: Path) -> None:
    with Terminal("verify", "accuracy-shaping", "--jobs", "2", cwd=tmp_path) as terminal:
        terminal.read(60, until=rb"[1-9]\d*/\d+")  # the progress bar counts claims that are done
        terminal.interrupt()
    text = terminal.seen.decode()
    assert re.search(r"holds on \d+|refuted as printed", text)
    found = re.search(r"(\d+) of (\d+) claims were not finished", text)
    assert found is not None
    assert 0 < int(found[1]) < int(found[2])


def test_the_command_is_installed() -> None:
    found = shutil.which("mechopt", path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip("the package is not installed with its script")
    result = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    assert result.stdout.startswith("mechopt ")
