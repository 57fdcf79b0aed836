"""What a stopped run goes on from: the newest states of each stage, in a folder that one run at a time may use."""

import contextlib
import math
import os
import re
import socket
from pathlib import Path

import devices
from config import decay_begins
from utils import UserError, facts_path, generator_path, load_weights, make_folder, read_facts, save_weights

try:
    import fcntl
except ImportError:  # Windows: there nobody keeps a second run out
    fcntl = None

STATE_VERSION = 2  # of what a state holds


@contextlib.contextmanager
def only_run(folder):
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
            way_out = (
                "wait for it, stop it, or choose other folders with --set TRAIN.checkpoint_dir and TRAIN.samples_dir"
            )
            raise UserError(f"{folder}: {holder} trains here; {way_out}") from None
        except OSError:  # a file system without locks
            pass
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def generator_facts(config):
    return {name: config.MODEL[name] for name in ("variant", "scale", "blocks", "filters")}


def state_facts(stage, config):
    """What a state must agree in with the run that goes on from it."""
    names = ["crop", "optimizer", "precision"] + ["content_loss"] * (stage == "srgan")
    return dict(config.MODEL) | {name: config.TRAIN[name] for name in names} | {"state_version": STATE_VERSION}


def state_paths(stage, folder):
    """{update: state of a stage after it}, the newest first."""
    found = {}
    for path in Path(folder).glob(f"{stage}_state_*.weights.h5"):
        if number := re.fullmatch(rf"{stage}_state_(\d+)\.weights\.h5", path.name):
            found[int(number[1])] = path
    return dict(sorted(found.items(), reverse=True))


def save_state(stage, game, updates, config):
    """Write all that a later run needs: weights, average, optimizer, updates; then delete what is too old to keep.

    The newest state from before the learning rate's decay is always kept: a longer run goes on from there.
    """
    folder, decay = config.TRAIN.checkpoint_dir, decay_begins(stage, config.TRAIN)
    decays_to = config.TRAIN.n_updates_init if updates > decay else None
    facts = {"model": state_facts(stage, config), "updates": updates, "decays_to": decays_to}
    save_weights(game, Path(folder, f"{stage}_state_{updates}.weights.h5"), facts)
    older = {update: path for update, path in state_paths(stage, folder).items() if update < updates}
    undecayed = max((update for update in [*older, updates] if update <= decay), default=None)
    for update in list(older)[config.TRAIN.keep_states - 1 :]:
        if update != undecayed:
            older[update].unlink(missing_ok=True)
            facts_path(older[update]).unlink(missing_ok=True)


def usable_states(stage, config):
    """Paths of a stage's states, the newest first, but those last that decayed towards another length of the run."""
    states = list(state_paths(stage, config.TRAIN.checkpoint_dir).values())
    in_vain = [path for path in states if read_facts(path).get("decays_to") not in (None, config.TRAIN.n_updates_init)]
    return [path for path in states if path not in in_vain] + in_vain


def load_state(stage, game, config):
    """Give the built `game` the newest state that is whole and of this configuration; others are named.

    True if there was one. Raises UserError where there are states and none can be used, or where weights would be
    lost for want of one.
    """
    folder, refused = config.TRAIN.checkpoint_dir, []
    states = state_paths(stage, folder)
    devices.same(max(states, default=0), f"{folder}: lacks a state that another process has; all need the same folder")
    for path in usable_states(stage, config):
        try:
            load_weights(game, path, state_facts(stage, config))
        except UserError as error:
            refused.append(str(error))
            continue
        for line in refused:
            print(f"{line}; going on from {path.name} instead")
        return True
    if refused:
        raise UserError(refused[0])
    result = generator_path(folder, stage)
    if result.exists() and read_facts(result).get("updates", math.inf) > config.TRAIN.report_every:
        raise UserError(f"{result}: would be overwritten, for there is no state to go on from; move it away first")
    return False
