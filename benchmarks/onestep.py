"""Four ways to draw a digit in one evaluation, two or four: the same seconds of training for each, and the teacher beside them.

    python benchmarks/onestep.py [seconds of training]

The students are those of the bundled digits model. Scores are means over three seeds of 1,024 noises. A student of pairs is trained for a number of evaluations;
the others are trained once, and sampled with each.
"""
import json
import sys
import time

from common import cold, mean_and_spread, save, scores

looks = 1, 2, 4


def steps_in(seconds, method, evaluations):
    "How many steps of a method fit."
    from unetdiff import load
    at = []
    load().distill(300, method=method, evaluations=evaluations, count=1024, progress=False, callback=lambda *_: at.append(time.perf_counter()))
    return round(seconds/(at[2] - at[1]))*100


def mean_scores(run, **settings):
    "Scores of three seeds: means, spreads and the worst."
    found = [scores(run, seed, **settings) for seed in range(3)]
    return mean_and_spread(found) | dict(worst_precision=min(f["precision"] for f in found), worst_coverage=min(f["coverage"] for f in found), worst_accuracy=min(f["accuracy"] for f in found))


def worker(method, evaluations, seconds):
    "Train a student, and score it with as many evaluations, or, where the method has students for any number, with each."
    from unetdiff import load
    if method == "teacher": return [dict(name=method, evaluations=load().evaluations(steps=n)) | mean_scores(load(), steps=n) for n in (*looks, 10)]
    steps = steps_in(seconds, method, evaluations)
    start = time.perf_counter()
    student = load().distill(steps, method=method, evaluations=evaluations, progress=False)
    about = dict(name=method, steps=steps, seconds=time.perf_counter() - start)
    return [about | dict(evaluations=n) | mean_scores(student, steps=n) for n in ([evaluations] if method == "pairs" else looks)]


def main(seconds):
    "All students, one after the other."
    cases = [("teacher", 1), *(("pairs", n) for n in looks), ("consistency", 1), ("shortcut", 1), ("meanflow", 1)]
    save("onestep", [row for case in cases for row in cold(__file__, *case, seconds)])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]: print(json.dumps(worker(sys.argv[3], int(sys.argv[4]), float(sys.argv[5]))))
    else: main(float(sys.argv[1]) if sys.argv[1:] else 100.)
