"""The table of an evaluation: a row for each method on each set, as Markdown, CSV and JSON."""

import csv
import io
import json

import numpy as np

from evaluation.published import PAPER
from utils import write_text

COLUMNS = {  # title in the printed table: (key of a row, decimals)
    "PSNR (dB)": ("psnr", 2),
    "paper's PSNR": ("paper_psnr", 2),
    "SSIM (daala)": ("ssim_daala", 4),
    "paper's SSIM": ("paper_ssim_daala", 4),
    "SSIM (MATLAB)": ("ssim", 4),
    "NIQE": ("niqe", 2),
    "mesh": ("mesh", 2),
    "colour": ("colour", 2),
    "VGG19": ("vgg19", 4),
    "LPIPS": ("lpips", 4),
}
NOTE = """Y channel, border cut by the scale, mean over the pictures of a set. Mesh: levels that a pattern of 4x4 pixels
adds to SR. Colour: levels between the mean colours of SR and of bicubic."""


def table_row(name, method, values, scale):
    """The row of `method` on the set `name`.

    values: [{metric: number}], a picture an item; each mean leaves NaN out. The paper's numbers stand beside it at
    4x. None where there is no number.
    """
    row = {"set": name, "method": method, "pictures": len(values)}
    for metric in values[0]:
        numbers = [value[metric] for value in values if not np.isnan(value[metric])]
        mean = float(np.mean(numbers)) if numbers else np.nan
        row[metric] = round(mean, 5) if np.isfinite(mean) else None
    published = PAPER.get(name, {}).get(method) if scale == 4 else None
    row["paper_psnr"], row["paper_ssim_daala"] = published or (None, None)
    return row


def as_markdown(rows):
    """The rows as a Markdown table, without the columns for which no row has a number."""
    columns = {title: cell for title, cell in COLUMNS.items() if any(cell[0] in row for row in rows)}
    lines = [f"| set | method | {' | '.join(columns)} |", "|---" * (len(columns) + 2) + "|"]
    for row in rows:
        cells = ["" if row.get(key) is None else f"{row[key]:.{digits}f}" for key, digits in columns.values()]
        lines.append(f"| {row['set']} | {row['method']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def as_csv(rows):
    """The rows as CSV, every column."""
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_table(path, rows, remarks):
    """Print the rows and write them as path.md, path.csv and path.json. remarks: lines below the table."""
    text = "\n".join([as_markdown(rows), "", NOTE, *remarks]) + "\n"
    write_text(path.with_suffix(".md"), text)
    write_text(path.with_suffix(".csv"), as_csv(rows))
    write_text(path.with_suffix(".json"), json.dumps(rows, indent=2) + "\n")
    print(f"\n{text}\ngrids and table: {path.parent}")
