"""What the options of upscale.py do to its pictures, on the benchmark sets.

    python benchmarks/upscale_quality.py [--set VGG.weights=FILE]

Prints the table of --mode=evaluate with one row for each choice of --strength, --back-project and --self-ensemble.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from engines import import_keras
from training.command_line import command_line

import_keras()

from evaluate import measure_all
from evaluation.benchmark import benchmark_sets
from evaluation.perceptual import perceptual_distances
from evaluation.tables import as_markdown, table_row
from pictures import resize
from upscaling.models import load

SCALE = 4
CHOICES = {
    **{f"--strength {strength}": {"strength": strength} for strength in (0.0, 0.25, 0.5, 0.75)},
    "defaults": {},
    "--back-project 0": {"back_projections": 0},
    "--back-project 2": {"back_projections": 2},
    "--self-ensemble": {"self_ensemble": True},
}


if __name__ == "__main__":
    config = command_line(["--mode=evaluate", *sys.argv[1:]])[2]
    remarks, rows = [], []
    upscalers = {choice: load("srgan", **options) for choice, options in CHOICES.items()}
    distances = perceptual_distances(config.VGG.weights, remarks)
    for name, pictures in benchmark_sets(config.EVALUATE.benchmark_dir, SCALE, remarks):
        scores = []
        for _, lr, hr in pictures:
            srs = {choice: upscaler(lr) for choice, upscaler in upscalers.items()}
            scores.append(measure_all(srs, hr, resize(lr, SCALE), SCALE, distances))
        rows += [table_row(name, choice, [score[choice] for score in scores], SCALE) for choice in CHOICES]
    print("\n".join([as_markdown(rows), *remarks]))
