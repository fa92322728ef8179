"""Everything public works under JAX's own switches, with warnings as errors, without assertions, in a thread and in a spawned process."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

here = Path(__file__).parent
calls = { # name: (of Python, of everything.py)
    "strict": ([], ["jax_numpy_dtype_promotion=strict", "jax_numpy_rank_promotion=raise", "jax_transfer_guard=disallow"]),
    "careful": (["-O", "-W", "error"], ["jax_enable_x64=True", "jax_debug_nans=True", "jax_check_tracer_leaks=True", "spawned"])}


@pytest.fixture(scope="module")
def processes():
    "Python, once with each set of switches; all at the same time."
    def start(of_python, words):
        return subprocess.Popen([sys.executable, *of_python, str(here/"everything.py"), *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                env=os.environ | dict(PYTHONPATH=str(here.parent)))
    return {name: start(*call) for name, call in calls.items()}


@pytest.mark.parametrize("name", calls)
def test_switches(processes, name):
    said = processes[name].communicate(timeout=600)[0]
    assert processes[name].returncode == 0, f"under {calls[name]}:\n{said[-3000:]}"
