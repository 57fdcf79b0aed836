"""The identity of a result: the content of its source, the content of the network's weights, and the options.

Results of one identity are the same picture. Records hold it, and the hidden files of an unfinished result its hash.
An option that changes a result gets an entry in of_command.
"""

import hashlib
import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import restoration
from methods.filters import FILTERS
from upscaling.earlier_runs import fingerprint, is_unchanged
from upscaling.interpolation import can_restore, parts_of, restorer
from upscaling.models import default_back_projections
from weights import model_path

Identity = dict[str, Any]
RESULT_VERSION = 2  # raised when the same weights and options give other pixels, so that older results are made again


def of_command(options: Namespace) -> Identity:
    """Return what the identities of all results of a command have in common."""
    identity = {
        "model": model(options),
        "outscale": options.outscale,
        "size": options.size and list(options.size),
        "quality": options.quality,
        "self_ensemble": options.self_ensemble,
        "method": RESULT_VERSION,
    }
    # Newer options have an entry only if they are used, so that results of earlier versions are not made again.
    back_projections = options.back_project
    if back_projections is None:
        back_projections = default_back_projections(options.model)
    if back_projections:
        identity["back_projections"] = back_projections
    if options.strength < 1:
        identity["strength"] = options.strength
    if options.restore or restores_by_itself(options):
        identity["restore"] = options.restore or "auto"
    return identity


def model(options: Namespace) -> list[str]:
    """Return the name of the model, and the SHA-256 of each file that its network is read from."""
    if options.model in FILTERS:
        return [options.model]
    weights = model_path(options.model)
    if weights.suffix == ".xml":  # OpenVINO's, whose arrays are in a file of their own
        files = [weights, weights.with_suffix(".bin")]
    else:
        by_itself, restore, files = restores_by_itself(options), options.restore or 0.0, list[Path]()
        if by_itself or restore < 1:
            files += parts_of(weights, options.strength)
        if by_itself or restore:
            files += parts_of(restorer(weights), options.strength)
        if by_itself:
            files.append(restoration.NETWORK)
    return [weights.name, *(str(state[2]) for state in map(fingerprint, files) if state)]


def restores_by_itself(options: Namespace) -> bool:
    """Return whether each source decides how much is restored."""
    return options.restore is None and options.model not in FILTERS and can_restore(model_path(options.model))


def of_result(common: Identity, source: Path) -> Identity:
    """Return the identity of the result of the file at `source`. common: see of_command."""
    return {"source": source.name, "source_state": fingerprint(source)} | common


def is_current(recorded: Identity, common: Identity, source: Path) -> bool:
    """Return whether `recorded` is the identity that the result of `source` has now. common: see of_command."""
    state = recorded.get("source_state")  # compared without reading the source if its time is the same
    return recorded == {"source": source.name, "source_state": state} | common and is_unchanged(source, state)


def hashed(identity: Identity) -> str:
    """Return 16 hexadecimal digits for an identity, whatever the time of the source."""
    size_and_content = (identity.get("source_state") or [])[::2]
    text = json.dumps(identity | {"source_state": size_and_content}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
