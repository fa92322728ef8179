"""Lets a processor round as an accelerator does.

A TPU multiplies float32 numbers as if they had 7 bits behind the leading one (bfloat16), a recent GPU 10 (TF32), unless a program asks for more; the sums keep
float32. With ROUND_BITS=7 (or 10) and this folder on PYTHONPATH, Python runs this file when it starts, and every product and convolution of float32 numbers on
the CPU rounds its factors to so many bits, unless its precision says "float32" or "highest". Tried with jax 0.10; it reaches into JAX's own modules.

This project's convolution on a processor asks for all bits, since an accelerator uses another; so its pictures, kernels and gradients are rounded before it begins,
as that other would do."""
import os

bits = int(os.environ.get("ROUND_BITS", "0"))
if bits:
    from functools import partial

    import jax
    import numpy as np
    from jax._src.interpreters import mlir
    from jax._src.lax import convolution, lax
    from unetdiff.engine import convolution as own


def shorten(x):
    "To so many bits."
    return jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=bits)


def shorten_unless_told(x):
    "The same, unless `jax.default_matmul_precision` asks for more."
    return x if jax.config.jax_default_matmul_precision in ("float32", "highest") else shorten(x)


def asks_for_more(precision):
    "Does a program ask for more than the default?"
    of_both = precision if isinstance(precision, tuple) else (precision,)
    return any(p not in (None, jax.lax.Precision.DEFAULT) for p in of_both)


def round_factors(primitive, lower):
    "Compile a primitive so that its two factors are rounded first."
    lower_shorten = mlir.lower_fun(shorten, multiple_results=False)

    def rule(ctx, *factors, **params):
        is_single = all(v.dtype == np.float32 for v in ctx.avals_in)
        if is_single and not asks_for_more(params["precision"]):
            factors = [lower_shorten(ctx.replace(primitive=None, avals_in=[v], avals_out=[v]), x)[0] for v, x in zip(ctx.avals_in, factors)]
        return lower(ctx, *factors, **params)

    mlir.register_lowering(primitive, rule, platform="cpu")


if bits:
    round_factors(lax.dot_general_p, partial(lax._dot_general_lower, platform="cpu"))
    round_factors(convolution.conv_general_dilated_p, partial(convolution._conv_general_dilated_lower, platform="cpu"))
    winograd = own.winograd
    own.winograd = lambda x, kernel, n: winograd(shorten_unless_told(x), shorten_unless_told(kernel), n)
    own.conv_winograd.defvjp(own._conv_winograd_forward, lambda saved, g: own.winograd_gradient(saved, shorten_unless_told(g)))
