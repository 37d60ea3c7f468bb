"""The command line: exit codes, sentences instead of tracebacks, and a terminal left as it was."""

from __future__ import annotations

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

import pytest
from typer.testing import CliRunner

import mechopt as mo
from mechopt.cli import app, main
from mechopt.studies.scenario import bundled_scenarios

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
    # A theory that expects twice the noise.
    monkeypatch.setattr("mechopt.studies.private_mean.laplace_scale", lambda n, eps: 2 / (n * eps))
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


@pytest.mark.skipif(not hasattr(pty, "openpty"), reason="needs a pseudo-terminal")
def test_ctrl_c_leaves_a_clean_terminal(tmp_path: Path) -> None:
    (tmp_path / "long.toml").write_text(LONG)
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "run", "long.toml"],
        cwd=tmp_path,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
        start_new_session=True,
    )
    os.close(slave)
    seen = b""

    def read(seconds: float, until: bytes = b"\0never") -> None:
        nonlocal seen
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and until not in seen:
            if select.select([master], [], [], 0.1)[0]:
                try:
                    seen += os.read(master, 4096)
                except OSError:  # the other end is closed
                    return

    try:
        read(30, until=b"scs")  # the progress bar names the backend that is at work
        assert b"scs" in seen
        time.sleep(1.0)
        assert process.poll() is None, "the solve was to be a long one"
        process.send_signal(signal.SIGINT)
        read(20)
        assert process.wait(20) == 130
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(master)
    assert b"Traceback" not in seen
    assert b"interrupted" in seen
    hide, show = seen.rfind(b"\x1b[?25l"), seen.rfind(b"\x1b[?25h")
    assert -1 < hide < show, "the cursor is hidden by the progress bar, and must come back"


def test_the_command_is_installed() -> None:
    found = shutil.which("mechopt", path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip("the package is not installed with its script")
    result = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    assert result.stdout.startswith("mechopt ")
