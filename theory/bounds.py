"""The right sides of the four theorems, for the average over t <= T of (E)||g_t||^2_{1+gamma}.

    A.1   2 L ||1||_p / T * gap                                        gap = f(x_1) - f*
    B.1   2 L ||1||_p / T * gap * (1 + beta) / (1 - beta)
    3.1   2 ||1||_p / T * (L gap / (1 - eps) + sigma^2 / (2 eps (1 - eps)))
    3.2   2 ||1||_p / T * (L gap / (1 - eps) * (1 + beta) / (1 - beta) + sigma^2 / (2 eps (1 - eps)))

All are 3.2 with beta = 0, or sigma = 0 and eps -> 0. eps is not part of the algorithm, so the best one may be taken:
with A = L gap (1 + beta) / (1 - beta) and C = sigma^2 / 2, (A eps + C) / (eps (1 - eps)) has the derivative 0 where
A eps^2 + 2 C eps = C, at eps = 1 / (1 + sqrt(1 + A / C)) in (0, 1/2], and there it is C (1 + sqrt(1 + A / C))^2. So

    min over eps of 3.2 = ||1||_p / T * (sigma + sqrt(sigma^2 + 2 L gap (1 + beta) / (1 - beta)))^2.
"""

import math

THEOREMS = ("A.1", "B.1", "3.1", "3.2")


def theorem(stochastic: bool, beta: float) -> str:
    """The theorem about this case; at beta = 0 the simpler one."""
    return THEOREMS[2 * stochastic + (beta > 0)]


def ones_norm(n: int, gamma: float) -> float:
    """||1||_p = n^(1/p) of the vector of n ones, p = (1 + gamma) / (1 - gamma); 1 at gamma = 1, where p = inf."""
    return n ** ((1 - gamma) / (1 + gamma))


def theorem_a_1(gap: float, *, lipschitz: float, n: int, steps: int, gamma: float) -> float:
    """The right side of theorem A.1 as printed (with ||I||_p read as ||1||_p)."""
    return 2 * lipschitz * ones_norm(n, gamma) / steps * gap


def theorem_b_1(gap: float, *, lipschitz: float, n: int, steps: int, gamma: float, beta: float) -> float:
    """The right side of theorem B.1 as printed."""
    return 2 * lipschitz * ones_norm(n, gamma) / steps * (1 + beta) / (1 - beta) * gap


def theorem_3_1(gap: float, *, lipschitz: float, n: int, steps: int, gamma: float, sigma: float, eps: float) -> float:
    """The right side of theorem 3.1 as printed, for a chosen eps in (0, 1)."""
    noise = sigma**2 / (2 * eps * (1 - eps))
    return 2 * ones_norm(n, gamma) / steps * (lipschitz * gap / (1 - eps) + noise)


def theorem_3_2(
    gap: float, *, lipschitz: float, n: int, steps: int, gamma: float, beta: float, sigma: float, eps: float
) -> float:
    """The right side of theorem 3.2 as printed, for a chosen eps in (0, 1)."""
    curvature = lipschitz * gap / (1 - eps) * (1 + beta) / (1 - beta)
    return 2 * ones_norm(n, gamma) / steps * (curvature + sigma**2 / (2 * eps * (1 - eps)))


def best_eps(gap: float, *, lipschitz: float, beta: float, sigma: float) -> float:
    """The eps that makes theorem 3.2 smallest; 0, its limit, at sigma = 0."""
    if sigma == 0:
        return 0.0
    return 1 / (1 + math.sqrt(1 + 2 * lipschitz * gap * (1 + beta) / (1 - beta) / sigma**2))


def bound(
    gap: float,
    *,
    lipschitz: float,
    n: int,
    steps: int,
    gamma: float,
    beta: float = 0.0,
    sigma: float = 0.0,
    batch: int | None = None,
) -> float:
    """The right side of the theorem about this (beta, sigma), with the best eps.

    batch: B_t, by default `steps` as in the theorems. For any other, the same proof has sigma^2 / B_t as the variance
    of a step, instead of sigma^2 / T.
    """
    noise = sigma * math.sqrt(steps / (batch or steps))
    curvature = 2 * lipschitz * gap * (1 + beta) / (1 - beta)
    return ones_norm(n, gamma) / steps * (noise + math.sqrt(noise**2 + curvature)) ** 2


def textbook_sgd(gap: float, *, lipschitz: float, steps: int, sigma: float) -> float:
    """What the descent lemma gives for SGD with the step 1/L and B_t = T, if its unbiasedness is used.

    E f(x_{t+1}) <= E f(x_t) - E|grad f(x_t)|^2 / L + E|g_t|^2 / (2 L), because E[grad f(x_t) . g_t] = E|grad f(x_t)|^2;
    E|g_t|^2 <= E|grad f(x_t)|^2 + sigma^2 / T turns that into E|g_t|^2 / (2 L) <= E f(x_t) - E f(x_{t+1})
    + sigma^2 / (L T), so the average of E|g_t|^2 is at most (2 L gap + 2 sigma^2) / T. The true gradient's is at most
    (2 L gap + sigma^2) / T.
    """
    return (2 * lipschitz * gap + 2 * sigma**2) / steps


def unbiased_sgdm(gap: float, *, lipschitz: float, steps: int, beta: float, sigma: float) -> float:
    """What the proof of 3.2 gives for SGDM with its own step and B_t = T, if its unbiasedness is used; beta = 0: SGD's.

    The step is (1 - beta)^2 / (L (1 + beta)) at gamma = 1. In (17) E[grad f(x_t) . g_t] = E|grad f(x_t)|^2 replaces
    (21), and (18) is estimated with grad f(x_t) instead of sigma(g_t), whose mean it is. With
    F = sum E|grad f(x_t)|^2, G = sum E|g_t|^2 <= F + sigma^2 and the printed eps_1 = (1 - beta)^2 / (L beta) the sum is
    -alpha F / (1 - beta) + alpha^2 L / (2 (1 - beta)^3) (beta G + beta F + (1 - beta) G) >= -gap, so
    F <= 2 L gap (1 + beta) / (1 - beta) + sigma^2 / (1 + beta).
    """
    curvature = 2 * lipschitz * gap * (1 + beta) / (1 - beta)
    return (curvature + sigma**2 * (2 + beta) / (1 + beta)) / steps
