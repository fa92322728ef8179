"""Lets a processor round as an accelerator does.

A TPU multiplies float32 numbers as if they had 7 bits behind the leading one (bfloat16), a recent GPU 10 (TF32), unless a program asks for more; the sums keep
float32. With ROUND_BITS=7 (or 10) and this folder on PYTHONPATH, Python runs this file when it starts, and every product and convolution of float32 numbers on
the CPU rounds its factors to so many bits, unless its precision says "float32" or "highest". Tried with jax 0.10; it reaches into JAX's own modules."""
import os

bits = int(os.environ.get("ROUND_BITS", "0"))

def wants_more(precision):
    "Does a program ask for more than the default?"
    both = precision if isinstance(precision, tuple) else (precision,)
    return any(p is not None and p.name != "DEFAULT" for p in both if p is None or hasattr(p, "name"))

def round_factors(primitive, lower):
    "Compile a primitive so that its two factors are rounded first."
    import jax
    import numpy as np
    from jax._src.interpreters import mlir
    rounded = mlir.lower_fun(lambda x: jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=bits), multiple_results=False)
    def rule(ctx, x, y, **params):
        is_exact = wants_more(params.get("precision")) or any(v.dtype != np.float32 for v in ctx.avals_in[:2])
        if not is_exact: x, y = (rounded(ctx.replace(primitive=None, avals_in=[v], avals_out=[v]), f)[0] for v, f in zip(ctx.avals_in, (x, y)))
        return lower(ctx, x, y, **params)
    mlir.register_lowering(primitive, rule, platform="cpu")

if bits:
    from functools import partial

    from jax._src.lax import convolution, lax
    round_factors(lax.dot_general_p, partial(lax._dot_general_lower, platform="cpu"))
    round_factors(convolution.conv_general_dilated_p, partial(convolution._conv_general_dilated_lower, platform="cpu"))
