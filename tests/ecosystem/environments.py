"""Environments for programs that need packages which the tests themselves do not have."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path


def installer(directory: Callable[[], Path]) -> Callable[[Sequence[str]], str]:
    """Gives the Python of an environment that holds the requirements. Equal lists share one.

    An environment is installed at its first use. `directory` makes a new empty directory each time."""

    @cache
    def installed(requirements: tuple[str, ...]) -> str:
        environment = directory() / "venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
        interpreter = str(environment / "bin" / "python")
        install = [sys.executable, "-m", "pip", "--python", interpreter, "install", "--quiet", "--no-compile"]
        done = subprocess.run([*install, *requirements], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return interpreter

    return lambda requirements: installed(tuple(requirements))


def node_installer(directory: Callable[[], Path]) -> Callable[[Sequence[str]], Path]:
    """The same for NodeJS: gives a directory whose programs find the packages.

    Without LangChain's optional partners, most of which are other databases."""

    @cache
    def installed(requirements: tuple[str, ...]) -> Path:
        environment = directory()
        install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--legacy-peer-deps"]
        command = [*install, *requirements]
        done = subprocess.run(command, cwd=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return environment

    return lambda requirements: installed(tuple(requirements))
