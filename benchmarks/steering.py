"""Digits that a classifier leads: how many are what was wished for, by the judgement of another.

    python benchmarks/steering.py

The bundled model is told no label. The classifier that leads it, a logistic regression, has seen half of the real digits; the one that judges, the label of the nearest
digit, has seen the other half. 1,024 samples of each digit with each of three seeds, at four strengths of the wish.
"""
import jax
import jax.numpy as jnp
import numpy as np
from common import save

strengths, seeds = (1., 3., 10., 20.), range(3)


def wish(reader, c, strength):
    "How sure the classifier is that pictures are the digit `c`, times the strength."
    W, b = jnp.asarray(reader.coef_.T, jnp.float32), jnp.asarray(reader.intercept_, jnp.float32)
    return lambda x: strength*jax.nn.log_softmax(x.reshape(len(x), -1) @ W + b)[:, c]


def main():
    "For each strength the share of samples in which the judge sees the digit: of all digits and seeds, of the worst digit, and the worst digit in the worst seed."
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from unetdiff import digits, load
    from unetdiff.data import split
    from unetdiff.metrics import flat
    half, other, half_labels, other_labels = split(*map(np.asarray, digits()), .5)
    reader = LogisticRegression(C=.1, max_iter=2000).fit(flat(half), half_labels)
    judge = KNeighborsClassifier(1).fit(flat(other), other_labels)
    run, rows = load(), []
    for strength in strengths:
        wishes = [wish(reader, c, strength) for c in range(10)] # each is compiled once
        draw = lambda c, seed: run.sample(1024, guidance=0., steer=wishes[c], steps=20, seed=seed)
        agree = np.array([[(judge.predict(flat(draw(c, seed))) == c).mean() for seed in seeds] for c in range(10)])
        rows.append(dict(strength=strength, all=agree.mean(), worst_digit=int(agree.mean(1).argmin()), of_worst_digit=agree.mean(1).min(), worst=agree.min()))
    save("steering", rows)


if __name__ == "__main__": main()
