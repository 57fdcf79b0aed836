"""What a run leaves behind, and what a stopped one goes on from, in a folder that one run at a time may use."""

import contextlib
import math
import os
import re
import socket
from pathlib import Path

import keras
import numpy as np

from training import devices
from training.stages import ADVERSARIAL, decays_from
from utils import UserError, make_folder
from weights import load_weights, metadata_path, read_metadata, save_weights

try:
    import fcntl
except ImportError:  # Windows: there nobody keeps a second run out
    fcntl = None

STATE_VERSION = 2  # of what a state holds


@contextlib.contextmanager
def lock_folder(folder):
    """Keep other runs out of `folder`. Raises UserError naming the process that trains there.

    The system gives a lock back when its process ends, however it ends: none is ever stale.
    """
    make_folder(folder)
    with open(Path(folder, "lock"), "a+") as file:
        try:
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read() or "another process"
            raise UserError(
                f"{folder}: {holder} trains here; wait for it, stop it, or choose other folders with "
                "--set TRAIN.checkpoint_dir and TRAIN.samples_dir"
            ) from None
        except OSError:  # a file system without locks
            pass
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


# Networks: what evaluation and upscaling read


def generator_path(folder, stage):
    """Where a stage keeps its averaged generator."""
    return Path(folder, f"g_{stage.name}.weights.h5")


def generator_settings(config):
    """The arguments of SRGAN_g that the configuration asks for."""
    return {name: config.MODEL[name] for name in ("variant", "scale", "blocks", "filters")}


@devices.without_distribution()
def save_networks(stage, game, line, config):
    """Write the averaged generator and the discriminator, if there is one, with what they are and what they measure.

    line: of the log, with "update" and "val_psnr". Raises UserError where they cannot be written.
    """
    settings, folder = config.TRAIN, Path(config.TRAIN.checkpoint_dir)
    metadata = {
        "model": dict(config.MODEL),
        "preset": config.preset,
        "stage": stage.name,
        "content_loss": settings.content_loss if stage is ADVERSARIAL else "mse",
        "updates": line["update"],
        "data": settings.hr_img_path,
        "seed": settings.seed,
        "versions": {"keras": keras.__version__, "backend": keras.backend.backend(), "numpy": np.__version__},
        "measured": line,
    }
    save_weights(game.average, generator_path(folder, stage), metadata)
    if game.discriminator:
        save_weights(game.discriminator, folder / "d_srgan.weights.h5", metadata)


# States: what a stopped run goes on from


def state_settings(stage, config):
    """What a state and the run that goes on from it must agree in."""
    names = ["crop", "optimizer", "precision"] + ["content_loss"] * (stage is ADVERSARIAL)
    return dict(config.MODEL) | {name: config.TRAIN[name] for name in names} | {"state_version": STATE_VERSION}


def state_paths(stage, folder):
    """{update: state of a stage after it}, the newest first."""
    found = {}
    for path in Path(folder).glob(f"{stage.name}_state_*.weights.h5"):
        if number := re.fullmatch(rf"{stage.name}_state_(\d+)\.weights\.h5", path.name):
            found[int(number[1])] = path
    return dict(sorted(found.items(), reverse=True))


@devices.without_distribution()
def save_state(stage, game, config):
    """Write all that a later run needs: weights, average, optimizer, updates; then delete the states before it.

    TRAIN.keep_states of them stay, and the newest from before the learning rate's decay: a longer run goes on from
    that one. Raises UserError where it cannot be written.
    """
    settings, updates = config.TRAIN, game.updates_done()
    decay = decays_from(stage, settings)
    metadata = {
        "model": state_settings(stage, config),
        "updates": updates,
        "decays_to": settings[stage.length] if updates > decay else None,
    }
    save_weights(game, Path(settings.checkpoint_dir, f"{stage.name}_state_{updates}.weights.h5"), metadata)
    states = {update: path for update, path in state_paths(stage, settings.checkpoint_dir).items() if update <= updates}
    undecayed = max((update for update in states if update <= decay), default=None)
    for update in list(states)[settings.keep_states :]:
        if update != undecayed:
            states[update].unlink(missing_ok=True)
            metadata_path(states[update]).unlink(missing_ok=True)


def usable_states(stage, config):
    """Paths of a stage's states, the best to go on from first.

    That is the newest one; those whose learning rate has decayed towards another length of the run come last.
    """
    paths, length = list(state_paths(stage, config.TRAIN.checkpoint_dir).values()), config.TRAIN[stage.length]

    def decayed_in_vain(path):
        with contextlib.suppress(UserError):  # load_weights names what is wrong with it
            return read_metadata(path).get("decays_to") not in (None, length)
        return False

    return sorted(paths, key=decayed_in_vain)  # sorting keeps the order among equals


def load_state(stage, game, config):
    """Give the built `game` the best state that is whole and of this configuration; others are named.

    True if there was one. Raises UserError where there are states and none can be used, or where weights would be
    lost for want of one.
    """
    folder, refused = config.TRAIN.checkpoint_dir, []
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
        raise UserError(f"{result}: would be overwritten, for there is no state to go on from; move it away first")
    return False
