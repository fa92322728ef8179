"""The processor that rounds as an accelerator does, on which lessons are tested too."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

code = """
import json, jax, jax.numpy as jnp
a = jnp.array([[1 + 2**-9]]) # needs nine bits
x = a.reshape(1, 1, 1, 1)
convolve = lambda precision: jax.lax.conv(x, x**0, (1, 1), "SAME", precision=precision)
exact = jax.lax.Precision.HIGHEST
print(json.dumps([float(v.sum()) - 1 for v in (a @ a**0, jnp.dot(a, a**0, precision=exact), convolve(None), convolve(exact), (a.astype("float16") @ a.astype("float16")**0))]))"""

of_two_convolutions = """
import json, jax, numpy as np
from unetdiff.engine.convolution import conv_winograd, conv_xla
rng = np.random.default_rng(0)
args = rng.standard_normal((2, 7, 6, 12), np.float32), rng.standard_normal((3, 3, 12, 9), np.float32)
gradient = lambda f: jax.jit(jax.grad(lambda args: (f(*args)**2).mean()))(args)
def differs(a, b): return max(float(abs(x - y).max()/abs(y).max()) for x, y in zip(a, b))
rounded = gradient(conv_winograd), gradient(conv_xla)
with jax.default_matmul_precision("float32"): exact = gradient(conv_winograd), gradient(conv_xla)
print(json.dumps([differs(*rounded), differs(*exact), differs(rounded[0], exact[0])]))"""


def rounded(code, bits):
    "What a program prints on such a processor."
    env = os.environ | dict(ROUND_BITS=bits, PYTHONPATH=str(Path(__file__).parent/"rounding"))
    return json.loads(subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("bits, kept", [("0", True), ("7", False), ("10", True)])
def test_factors_are_rounded_unless_more_is_asked_for(bits, kept):
    product, exact_product, convolution, exact_convolution, half = rounded(code, bits)
    default = 2**-9 if kept else 0
    assert [product, convolution] == [default, default]
    assert [exact_product, exact_convolution, half] == [2**-9]*3


def test_this_projects_convolution_rounds_as_xlas():
    "It is used on processors only, and stands for the other where a processor rounds."
    between, between_exact, by_rounding = rounded(of_two_convolutions, "7")
    assert max(between, between_exact) < 5e-4 < 1e-3 < by_rounding, f"{between}, {between_exact}, {by_rounding}"
