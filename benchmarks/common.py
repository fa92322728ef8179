"""What all benchmarks share: workers that wait for their turn, the machine they ran on, and the file of results."""
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

results = Path(__file__).parent/"results.json"
threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "JAX_NUM_CPU_DEVICES")


def cores():
    "The processor cores that this process may use."
    return sorted(os.sched_getaffinity(0))


def scores(run, seed=0, **settings):
    "1024 samples, drawn with these settings, against all digits, by the last layer of a classifier of their pixels, as in every table of these pages."
    from unetdiff.data import split
    from unetdiff.metrics import digits_reference, proportional_labels
    reference = digits_reference("classifier")
    asked, labels = (None, None) if run.classes is None else (proportional_labels(1024), reference.labels)
    train = split(reference.images, labels, run.recipe.test_size)[0]
    return reference.score(run.sample(1024, asked, seed=seed, **settings), asked, train)


class Worker:
    "A process of its own, pinned to some cores, that does one round of work when it is asked to."
    def __init__(self, script, *args, on=None):
        on = cores() if on is None else on
        env = os.environ | {name: str(len(on)) for name in threads} | {"TQDM_DISABLE": "1"}
        self.process = subprocess.Popen([sys.executable, "-W", "ignore", script, "--worker", *map(str, args)], text=True, env=env,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=lambda: os.sched_setaffinity(0, on))
        self.ready = self.read()

    def read(self):
        "The next line that the worker says."
        line = self.process.stdout.readline()
        if not line: raise RuntimeError(f"{self.process.args[3:]} ended with exit code {self.process.wait()}")
        return json.loads(line)

    def round(self):
        "One round of work; what the worker says of it."
        print("go", file=self.process.stdin, flush=True)
        return self.read()

    def close(self):
        "End the process."
        self.process.stdin.close()
        self.process.wait()


def serve(ready, work):
    "A worker's side: say what it is, then do one round of work for each line that comes in."
    print(json.dumps(ready), flush=True)
    for _ in sys.stdin: print(json.dumps(work()), flush=True)


def timed(f):
    "A function that does `f` once and tells how many seconds that took."
    def seconds():
        start = time.perf_counter()
        f()
        return time.perf_counter() - start
    return seconds


def race(workers, rounds=5):
    "Rounds in turn, so that a slow minute of the machine falls on all; the median of each worker."
    said = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items(): said[name].append(worker.round())
    for worker in workers.values(): worker.close()
    return {name: statistics.median(values) for name, values in said.items()}


def cold(script, *args, on=None):
    "What a process of its own says last; it is told the time at which it was asked for, before the other arguments, and runs on some cores, or all."
    pin = (lambda: os.sched_setaffinity(0, on)) if on else None
    done = subprocess.run([sys.executable, "-W", "ignore", script, "--worker", str(time.time()), *map(str, args)], capture_output=True, text=True, check=True, preexec_fn=pin)
    return json.loads(done.stdout.splitlines()[-1])


def kept(file, work):
    "What a file keeps; where there is none, what the work says, and the file keeps it."
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists(): file.write_text(json.dumps(work()))
    return json.loads(file.read_text())


def mean_and_spread(found):
    "Of rows with the same entries: the mean of each, and as `..._spread` the largest less the smallest."
    values = {key: [row[key] for row in found] for key in found[0]}
    return {key: statistics.mean(v) for key, v in values.items()} | {f"{key}_spread": max(v) - min(v) for key, v in values.items()}


def memory():
    "The most memory that this process has had resident so far, MiB."
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/2**10


def machine():
    "Processor, number of cores and versions."
    info = Path("/proc/cpuinfo")
    model = next((line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")), "") if info.exists() else platform.processor()
    names = ("jax", "flax", "optax", "numpy", "torch", "diffusers", "denoising-diffusion-pytorch")
    versions = {}
    for name in names:
        try: versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError: pass
    return dict(processor=model, cores=len(cores()), python=platform.python_version(), **versions)


def save(name, rows):
    "Put a table into the file of results, with the machine that it was measured on, and print it."
    everything = json.loads(results.read_text()) if results.exists() else {}
    everything[name] = dict(rows=rows, machine=machine())
    results.write_text(json.dumps(everything, indent=1) + "\n")
    for row in rows: print("  ".join(f"{k}: {v:.4g}" if isinstance(v, float) else f"{k}: {v}" for k, v in row.items()))
