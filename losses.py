"""The loss terms of the slides (TensorLayer's main.py), one function each, and VGG19. Pictures are in [-1, 1]."""

import keras
from keras import layers, ops

# name: (weight of the pixel MSE, VGG19 layer, weight of its feature MSE). A weight belongs to its
# layer: the same crops give 4e4 at block4_pool and 29 at block5_conv4.
CONTENT_LOSSES = {
    "tensorlayer": (1.0, "block4_pool", 2e-6),  # the slides: MSE + 2e-6 * MSE of features
    "paper": (0.0, "block5_conv4", 1 / 12.75**2),  # SRGAN-VGG54, features rescaled by 1/12.75 (sec. 3.2)
    "vgg22": (0.0, "block2_conv2", 2e-6),  # SRGAN-VGG22; 1/12.75^2 would drown the other term here
    "mse": (1.0, None, 0.0),  # SRGAN-MSE
}


def mse_loss(sr, hr):
    """mean((G(lr) - hr)^2) over all pixels (paper, eq. 4; tl.cost.mean_squared_error, is_mean=True)."""
    return ops.mean(ops.square(sr - hr))


def vgg_loss(sr_features, hr_features):
    """mean((VGG19(G(lr)) - VGG19(hr))^2) over all features (paper, eq. 5)."""
    dtype = keras.backend.result_type(sr_features.dtype, "float32")  # a mean in bfloat16 would have three digits
    return ops.mean(ops.square(ops.cast(sr_features, dtype) - ops.cast(hr_features, dtype)))


def g_gan_loss(logits_fake):
    """mean(sigmoid_cross_entropy(D(G(lr)), 1)) = mean(-log D(G(lr))) (paper, eq. 6)."""
    return ops.mean(ops.softplus(-logits_fake))


def d_loss(logits_real, logits_fake):
    """mean(sigmoid_cross_entropy(D(hr), 1)) + mean(sigmoid_cross_entropy(D(G(lr)), 0)) (paper, eq. 2)."""
    return ops.mean(ops.softplus(-logits_real)) + ops.mean(ops.softplus(logits_fake))


def VGG19(layer, weights):
    """The frozen feature extractor: picture (N, h, w, 3) in [-1, 1], RGB -> features after `layer`.

    layer: any layer of keras.applications.VGG19, or a list of them; the paper's VGG22 is "block2_conv2",
    VGG54 "block5_conv4", TensorLayer's pool4 "block4_pool". weights: a *_notop.h5 file, or None (random).
    Raises OSError, ValueError or KeyError where the file holds none.
    """
    vgg = keras.applications.VGG19(include_top=False, weights=weights)
    names = layer if isinstance(layer, list) else [layer]
    outputs = [vgg.get_layer(name).output for name in names]
    picture = layers.Input((None, None, 3))
    bgr = keras.applications.vgg19.preprocess_input((picture + 1.0) * 127.5)
    features = keras.Model(vgg.input, outputs if isinstance(layer, list) else outputs[0])(bgr)
    extractor = keras.Model(picture, features, name="VGG19")
    extractor.trainable = False
    return extractor
