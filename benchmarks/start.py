"""How long until the first training step and the first samples: in a new process, with nothing kept, and with the programs that an earlier one has kept.

    python benchmarks/start.py
"""
import collections
import json
import statistics
import sys
import tempfile
import time

from common import cold, save


def worker(start, folder):
    "Import, train one step, sample 64 pictures; the time of each since the process was asked for, and what was spent in compiling."
    import jax
    spent = collections.Counter()
    def listen(event, seconds, **about):
        name = about.get("fun_name", "").removeprefix("jit(").removesuffix(")")
        if event.endswith(("jaxpr_trace_duration", "mlir_module_duration", "backend_compile_duration")) and name in ("train_steps", "sample_batch"): spent[name] += seconds
    jax.monitoring.register_event_duration_secs_listener(listen)
    import unetdiff
    if folder: unetdiff.keep_compiled(folder)
    unetdiff.train  # loads everything
    imported, at = time.time() - start, []
    train_steps = unetdiff.training.train_steps
    def timed(*args, **kwargs):
        state, loss = train_steps(*args, **kwargs)
        loss.block_until_ready()
        at.append(time.time() - start)
        return state, loss
    unetdiff.training.train_steps = timed
    run = unetdiff.train(*unetdiff.digits(), steps=2, log_every=1, progress=False)
    before = time.time()
    run.sample(64).block_until_ready()
    return dict(imported=imported, first_step=at[0], sample_64=time.time() - before, compile_step=spent["train_steps"], compile_sampler=spent["sample_batch"])


def main():
    "Five starts of each kind, in turn; medians."
    with tempfile.TemporaryDirectory() as folder:
        cold(__file__, folder)
        times = {"nothing kept": [], "programs kept": []}
        for _ in range(5):
            times["nothing kept"].append(cold(__file__, ""))
            times["programs kept"].append(cold(__file__, folder))
    save("start", [dict(name=name, **{k: statistics.median(t[k] for t in each) for k in each[0]}) for name, each in times.items()])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]: print(json.dumps(worker(float(sys.argv[2]), sys.argv[3])))
    else: main()
