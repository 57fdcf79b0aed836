"""Report on a stage of training: progress, log, sample grids and TensorBoard."""

import importlib.util
import json
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from easydict import EasyDict

from config import OPTIONS, PRESETS
from evaluation.grids import grid, labelled
from evaluation.metrics import colour_shift, luma, mesh, psnr
from pictures import Pair, resize, write_picture
from training import devices
from training.checkpoints import generator_path
from training.health import warning_for
from training.progress import Progress, say
from training.stages import Stage
from utils import UserError, write_text

ROWS_IN_GRID = 4  # number of validation pictures in a grid


class Report:
    """Reports on a stage of training and measures it on validation pictures.

    If there are several processes, each of them measures, and only the first one writes files.

    game: an SRGAN. total: number of updates of the stage. valid: {suffix of the names in the log: [(lr, hr)]}, uint8
    (h, w, 3) and (scale*h, scale*w, 3); "" is the set that decides. network: its name in the grids.
    samples, checkpoints: the folders of the grids and of the log.
    """

    def __init__(
        self,
        stage: Stage,
        game: keras.Model,
        total: int,
        valid: Mapping[str, Sequence[Pair]],
        scale: int,
        network: str,
        samples: str | Path,
        checkpoints: str | Path,
    ) -> None:
        self.stage, self.game, self.total, self.valid = stage, game, total, valid
        self.scale, self.network = scale, network
        self.samples = Path(samples, stage.grids)
        self.log = Path(checkpoints, f"log_{stage.name}.jsonl")
        self.board_folder = Path(checkpoints, "tensorboard", stage.name)
        self.writes = devices.is_first()
        self.bicubics = {name: [resize(lr, self.scale) for lr, _ in pairs] for name, pairs in valid.items()}
        self.bicubic_psnrs = {name: self.psnrs(name, bicubics) for name, bicubics in self.bicubics.items()}
        self.lines: list[dict[str, Any]] = []
        self.board: Any = None  # TensorFlow's writer of summaries

    def begin(self) -> None:
        """Read the log of the run that is resumed, or measure once if there is none. Call this before the training.

        Raises UserError if the log is damaged or cannot be written.
        """
        self.first = self.game.updates_done()
        self.bar = Progress(self.stage.name, self.total, self.first, silent=not self.writes)
        if self.writes and keras.backend.backend() == "tensorflow" and importlib.util.find_spec("tensorboard"):
            import tensorflow as tf

            self.board = tf.summary.create_file_writer(str(self.board_folder))
        for name, pairs in self.valid.items():
            lrs, hrs = zip(*pairs[:ROWS_IN_GRID])
            # As in TensorLayer, the side of the pictures is in the name.
            self.write_grid(f"_train_sample_{len(lrs[0])}{name}", [[lr] for lr in lrs])
            self.write_grid(f"_train_sample_{len(hrs[0])}{name}", [[hr] for hr in hrs])
        self.lines = self.read_log()
        bicubic = {f"val_psnr_bicubic{name}": float(np.mean(psnrs)) for name, psnrs in self.bicubic_psnrs.items()}
        if devices.max_over_processes(not self.lines):  # if one process must validate, all must, or it would wait
            line = {"update": self.first, **self.validate(), **bicubic}
            self.lines = self.lines or [line]
            self.write_scalars(line)
        self.say(f"val_psnr {self.lines[-1]['val_psnr']:.4g}, bicubic {bicubic['val_psnr_bicubic']:.4g}")
        self.write_log()

    def read_log(self) -> list[dict[str, Any]]:
        """Return the log's lines up to the update from which the run resumes. Raises UserError if it is damaged."""
        try:
            lines = []
            if self.log.exists():
                lines = [json.loads(line) for line in self.log.read_text().splitlines()]
            if not all({"update", "val_psnr"} <= set(line) for line in lines):
                raise ValueError("a line without update or val_psnr")
            return [line for line in lines if line["update"] <= self.first]
        except (ValueError, TypeError) as error:
            raise UserError(f"{self.log}: is not a valid log ({error}); move it away") from error

    def write_grid(self, name: str, rows: Sequence[Sequence[np.ndarray]]) -> None:
        """Write rows of uint8 pictures (h, w, 3) as one grid; only the first process does."""
        if self.writes:
            write_picture(self.samples / f"{name}.png", grid(rows))

    def write_log(self) -> None:
        """Write all lines of the log atomically; only the first process does."""
        if self.writes:
            write_text(self.log, "".join(json.dumps(line) + "\n" for line in self.lines))

    def say(self, text: str) -> None:
        """Print the stage's name and `text` on a line of their own, above the progress bar if one is drawn."""
        say(self.stage.name, text)

    def end(self, stopped: bool) -> None:
        """Finish the progress bar, and leave it on the screen. stopped: whether the user did; it then says where."""
        self.bar.close()
        if stopped:
            done = self.game.updates_done()
            self.say(f"stopped at update {done} of {self.total}; the same command resumes from there")

    def begin_period(self) -> None:
        """Start the clock of `updates_per_second`. Call this directly before the updates."""
        self.started = time.perf_counter()

    def progress(self, update: int, terms: Mapping[str, float]) -> None:
        """Tell that `update` is done. terms: {name: mean so far in this period}."""
        self.bar.update(update, terms)

    def end_period(self, terms: Mapping[str, float], updates: int) -> dict[str, Any]:
        """Validate, print and log the results of a period, and return its line of the log.

        terms: {name: mean over the period}. updates: length of the period.
        """
        seconds = time.perf_counter() - self.started
        line = {"update": self.game.updates_done(), **terms, **self.validate()}
        line["learning_rate"] = float(keras.ops.convert_to_numpy(self.game.optimizer.learning_rate))
        line["updates_per_second"] = updates / seconds
        self.say("  ".join(f"{name} {value:.4g}" for name, value in line.items()))
        self.write_scalars(line)
        warning = warning_for([*self.lines, line])
        if warning:
            self.say(f"warning: {warning}")
        self.lines.append(line | ({"warning": warning} if warning else {}))
        self.write_log()
        return line

    def validate(self) -> dict[str, float]:
        """Measure the validation pictures, and write a grid of bicubic, SR and HR for the first ones of each set.

        Returns for each set the means val_psnr (dB, on Y, `scale` pixels cut at the border), val_mesh and val_colour
        (levels of 0..255), with the set's suffix.
        """
        means: dict[str, float] = {}
        for name, pairs in self.valid.items():
            srs = [self.game.super_resolve(lr) for lr, _ in pairs]
            values = {
                "val_psnr": self.psnrs(name, srs),
                "val_mesh": [mesh(sr, hr, self.scale) for sr, (_, hr) in zip(srs, pairs)],
                "val_colour": [colour_shift(sr, bicubic) for sr, bicubic in zip(srs, self.bicubics[name])],
            }
            means |= {metric + name: float(np.mean(of_pictures)) for metric, of_pictures in values.items()}
            self.write_comparison(name, srs, values["val_psnr"])
        return means

    def psnrs(self, name: str, srs: Sequence[np.ndarray]) -> list[float]:
        """Return the PSNR in dB of each picture of `srs` for the validation set `name`."""
        return [psnr(luma(sr), luma(hr), self.scale) for sr, (_, hr) in zip(srs, self.valid[name])]

    def write_comparison(self, name: str, srs: Sequence[np.ndarray], psnrs: Sequence[float]) -> None:
        """Write a grid of bicubic, SR and HR for the first pictures of the validation set `name`. psnrs: of `srs`."""
        rows = []
        for index, (_, hr) in enumerate(self.valid[name][:ROWS_IN_GRID]):
            bicubic = labelled(self.bicubics[name][index], f"bicubic {self.bicubic_psnrs[name][index]:.2f} dB")
            sr = labelled(srs[index], f"{self.network} {psnrs[index]:.2f} dB")
            rows.append([bicubic, sr, labelled(hr, "HR")])
        update = self.game.updates_done()
        self.write_grid(f"train_{update}{name}", rows)
        if self.board:
            import tensorflow as tf

            with self.board.as_default(step=update):
                tf.summary.image(f"grid{name}", grid(rows)[None])

    def write_scalars(self, line: Mapping[str, Any]) -> None:
        """Write the numbers of a line of the log for TensorBoard, if it can be used."""
        if self.board:
            import tensorflow as tf

            with self.board.as_default(step=line["update"]):
                for name, value in line.items():
                    if name != "update":
                        tf.summary.scalar(name, value)
            self.board.flush()


def commands_to_copy(config: EasyDict, stage: Stage) -> list[str]:
    """Return lines with the commands that show what a finished run made. stage: its last one."""
    folder, samples = config.TRAIN.checkpoint_dir, config.TRAIN.samples_dir
    lines = [f"grids of bicubic, SR and HR: {Path(samples, stage.grids)}"]
    board = Path(folder, "tensorboard")
    if board.is_dir():
        lines.append(f"curves: {shlex.join(['tensorboard', '--logdir', str(board)])}")
    # The options that the evaluation reads, where they differ from those of the preset
    preset = {key: option.default for key, option in OPTIONS.items()} | PRESETS[config.preset]
    words = ["--mode=evaluate", *([] if config.preset == "default" else [f"--preset={config.preset}"])]
    for key, usual in preset.items():
        section, name = key.split(".")
        value = config[section][name]
        read = section in ("MODEL", "EVALUATE") or key in ("TRAIN.checkpoint_dir", "TRAIN.samples_dir", "VGG.weights")
        if read and value != usual:
            written = {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
            words += ["--set", f"{key}={written}"]
    lines.append(f"this table again: {shlex.join(['python', 'train.py', *words])}")
    model = ["--model", str(generator_path(folder, stage))]
    return [*lines, f"a picture of yours: {shlex.join(['python', 'upscale.py', 'photo.jpg', *model])}"]
