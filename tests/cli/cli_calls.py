"""Calls of the command line inside the process of the tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from milvine.cli import main


def runner(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs a command and returns what it printed as JSON, or its complaint if it ended with another code than 0."""

    def run(*arguments: object, code: int = 0) -> Any:
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments), "--json"])
        out, err = capsys.readouterr()
        assert ended.value.code == code, err
        return err if code and not out else json.loads(out)

    return run
