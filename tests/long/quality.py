"""Train the default model from a cold start with three seeds, and hold time and quality against what the project promises: python tests/long/quality.py"""
import json
import subprocess
import sys

once = """
import time; start = time.time()
from unetdiff import train_digits
run = train_digits(seed={seed}, progress=False)
seconds = time.time() - start
import json; print(json.dumps({{"seed": {seed}, "seconds": round(seconds)}} | {{k: round(v, 3) for k, v in run.evaluate(1024, guidance=1.).items()}}))
"""
promised = {"seconds": (0, 120), "accuracy": (.95, 1), "precision": (.80, 1), "coverage": (.70, 1), "near_copies": (0, .02)}


def main():
    "Each seed in a process of its own, so that each pays for imports and compiling."
    missed = []
    for seed in range(3):
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", once.format(seed=seed)], stdout=subprocess.PIPE, text=True, check=True)
        result = json.loads(done.stdout)
        print(result, flush=True)
        missed += [f"seed {seed}: {k} is {result[k]}, promised {low} to {high}" for k, (low, high) in promised.items() if not low <= result[k] <= high]
    sys.exit("\n".join(missed))


if __name__ == "__main__": main()
