"""`python -m tests.windows`: the tests that concern Windows, run by a Python for Windows under Wine.

They are those of the pure core, and those that start real gateways on real files: there both are Windows processes.
What is given goes to pytest; files in it stand in place of those. Exits as pytest does, and with 0 where there can be
no such Python.
"""

import subprocess
import sys

from tests.windows import setup
from tests.windows.wine import CHECKOUT, PYTHON, environment

CORE = ("answers", "cache", "dialects", "hub", "replica", "store", "tasks", "turns", "views")
REAL = ("check", "folder", "names", "windows")
PYTEST = ("-m", "pytest", "--noconftest", "-p", "no:cacheprovider", "-o", "timeout=300", "--durations=5", "-q")


def main(*given: str) -> int:
    if setup.main():
        return 0
    tests = [] if any(".py" in one for one in given) else [f"tests/test_{name}.py" for name in CORE + REAL]
    env = environment(CI="true", COLUMNS="120")  # hypothesis draws the same each time there, and has no deadline
    argv = [*PYTHON, *PYTEST, *tests, *given]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, cwd=CHECKOUT
    ) as process:
        assert process.stdout
        for line in process.stdout:  # by pipes: see wine.run
            sys.stdout.write(line.decode(errors="replace").replace("\r", ""))
            sys.stdout.flush()
    return process.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
