"""TensorLayer's archives, as tests write them."""

import keras
import numpy as np


def variables(network):
    """A network's variables in TensorLayer's order: of batch normalization, beta comes first."""
    for layer in network.layers:
        if hasattr(layer, "gamma"):
            yield from (layer.beta, layer.gamma, layer.moving_mean, layer.moving_variance)
        else:
            yield from layer.weights


def arrays(network):
    return [keras.ops.convert_to_numpy(variable) for variable in variables(network)]


def save_arrays(network, path):
    """g.npz of TensorLayerX: an array per name."""
    np.savez(path, **{f"weight_{n:03}": array for n, array in enumerate(arrays(network))})


def save_pickle(network, path):
    """g_srgan.npz of TensorLayer 1 and 2: one array of objects."""
    np.savez(path, params=ragged(arrays(network)))


def ragged(arrays):
    """An array of objects, which NumPy 1 made of a list of arrays by itself."""
    objects = np.empty(len(arrays), object)
    objects[:] = arrays
    return objects
