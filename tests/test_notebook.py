"""The notebook as a reader runs it, with fewer updates; and as it is stored."""

import json

import pytest
from trainings import ROOT

NOTEBOOK = ROOT / "notebooks/srgan.ipynb"
MEGABYTE = 1_000_000


def outputs(notebook):
    return [output for cell in notebook["cells"] for output in cell.get("outputs", [])]


def pictures(notebook):
    return [output for output in outputs(notebook) if "image/jpeg" in output.get("data", {})]


def test_it_is_stored_small_with_its_pictures_and_without_an_error():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert NOTEBOOK.stat().st_size < MEGABYTE
    assert len(pictures(notebook)) == 3
    assert not [
        output for output in outputs(notebook) if output["output_type"] == "error" or output.get("name") == "stderr"
    ]
    counts = [cell["execution_count"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))  # run once, from top to bottom


def test_it_runs(monkeypatch, tmp_path):
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    nbformat = pytest.importorskip("nbformat")
    monkeypatch.setenv("UPDATES", "2")
    monkeypatch.setenv("VGG19", "none")  # which would be downloaded
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folder = {"metadata": {"path": str(NOTEBOOK.parent)}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=folder).execute()
    said = "".join(output.get("text", "") for output in outputs(notebook))
    assert "update    2" in said and "2 updates" in said and len(pictures(notebook)) == 3
