"""The networks of the paper's Table 2, one file each; none depends on the rest of the suite.

A network that is a chain of Linear layers with ReLU between them lists these in its attribute `layers`, the output
layer last. Training then counts its dead units, and with layer_norms=true measures each layer (training/meters.py).
"""

from .densenet_cifar import DenseNetCifar
from .mlp import MLP
from .resnet_cifar import ResNetCifar
from .resnet_imagenet import ResNetImageNet
from .resnext_cifar import ResNeXtCifar
from .wide_resnet_cifar import WideResNetCifar

# By the names of configs/model/.
MODELS = {
    "mlp": MLP,
    "resnet50": ResNetCifar,
    "densenet121": DenseNetCifar,
    "resnext29": ResNeXtCifar,
    "wrn26": WideResNetCifar,
    "resnet50_imagenet": ResNetImageNet,
}
