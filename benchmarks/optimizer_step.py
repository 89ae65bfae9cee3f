"""The optimizer's step, in nanoseconds per element (best of the rounds), with one thread.

Two lists of parameters: the 13-layer MLP of figure 2 (0.93 M) and the CIFAR ResNet-50 (23.5 M). Compared are:

  SGD      torch.optim.SGD with default settings
  authors  sign(g) * |g| ** gamma as the paper's authors wrote it, then SGD's update
  pow      PowerSGD with the plain power function instead of the fast ones
  shipped  PowerSGD with default settings
  foreach  PowerSGD(foreach=True)

--zeros sets a share of the gradients to exactly 0, as ReLU networks do. --device cuda synchronises around
each step; it has never been run on a GPU.
"""

import itertools

import torch

from benchmarks import timing
from optimizers import PowerSGD, powersgd

LR = 1e-3


def mlp_shapes():
    widths = [784] + [256] * 12 + [10]
    for before, after in itertools.pairwise(widths):
        yield from [(after, before), (after,)]


def resnet50_shapes():
    def conv(before, after, kernel):
        return [(after, before, kernel, kernel), (after,), (after,)]  # with its batch normalisation

    yield from conv(3, 64, 3)
    before = 64
    for width, blocks in [(64, 3), (128, 4), (256, 6), (512, 3)]:
        for block in range(blocks):
            yield from conv(before, width, 1) + conv(width, width, 3) + conv(width, 4 * width, 1)
            if block == 0:
                yield from conv(before, 4 * width, 1)
            before = 4 * width
    yield from [(10, before), (10,)]


def plain_power(g, gamma):
    return torch.sign(g) * g.abs() ** gamma


def authors_step(params, buffers, gamma, momentum):
    for p, buffer in zip(params, buffers, strict=True):
        d = plain_power(p.grad, gamma)
        if momentum:
            d = buffer.mul_(momentum).add_(d)
        p.data.add_(d, alpha=-LR)


def pow_step(opt):
    fast, powersgd.powerball = powersgd.powerball, plain_power
    opt.step()
    powersgd.powerball = fast


def ways(params, gamma, momentum):
    """{name: function for one step}; all use the same parameters, whose values do not matter."""
    shipped, foreach = (PowerSGD(params, LR, gamma, momentum, foreach=f) for f in (None, True))
    buffers = [torch.zeros_like(p) for p in params]
    return {
        "SGD": torch.optim.SGD(params, LR, momentum).step,
        "authors": lambda: authors_step(params, buffers, gamma, momentum),
        "pow": lambda: pow_step(shipped),
        "shipped": shipped.step,
        "foreach": foreach.step,
    }


def main():
    parser = timing.parser(__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--zeros", type=float, default=0.0, metavar="SHARE", help="share of zero gradients")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sync = torch.cuda.synchronize if args.device == "cuda" else lambda: None

    cases, kept = {}, {}
    for name, shapes in [("MLP-13", mlp_shapes()), ("ResNet-50", resnet50_shapes())]:
        params = [torch.nn.Parameter(torch.randn(shape, device=args.device)) for shape in shapes]
        size = sum(p.numel() for p in params)
        for p in params:
            p.grad = 1e-3 * torch.randn_like(p) * (torch.rand_like(p) >= args.zeros)
        for momentum, gamma in itertools.product((0, 0.9), (0, 0.4, 0.5, 1)):
            # Many short rounds for the small list, so that both take seconds.
            rounds = args.rounds * (1 if size > 1e7 else 10)
            case = f"{name} ({size:,}), momentum {momentum}, gamma {gamma}"
            kept[case] = timing.seconds(ways(params, gamma, momentum), rounds, sync)
            cases[case] = {way: 1e9 * t["best"] / size for way, t in kept[case].items()}
    ratios = [("authors", "shipped"), ("pow", "shipped"), ("shipped", "SGD")]
    timing.print_table(cases, ratios, unit="ns an element")
    timing.write_json(args.json, kept, benchmark="optimizer_step", device=args.device, zeros=args.zeros)


if __name__ == "__main__":
    main()
