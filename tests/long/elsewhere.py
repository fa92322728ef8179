"""Run the lessons as if on other machines: python tests/long/elsewhere.py [condition or notebook ...]

Every notebook runs from top to bottom, with its tests, under every condition: rounding as on a TPU and as on a recent GPU (tests/rounding says how a processor
does that), one device, three (which no batch of 32 shares evenly), four and eight, float64 allowed, the precision of products asked for in general, and the instructions of an older processor, whose sums have another
order. A table says how many seconds each took, or that it failed, and the reason below it. Words pick among conditions and notebooks (`python tests/long/elsewhere.py tpu 01_unet`). Each condition takes about a quarter of an hour on two cores.
"""
import os
import subprocess
import sys
import time
from pathlib import Path

from nbdev.doclinks import nbglob

root = Path(__file__).parents[2]
rounding = os.pathsep.join([str(root/"tests"/"rounding"), str(root)])
conditions = {
    "plain": {},
    "tpu": dict(ROUND_BITS="7", PYTHONPATH=rounding),
    "gpu": dict(ROUND_BITS="10", PYTHONPATH=rounding),
    "one": dict(JAX_NUM_CPU_DEVICES="1"),
    "three": dict(JAX_NUM_CPU_DEVICES="3"),
    "four": dict(JAX_NUM_CPU_DEVICES="4"),
    "eight": dict(JAX_NUM_CPU_DEVICES="8"),
    "x64": dict(JAX_ENABLE_X64="1"),
    "precise": dict(JAX_DEFAULT_MATMUL_PRECISION="float32"),
    "older": dict(XLA_FLAGS="--xla_cpu_max_isa=AVX2", OPENBLAS_CORETYPE="Haswell"),
}
notebooks = sorted(path.relative_to(root/"nbs").with_suffix("").as_posix() for path in nbglob(root/"nbs", as_path=True))


def attempt(notebook, condition):
    "Seconds that a notebook took, or None where it failed, and the last lines that it said."
    command = [Path(sys.executable).parent/"nbdev_test", "--do_print", "--n_workers", "1", "--path", root/"nbs"/f"{notebook}.ipynb"]
    start = time.time()
    done = subprocess.run([*map(str, command)], env=os.environ | conditions[condition], cwd=root, capture_output=True, text=True)
    said = [line for line in (done.stdout + done.stderr).splitlines() if "Error" in line]
    return (round(time.time() - start) if done.returncode == 0 else None), said[-1:]


def main(words):
    "The table, a row for each notebook."
    unknown = {*words} - {*conditions} - {*notebooks}
    if unknown: sys.exit(f"{', '.join(sorted(unknown))}: neither a condition ({', '.join(conditions)}) nor a notebook")
    chosen = [c for c in conditions if c in words] or [*conditions]
    failed = []
    print("| notebook |", " | ".join(chosen), "|\n| --- |" + " --: |"*len(chosen), flush=True)
    for notebook in [n for n in notebooks if n in words] or notebooks:
        row = []
        for condition in chosen:
            seconds, said = attempt(notebook, condition)
            row.append("failed" if seconds is None else f"{seconds} s")
            if seconds is None: failed.append(f"{notebook}, {condition}: {' '.join(said)}")
        print(f"| {notebook} |", " | ".join(row), "|", flush=True)
    print("\n".join(["", *failed]) if failed else "all passed")
    sys.exit(bool(failed))


if __name__ == "__main__": main(sys.argv[1:])
