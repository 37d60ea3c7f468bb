"""Backends that misbehave, as a distribution of their own: found by every process that has it on its path."""

from __future__ import annotations

from pathlib import Path

MODULE = '''
import ctypes, os, subprocess, sys, time
import numpy as np
from mechopt import Backend, Capability, Status
from mechopt.solvers.backend import Answer


class Rogue(Backend):
    capabilities = frozenset(Capability)
    duals = False


class Crash(Rogue):
    name = "crash"
    def solve(self, program, settings):
        print("about to fall", file=sys.stderr, flush=True)
        os.abort()


class Quit(Rogue):
    name = "quit"
    def solve(self, program, settings):
        os._exit(3)


class Hang(Rogue):
    """Ignores its time limit, and has a child that does too."""
    name = "hang"
    def solve(self, program, settings):
        child = subprocess.Popen(["sleep", "1000"])
        with open(os.environ["ROGUE_PIDS"], "a") as file:
            file.write(f"{os.getpid()} {child.pid} ")
        while True:
            time.sleep(1)


class Hog(Rogue):
    name = "hog"
    def solve(self, program, settings):
        kept = []
        while True:
            kept.append(np.empty(2**25))


class Native(Rogue):
    """Runs out of memory as a compiled solver does: says so, and aborts."""
    name = "native"
    def solve(self, program, settings):
        os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'")
        os.abort()


class Thrower(Rogue):
    name = "thrower"
    def solve(self, program, settings):
        raise RuntimeError("the solver is out of order")


class Liar(Rogue):
    """A point that is feasible, and far from optimal."""
    name = "liar"
    def solve(self, program, settings):
        primal = {v.id: np.zeros(v.shape) for v in program.cvxpy_variables().values()}
        return Answer(Status.OPTIMAL, "solved", primal=primal)
'''
NAMES = ("crash", "quit", "hang", "hog", "native", "thrower", "liar")


def install(folder: Path) -> None:
    """Put the distribution into a folder; who has that on its path has the backends."""
    (folder / "rogues.py").write_text(MODULE)
    info = folder / "rogues-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rogues\nVersion: 1.0\n")
    entries = "\n".join(f"{name} = rogues:{name.capitalize()}" for name in NAMES)
    (info / "entry_points.txt").write_text(f"[mechopt.backends]\n{entries}\n")
