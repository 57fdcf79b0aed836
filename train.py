"""Train and evaluate SRGAN (Ledig et al. 2017).

python train.py --mode=srgan      both stages, resumed where they stopped
python train.py --mode=evaluate   the table of the paper, and grids; with --input, upscales pictures
"""

import contextlib
import json
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from config import command_line
from engines import load_keras, prepare_environment

if __name__ == "__main__":  # before Keras is imported, so that --help and errors appear at once
    COMMAND = command_line()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback after Ctrl-C during the imports
prepare_environment()
load_keras()

import keras
import numpy as np
from easydict import EasyDict

import upscale
from dataset import Crops, Pictures, load_pictures, report_skipped, validation_pictures, validation_sets
from evaluate import best_weights, evaluate
from losses import CONTENT_LOSSES, WITHOUT_GAN, Tensor, on_reduced
from methods.networks import build_generator
from model import SRGAN_d, prevent_mesh
from pictures import Pair, find_pictures
from srgan import JIT, SRGAN
from training import devices
from training.checkpoints import check_settings, generator_settings, load_state, lock_folder, save_networks, save_state
from training.health import require_finite
from training.optimizers import adversarial_optimizer, warm_up_optimizer
from training.report import Report
from training.stages import ADVERSARIAL, WARM_UP, Stage, decays_from, fixed_from, periods, taught_until
from training.teacher import Targets, Teacher
from utils import UserError, exit_status, write_text
from weights import load_vgg19, load_weights

# How a period ends: go on, save and stop, or end with an error. Of several processes, the largest number decides.
GO_ON, STOP, PICTURES_GONE = 0, 1, 2


def train(config: EasyDict, stages: Sequence[Stage]) -> bool:
    """Run `stages` (WARM_UP, ADVERSARIAL or both) in order, each from its last state; False if the user stopped one.

    Raises UserError if pictures, weights or states cannot be used, and Diverged if training diverges.
    """
    settings = config.TRAIN
    keras.utils.set_random_seed(settings.seed)
    keras.config.set_dtype_policy(devices.precision(settings.precision))

    # A user's mistakes should show before anything is trained or written. The cheap checks come first, before VGG19 is
    # downloaded or a picture decoded.
    pairs = validation_pictures(config.VALID.hr_img_path, config.VALID.count, config.VALID.crop, config.MODEL.scale)
    valid = validation_sets(pairs, settings.degradation == "photo")
    find_pictures(settings.hr_img_path)
    check_settings(stages, config)

    # The two players.
    generator = build_generator(**generator_settings(config))
    discriminator = SRGAN_d(config.MODEL.variant, settings.crop, config.MODEL.discriminator_filters)
    devices.synchronize_statistics(generator, discriminator)
    if settings.initial_generator:
        load_weights(generator, settings.initial_generator, generator_settings(config))

    # What they learn from.
    vgg = vgg_of_content_loss(config) if ADVERSARIAL in stages else None
    teacher = None
    if settings.teacher and WARM_UP in stages:
        teacher = Teacher(settings.teacher, config.MODEL.scale, settings.teacher_ensemble)
    pictures = load_pictures(settings.hr_img_path, config.MODEL.scale, settings.crop, settings.memory_gb * 1e9)
    devices.warn_of_unused_gpu()

    lock = lock_folder(settings.checkpoint_dir) if devices.is_first() else contextlib.nullcontext()
    with lock, stop_signals() as signals_seen:
        # The warm-up: the generator alone learns to minimize the pixel MSE. Its running average enters the game.
        if WARM_UP in stages:
            game = SRGAN(generator, ema=settings.ema)
            if not train_stage(WARM_UP, game, pictures, valid, config, signals_seen, teacher):
                return False
            generator.set_weights(game.average.get_weights())

        # The game: generator against discriminator.
        if ADVERSARIAL in stages:
            game = adversarial_game(generator, discriminator, vgg, settings)
            if not train_stage(ADVERSARIAL, game, pictures, valid, config, signals_seen):
                return False
    return True


def adversarial_game(
    generator: keras.Model, discriminator: keras.Model, vgg: Callable[[Tensor], Tensor] | None, settings: EasyDict
) -> SRGAN:
    """Return the game of the second stage. vgg: of vgg_of_content_loss. settings: TRAIN of the configuration."""
    mse_weight, _, vgg_weight = CONTENT_LOSSES[settings.content_loss]
    return SRGAN(
        generator,
        None if settings.content_loss in WITHOUT_GAN else discriminator,
        vgg,
        (mse_weight, vgg_weight, settings.adversarial_weight),
        settings.ema,
        head_start=settings.d_head_start,
        smoothing=settings.label_smoothing,
    )


def vgg_of_content_loss(config: EasyDict) -> Callable[[Tensor], Tensor] | None:
    """Return VGG19 up to the layer of TRAIN.content_loss, or None if it has none. Raises UserError without weights."""
    _, layer, _ = CONTENT_LOSSES[config.TRAIN.content_loss]
    if not layer:
        return None
    try:
        return on_reduced(load_vgg19(layer, config.VGG.weights), config.VGG.reduce)
    except UserError as error:
        raise UserError(f"{error}, or train without: --set TRAIN.content_loss=mse") from error


def train_stage(
    stage: Stage,
    game: SRGAN,
    pictures: Pictures,
    valid: Mapping[str, Sequence[Pair]],
    config: EasyDict,
    signals_seen: list[int],
    teacher: Teacher | None = None,
) -> bool:
    """Train `game` from its last state to the stage's last update; return False if the user stopped it earlier.

    valid: from validation_sets. signals_seen: the list that stop_signals yields. teacher: its pictures replace HR in
    the first part of the warm-up. Raises UserError if pictures, states or files cannot be used, and Diverged if
    training diverges.
    """
    settings = config.TRAIN
    total = settings[stage.length]
    # The updates after which the statistics are fixed, the teacher leaves, and the learning rate decays.
    freeze_bn_at = fixed_from(stage, settings)
    teacher_until = taught_until(stage, settings)
    decay_at = decays_from(stage, settings)
    prepare(stage, game, pictures.crop // pictures.scale, config)

    done = game.updates_done()
    report = Report(stage, game, total, valid, config)
    report.begin()
    report.say(f"after update {done} of {total}, {pictures.usable} pictures")
    if done < total and devices.is_first():
        write_text(Path(settings.checkpoint_dir, "config.json"), json.dumps(config, indent=2) + "\n")

    targets = None
    if teacher and done < teacher_until:
        targets = Targets(pictures, teacher, Path(settings.checkpoint_dir, "teacher"), settings.memory_gb * 1e9)
        targets.make(signals_seen)
        if devices.max_over_processes(int(bool(signals_seen))):  # nothing was trained since the last state
            report.stop()
            return False

    # A period ends at each report, and also where something changes, so that nothing changes within a period.
    for first, last in periods(done, total, settings.report_every, [freeze_bn_at, teacher_until, decay_at]):
        if first >= freeze_bn_at:
            game.fix_statistics()
        if first >= teacher_until:
            targets = None  # HR returns
        report.begin_period()
        share = devices.process_index_and_count()
        photo = settings.degradation == "photo"
        crops = Crops(
            pictures, settings.batch_size, settings.seed, first, last, settings.workers, share, targets, photo
        )
        outcome, terms = train_period(game, crops, report, signals_seen)
        report_skipped(pictures)
        if outcome == PICTURES_GONE:
            raise crops.failures[0] if crops.failures else UserError("another process stopped; its message says why")

        # After a NaN the run ends here, before it overwrites good weights.
        require_finite(stage, game, terms)
        if game.updates_done() == last:
            log_entry = report.end_period(terms, last - first)
            if devices.is_first():
                save_networks(stage, game, log_entry, config)
        if devices.is_first():
            save_state(stage, game, config)  # last, so that a run killed during the report repeats the period
        if outcome == STOP:
            report.stop()
            return False
    report.end()
    return True


def train_period(game: SRGAN, crops: Crops, report: Report, signals_seen: list[int]) -> tuple[int, dict[str, float]]:
    """Train on all of `crops`, or until there is a reason to stop early.

    Returns the outcome, GO_ON, STOP or PICTURES_GONE, and {name: mean} of the loss terms.
    """

    def outcome() -> int:
        if crops.failures:
            here = PICTURES_GONE
        elif signals_seen:
            here = STOP
        else:
            here = GO_ON
        return devices.max_over_processes(here)

    def after_update(batch: int, logs: dict[str, Any]) -> None:
        terms = {name: float(logs[name]) for name in game.terms}
        report.progress(crops.first + batch + 1, terms)
        diverged = not np.isfinite(list(terms.values())).all()
        game.stop_training = outcome() != GO_ON or diverged

    # One batch of fit() is one update: `crops` gives (lr, hr), game.call computes sr, game.compute_loss the losses of
    # both players, and Keras their gradients and the optimizer's step, on TensorFlow and on JAX alike.
    watch = keras.callbacks.LambdaCallback(on_train_batch_end=after_update)
    logs = game.fit(crops, verbose=0, shuffle=False, callbacks=[watch]).history
    return outcome(), {name: values[-1] for name, values in logs.items() if name != "loss"}


def prepare(stage: Stage, game: SRGAN, side: int, config: EasyDict) -> None:
    """Compile `game` and load its last state if there is one. side: of an LR crop. Raises UserError as load_state."""
    settings = config.TRAIN
    optimizer = warm_up_optimizer(settings) if stage is WARM_UP else adversarial_optimizer(settings, game.discriminator)
    game.compile(optimizer=optimizer, jit_compile=JIT)
    # A state can be loaded only into variables that exist already, those of the optimizer included.
    game(np.zeros((1, side, side, 3), np.uint8))
    game.optimizer.build(game.trainable_variables)
    if load_state(stage, game, config) and settings.initial_generator:
        print(
            f"{stage.name}: {settings.initial_generator} was read when this stage began; "
            "to start over, set another TRAIN.checkpoint_dir"
        )
    prevent_mesh(game.generator)


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Yield a list to which Ctrl-C and SIGTERM add their signal number; a second Ctrl-C raises KeyboardInterrupt."""
    signals_seen: list[int] = []

    def remember(number: int, frame: Any) -> None:
        signals_seen.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    old_handlers = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals_seen
    finally:
        for number, handler in old_handlers.items():
            signal.signal(number, handler)


def upscale_pictures(source: str, config: EasyDict) -> int:
    """Upscale a picture or a folder as upscale.py does, with the best weights; return the exit status.

    The results are written to the folder upscaled in TRAIN.samples_dir. Weights of another factor than MODEL.scale are
    refused, as in the evaluation.
    """
    command = [f"--output={config.TRAIN.samples_dir}/upscaled", f"--model={best_weights(config)}"]
    command.append(f"--scale={config.MODEL.scale}")
    flags = {"--trust-pickle": config.EVALUATE.trust_pickle, "--self-ensemble": config.EVALUATE.self_ensemble}
    command += [flag for flag, wanted in flags.items() if wanted]
    command += ["--", source]  # whatever its name begins with
    return upscale.main(upscale.command_line(command))


def run(mode: str, source: str | None, config: EasyDict) -> int:
    """Run one mode and return the exit status, 130 if training was stopped. Raises UserError after a user's mistake.

    source: a picture or folder to upscale instead of the evaluation.
    """
    if mode == "evaluate":
        return upscale_pictures(source, config) if source else evaluate(config)
    stages = [WARM_UP] if mode == "srresnet" else [WARM_UP, ADVERSARIAL]
    if mode == "srgan" and config.TRAIN.initial_generator:
        stages = [ADVERSARIAL]
    with devices.distributed(config.TRAIN.devices, config.TRAIN.batch_size):
        if not train(config, stages):
            return 130
    keras.config.set_dtype_policy("float32")  # --mode=evaluate measures in float32
    return evaluate(config) if devices.is_first() else 0


def main(mode: str, source: str | None, config: EasyDict) -> int:
    """Run one mode, print an error as one line, and return the exit status."""
    return exit_status("train.py", lambda: run(mode, source, config))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    devices.exit_process(main(*COMMAND))
