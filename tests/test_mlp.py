import pytest
import torch

from models.mlp import MLP


@pytest.mark.parametrize(("depth", "hidden"), [(12, 10), (13, 11), (14, 12), (15, 13)])
def test_depths_are_those_of_table_3(depth, hidden):
    """784 -> 256, then 10 / 11 / 12 / 13 hidden layers 256 -> 256, then 256 -> 10."""
    shapes = [tuple(layer.weight.shape) for layer in MLP(depth=depth).layers]
    assert shapes == [(256, 784), *[(256, 256)] * hidden, (10, 256)]


def test_the_13_layer_network_has_the_papers_size():
    assert sum(p.numel() for p in MLP().parameters()) == 927_242


def test_forward_is_relu_between_linear_layers():
    model = MLP(in_features=4, num_classes=2, depth=3, width=5)
    x = torch.randn(7, 1, 2, 2)
    hidden = x.flatten(1)
    for layer in model.layers[:-1]:
        hidden = torch.relu(hidden @ layer.weight.T + layer.bias)
    expected = hidden @ model.layers[-1].weight.T + model.layers[-1].bias
    torch.testing.assert_close(model(x), expected)


def test_default_initialisation_is_torchs_own():
    torch.manual_seed(3)
    ours = MLP(depth=2).layers[0].weight
    torch.manual_seed(3)
    assert torch.equal(ours, torch.nn.Linear(784, 256).weight)


def test_gain_multiplies_the_weights_and_with_he_makes_the_gradient_explode():
    def first_gradient(gain):
        torch.manual_seed(3)
        model = MLP(in_features=16, width=64, init="he", gain=gain)
        model(torch.randn(8, 16)).square().sum().backward()
        return model.layers[0]

    plain, doubled = first_gradient(1.0), first_gradient(2.0)
    assert torch.equal(doubled.weight, 2 * plain.weight)
    torch.testing.assert_close(doubled.weight.grad, 2**25 * plain.weight.grad)  # of the square


def test_too_shallow_is_refused():
    with pytest.raises(ValueError, match="at least 2 layers, not depth 1"):
        MLP(depth=1)
