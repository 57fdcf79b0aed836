"""The networks of SRGAN (Ledig et al. 2017, fig. 4): the generator SRGAN_g and the discriminator SRGAN_d.

Pictures go in and come out as (N, h, w, 3) in [-1, 1]. Two variants from the same functions:
"paper" (9x9 ends, PReLU) and "tensorlayer" (3x3 and 1x1 ends, ReLU, 4x4 stride-2 discriminator).
"""

import keras
from keras import layers, ops

TENSORLAYER_NORMAL = {"mean": 0.0, "stddev": 0.02}


@keras.saving.register_keras_serializable("srgan")
class ICNR(keras.initializers.Initializer):
    """Start of a sub-pixel convolution: the four kernels of a pixel are equal, so no checkerboard.

    Source: Aitken et al. 2017.
    """

    def __init__(self, initializer):
        self.initializer = keras.initializers.get(initializer)

    def __call__(self, shape, dtype=None):
        height, width, channels, filters = shape
        kernel = self.initializer((height, width, channels, filters // 4), dtype=dtype)
        return ops.tile(kernel, (1, 1, 1, 4))  # depth_to_space: channel (2i + j) * filters/4 + c

    def get_config(self):
        return {"initializer": keras.initializers.serialize(self.initializer)}


def kernel_start(variant):
    """The start of convolutions: TensorLayer's N(0, 0.02), elsewhere Glorot's."""
    return keras.initializers.RandomNormal(**TENSORLAYER_NORMAL) if variant == "tensorlayer" else "glorot_uniform"


def loss_dtype():
    """The type in which networks end and losses begin: the variables', so float32 in mixed precision too."""
    return keras.config.dtype_policy().variable_dtype


def conv(x, filters, size, variant, strides=1, start=None, **options):
    start = start or kernel_start(variant)
    return layers.Conv2D(filters, size, strides, "same", kernel_initializer=start, **options)(x)


def batch_norm(x, variant):
    """Batch normalization with TensorLayer's constants; they serve the paper, which names none, too."""
    start = keras.initializers.RandomNormal(1.0, 0.02) if variant == "tensorlayer" else "ones"
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, gamma_initializer=start)(x)


def activation(x, variant):
    return layers.ReLU()(x) if variant == "tensorlayer" else layers.PReLU(shared_axes=[1, 2])(x)


def residual_block(x, filters, variant):
    skip = x
    x = batch_norm(conv(x, filters, 3, variant, use_bias=False), variant)
    x = activation(x, variant)
    x = batch_norm(conv(x, filters, 3, variant, use_bias=False), variant)
    return layers.Add()([skip, x])


def upsample(x, filters, variant):
    """Twice the height and width: a convolution whose channels become pixels (sub-pixel convolution)."""
    x = conv(x, 4 * filters, 3, variant, start=ICNR(kernel_start(variant)))
    return activation(ops.depth_to_space(x, 2), variant)


def SRGAN_g(variant="paper", scale=4, blocks=16, filters=64):
    """The generator, SRResNet: lr (N, h, w, 3) -> sr (N, scale*h, scale*w, 3), both in [-1, 1], any h and w.

    variant: "paper" (fig. 4) or "tensorlayer" (its SRGAN_g). scale: 2, 4 or 8.
    """
    head, tail = (9, 9) if variant == "paper" else (3, 1)
    lr = layers.Input((None, None, 3))
    x = activation(conv(lr, filters, head, variant), variant)  # (N, h, w, filters)
    skip = x
    for _ in range(blocks):
        x = residual_block(x, filters, variant)
    x = batch_norm(conv(x, filters, 3, variant, use_bias=False), variant)
    x = layers.Add()([skip, x])
    for _ in range(scale.bit_length() - 1):
        x = upsample(x, filters, variant)  # (N, 2h, 2w, filters), ...
    sr = layers.Activation("tanh", dtype=loss_dtype())(conv(x, 3, tail, variant))
    return keras.Model(lr, sr, name="SRGAN_g")


def SRGAN_d(variant="paper", crop=96, filters=64):
    """The discriminator: hr or sr (N, crop, crop, 3) in [-1, 1] -> logits (N, 1), high for real.

    variant: "paper" (fig. 4, eight 3x3 convolutions) or "tensorlayer" (its SRGAN_d, meant for crop 384).
    """
    picture = layers.Input((crop, crop, 3))
    body = paper_discriminator if variant == "paper" else tensorlayer_discriminator
    logits = layers.Dense(1, kernel_initializer=kernel_start(variant), dtype=loss_dtype())
    return keras.Model(picture, logits(body(picture, filters)), name="SRGAN_d")


def leaky(x):
    return layers.LeakyReLU(negative_slope=0.2)(x)


def paper_discriminator(x, filters):
    x = leaky(conv(x, filters, 3, "paper"))
    for multiple, strides in [(1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (8, 1), (8, 2)]:
        x = leaky(batch_norm(conv(x, multiple * filters, 3, "paper", strides, use_bias=False), "paper"))
    x = layers.Flatten()(x)  # (N, crop/16 * crop/16 * 8*filters)
    return leaky(layers.Dense(16 * filters)(x))


def tensorlayer_discriminator(x, filters):
    def normalized(x, multiple, size, strides=1):
        return batch_norm(conv(x, multiple * filters, size, "tensorlayer", strides, use_bias=False), "tensorlayer")

    x = leaky(conv(x, filters, 4, "tensorlayer", 2))
    for multiple in (2, 4, 8, 16, 32):
        x = leaky(normalized(x, multiple, 4, 2))
    x = leaky(normalized(x, 16, 1))  # (N, crop/64, crop/64, 16*filters)
    x = skip = normalized(x, 8, 1)
    x = leaky(normalized(x, 2, 1))
    x = leaky(normalized(x, 2, 3))
    x = leaky(layers.Add()([normalized(x, 8, 3), skip]))
    return layers.Flatten()(x)
