"""Write networks and states to the checkpoint folder, load a state to resume from, and lock the folder."""

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
from easydict import EasyDict

from config import OPTIONS
from training import devices
from training.stages import ADVERSARIAL, WARM_UP, Stage, concerns, decays_from
from utils import UserError, lock, make_folder
from weights import load_weights, metadata_path, read_metadata, save_weights

STATE_VERSION = 2  # raised when the contents of a state change


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


# Networks, for evaluation and upscaling


def generator_path(folder: str | Path, stage: Stage) -> Path:
    """Return the path of a stage's generator, the running average."""
    return Path(folder, f"g_{stage.name}.weights.h5")


def generator_settings(config: EasyDict) -> dict[str, Any]:
    """Return build_generator's arguments from the configuration."""
    return {name: config.MODEL[name] for name in ("variant", "scale", "blocks", "filters")}


@devices.without_distribution()
def save_networks(stage: Stage, game: keras.Model, log_entry: Mapping[str, Any], config: EasyDict) -> None:
    """Write the averaged generator, and the discriminator if there is one, with metadata.

    game: an SRGAN. log_entry: the line of the log for this update, with "update" and "val_psnr". Raises UserError if a
    file cannot be written.
    """
    settings, folder = config.TRAIN, Path(config.TRAIN.checkpoint_dir)
    metadata = {
        "model": dict(config.MODEL),
        "preset": config.preset,
        "stage": stage.name,
        "content_loss": settings.content_loss if stage is ADVERSARIAL else "mse",
        "degradation": settings.degradation,
        "updates": log_entry["update"],
        "data": settings.hr_img_path,
        "seed": settings.seed,
        "versions": {"keras": keras.__version__, "backend": keras.backend.backend(), "numpy": np.__version__},
        "measured": log_entry,
    }
    save_weights(game.average, generator_path(folder, stage), metadata)
    if game.discriminator:
        save_weights(game.discriminator, folder / "d_srgan.weights.h5", metadata)


# States, to resume from


def state_settings(stage: Stage, config: EasyDict) -> dict[str, Any]:
    """Return the settings in which a state and the run that resumes from it must agree."""
    names = ["crop", "optimizer", "precision"]
    if stage is ADVERSARIAL:
        names.append("content_loss")
    return dict(config.MODEL) | {name: config.TRAIN[name] for name in names} | {"state_version": STATE_VERSION}


def state_paths(stage: Stage, folder: str | Path) -> dict[int, Path]:
    """Return {number of updates: path of the state after them} of a stage, the newest state first."""
    paths = {}
    for path in Path(folder).glob(f"{stage.name}_state_*.weights.h5"):
        if number := re.fullmatch(rf"{stage.name}_state_(\d+)\.weights\.h5", path.name):
            paths[int(number[1])] = path
    return dict(sorted(paths.items(), reverse=True))


@devices.without_distribution()
def save_state(stage: Stage, game: keras.Model, config: EasyDict) -> None:
    """Write everything needed to resume (weights, average, optimizer, updates), and delete old states.

    The newest TRAIN.keep_states states are kept, and also the newest one from before the decay of the learning rate,
    from which a longer run can resume. game: an SRGAN. Raises UserError if the state cannot be written.
    """
    settings, updates = config.TRAIN, game.updates_done()
    decay = decays_from(stage, settings)
    metadata = {
        "model": state_settings(stage, config),
        "updates": updates,
        "decays_to": settings[stage.length] if updates > decay else None,
        "config": config,
    }
    save_weights(game, Path(settings.checkpoint_dir, f"{stage.name}_state_{updates}.weights.h5"), metadata)
    states = {update: path for update, path in state_paths(stage, settings.checkpoint_dir).items() if update <= updates}
    undecayed = max((update for update in states if update <= decay), default=None)
    for update in list(states)[settings.keep_states :]:
        if update != undecayed:
            states[update].unlink(missing_ok=True)
            metadata_path(states[update]).unlink(missing_ok=True)


def usable_states(stage: Stage, config: EasyDict) -> list[Path]:
    """Return the paths of a stage's states, the best one to resume from first.

    Newer states come before older ones, but states in which the learning rate has begun to decay towards the end of a
    run of another length come last.
    """
    paths = list(state_paths(stage, config.TRAIN.checkpoint_dir).values())
    length = config.TRAIN[stage.length]

    def decayed_for_another_length(path: Path) -> bool:
        return state_metadata(path).get("decays_to") not in (None, length)

    return sorted(paths, key=decayed_for_another_length)  # a stable sort, so newer states stay in front


def state_metadata(path: Path) -> dict[str, Any]:
    """Return the metadata of a state, {} if they are damaged, which load_weights reports."""
    with contextlib.suppress(UserError):
        return read_metadata(path)
    return {}


def changed_settings(stage: Stage, before: Mapping[str, Any], config: EasyDict) -> dict[str, str]:
    """Return {option: "TRAIN.seed=1 (before: 0)"} for what `stage` depends on and has changed since `before`.

    before: a configuration as a dictionary. An option that it lacks, because it is of an earlier version, had its
    default. What load_state checks is left out.
    """
    changes = {}
    for option, (default, _, _) in OPTIONS.items():
        section, name = option.split(".")
        old, new = before.get(section, {}).get(name, default), config[section][name]
        if old != new and concerns(option, stage) and name not in state_settings(stage, config):
            changes[option] = f"{option}={new} (before: {old})"
    return changes


def check_settings(stages: Sequence[Stage], config: EasyDict) -> None:
    """Print what differs between the configuration and the one that made each stage's state, before anything is loaded.

    Raises UserError if the last of `stages` is finished and a change has no effect on another either. States of
    versions that did not record their configuration are not compared.
    """
    settings = config.TRAIN
    unfinished: list[Stage] = []
    lines: list[str] = []  # printed in the end, since a refusal is a single line
    for stage in stages:
        states = usable_states(stage, config)
        metadata = state_metadata(states[0]) if states else {}
        updates = metadata.get("updates", 0)
        if updates < settings[stage.length]:
            unfinished.append(stage)
        if "config" not in metadata:
            continue
        if stage is ADVERSARIAL and WARM_UP in unfinished:
            lines.append(f"{stage.name}: has begun already, so that more updates of the warm-up have no effect on it")
        changes = changed_settings(stage, metadata["config"], config)
        without_effect = [text for option, text in changes.items() if not any(concerns(option, s) for s in unfinished)]
        if without_effect and stage is stages[-1]:
            raise UserError(
                f"{settings.checkpoint_dir}: {stage.name} is finished at update {updates}, so that these have no "
                f"effect: {', '.join(without_effect)}; set them back, choose other folders with "
                f"--set TRAIN.checkpoint_dir and TRAIN.samples_dir, or train on with more TRAIN.{stage.length}"
            )
        if changes and stage in unfinished:
            lines.append(f"{stage.name}: other settings than before update {updates}: {', '.join(changes.values())}")
        elif changes:
            lines.append(f"{stage.name}: is finished and ignores {', '.join(changes.values())}")
    for line in lines:
        print(line)


def load_state(stage: Stage, game: keras.Model, config: EasyDict) -> bool:
    """Load the best intact state that fits the configuration into `game`, and print a line for each damaged one.

    Returns False if the stage has no state. game: a built SRGAN. Raises UserError if there are states but none can be
    used, or if there is none and training would overwrite a trained generator.
    """
    folder = config.TRAIN.checkpoint_dir
    refused: list[str] = []
    newest = max(state_paths(stage, folder), default=0)
    devices.require_same(newest, f"{folder}: lacks a state that another process has; all need the same folder")
    for path in usable_states(stage, config):
        try:
            load_weights(game, path, state_settings(stage, config))
        except UserError as error:
            refused.append(str(error))
            continue
        for line in refused:
            print(f"{line}; going on from {path.name} instead")
        return True
    if refused:
        raise UserError(refused[0])
    result = generator_path(folder, stage)
    if result.exists() and read_metadata(result).get("updates", math.inf) > config.TRAIN.report_every:
        raise UserError(f"{result}: would be overwritten, because there is no state to resume from; move it away first")
    return False
