"""The table of results, with a row for each method on each set, as Markdown, CSV and JSON."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.published import ELSEWHERE, MOS, PAPER
from utils import write_text

COLUMNS = {  # title in the printed table: (key in a row, decimal places)
    "PSNR (dB)": ("psnr", 2),
    "paper's PSNR": ("paper_psnr", 2),
    "SSIM (daala)": ("ssim_daala", 4),
    "paper's SSIM": ("paper_ssim_daala", 4),
    "paper's MOS": ("paper_mos", 2),
    "SSIM (MATLAB)": ("ssim", 4),
    "NIQE": ("niqe", 2),
    "mesh": ("mesh", 2),
    "colour": ("colour", 2),
    "VGG19": ("vgg19", 4),
    "LPIPS": ("lpips", 4),
    "seconds": ("seconds", 2),
}
NOTE = """Y channel, border cut by the scale, mean over the pictures of a set. Mesh: levels that a pattern of one LR
pixel's size adds to SR. Colour: levels between the mean colours of SR and of bicubic."""


def table_row(name: str, method: str, values: list[dict[str, float]], scale: int) -> dict[str, Any]:
    """Return the row for `method` on the set `name`: the means over its pictures, and at 4x the paper's results.

    values: {metric: value} of each picture; NaN is left out of the means. A missing number is None.
    """
    row: dict[str, Any] = {"set": name, "method": method, "pictures": len(values)}
    for metric in values[0]:
        numbers = [value[metric] for value in values if not np.isnan(value[metric])]
        mean = float(np.mean(numbers)) if numbers else np.nan
        row[metric] = round(mean, 5) if np.isfinite(mean) else None
    published = PAPER.get(name, {}).get(method) if scale == 4 else None
    row["paper_psnr"], row["paper_ssim_daala"] = published or (None, None)
    return row


# The order of the rows with --all: the paper's, with each method that it leaves out beside a similar one
ORDER = ["nearest", "bicubic", "lanczos", "bicubic + IBP", "NEDI", "NEDI + IBP"]
ORDER += ["SRCNN", "SelfExSR", "DRCN", "ESPCN", "VDSR", "SRResNet", "SRGAN", "HR"]


def whole_table(rows: list[dict[str, Any]], scale: int) -> list[dict[str, Any]]:
    """Return the rows of one set with the paper's opinion scores, in ORDER.

    At 4x, a method that was not measured has a row too, marked as published, if there are numbers for this set.
    """
    name = rows[0]["set"]
    by_method = {row["method"]: row for row in rows}
    if scale == 4:
        others = {method: (psnr, None) for method, psnr in ELSEWHERE.get(name, {}).items()}
        for method, (psnr, ssim) in (PAPER.get(name, {}) | others).items():
            row = {"set": name, "method": f"{method} (published)", "paper_psnr": psnr, "paper_ssim_daala": ssim}
            by_method.setdefault(method, row)
        for method, row in by_method.items():
            row["paper_mos"] = MOS.get(name, {}).get(method)
    return [by_method[method] for method in ORDER if method in by_method]


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table, without the columns that no row has."""
    columns = {
        title: (key, digits)
        for title, (key, digits) in COLUMNS.items()
        if any(row.get(key) is not None for row in rows)
    }
    lines = [
        f"| set | method | {' | '.join(columns)} |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for row in rows:
        cells = ["" if row.get(key) is None else f"{row[key]:.{digits}f}" for key, digits in columns.values()]
        lines.append(f"| {row['set']} | {row['method']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def as_csv(rows: list[dict[str, Any]]) -> str:
    """Return the rows as CSV with a header line and every key as a column."""
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_table(path: Path, rows: list[dict[str, Any]], remarks: list[str]) -> None:
    """Print the table, and write it as `path` with the suffixes .md, .csv and .json.

    remarks: lines below the printed table and in the Markdown file. Raises UserError if a file cannot be written.
    """
    text = "\n".join([as_markdown(rows), "", NOTE, *remarks]) + "\n"
    write_text(path.with_suffix(".md"), text)
    write_text(path.with_suffix(".csv"), as_csv(rows))
    write_text(path.with_suffix(".json"), json.dumps(rows, indent=2) + "\n")
    print(f"\n{text}\ngrids and table: {path.parent}")
