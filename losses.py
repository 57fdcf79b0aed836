"""The loss terms of the slides (TensorLayer's main.py), one function each, and VGG19.

Pictures are (N, h, w, 3) in [-1, 1].
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers, ops

Tensor = Any  # of whichever backend Keras runs on

# The layers of VGG19 that feature_distance compares
FEATURE_LAYERS = ["block1_conv2", "block2_conv2", "block3_conv4", "block4_conv4", "block5_conv4"]
# name: (weight of the pixel MSE, VGG19 layer, weight of the MSE of its features). Each layer needs a weight of its own:
# the same crops give an MSE of 4e4 at block4_pool and of 29 at block5_conv4. Of a list, unit vectors are compared.
CONTENT_LOSSES: dict[str, tuple[float, str | list[str] | None, float]] = {
    "tensorlayer": (1.0, "block4_pool", 2e-6),  # the slides: MSE + 2e-6 * MSE of features
    "paper": (0.0, "block5_conv4", 1 / 12.75**2),  # SRGAN-VGG54, features rescaled by 1/12.75 (sec. 3.2)
    "vgg22": (0.0, "block2_conv2", 2e-6),  # SRGAN-VGG22; with 1/12.75^2 it would drown the GAN loss
    "mse": (1.0, None, 0.0),  # SRGAN-MSE
    "johnson": (0.0, "block2_conv2", 2e-6),  # Johnson et al. 2016: only relu2_2, of VGG19 instead of VGG16
    "features": (1.0, FEATURE_LAYERS, 0.1),  # for HR that LR determines, such as a restorer's pictures
}
WITHOUT_GAN = {"johnson"}  # content losses whose second stage has no discriminator


def mse_loss(sr: Tensor, hr: Tensor) -> Tensor:
    """Pixel loss, a scalar: mean((G(lr) - hr)^2) over all pixels.

    Source: paper, eq. 4; tl.cost.mean_squared_error with is_mean=True.
    """
    return ops.mean(ops.square(sr - hr))


def mae_loss(sr: Tensor, hr: Tensor) -> Tensor:
    """Pixel loss, a scalar: mean(|G(lr) - hr|) over all pixels, which few large differences do not rule.

    Source: Zhao et al. 2017; EDSR (Lim et al. 2017); tl.cost.absolute_difference_error with is_mean=True.
    """
    return ops.mean(ops.abs(sr - hr))


def luma(picture: Tensor) -> Tensor:
    """Return Y of BT.601 in full range, (N, h, w, 1) in [-1, 1], on which the networks before SRResNet are trained."""
    red, green, blue = ops.split(picture, 3, -1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def vgg_loss(sr_features: Any, hr_features: Any) -> Tensor:
    """Feature loss, a scalar: mean((VGG19(G(lr)) - VGG19(hr))^2) over all features. Source: paper, eq. 5.

    Computed in float32 or better, whatever the precision of VGG19. Of a list, the features of several layers, it is the
    mean of feature_distance.
    """
    if isinstance(sr_features, list):
        return ops.mean(feature_distance(sr_features, hr_features))
    dtype = keras.backend.result_type(sr_features.dtype, "float32")  # a mean in bfloat16 would have only three digits
    return ops.mean(ops.square(ops.cast(sr_features, dtype) - ops.cast(hr_features, dtype)))


def feature_distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Squared distance of features normalized to unit length, the mean over pixels and layers: (N,), 0 (equal) to 4.

    a, b: for each layer a tensor (N, h, w, c); b may have N = 1, to be compared with every picture of a. This is LPIPS
    without its learnt weights (Zhang et al. 2018, eq. 1).
    """
    squares = [ops.square(ops.normalize(x, axis=-1) - ops.normalize(y, axis=-1)) for x, y in zip(a, b, strict=True)]
    return sum(ops.mean(ops.sum(square, axis=-1), axis=(1, 2)) for square in squares) / len(squares)


def g_gan_loss(logits_fake: Tensor) -> Tensor:
    """Adversarial loss of the generator, a scalar: mean(sigmoid_cross_entropy(D(G(lr)), 1)) = mean(-log D(G(lr))).

    logits_fake: (N, 1), the discriminator's output before the sigmoid. Source: paper, eq. 6.
    """
    return ops.mean(ops.softplus(-logits_fake))


def d_loss(logits_real: Tensor, logits_fake: Tensor, smoothing: float = 0.0) -> Tensor:
    """Loss of the discriminator: mean(sigmoid_cross_entropy(D(hr), 1)) + mean(sigmoid_cross_entropy(D(G(lr)), 0)).

    logits_real, logits_fake: (N, 1), the discriminator's outputs before the sigmoid. smoothing: by how much the label
    of HR is below 1 (one-sided label smoothing, Salimans et al. 2016). Source: paper, eq. 2.
    """
    real = ops.mean(ops.softplus(-logits_real))
    if smoothing:  # cross entropy with the label 1 - smoothing
        real += smoothing * ops.mean(logits_real)
    return real + ops.mean(ops.softplus(logits_fake))


def on_reduced(features: Callable[[Tensor], Tensor], factor: float) -> Callable[[Tensor], Tensor]:
    """Return `features`, which take pictures (N, h, w, 3), for pictures that are first reduced by `factor`, bilinearly.

    TensorLayer's main.py, from which the slides' loss comes, reduces crops of 384 to the 224 that VGG19 was made for.
    """
    if factor == 1:
        return features

    def of_reduced(picture: Tensor) -> Tensor:
        height, width = (max(1, round(factor * length)) for length in picture.shape[1:3])
        return features(ops.image.resize(picture, (height, width), "bilinear"))

    return of_reduced


def smallest_side(layer: str | list[str]) -> int:
    """Return the side in pixels of the smallest picture that VGG19 takes up to `layer`, the deepest one of a list."""
    block, kind = (layer if isinstance(layer, str) else max(layer)).removeprefix("block").split("_")
    return 2 ** (int(block) if kind == "pool" else int(block) - 1)  # each of its blocks ends by halving the sides


def VGG19(layer: str | list[str], weights: str | os.PathLike | None) -> keras.Model:
    """The frozen feature extractor: RGB pictures (N, h, w, 3) in [-1, 1] -> the output of `layer`, (N, h', w', c).

    layer: a layer of keras.applications.VGG19, or a list of layers for a list of outputs. The paper's VGG22 is
    "block2_conv2" and VGG54 "block5_conv4"; TensorLayer's pool4 is "block4_pool". weights: a *_notop.h5 file, or None
    for random weights. Raises OSError, ValueError or KeyError if the file does not hold VGG19's weights.
    """
    vgg = keras.applications.VGG19(include_top=False, weights=weights)
    outputs = keras.tree.map_structure(lambda name: vgg.get_layer(name).output, layer)
    picture = layers.Input((None, None, 3))
    bgr = keras.applications.vgg19.preprocess_input((picture + 1.0) * 127.5)
    features = keras.Model(vgg.input, outputs)(bgr)
    extractor = keras.Model(picture, features, name="VGG19")
    extractor.trainable = False
    return extractor
