"""Weight initialisation by name, so that a config can choose it for any model."""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

Layer = nn.Linear | nn.Conv2d


def _fill_weight(fill: Callable[[Tensor], Tensor], layer: Layer) -> None:
    """`fill` the weight, zero the bias."""
    fill(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _keep(layer: Layer) -> None:
    """Leave the layer as it was constructed."""


def _fan_out_convolutions(layer: Layer) -> None:
    if isinstance(layer, nn.Conv2d):
        _fill_weight(partial(nn.init.kaiming_normal_, mode="fan_out", nonlinearity="relu"), layer)


SCHEMES: dict[str, Callable[[Layer], None]] = {
    "torch": _keep,
    "he": partial(_fill_weight, partial(nn.init.kaiming_normal_, mode="fan_in", nonlinearity="relu")),
    "he_fan_out": _fan_out_convolutions,
    "xavier": partial(_fill_weight, nn.init.xavier_uniform_),
    # LeCun's normal is Kaiming's with gain 1.
    "lecun": partial(_fill_weight, partial(nn.init.kaiming_normal_, mode="fan_in", nonlinearity="linear")),
    "orthogonal": partial(_fill_weight, nn.init.orthogonal_),
}


def initialise(model: nn.Module, scheme: str) -> None:
    """Initialise every Linear and Conv2d of `model` in place, and every BatchNorm to weight 1, bias 0.

    A convolution with kernel k x k and g groups has fan_in = k * k * in / g, and fan_out = k * k * out,
    which is not divided by g.

    ==========  ============================================================  ======
    scheme      weights                                                       biases
    ==========  ============================================================  ======
    torch       as the constructor made them; in torch's own layers uniform,  kept
                bound sqrt(1 / fan_in)
    he          normal, std sqrt(2 / fan_in) (He et al., 2015)                0
    he_fan_out  convolutions normal, std sqrt(2 / fan_out); Linear kept       0; kept
                (what the paper's ResNeXt and WideResNet do)
    xavier      uniform, bound sqrt(6 / (fan_in + fan_out))                   0
                (Glorot & Bengio, 2010)
    lecun       normal, std sqrt(1 / fan_in) (LeCun et al., 1998)             0
    orthogonal  orthonormal rows or columns of the out x fan_in matrix        0
                (Saxe et al., 2014)
    ==========  ============================================================  ======

    Draws from torch's global generator, layer by layer in the order of `model.modules()`.

    Raises:
        ValueError: `scheme` is none of these.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"init={scheme!r} must be one of {', '.join(SCHEMES)}")
    for module in model.modules():
        if isinstance(module, Layer):
            SCHEMES[scheme](module)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
