"""Smooth problems whose Lipschitz constant L (assumption 3.1) and lower bound f* are proved in their docstrings.

A problem has `n`, `lipschitz`, `f_star`, `value(x [..., n]) -> [...]`, `gradient(x [..., n]) -> [..., n]` and
`start(count, generator) -> [count, n]`, all float64. The theorems use f* only as a lower bound of f: with a number
below the infimum they remain true but become looser. Here every f* is attained, so the bounds are as tight as possible.
"""

import math

import torch
from torch import Tensor

F64 = torch.float64


def _normal(shape, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=F64)


class Quadratic:
    """f(x) = 1/2 sum_i lambda_i (H x)_i^2, convex, with the given spectrum lambda_i > 0.

    H = I - 2 u u^T (|u| = 1) is orthogonal and symmetric; it rotates the eigenvectors away from the axes, to which the
    Powerball function is sensitive. The Hessian is H diag(lambda) H, so L = max lambda exactly; f* = 0 at 0.
    """

    name = "quadratic"
    convex = True
    f_star = 0.0

    def __init__(self, spectrum: Tensor, u: Tensor | None = None):
        self.spectrum = spectrum.to(F64)
        self.n = len(spectrum)
        self.lipschitz = float(self.spectrum.max())
        self.u = None if u is None else u / torch.linalg.vector_norm(u)

    def value(self, x: Tensor) -> Tensor:
        return (self.spectrum * self._turned(x).square()).sum(-1) / 2

    def gradient(self, x: Tensor) -> Tensor:
        return self._turned(self._turned(x).mul_(self.spectrum))

    def start(self, count: int, generator: torch.Generator) -> Tensor:
        return _normal((count, self.n), generator)

    def _turned(self, x: Tensor) -> Tensor:
        if self.u is None:
            return x.clone()
        return x - (x @ self.u)[..., None].mul(2 * self.u)


class Cosines:
    """f(x) = sum_i c_i (1 - cos(w_i x_i)) + m_i x_i^2 / 2 with c_i, m_i > 0, not convex.

    It is separable, and the i-th second derivative c_i w_i^2 cos(w_i x_i) + m_i lies in [m_i - c_i w_i^2,
    m_i + c_i w_i^2]. So L = max_i (c_i w_i^2 + m_i), attained at 0, and f is not convex because every c_i w_i^2 is
    larger than m_i. Both terms are at least 0 and vanish at 0: f* = 0.
    """

    name = "cosines"
    convex = False
    f_star = 0.0

    def __init__(self, heights: Tensor, frequencies: Tensor, bowls: Tensor):
        self.c, self.w, self.m = heights, frequencies, bowls
        self.n = len(heights)
        self.lipschitz = float((self.c * self.w**2 + self.m).max())

    def value(self, x: Tensor) -> Tensor:
        return (self.c * (1 - torch.cos(self.w * x)) + self.m * x.square() / 2).sum(-1)

    def gradient(self, x: Tensor) -> Tensor:
        return torch.sin(self.w * x).mul_(self.c * self.w).addcmul_(self.m, x)

    def start(self, count: int, generator: torch.Generator) -> Tensor:
        return 4 * _normal((count, self.n), generator)


class RobustRegression:
    """f(x) = 1/m sum_i psi(a_i . x - b_i) with psi(r) = r^2 / (1 + r^2), not convex.

    psi'(r) = 2 r / (1 + r^2)^2 and psi''(r) = 2 (1 - 3 r^2) / (1 + r^2)^3. With s = r^2, the derivative of
    (1 - 3 s) / (1 + s)^3 is 6 (s - 1) / (1 + s)^4, so psi'' falls from 2 at s = 0 to -1/2 at s = 1 and rises to 0:
    |psi''| <= 2. The Hessian is A^T diag(psi''(r)) A / m, so L = 2 ||A||^2 / m, attained where all residuals vanish.
    They vanish at the x* from which b = A x* was made, so f* = 0, because psi >= 0. At residuals of 1 f is concave.

    |psi'| is largest where psi'' = 0, at r^2 = 1/3: |psi'| <= STEEPEST = 9 / (8 sqrt 3). A row drawn uniformly gives
    the unbiased gradient psi'(r_i) a_i, whose variance E|psi'(r_i) a_i|^2 - |grad f|^2 is at most
    STEEPEST^2 mean_i |a_i|^2 everywhere: assumption 3.2 with a real mini-batch.
    """

    name = "robust"
    convex = False
    f_star = 0.0
    STEEPEST = 9 / (8 * math.sqrt(3))

    def __init__(self, rows: Tensor, solution: Tensor):
        self.rows, self.targets = rows, rows @ solution
        self.solution = solution
        self.n = rows.shape[1]
        self.lipschitz = float(2 * torch.linalg.matrix_norm(rows, 2) ** 2 / len(rows))
        self.row_variance = float(self.STEEPEST**2 * rows.square().sum(1).mean())

    def value(self, x: Tensor) -> Tensor:
        squares = self._residuals(x).square()
        return (squares / (1 + squares)).mean(-1)

    def gradient(self, x: Tensor, weights: Tensor | None = None) -> Tensor:
        """weights [..., m], summing to 1, instead of 1/m: the gradient of a mini-batch of rows."""
        r = self._residuals(x)
        slopes = 2 * r / (1 + r * r).square_()
        slopes = slopes / len(self.rows) if weights is None else slopes * weights
        return slopes @ self.rows

    def start(self, count: int, generator: torch.Generator) -> Tensor:
        # Residuals of about 1, where f is concave.
        spread = torch.sqrt(self.rows.square().sum(1).mean())
        return self.solution + 2 * _normal((count, self.n), generator) / spread

    def _residuals(self, x: Tensor) -> Tensor:
        return x @ self.rows.T - self.targets


class Network:
    """A two-layer tanh network's mean squared error as a function of its first layer W [width, inputs], not convex.

    f(W) = 1/(2N) sum_j (u_j - y_j)^2 with u_j = sum_k a_k tanh(w_k . z_j); the output weights a are fixed (with both
    layers free no L would hold on all of R^n, because one layer's gradient grows with the other). n = width * inputs.

    For a direction V with rows v_k, and t = tanh, D^2 f [V, V] = 1/N sum_j (Du_j[V])^2 + (u_j - y_j) D^2 u_j[V, V].

    - Du_j[V] = sum_k a_k t'(w_k . z_j) (v_k . z_j) and 0 < t' <= 1, so (Du_j[V])^2 <= |a|^2 sum_k (v_k . z_j)^2.
    - D^2 u_j[V, V] = sum_k a_k t''(w_k . z_j) (v_k . z_j)^2, and |t''| = 2 |t| (1 - t^2) <= BEND = 4 / (3 sqrt 3),
      attained at t^2 = 1/3. Also |u_j - y_j| <= |a|_1 + |y_j|.
    - 1/N sum_j sum_k (v_k . z_j)^2 = sum_k v_k^T S v_k <= ||S|| |V|^2 with S = 1/N sum_j z_j z_j^T.

    Together L = ||S|| (|a|^2 + BEND max|a_k| (|a|_1 + max_j |y_j|)). It is an upper bound, not always attained. The
    targets y are those of a network of the same shape, so f* = 0 is attained.
    """

    name = "network"
    convex = False
    f_star = 0.0
    BEND = 4 / (3 * math.sqrt(3))

    def __init__(self, inputs: Tensor, output: Tensor, teacher: Tensor):
        self.z, self.a, self.teacher = inputs, output, teacher
        self.shape = tuple(teacher.shape)
        self.n = teacher.numel()
        self.y = torch.tanh(inputs @ teacher.T) @ output
        second_moment = float(torch.linalg.matrix_norm(inputs, 2) ** 2 / len(inputs))
        largest_residual = float(output.abs().sum() + self.y.abs().max())
        curvature = self.BEND * float(output.abs().max()) * largest_residual
        self.lipschitz = second_moment * (float(output.square().sum()) + curvature)

    def value(self, x: Tensor) -> Tensor:
        return (self._hidden(x) @ self.a - self.y).square().mean(-1) / 2

    def gradient(self, x: Tensor) -> Tensor:
        hidden = self._hidden(x)  # [..., N, width]
        residuals = (hidden @ self.a - self.y) / len(self.z)
        back = hidden.square_().neg_().add_(1).mul_(self.a).mul_(residuals[..., None])
        return (back.transpose(-1, -2) @ self.z).flatten(-2)

    def start(self, count: int, generator: torch.Generator) -> Tensor:
        return _normal((count, self.n), generator)

    def _hidden(self, x: Tensor) -> Tensor:
        weights = x.unflatten(-1, self.shape)
        return torch.tanh_((weights @ self.z.T).transpose(-1, -2))


def quadratic(n: int, generator: torch.Generator) -> Quadratic:
    """Eigenvalues from 0.04 to 4, evenly spaced in their logarithm."""
    return Quadratic(4 * torch.logspace(-2, 0, n, dtype=F64), _normal(n, generator))


def cosines(n: int, generator: torch.Generator) -> Cosines:
    c, w, m = (low + (high - low) * torch.rand(n, generator=generator, dtype=F64)
               for low, high in ((0.5, 1.5), (1.0, 2.0), (0.1, 0.3)))  # fmt: skip
    return Cosines(c, w, m)


def robust(n: int, generator: torch.Generator, rows: int = 32) -> RobustRegression:
    return RobustRegression(_normal((rows, n), generator), _normal(n, generator) / math.sqrt(n))


def network(n: int, generator: torch.Generator, examples: int = 32) -> Network:
    width = max(k for k in range(1, math.isqrt(n) + 1) if n % k == 0)
    inputs = n // width
    signs = _normal(width, generator).sign()
    return Network(_normal((examples, inputs), generator) / math.sqrt(inputs), signs / math.sqrt(width),
                   2 * _normal((width, inputs), generator))  # fmt: skip


MAKERS = {maker.__name__: maker for maker in (quadratic, cosines, robust, network)}
