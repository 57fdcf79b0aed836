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

from config import PRESETS
from engines import load_keras, prepare_environment
from training.command_line import command_line

if __name__ == "__main__":  # before Keras is imported, so that --help and errors appear at once
    COMMAND = command_line()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback after Ctrl-C during the imports
prepare_environment()
load_keras()

import keras
import numpy as np
from easydict import EasyDict

import upscale
from dataset import Crops, Pictures, by_stem, load_pictures, report_skipped, validation_pictures, validation_sets
from evaluate import best_weights, evaluate
from losses import CONTENT_LOSSES, FEATURE_LAYERS, WITHOUT_GAN, Tensor, on_reduced, smallest_side
from methods.networks import build_generator
from model import SRGAN_d, prevent_mesh
from pictures import Pair, find_pictures
from srgan import JIT, SRGAN
from training import devices
from training.checkpoints import Checkpoints, check_settings, generator_settings, lock_folder
from training.health import require_finite
from training.optimizers import adversarial_optimizer, adversarial_rate, warm_up_optimizer, warm_up_rate
from training.report import Report, commands_to_copy
from training.stages import ADVERSARIAL, WARM_UP, Plan, Stage, end_of_period, network_name, part_of
from training.teacher import Targets, Teacher
from utils import UserError, exit_status, write_text
from weights import load_vgg19, load_weights


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
    if settings.lr_img_path:
        by_stem(settings.lr_img_path)
    checkpoints = {stage: Checkpoints(stage, plan_of(stage, settings), config) for stage in stages}
    check_settings(list(checkpoints.values()))

    # The two players.
    generator = build_generator(**generator_settings(config))
    discriminator = SRGAN_d(config.MODEL.variant, settings.crop, config.MODEL.discriminator_filters)
    devices.synchronize_statistics(generator, discriminator)
    if settings.initial_generator:
        load_weights(generator, settings.initial_generator, generator_settings(config))

    # What they learn from.
    vgg = vgg_of_content_loss(config) if ADVERSARIAL in stages else None
    features = None
    if settings.features_init and WARM_UP in stages:
        features = load_vgg19(FEATURE_LAYERS, config.VGG.weights)
    teacher = None
    if settings.teacher and WARM_UP in stages:
        teacher = Teacher(settings.teacher, config.MODEL.scale, settings.teacher_ensemble)
    memory = settings.memory_gb * 1e9
    pictures = load_pictures(settings.hr_img_path, config.MODEL.scale, settings.crop, memory, settings.lr_img_path)
    devices.warn_of_unused_gpu()

    lock = lock_folder(settings.checkpoint_dir) if devices.is_first() else contextlib.nullcontext()
    with lock, stop_signals() as signals_seen:
        # The warm-up: the generator alone learns to minimize the pixel MSE. Its running average enters the game.
        if WARM_UP in stages:
            game = warm_up_game(generator, features, checkpoints[WARM_UP].plan, settings)
            if not train_stage(checkpoints[WARM_UP], game, pictures, valid, signals_seen, teacher):
                return False
            generator.set_weights(game.average.get_weights())

        # The game: generator against discriminator.
        if ADVERSARIAL in stages:
            game = adversarial_game(generator, discriminator, vgg, checkpoints[ADVERSARIAL].plan, settings)
            if not train_stage(checkpoints[ADVERSARIAL], game, pictures, valid, signals_seen):
                return False
    return True


def leave_out_missing_teacher(config: EasyDict) -> None:
    """Take the preset's teacher out of `config`, and say what that costs, if its file is not there."""
    teacher = PRESETS[config.preset].get("TRAIN.teacher")
    if teacher and config.TRAIN.teacher == teacher and not Path(teacher).exists():
        config.TRAIN.teacher = ""
        print(
            f"{teacher} is not there: the warm-up learns from HR alone and gains about half as many dB in as many "
            "updates; docs/TRAINING.md says what a teacher is"
        )


def plan_of(stage: Stage, settings: EasyDict) -> Plan:
    """Return the plan of a stage. settings: TRAIN of the configuration."""
    total, schedule = settings[stage.length], settings[stage.schedule]
    decay_at = part_of(total, 1 - settings.decay_part) if schedule == "stable" else total
    if stage is ADVERSARIAL:
        return Plan(total, freeze_bn_at=0 if settings.fixed_statistics else total, teacher_until=0, decay_at=decay_at)
    return Plan(
        total,
        freeze_bn_at=part_of(total, 1 - settings.fixed_statistics),
        teacher_until=part_of(total, settings.teacher_part) if settings.teacher else 0,
        decay_at=decay_at,
    )


def warm_up_game(generator: keras.Model, features: keras.Model | None, plan: Plan, settings: EasyDict) -> SRGAN:
    """Return the compiled model of the first stage.

    features: VGG19 up to FEATURE_LAYERS, or None. settings: TRAIN of the configuration.
    """
    rate = warm_up_rate(settings.schedule_init, settings.learning_rate_init, plan.total, plan.decay_at)
    weights = 1.0, settings.features_init, 0.0
    game = SRGAN(generator, None, features, weights, settings.ema, pixel_loss=settings.pixel_loss_init)
    optimizer = warm_up_optimizer(settings.optimizer, rate, settings.beta1, settings.adam_lr_ratio)
    game.compile(optimizer=optimizer, jit_compile=JIT)
    return game


def adversarial_game(
    generator: keras.Model,
    discriminator: keras.Model,
    vgg: Callable[[Tensor], Tensor] | None,
    plan: Plan,
    settings: EasyDict,
) -> SRGAN:
    """Return the compiled model of the second stage.

    vgg: of vgg_of_content_loss. settings: TRAIN of the configuration.
    """
    mse_weight, _, vgg_weight = CONTENT_LOSSES[settings.content_loss]
    judge = None if settings.content_loss in WITHOUT_GAN else discriminator
    weights = mse_weight, vgg_weight, settings.adversarial_weight
    game = SRGAN(generator, judge, vgg, weights, settings.ema, settings.d_head_start, settings.label_smoothing)
    rate = adversarial_rate(settings.schedule, settings.learning_rate, settings.lr_decay, plan.total, plan.decay_at)
    # How the players learn otherwise than by one Adam
    apart = judge, settings.d_lr_ratio, settings.d_head_start, settings.muon_lr_ratio
    optimizer = adversarial_optimizer(settings.optimizer, rate, settings.beta1, *apart)
    game.compile(optimizer=optimizer, jit_compile=JIT)
    return game


def vgg_of_content_loss(config: EasyDict) -> Callable[[Tensor], Tensor] | None:
    """Return VGG19 up to the layers of TRAIN.content_loss, or None if it has none.

    Raises UserError if crops are too small for it, or without weights.
    """
    loss, crop, factor = config.TRAIN.content_loss, config.TRAIN.crop, config.VGG.reduce
    _, layer, _ = CONTENT_LOSSES[loss]
    if not layer:
        return None
    if round(factor * crop) < smallest_side(layer):
        raise UserError(
            f"TRAIN.crop={crop}, reduced by VGG.reduce={factor}, is less than the {smallest_side(layer)} pixels that "
            f"TRAIN.content_loss={loss} needs; make one of them larger"
        )
    try:
        return on_reduced(load_vgg19(layer, config.VGG.weights), factor)
    except UserError as error:
        raise UserError(f"{error}, or train without: --set TRAIN.content_loss=mse") from error


def train_stage(
    checkpoints: Checkpoints,
    game: SRGAN,
    pictures: Pictures,
    valid: Mapping[str, Sequence[Pair]],
    signals_seen: list[int],
    teacher: Teacher | None = None,
) -> bool:
    """Train `game` from its last state to the end of its plan; return False if the user stopped it earlier.

    valid: from validation_sets. signals_seen: the list that stop_signals yields. Raises UserError if pictures, states
    or files cannot be used, and Diverged if training diverges.
    """
    settings, stage, plan = checkpoints.config["TRAIN"], checkpoints.stage, checkpoints.plan
    name = network_name(stage, checkpoints.config["MODEL"]["variant"])
    folders = settings.samples_dir, settings.checkpoint_dir
    report = Report(stage, game, plan.total, valid, pictures.scale, name, *folders)
    resume(checkpoints, game, report, pictures)
    targets = None
    if teacher and game.updates_done() < plan.teacher_until:
        targets = Targets(pictures, teacher, Path(settings.checkpoint_dir, "teacher"), settings.memory_gb * 1e9)
        targets.make(signals_seen)

    # A period ends at each report, and also where something changes, so that nothing changes within a period.
    while (first := game.updates_done()) < plan.total and not devices.max_over_processes(len(signals_seen)):
        last = end_of_period(first, settings.report_every, plan)
        if first >= plan.freeze_bn_at:
            game.fix_statistics()
        if first >= plan.teacher_until:
            targets = None  # HR returns
        share, photo = devices.process_index_and_count(), settings.degradation == "photo"
        crops = Crops(
            pictures, settings.batch_size, settings.seed, first, last, settings.workers, share, targets, photo
        )
        report.begin_period()
        terms = train_period(game, crops, report, signals_seen)
        save(checkpoints, game, report, terms, crops)
    stopped = devices.max_over_processes(len(signals_seen)) > 0
    report.end(stopped)
    return not stopped


def resume(checkpoints: Checkpoints, game: SRGAN, report: Report, pictures: Pictures) -> None:
    """Load the best state of a stage into `game` if there is one, begin or cut the log there, and write config.json.

    Raises UserError as Checkpoints.load_state and Report.begin.
    """
    initial_generator = checkpoints.config["TRAIN"]["initial_generator"]
    side, total = pictures.crop // pictures.scale, checkpoints.plan.total
    # A state can be loaded only into variables that exist already, those of the optimizer included.
    game(np.zeros((1, side, side, 3), np.uint8))
    game.optimizer.build(game.trainable_variables)
    if checkpoints.load_state(game) and initial_generator:
        print(
            f"{checkpoints.stage.name}: {initial_generator} was read when this stage began; "
            "to start over, set another TRAIN.checkpoint_dir"
        )
    prevent_mesh(game.generator)
    report.begin()
    done = game.updates_done()
    report.say(f"after update {done} of {total}, {pictures.usable} pictures")
    if done < total and devices.is_first():  # a finished stage keeps the configuration that made it
        write_text(checkpoints.folder / "config.json", json.dumps(checkpoints.config, indent=2) + "\n")


def train_period(game: SRGAN, crops: Crops, report: Report, signals_seen: list[int]) -> dict[str, float]:
    """Train on all of `crops`, or until there is a reason to stop early; return {name: mean} of the loss terms.

    Raises UserError if too many pictures have become unreadable.
    """

    def after_update(batch: int, logs: dict[str, Any]) -> None:
        terms = {name: float(logs[name]) for name in game.terms}
        report.progress(crops.first + batch + 1, terms)
        diverged = not np.isfinite(list(terms.values())).all()
        stop = devices.max_over_processes(len(signals_seen) + len(crops.failures))
        game.stop_training = diverged or stop > 0

    # fit() makes one update of each batch (lr, hr), on TensorFlow and on JAX alike:
    # forward: sr = game.call(lr), and game.compute_loss(hr, sr), the sum of both players' losses;
    # backward: the gradients of that sum with respect to the weights of both;
    # step: the optimizer moves the weights. Then after_update() runs.
    watch = keras.callbacks.LambdaCallback(on_train_batch_end=after_update)
    logs = game.fit(crops, verbose=0, shuffle=False, callbacks=[watch]).history
    report_skipped(crops.pictures)
    if devices.max_over_processes(len(crops.failures)):
        raise crops.failures[0] if crops.failures else UserError("another process stopped; its message says why")
    return {name: values[-1] for name, values in logs.items() if name != "loss"}


def save(checkpoints: Checkpoints, game: SRGAN, report: Report, terms: dict[str, float], crops: Crops) -> None:
    """Write what the period of `crops` has made: grid, log, networks, state; only a state if it was cut short.

    terms: of train_period. Raises Diverged instead if training has diverged, and UserError if a file cannot be written.
    """
    require_finite(checkpoints.stage, game, terms)  # before good weights are overwritten
    if game.updates_done() == crops.last:
        log_entry = report.end_period(terms, len(crops))
        if devices.is_first():
            checkpoints.save_networks(game, log_entry)
    # Last: a run that is killed before this repeats the period from the state before it, and writes the others again.
    # If the state came first, such a run would go on without this period's log, grid and networks.
    if devices.is_first():
        checkpoints.save_state(game)


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
    if WARM_UP in stages:
        leave_out_missing_teacher(config)
    with devices.distributed(config.TRAIN.devices, config.TRAIN.batch_size):
        if not train(config, stages):
            return 130
    if not devices.is_first():
        return 0
    keras.config.set_dtype_policy("float32")  # --mode=evaluate measures in float32
    status = evaluate(config)
    print("", *commands_to_copy(config, stages[-1]), sep="\n")
    return status


def main(mode: str, source: str | None, config: EasyDict) -> int:
    """Run one mode, print an error as one line, and return the exit status."""
    return exit_status("train.py", lambda: run(mode, source, config))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    devices.exit_process(main(*COMMAND))
