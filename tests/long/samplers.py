"""Prove the samplers against diffusers, against the papers' formulas and against data whose answer is known: python tests/long/samplers.py

In float64, with linear betas from 1e-4 to .02 in 1000 steps: each sampler follows diffusers' scheduler through a whole walk, same network,
same time steps, same noise; DDIM and DPM-Solver++ 2M equal their formulas on uneven steps; on Gaussian data, errors fall with the number of
steps as theory says, and what churn samples has the right mean and spread."""
import sys
from functools import partial
from itertools import product
from unittest.mock import patch

import jax
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler
from unetdiff import sampling
from unetdiff.diffusion import edm_sigma, schedules
from unetdiff.sampling import NoiseLevel, churned, ddim, sample_loop, sampler_step, samplers, spacings

torch.set_num_threads(1) # more only wait for each other on such small tensors
wrong = [] # sentences about what is off
shape = 2, 3, 3, 8
rng = np.random.default_rng(0)
A, b = rng.normal(size=(8, 8))/8**.5, rng.normal(size=8)
signal = np.cumprod(1 - np.linspace(1e-4, .02, 1000))**.5
uneven = sorted({0, 999, *map(int, rng.choice(999, 22))}, reverse=True)
mean, std = .3, .5 # of the Gaussian data
draws = 200_000


def hold(ok, sentence):
    "Note what is off."
    if not ok: wrong.append(sentence)


def apart(ours, theirs):
    "The largest relative difference between two walks, each x taken as a whole."
    ours, theirs = (np.asarray(v).reshape(len(v), -1) for v in (ours, theirs))
    return np.max(np.linalg.norm(ours - theirs, axis=1)/np.linalg.norm(theirs, axis=1))


# 1. diffusers

class Double:
    "A library whose float32 is float64."
    def __init__(self, library): self.float32, self.library = library.float64, library
    def __getattr__(self, name): return getattr(self.library, name)


def points(*args):
    "The package's noise levels, in float64, too."
    with patch.object(sampling, "np", Double(np)): return sampling.points(*args)


# diffusers keeps betas, alphas_cumprod and sigmas in float32, whatever the input, and the steps of Euler and DPM-Solver++ cast x to float32.
# That costs 1e-7 to 1e-4, most in DDPM, which subtracts numbers near 1. So in the five modules float32 is made to mean float64; all arithmetic
# stays diffusers'. Both are printed.
def scheduler(kind, precise, **options):
    "diffusers' scheduler, in float64 or as it comes."
    options = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": .02, "beta_schedule": "linear"} | options
    return in_double(kind, precise, lambda: kind(**options))


def in_double(kind, precise, call):
    "Call with float32 read as float64 by that scheduler's module."
    module = sys.modules[kind.__module__]
    if not precise: return call()
    with patch.object(module, "torch", Double(torch)), patch.object(module, "np", Double(np)): return call()


def network(lib, x, i):
    "Stands for a network that predicts the noise at discrete step `i`: a v of tanh(A x + b t), so that no estimate of the picture is huge."
    alpha = lib.asarray(signal)[i]
    return (1 - alpha**2)**.5*x + alpha*lib.tanh(x @ lib.asarray(A) + i/999*lib.asarray(b))


def guess(x, t):
    "The same network, asked by us for the clean picture."
    return (x - t.sigma*network(jnp, x, jnp.round(t.t*999).astype(int)))/t.alpha


def theirs(plan, x, alpha, **options):
    "x at each point, as diffusers walks; Euler and Heun have x/alpha, and Heun's trial steps in between are left out."
    ratio = isinstance(plan, (EulerDiscreteScheduler, HeunDiscreteScheduler))
    y = torch.asarray(x/alpha[0] if ratio else x)
    path = [y]
    for t in plan.timesteps:
        y = plan.step(network(torch, plan.scale_model_input(y, t), int(t)), t, y, **options).prev_sample
        path.append(y)
    if isinstance(plan, HeunDiscreteScheduler): path = path[:-1:2] + path[-1:]
    return np.stack(path)*(alpha.reshape(-1, 1, 1, 1, 1) if ratio else 1)


@partial(jax.jit, static_argnames=("rule", "denoise"))
def ours(rule, x, at, noise, denoise=guess):
    "x at each point, as we walk with that noise."
    with patch.object(sampling, "noise_for", lambda keys, i, shape: keys[i]): return sample_loop(denoise, x, at, noise, rule, path=True)


# All end in the clean picture: DDIM by set_alpha_to_one, DDPM always, the others by a final sigma of zero (Heun always).
zero = {"final_sigmas_type": "zero"}
own = {"clip_sample": False, "set_alpha_to_one": True}
dpm = zero | {"algorithm_type": "dpmsolver++", "solver_type": "midpoint"}
comparisons = [ # name, scheduler, its options, its time steps, options of its steps, our rule
    *[(f"DDIM, eta {eta}, {spacing}", DDIMScheduler, own | {"timestep_spacing": spacing}, 20, {"eta": eta}, partial(ddim, eta=eta))
      for eta in (0., .5, 1.) for spacing in ("leading", "trailing")],
    *[(f"DDPM {kind}, {text}", DDPMScheduler, {"clip_sample": False, "variance_type": kind, "timestep_spacing": "leading"}, n, {}, samplers[rule])
      for kind, rule in (("fixed_small", "ddpm"), ("fixed_large", "ddpm_large"))
      for text, n in (("50 steps", 50), ("all 1000 steps", 1000), ("uneven", uneven))],
    ("DDPM fixed_small, trailing", DDPMScheduler, {"clip_sample": False, "timestep_spacing": "trailing"}, 20, {}, samplers["ddpm"]),
    *[(f"{name}, {text}", kind, options | {"timestep_spacing": "trailing"}, n, {}, samplers[rule])
      for name, kind, options, rule in (("Euler", EulerDiscreteScheduler, zero, "euler"), ("Heun", HeunDiscreteScheduler, {}, "heun"),
                                        ("DPM-Solver++ 2M", DPMSolverMultistepScheduler, dpm | {"solver_order": 2}, "dpmpp_2m"),
                                        ("DPM-Solver++ 1", DPMSolverMultistepScheduler, dpm | {"solver_order": 1}, "ddim"),
                                        ("SDE-DPM-Solver++ 2M", DPMSolverMultistepScheduler, dpm | {"solver_order": 2, "algorithm_type": "sde-dpmsolver++"}, "dpmpp_2m_sde"))
      for text, n in (("20 steps", 20), ("10 steps", 10), ("uneven", uneven))]]


def both(kind, options, steps, each, rule, precise=True):
    "Our walk, diffusers', our points and the noise of both."
    plan = scheduler(kind, precise, **options)
    in_double(kind, precise, lambda: plan.set_timesteps(**{"timesteps" if isinstance(steps, list) else "num_inference_steps": steps}))
    t = list(dict.fromkeys(plan.timesteps.tolist())) # Heun names most of them twice
    hold(isinstance(steps, int) or t == steps, f"{kind.__name__} does not walk over the steps asked for")
    at, x = points(schedules["linear"], np.array(t)/999), np.random.default_rng(1).normal(size=shape)
    first, second = (torch.Generator().manual_seed(2) for _ in range(2))
    noise = np.stack([torch.randn(shape, dtype=torch.float64, generator=first).numpy() for _ in t]) # one by one, as the scheduler draws it
    if kind in (DDIMScheduler, DDPMScheduler) or "sde" in options.get("algorithm_type", ""): each = each | {"generator": second}
    walk = in_double(kind, precise, lambda: theirs(plan, x, np.asarray(at.alpha), **each))
    return ours(rule, x, at, noise), walk, at, noise


def parity():
    "Every sampler against diffusers' scheduler."
    print(f"{'against diffusers: largest relative error':44s}{'float64':>10s}{'as it comes':>13s}")
    for name, *case in comparisons:
        errors = [apart(*both(*case, precise=precise)[:2]) for precise in (True, False)]
        print(f"{name:44s}{errors[0]:10.1e}{errors[1]:13.1e}", flush=True)
        hold(errors[0] <= 1e-5, f"{name} is {errors[0]:.1e} away from diffusers, at most 1e-5 is allowed")


def last_of_large():
    "fixed_large where the last step is not from time step 0: we add no noise there (Ho et al. 2020, Algorithm 2: z = 0), diffusers does."
    options = {"clip_sample": False, "variance_type": "fixed_large", "timestep_spacing": "trailing"}
    we, they, at, noise = both(DDPMScheduler, options, 20, {}, samplers["ddpm_large"])
    before, last, rest = apart(we[:-1], they[:-1]), apart(we[-1:], they[-1:]), apart(we[-1:] + np.asarray(at.sigma)[-2]*noise[-1:], they[-1:])
    print(f"{'DDPM fixed_large, trailing: all but the last':44s}{before:10.1e}\n{'  the last, to which diffusers adds noise':44s}{last:10.1e}"
          f"\n{'  and with that noise added to ours':44s}{rest:10.1e}")
    hold(before <= 1e-5 and rest <= 1e-5 < last, f"DDPM fixed_large, trailing: {before:.1e} before the last step, {last:.1e} in it, {rest:.1e} with noise added")


# 2. formulas

def clean(x, t):
    "Stands for a network that predicts the clean picture."
    return jnp.tanh(x @ A + t.t*b)


def formula(at, x, denoise, order):
    "DPM-Solver++ (Lu et al. 2022, eq. 12 with k = 1; Algorithm 2), as printed there, in NumPy."
    at = [NoiseLevel(*v) for v in zip(*map(np.asarray, at))]
    path, seen, h = [x], [], []
    for t, s in zip(at, at[1:]):
        seen.append(np.asarray(denoise(x, t)))
        h.append(np.log(s.alpha/s.sigma) - np.log(t.alpha/t.sigma))
        r = h[-2]/h[-1] if order == 2 and len(h) > 1 else np.inf
        D = seen[-1] if r == np.inf else (1 + 1/(2*r))*seen[-1] - 1/(2*r)*seen[-2]
        x = s.sigma/t.sigma*x - s.alpha*(np.exp(-h[-1]) - 1)*D
        path.append(x)
    return np.stack(path)


def formulas():
    "DDIM is order 1, our 2M is order 2, on uneven steps of every convention, without the clean point."
    print(f"\n{'against the formula of DPM-Solver++, uneven':44s}{'order 1':>10s}{'order 2':>13s}")
    for name in ("linear", "cosine", "log_linear", "edm", "flow"):
        t = np.sort(np.random.default_rng(3).random(24))[::-1]
        at, x = NoiseLevel(*(v[:-1] for v in points(schedules[name], t))), np.random.default_rng(4).normal(size=shape)
        e = [apart(ours(samplers[rule], x, at, np.zeros((len(t), *shape)), clean), formula(at, x, clean, order))
             for rule, order in (("ddim", 1), ("dpmpp_2m", 2))]
        print(f"{name:44s}{e[0]:10.1e}{e[1]:13.1e}")
        hold(np.max(e) <= 1e-10, f"on the {name} schedule DDIM and 2M are {e[0]:.1e} and {e[1]:.1e} away from their formulas")


# 3. orders

def spread(t):
    "Standard deviation of x at a point, of Gaussian data."
    return (t.alpha**2*std**2 + t.sigma**2)**.5


def exact(x, t):
    "The mean of x_0 given x, of Gaussian data."
    return mean + t.alpha*std**2*(x - t.alpha*mean)/spread(t)**2


def by_spacing(schedule, spacing):
    "How to have n + 1 points, without the clean one."
    return lambda n: NoiseLevel(*(v[:-1] for v in points(schedules[schedule], spacings[spacing](schedules[schedule], n + 1))))


def by_sigma(n):
    "Karras et al. 2022, Table 1: sigma from 80 to .002, rho 7."
    t = np.linspace(1, 0, n + 1)
    return NoiseLevel(*map(jnp.asarray, (t, np.ones_like(t), edm_sigma(t))))


def end_error(rule, at):
    "How far the end is from the exact flow's, on which (x - alpha mean)/spread stays."
    u, first, last = np.linspace(-2, 2, 9).reshape(1, 9, 1, 1), *(NoiseLevel(*(v[i] for v in at)) for i in (0, -1))
    x = ours(samplers[rule], first.alpha*mean + spread(first)*u, at, np.zeros((len(at.t), *u.shape)), exact)[-1]
    return np.sqrt(np.mean(((x - last.alpha*mean)/spread(last) - u)**2))


steps = 32, 64, 128, 256
theory = {"ddim": 1, "heun": 2, "dpmpp_2m": 2} # in sigma/alpha, DDIM is Euler
walks = {"exact sigmas, rho 7": by_sigma, "edm, uniform": by_spacing("edm", "uniform")} | {
    f"{a}, {b}": by_spacing(a, b) for a in ("log_linear", "linear", "flow") for b in ("log_snr", "karras")}


def orders():
    "The slope of log error over log steps, on each schedule."
    hold(samplers["euler"] is samplers["ddim"], "euler is another rule than ddim, and its order is not measured")
    print(f"\n{'Gaussian data, error at the end':40s}" + "".join(f"{n:>10d}" for n in steps) + f"{'slope':>8s}")
    for (name, at), (rule, order) in product(walks.items(), theory.items()):
        e = [end_error(rule, at(n)) for n in steps]
        slope = -np.polyfit(np.log(steps), np.log(e), 1)[0]
        print(f"{name:30s}{rule:10s}" + "".join(f"{v:10.1e}" for v in e) + f"{slope:8.2f}", flush=True)
        hold(abs(slope - order) <= .15, f"{rule} on {name} has order {slope:.2f}, theory says {order}")


# 4. churn

# With gamma fixed, more points bring no smaller steps down, for each makes up for a step up, and Heun's own error stays: at gamma .4 and 128 points it
# widens what comes out by 1 part in 100. So each step down is made in parts, and that error must fall with their square.
def divided(schedule, t, parts):
    "The same times, each step down made in so many parts, even in log(sigma/alpha)."
    snr = schedule.log_snr(t)
    rows = [schedule.time(np.linspace(a, b, parts, endpoint=False)) if b > a else [v] for v, a, b in zip(t, snr, snr[1:])]
    return points(schedule, np.concatenate([*rows, t[-1:]]))


def right_spread(at):
    "Standard deviation of the last estimate, which is what comes out, of Gaussian data."
    last = NoiseLevel(*(v[-2] for v in at))
    return last.alpha*std**2/spread(last)


def moments(at):
    "Mean and standard deviation at the end of Heun's walk, exactly: each step is a x + b + c z."
    here, there = NoiseLevel(*(v[:-1] for v in at)), NoiseLevel(*(v[1:] for v in at))
    end = lambda x, z, t, s: sampler_step(samplers["heun"], exact, x, t, s, jnp.zeros(()), z)[0]
    b, x, z = (np.asarray(jax.vmap(partial(end, *map(jnp.asarray, v)))(here, there)) for v in ((0., 0.), (1., 0.), (0., 1.)))
    middle, variance = at.alpha[0]*mean, spread(NoiseLevel(*(v[0] for v in at)))**2
    for a, b, c in zip(x - b, b, z - b): middle, variance = a*middle + b, a**2*variance + c**2
    return float(middle), float(variance)**.5


def ends(at, seed, n):
    "Where `n` walks with Heun end, always the same starts."
    u = jax.random.normal(jax.random.key(100), (1, n, 1, 1))
    x = at.alpha[0]*mean + spread(NoiseLevel(*(v[0] for v in at)))*u
    return np.asarray(sample_loop(exact, x, at, jax.random.split(jax.random.key(seed), 1), samplers["heun"])).ravel()


churns = [(a, b, gamma) for a, b in (("edm", "uniform"), ("linear", "log_snr"), ("flow", "log_snr")) for gamma in (.1, .4)]


def churn():
    "Mean and spread of what comes out: by algebra, with ever smaller steps down, and of many walks."
    print(f"\n{'churn, 24 points, steps down in parts:':40s}{'1':>10s}{'2':>10s}{'4':>10s}{'8':>10s}{'slope':>8s}{draws:>12,d} walks, standard errors off"
          f"\n{'':40s}{'error of the spread by algebra':>40s}{'mean':>20s}{'spread':>8s}")
    for schedule, spacing, gamma in churns:
        t, name = churned(spacing, gamma)(schedules[schedule], 24), f"{schedule}, {spacing}, gamma {gamma}"
        plans = [divided(schedules[schedule], t, parts) for parts in (1, 2, 4, 8)]
        middles, e = zip(*((abs(middle - mean), spread/right_spread(at) - 1) for at in plans for middle, spread in [moments(at)]))
        slope = -np.polyfit(np.log([1, 2, 4, 8]), np.log(e), 1)[0]
        x, right = ends(plans[-1], 1, draws), right_spread(plans[-1])
        off = (x.mean() - mean)/right*draws**.5, (x.std()/right - 1)*(2*draws)**.5
        print(f"{name:40s}" + "".join(f"{v:10.1e}" for v in e) + f"{slope:8.2f}{off[0]:20.2f}{off[1]:8.2f}", flush=True)
        hold(np.max(middles) < 1e-10, f"churn on {name}: by algebra the mean is {max(middles):.1e} off")
        hold(abs(slope - 2) <= .15, f"churn on {name}: the spread comes right with order {slope:.2f} in the size of the steps down, theory says 2")
        hold(np.max(np.abs(off)) < 4, f"churn on {name}: mean and spread of the ends are {off[0]:.1f} and {off[1]:.1f} standard errors off")


def keys():
    "Another key gives other ends where there is churn, the same where gamma is 0."
    print(f"\n{'churn, two keys, 128 points':40s}{'steps up':>10s}{'by up to':>10s}{'ends apart':>12s}")
    for schedule, spacing, gamma in [*churns, *((*c[:2], 0.) for c in churns[::2])]:
        at, name = points(schedules[schedule], churned(spacing, gamma)(schedules[schedule], 128)), f"{schedule}, {spacing}, gamma {gamma}"
        up = np.asarray(at.sigma/at.alpha); up = up[1:]/up[:-1] - 1
        difference = np.sqrt(np.mean((ends(at, 1, 100) - ends(at, 2, 100))**2))
        print(f"{name:40s}{(up > 0).sum():10d}{max(up.max(), 0):10.1e}{difference:12.1e}")
        found = f"{(up > 0).sum()} steps up, by at most {up.max():.1e}; two keys give ends {difference:.1e} apart"
        hold((difference == 0) == (gamma == 0), f"churn on {name}: {found}")
        hold(abs(max(up.max(), 0) - gamma) < 1e-3, f"churn on {name}: steps up raise noise by {up.max()}")


def up_step():
    "One step to more noise: exact distribution at its end, and the right correlation with where it started."
    print(f"\n{'a step up alone':30s}{'variance, algebra':>18s}{'mean':>8s}{'spread':>8s}{'correlation':>13s}{'is':>8s}   (standard errors, value)")
    for name, start, end in (("edm", .3, .5), ("linear", .3, .5), ("flow", .3, .5), ("log_linear", .5, .52)):
        t, up = (NoiseLevel(*(v[0] for v in points(schedules[name], [time]))) for time in (start, end))
        memory = jnp.ones(()), jnp.ones(())
        step = lambda x, z: sampler_step(samplers["dpmpp_2m"], exact, x, t, up, memory, z)
        k, c = (float(step(jnp.asarray(x), jnp.asarray(z))[0]) for x, z in ((1., 0.), (0., 1.)))
        algebra = abs((k*spread(t))**2 + c**2 - spread(up)**2)/spread(up)**2
        before = t.alpha*mean + spread(t)*jax.random.normal(jax.random.key(1), (draws,))
        after, forgot = jax.vmap(lambda x, z: step(x, z)[0])(before, jax.random.normal(jax.random.key(2), (draws,))), step(t.alpha, t.alpha)[1]
        r, right = np.corrcoef(before, after)[0, 1], float(k*spread(t)/spread(up))
        off = [float(v) for v in ((after.mean() - up.alpha*mean)/spread(up)*draws**.5, (after.std()/spread(up) - 1)*(2*draws)**.5,
                                  (r - right)/(1 - right**2)*draws**.5)]
        print(f"{name:30s}{algebra:18.1e}{off[0]:8.2f}{off[1]:8.2f}{off[2]:13.2f}{right:8.3f}")
        hold(algebra < 1e-12, f"a step up on {name} ends with a variance that is {algebra:.1e} off")
        hold(abs(k - up.alpha/t.alpha) < 1e-12, f"a step up on {name} scales x by {k}, not by the ratio of the alphas")
        hold(np.max(np.abs(off)) < 4, f"a step up on {name} is {[round(v, 1) for v in off]} standard errors off in mean, spread and correlation")
        hold(all(float(v) == 0 for v in forgot), f"a step up on {name} keeps the sampler's memory")


def main():
    "All of it; what is off, in sentences."
    for part in parity, last_of_large, formulas, orders, up_step, churn, keys: part()
    sys.exit("\n".join(wrong) or 0)


if __name__ == "__main__": main()
