"""What a stage of training shows and leaves behind: progress bar, log line, sample grid, checkpoints."""

import importlib.util
import json
import sys
import time
from pathlib import Path

import keras
import numpy as np

from metrics import luma, psnr
from pictures import grid, resize, write_picture
from srgan import super_resolve
from utils import UserError, generator_path, save_weights, write_text


def state_path(stage, config):
    """The file a stage resumes from."""
    return Path(config.TRAIN.checkpoint_dir, f"{stage}_state.weights.h5")


def generator_facts(config):
    return {name: config.MODEL[name] for name in ("variant", "scale", "blocks", "filters")}


def state_facts(stage, config):
    """What a state must agree in with the run that goes on from it."""
    names = ["crop", "optimizer", "precision"] + ["content_loss"] * (stage == "srgan")
    return dict(config.MODEL) | {name: config.TRAIN[name] for name in names}


class Report:
    """What a stage shows and leaves behind: progress bar, log line, sample grid, checkpoints."""

    def __init__(self, stage, game, total, valid, config):
        self.stage, self.game, self.valid, self.config = stage, game, valid, config
        self.updates = int(keras.ops.convert_to_numpy(game.updates))
        self.folder = Path(config.TRAIN.checkpoint_dir)
        self.samples = Path(config.TRAIN.samples_dir, "srgan_ginit" if stage == "srgan_init" else "srgan_gan")
        self.log = self.folder / f"log_{stage}.jsonl"
        self.started = time.perf_counter()
        interval = 0.5 if sys.stdout.isatty() else 60
        self.first = self.updates  # the bar counts this run's updates alone, or its ETA would be wrong
        left, terms = total - self.first, list(game.terms)
        self.bar = keras.utils.Progbar(left, interval=interval, stateful_metrics=terms, unit_name="update")
        self.tensorboard = None
        if keras.backend.backend() == "tensorflow" and importlib.util.find_spec("tensorboard"):
            self.tensorboard = keras.callbacks.TensorBoard(self.folder / "tensorboard" / stage, write_graph=False)
            self.tensorboard.set_model(game)
        for side, column in ((valid[0][0].shape[0], 0), (valid[0][1].shape[0], 1)):
            write_picture(self.samples / f"_train_sample_{side}.png", grid([[pair[column]] for pair in valid[:4]]))
        kept = [line for line in self.log_lines() if line["update"] <= self.updates]
        write_text(self.log, "".join(json.dumps(line) + "\n" for line in kept))

    def log_lines(self):
        try:
            return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []
        except ValueError as error:
            raise UserError(f"{self.log}: is no log of ours ({error}); move it away") from error

    def progress(self, updates, logs, stop):
        """Show the period's update number `updates`; tell fit() to end the period where `stop` is true."""
        done = self.updates - self.first + updates
        self.bar.update(done, [(name, float(logs[name])) for name in self.game.terms])
        self.game.stop_training = bool(stop)

    def end_period(self, terms, last):
        """Report the period if it reached update `last`, and save the state; `terms` are its mean loss terms."""
        before, self.updates = self.updates, int(keras.ops.convert_to_numpy(self.game.updates))
        self.refuse_nan(terms)
        if self.updates == last:
            self.write(terms, last - before)
        self.save_state()

    def refuse_nan(self, terms):
        """Raise UserError where training has diverged, before anything good is overwritten."""
        bad = [name for name, value in terms.items() if not np.isfinite(value)]
        variables = (keras.ops.convert_to_numpy(variable) for variable in self.game.variables)
        if bad or not all(np.isfinite(variable).all() for variable in variables):
            key = "TRAIN.learning_rate_init" if self.stage == "srgan_init" else "TRAIN.learning_rate"
            raise UserError(
                f"{self.stage}: {bad[0] if bad else 'a weight'} is not finite at update {self.updates}; "
                f"the checkpoint before it is kept; lower {key}"
            )

    def write(self, terms, updates):
        """Validate, and write what a period of `updates` gave."""
        seconds = time.perf_counter() - self.started
        srs = [super_resolve(self.game.average, lr) for lr, _ in self.valid]
        scores = [psnr(luma(sr), luma(hr), self.config.MODEL.scale) for sr, (_, hr) in zip(srs, self.valid)]
        line = {"update": self.updates, **terms, "val_psnr": float(np.mean(scores))}
        line["learning_rate"] = float(keras.ops.convert_to_numpy(self.game.optimizer.learning_rate))
        line["updates_per_second"] = updates / seconds
        write_text(self.log, "".join(json.dumps(old) + "\n" for old in [*self.log_lines(), line]))
        if self.tensorboard:
            self.tensorboard.on_epoch_end(self.updates, line)
        rows = [[resize(lr, self.config.MODEL.scale), sr, hr] for (lr, hr), sr in zip(self.valid[:4], srs)]
        write_picture(self.samples / f"train_{self.updates}.png", grid(rows))
        shown = "  ".join(f"{name} {value:.4g}" for name, value in line.items())
        print(f"\n{self.stage}: {shown}", flush=True)
        self.save_networks(line)
        self.started = time.perf_counter()

    def save_networks(self, measured):
        facts = {
            "model": dict(self.config.MODEL),
            "preset": self.config.preset,
            "stage": self.stage,
            "content_loss": self.config.TRAIN.content_loss if self.stage == "srgan" else "mse",
            "updates": self.updates,
            "data": self.config.TRAIN.hr_img_path,
            "seed": self.config.TRAIN.seed,
            "versions": {"keras": keras.__version__, "backend": keras.backend.backend(), "numpy": np.__version__},
            "measured": measured,
        }
        save_weights(self.game.average, generator_path(self.folder, self.stage), facts)
        if self.game.discriminator:
            save_weights(self.game.discriminator, self.folder / "d_srgan.weights.h5", facts)

    def save_state(self):
        """Everything a later run needs to go on from here: weights, average, optimizer, updates."""
        facts = {"model": state_facts(self.stage, self.config), "updates": self.updates}
        save_weights(self.game, state_path(self.stage, self.config), facts)
