"""The files of a checkpoint folder: networks to use, states to resume from, and the lock against another run."""

import contextlib
import math
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from config import OPTIONS
from training import devices
from training.stages import ADVERSARIAL, WARM_UP, Plan, Stage, concerns
from utils import UserError, lock, make_folder
from weights import DEFAULT_MODEL, load_weights, metadata_path, read_metadata, save_weights

STATE_VERSION = 2  # raised when the contents of a state change
Config = Mapping[str, Any]  # {"TRAIN": {"seed": 0, ...}, ...}


@contextlib.contextmanager
def lock_folder(folder: str | Path) -> Iterator[None]:
    """Lock `folder` against other runs. Raises UserError, which names the other process, if it is locked already."""
    make_folder(folder)
    with open(Path(folder, "lock"), "a+") as file:
        if not lock(file):
            file.seek(0)
            holder = file.read() or "another process"
            raise UserError(
                f"{folder}: {holder} trains here; wait for it, stop it, or choose other folders with "
                "--set TRAIN.checkpoint_dir and TRAIN.samples_dir"
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def generator_path(folder: str | Path, stage: Stage) -> Path:
    """Return the path of a stage's generator, the running average."""
    return Path(folder, f"g_{stage.name}.weights.h5")


def generator_settings(config: Config) -> dict[str, Any]:
    """Return build_generator's arguments from the configuration."""
    return {name: config["MODEL"][name] for name in DEFAULT_MODEL}


class Checkpoints:
    """The networks and states of one stage of training.

    config: the whole configuration, which is recorded in the files and compared with that of earlier ones.
    """

    def __init__(self, stage: Stage, plan: Plan, config: Config) -> None:
        self.stage, self.plan, self.config = stage, plan, config
        self.folder = Path(config["TRAIN"]["checkpoint_dir"])
        # The settings in which a state and the run that resumes from it must agree
        names = ["crop", "optimizer", "precision"]
        names += ["content_loss", "muon_lr_ratio"] if stage is ADVERSARIAL else []
        train = {name: config["TRAIN"][name] for name in names}
        self.must_agree = dict(config["MODEL"]) | train | {"state_version": STATE_VERSION}

    def content_loss(self) -> str:
        """Return what the generator of this stage learns from, as the metadata of its weights tells it."""
        settings = self.config["TRAIN"]
        if self.stage is ADVERSARIAL:
            return settings["content_loss"]
        pixel_loss, weight = settings["pixel_loss_init"], settings["features_init"]
        return f"{pixel_loss} + {weight:g} features" if weight else pixel_loss

    @devices.without_distribution()
    def save_networks(self, game: keras.Model, log_entry: Mapping[str, Any]) -> None:
        """Write the averaged generator, and the discriminator if there is one, with metadata.

        game: an SRGAN. log_entry: of the log for this update, with "update" and "val_psnr". Raises UserError if a file
        cannot be written.
        """
        settings = self.config["TRAIN"]
        metadata = {
            "model": dict(self.config["MODEL"]),
            "preset": self.config["preset"],
            "stage": self.stage.name,
            "content_loss": self.content_loss(),
            "degradation": settings["degradation"],
            "updates": log_entry["update"],
            "data": settings["hr_img_path"],
            "seed": settings["seed"],
            "versions": {"keras": keras.__version__, "backend": keras.backend.backend(), "numpy": np.__version__},
            "measured": log_entry,
        }
        save_weights(game.average, generator_path(self.folder, self.stage), metadata)
        if game.discriminator:
            save_weights(game.discriminator, self.folder / "d_srgan.weights.h5", metadata)

    @devices.without_distribution()
    def save_state(self, game: keras.Model) -> None:
        """Write everything needed to resume (weights, average, optimizer, updates), and delete old states.

        The newest one from before the decay of the learning rate, from which a longer run can resume, stays too.
        game: an SRGAN. Raises UserError if the state cannot be written.
        """
        updates, decay_at = game.updates_done(), self.plan.decay_at
        metadata = {
            "model": self.must_agree,
            "updates": updates,
            "decays_to": self.plan.total if updates > decay_at else None,
            "config": self.config,
        }
        save_weights(game, self.folder / f"{self.stage.name}_state_{updates}.weights.h5", metadata)
        states = {update: path for update, path in self.states_by_update().items() if update <= updates}
        undecayed = max((update for update in states if update <= decay_at), default=None)
        for update in list(states)[self.config["TRAIN"]["keep_states"] :]:
            if update != undecayed:
                states[update].unlink(missing_ok=True)
                metadata_path(states[update]).unlink(missing_ok=True)

    def states_by_update(self) -> dict[int, Path]:
        """Return {number of updates: path of the state after them}, the newest state first."""
        paths = {}
        for path in self.folder.glob(f"{self.stage.name}_state_*.weights.h5"):
            if number := re.fullmatch(rf"{self.stage.name}_state_(\d+)\.weights\.h5", path.name):
                paths[int(number[1])] = path
        return dict(sorted(paths.items(), reverse=True))

    def states(self) -> list[Path]:
        """Return the paths of all states, the best one to resume from first.

        Newer states come before older ones, but states in which the learning rate has begun to decay towards the end of
        a run of another length come last.
        """

        def decayed_for_another_length(path: Path) -> bool:
            return state_metadata(path).get("decays_to") not in (None, self.plan.total)

        # a stable sort, so newer states stay in front
        return sorted(self.states_by_update().values(), key=decayed_for_another_length)

    def load_state(self, game: keras.Model) -> bool:
        """Load the best intact state that fits the configuration into `game`, and print a line for each damaged one.

        Returns False if there is no state. game: a built SRGAN. Raises UserError if there are states but none can be
        used, or if there is none and training would overwrite a trained generator.
        """
        refused: list[str] = []
        newest = max(self.states_by_update(), default=0)
        devices.require_same(newest, f"{self.folder}: lacks a state that another process has; all need the same folder")
        for path in self.states():
            try:
                load_weights(game, path, self.must_agree)
            except UserError as error:
                refused.append(str(error))
                continue
            for line in refused:
                print(f"{line}; going on from {path.name} instead")
            return True
        if refused:
            raise UserError(refused[0])
        result = generator_path(self.folder, self.stage)
        # A run that is killed between its first report's networks and its first state leaves a generator without one.
        if result.exists() and read_metadata(result).get("updates", math.inf) > self.config["TRAIN"]["report_every"]:
            raise UserError(
                f"{result}: would be overwritten, because there is no state to resume from; move it away first"
            )
        return False

    def changes(self, before: Config) -> dict[str, str]:
        """Return {option: "TRAIN.seed=1 (before: 0)"} for what the stage depends on and has changed since `before`.

        An option that `before` lacks, because it is of an earlier version, had its default. What load_state checks is
        left out.
        """
        changes = {}
        for option, (default, _, _) in OPTIONS.items():
            section, name = option.split(".")
            old, new = before.get(section, {}).get(name, default), self.config[section][name]
            if old != new and concerns(option, self.stage) and name not in self.must_agree:
                changes[option] = f"{option}={new} (before: {old})"
        return changes


def state_metadata(path: Path) -> dict[str, Any]:
    """Return the metadata of a state, {} if they are damaged, which load_weights reports."""
    with contextlib.suppress(UserError):
        return read_metadata(path)
    return {}


def check_settings(stages: Sequence[Checkpoints]) -> None:
    """Print what differs between the configuration and the one that made each stage's state, before anything is loaded.

    Raises UserError if the last of `stages` is finished and a change has no effect on another either. States of
    versions that did not record their configuration are not compared.
    """
    unfinished: list[Stage] = []
    lines: list[str] = []  # printed in the end, since a refusal is a single line
    for checkpoints in stages:
        stage, states = checkpoints.stage, checkpoints.states()
        metadata = state_metadata(states[0]) if states else {}
        updates = metadata.get("updates", 0)
        if updates < checkpoints.plan.total:
            unfinished.append(stage)
        if "config" not in metadata:
            continue
        if stage is ADVERSARIAL and WARM_UP in unfinished:
            lines.append(f"{stage.name}: has begun already, so that more updates of the warm-up have no effect on it")
        changes = checkpoints.changes(metadata["config"])
        without_effect = [text for option, text in changes.items() if not any(concerns(option, s) for s in unfinished)]
        if without_effect and checkpoints is stages[-1]:
            raise UserError(
                f"{checkpoints.folder}: {stage.name} is finished at update {updates}, so that these have no "
                f"effect: {', '.join(without_effect)}; set them back, choose other folders with "
                f"--set TRAIN.checkpoint_dir and TRAIN.samples_dir, or train on with more TRAIN.{stage.length}"
            )
        if changes and stage in unfinished:
            lines.append(f"{stage.name}: other settings than before update {updates}: {', '.join(changes.values())}")
        elif changes:
            lines.append(f"{stage.name}: is finished and ignores {', '.join(changes.values())}")
    for line in lines:
        print(line)
