"""The notebooks in the docs run, from the first cell to the last, and show what they promise."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).resolve().parents[2] / "docs" / "notebooks"


def test_the_quick_start_runs_and_finds_the_nearest_points(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOKS / "quick_start.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are not kept in the repository"
    NotebookClient(notebook, timeout=100, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [
        output["data"]["text/plain"]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if output["output_type"] == "execute_result"
    ]
    assert shown[0] == "100"
    assert shown[1] == "[(9, 1.0), (11, 1.0), (7, 9.0)]"
    assert "'id': 0" in shown[2]
