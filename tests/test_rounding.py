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


@pytest.mark.parametrize("bits, kept", [("0", True), ("7", False), ("10", True)])
def test_factors_are_rounded_unless_more_is_asked_for(bits, kept):
    env = os.environ | dict(ROUND_BITS=bits, PYTHONPATH=str(Path(__file__).parent/"rounding"))
    said = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    product, exact_product, convolution, exact_convolution, half = json.loads(said)
    default = 2**-9 if kept else 0
    assert [product, convolution] == [default, default]
    assert [exact_product, exact_convolution, half] == [2**-9]*3
