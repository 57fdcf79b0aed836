"""--all: every method of the paper's table 2, ours beside the paper's, what was not measured marked."""

import pytest

import evaluate
from config import EARLIER
from evaluation.tables import as_markdown, whole_table
from methods.networks import build_generator
from weights import save_weights

IN_THE_PAPER = ["nearest", "bicubic", "SRCNN", "SelfExSR", "DRCN", "ESPCN", "SRResNet", "SRGAN", "HR"]


def row(name, method, **values):
    return {"set": name, "method": method} | values


def test_methods_without_a_measurement_are_marked_as_published():
    rows = whole_table([row("Set14", "HR"), row("Set14", "SRCNN", psnr=27.0), row("Set14", "NEDI", psnr=25.7)], 4)
    methods = [row["method"] for row in rows]
    names = [method.removesuffix(" (published)") for method in methods]
    assert [name for name in names if name not in ("NEDI", "VDSR")] == IN_THE_PAPER
    assert [method for method in methods if "published" not in method] == ["NEDI", "SRCNN", "HR"]
    drcn = next(row for row in rows if row["method"] == "DRCN (published)")
    assert drcn["paper_psnr"] == pytest.approx(28.02, abs=0.01)  # 28.02 in its own paper, too
    assert "| Set14 | DRCN (published) |  | 28.02 | 0.8074 | 2.84 |" in as_markdown(rows)


def test_of_another_set_or_scale_nothing_is_published():
    for name, scale in (("mine", 4), ("Set5", 2)):
        rows = whole_table([row(name, "HR"), row(name, "bicubic", psnr=30.0)], scale)
        assert [row["method"] for row in rows] == ["bicubic", "HR"]


def test_networks_whose_weights_are_shipped_have_a_row(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "PRETRAINED", tmp_path)
    for variant, scale in (("espcn", 4), ("srcnn", 2)):
        metadata = {"model": {"variant": variant, "scale": scale}}
        save_weights(build_generator(variant, scale), tmp_path / f"{variant}.weights.h5", metadata)
    remarks = []
    assert list(evaluate.load_earlier(4, remarks)) == ["ESPCN"]
    assert len(remarks) == 1 and all(name.upper() in remarks[0] for name in EARLIER if name != "espcn")
