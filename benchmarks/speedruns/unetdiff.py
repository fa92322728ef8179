"unetdiff: the default recipe, for fewer steps where less is asked."
steps = dict(bronze=600, silver=1500, gold=2500)


def train(images, labels, steps, seed):
    import unetdiff
    run = unetdiff.train(images, labels, steps=steps, seed=seed, progress=False)
    return lambda labels, seed: run.sample(len(labels), labels, seed=seed)
