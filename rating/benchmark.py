"""The scenes of --mode=evaluate: its methods on the benchmark sets."""

import functools

from evaluate import KERNELS, STAGES, benchmark_sets, load_networks, super_resolve_any, weights_of
from pictures import resize
from rating.make import Scene
from rating.manifest import sha256


def scenes_of_benchmarks(config):
    """([Scene], {method: where its pictures come from}) of the methods and sets that the configuration names."""
    networks, missing = load_networks(config)
    print(*missing, sep="\n", end="\n" if missing else "")
    sources = {kernel: f"MATLAB's imresize, x{config.MODEL.scale}" for kernel in KERNELS}
    for method in networks:
        path = weights_of(method, STAGES[method], config)
        sources[method] = f"{path.name}, SHA-256 {sha256(path)}"
    scenes = []
    for name, pictures in benchmark_sets(config):
        for path, lr, hr in pictures:
            load = functools.partial(every_method, lr, hr, config.MODEL.scale, networks)
            scenes.append(Scene(name, path.stem, load))
    return scenes, sources | {"HR": "the original"}


def every_method(lr, hr, scale, networks):
    """{method: sr} of one picture, and HR."""
    srs = {kernel: resize(lr, scale, kernel) for kernel in KERNELS}
    srs |= {method: super_resolve_any(network, lr) for method, network in networks.items()}
    return srs | {"HR": hr}
