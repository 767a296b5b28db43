"""The polynomials all fused kernels share: minimax fits of our own, on phases r in [-1/2, 1/2].

With s = sin(pi r) and c = cos(pi r), cos(2 pi r) = 1 - 2 s^2 and sin(2 pi r) = 2 s c.
"""

__all__ = ["COSINE", "SINE"]

SINE = (3.14159258, -5.16770689, 2.55003145, -0.59804547, 0.07722048)  # sin(pi r) / r in r^2
COSINE = (0.99999995, -4.93479287, 4.05841203, -1.33188068, 0.21969756)  # cos(pi r) in r^2
