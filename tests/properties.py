"""Properties that are tried on cases which Hypothesis draws: always the same ones, none kept, as long as each takes."""
from hypothesis import HealthCheck, Phase, seed as seeded, settings


def same_cases(n:int, seed:int=1, **others):
    "A decorator, above `given`, for so many cases."
    chosen = settings(max_examples=n, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate], **others)
    return lambda test: seeded(seed)(chosen(test))
