"""What public functions do with the arguments that they are given, sensible ones and wild ones.

    python tests/long/arguments.py [cases]

Each case calls one public function with arguments drawn by Hypothesis: sensible ones first, of which none, one or two are then spoiled (another type, NaN,
infinite, zero, negative, huge, another shape or dtype, nothing at all). A call with sensible arguments has to give a right result, judged by something simpler
than the function itself. A call with spoiled ones has to give a right result, too, or be refused with one sentence that names a spoiled argument; then nothing
may have been written. Every public door is judged here: what `unetdiff` itself hands out, what checks its arguments (`checked`), and the public methods of a run.
Each door is also called with misspelt keywords, and has to name the nearest. Always the same cases; so many in all (2000), most of them with
cheap functions: a minute on two cores. A smaller number makes it shorter.
"""
import contextlib
import difflib
import faulthandler
import inspect
import io
import json
import math
import os
import re
import sys
import tempfile
import time
import warnings
import zlib
from functools import cache, partial
from pathlib import Path

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "1") # more devices would only compile more
os.environ.setdefault("MPLBACKEND", "agg")
sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import sampled_from
from PIL import Image
from properties import same_cases

import unetdiff

unetdiff.keep_compiled() # before anything is compiled

from unetdiff import Recipe, Run, UNet, averaging, cli, data, diffusion, export, likelihood, metrics, onestep, presets, samplers, sampling, schedules, sharing, train, train_digits, training, unet, viz
from unetdiff.engine import arguments, checkpoints, convolution, devices, loop, optimizers, sources

# --- what is drawn

one = lambda *values: sampled_from(values)
nan, inf, zeros = np.nan, np.inf, np.zeros
wild = one(None, "", "x", True, False, [], [1], (1, 2), {}, b"x", object(), 1j, 1.5, nan, inf, -inf, -1, -2.5, 0, 0., 1, -2**70, 2**40, 10**30, 10**400, 1e300, 1e-300, -1e300,
           np.float16(nan), np.int8(-3), np.str_("3"), np.complex64(1j), np.datetime64("2020-01-01"), np.bool_(True), jnp.float32(.5), jnp.zeros(0), [[1], [2, 3]], ["a", "b"],
           zeros(0), zeros((0, 8, 8, 1)), np.array(nan), np.array([nan, 1.]), np.ones((2, 3)), np.ones((2, 3), complex), np.array(["a"]), np.array(None), np.ones((2, 8, 8, 1), bool))
seeds = one(0, 1, np.int64(7), 2**32 - 1), wild
switches = one(False, True), one(None, 1, "no", [])
counts = one(1, 2, 5, np.int32(3)), wild
numbers = lambda low, high: (st.floats(low, high, width=32), wild)

@cache
def real(): return [np.asarray(v) for v in unetdiff.digits()]

files = one(None, True, 1.5, b"x", [], "a\0b", "", object(), nan)

def some(n, labels=False): return (real()[1] if labels else real()[0])[5:5 + n]

def forms(n): # the same pictures, in the forms in which people have them
    x = some(n)
    return one(x, jnp.asarray(x), x.astype(np.float64), x.astype(np.float16), (x*255).round().astype(np.uint8), x[..., 0], x.tolist())

pictures = st.integers(1, 6).flatmap(lambda n: one(some(n), jnp.asarray(some(n)), some(n).astype(np.float64)))
spoiled_pictures = one(*[np.full((2, 8, 8, 1), v) for v in (nan, inf, -1., 1.5, 255.)], np.ones((2, 8, 8, 1), int), zeros((2, 7, 8, 1)), zeros((2, 8, 8, 3)), zeros((2, 8, 8, 0)),
                       zeros((1, 2, 8, 8, 1)), zeros((8, 8)), np.full((2, 8, 8, 1), "a"), np.full((2, 8, 8, 1), None)) | wild

# --- how a case is judged

properties, names = [], set()

def holds(covers, f, share, /, *, blame={}, **arguments):
    "The decorated function judges what `f` returns; arguments are (sensible, spoiled), `share` is the share of cases, `blame` who else may be named."
    names.update(covers.split())
    return lambda right: properties.append((covers.split()[0], f, share, blame, arguments, right))

def refused(error, blamed):
    "Is it a refusal in one sentence that names one of these arguments, or Python's own that one is missing or unknown?"
    text = str(error).removeprefix("unetdiff: ") if isinstance(error, SystemExit) else str(error)
    named = re.match(r"([\w, ]+): got .+, but takes .+$", text)
    if isinstance(error, TypeError) and not named: return bool(blamed) and bool(re.match(r"(.*\(\) )?(got an unexpected|missing|got multiple|takes)", text))
    return isinstance(error, (ValueError, TypeError, SystemExit)) and bool(named) and bool(set(named[1].split(", ")) & set(blamed))

def shown(v): return " ".join(f"{type(v).__name__}{v.shape} {v.dtype} {v.ravel()[:2]}".split()) if hasattr(v, "dtype") and np.ndim(v) else repr(v)[:100]

def judge(case, f, blame, arguments, right):
    "One case: right (True) or refused (False); anything else is an error."
    sane = {}
    for k, (good, _) in arguments.items(): sane[k] = case.draw(good if isinstance(good, st.SearchStrategy) else good(sane))
    can = [k for k, (_, bad) in arguments.items() if bad is not None]
    how_many = min(len(can), case.draw(one(0, 0, 1, 1, 2)))
    spoiled = case.draw(st.sets(sampled_from(can), min_size=how_many, max_size=how_many)) if how_many else set()
    args = sane | {k: case.draw(arguments[k][1]) for k in spoiled}
    call = ", ".join(f"{k}={'(spoiled) '*(k in spoiled)}{shown(v)}" for k, v in args.items())
    faulthandler.dump_traceback_later(300, exit=True, file=sys.__stderr__) # nothing may hang
    try: result = f(**args)
    except (Exception, SystemExit) as e:
        names_inside = [args[k] for k in spoiled if isinstance(args[k], dict)] # a sentence may name an entry of a dictionary
        blamed = spoiled.union(*(blame.get(k, ()) for k in spoiled), *names_inside)
        if not refused(e, blamed): raise AssertionError(f"{call}\n    {'names none of these: ' + str(blamed) if refused(e, set(args)) else ''} {type(e).__name__}: {str(e)[:300]}") from e
        if os.listdir(): raise AssertionError(f"{call}\n    was refused and wrote {os.listdir()}") from e
        return False
    try: right(result, **args)
    except Exception as e: raise AssertionError(f"{call}\n    gave {shown(result)}: {type(e).__name__} {e}") from e
    return True

def run_property(name, f, blame, arguments, right, cases):
    "So many cases of one property: [refused, right]; always the same."
    outcomes = [0, 0]
    @same_cases(cases, zlib.crc32(name.encode()), report_multiple_bugs=False)
    @given(st.data())
    def test(case):
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            outcomes[judge(case, f, blame, arguments, right)] += 1
    test()
    return outcomes

def close(a, b, tolerance=1e-5):
    a, b = np.asarray(a, float), np.asarray(b, float)
    assert a.shape == b.shape, f"shapes {a.shape} and {b.shape}"
    assert np.allclose(a, b, tolerance, tolerance), f"off by {np.abs(a - b).max()}"

def are_pictures(x, *shape):
    x = np.asarray(x)
    assert x.dtype == np.float32 and x.shape == shape, f"{x.dtype} of shape {x.shape}, not {shape}"
    assert np.isfinite(x).all() and 0 <= x.min() and x.max() <= 1, f"pixels from {x.min()} to {x.max()}"

def as_pictures(images): # the simple way
    x = np.asarray(images)
    return (x/255 if x.dtype == np.uint8 else x).astype(np.float32).reshape(*x.shape[:3], -1)

# --- 00 data

@holds("arguments.whole", arguments.whole, 60, v=(wild, None), lowest=(one(0, 1, 2), None))
def _(got, v, lowest): assert got is bool(type(v) is not bool and isinstance(v, (int, np.integer)) and lowest <= v < 2**32)

@holds("arguments.number", arguments.number, 60, v=(wild | st.floats(), None), lowest=(one(-inf, 0, .5), None))
def _(got, v, lowest):
    plain = isinstance(v, (int, float, np.integer, np.floating)) and not isinstance(v, bool)
    assert got is bool(plain and abs(v) < 1e18 and v >= lowest)

@holds("arguments.rising", arguments.rising, 40, low=(wild, None), high=(wild, None), lowest=(one(-1e18, 0), None), highest=(one(1e18, inf), None))
def _(got, low, high, lowest, highest):
    plain = all(isinstance(v, (int, float, np.integer, np.floating)) and not isinstance(v, bool) for v in (low, high))
    assert got is bool(plain and lowest <= low <= high <= highest and abs(low) < 1e18 and (abs(high) < 1e18 or high == inf))

@holds("arguments.as_array", lambda v, ndims: arguments.as_array(v, "v", *ndims), 60, v=(one([1, 2], np.ones((2, 3)), jnp.zeros(4), [[True, False]]), wild), ndims=(one((), (1, 2)), None))
def _(got, v, ndims): assert got.dtype.kind in "iufb" and np.isfinite(got).all() and (not ndims or got.ndim in ndims) and np.array_equal(got, np.asarray(v))

@holds("arguments.choose", lambda choice: arguments.choose(dict(one=abs, two=max), choice, "choice"), 30, choice=(one("one", "two", min), wild))
def _(got, choice): assert got is dict(one=abs, two=max).get(choice, choice) and callable(got)

@holds("arguments.as_images", arguments.as_images, 80, images=(st.integers(1, 4).flatmap(forms), spoiled_pictures))
def _(x, images):
    are_pictures(x, *np.shape(images)[:3], *(np.shape(images)[3:] or (1,)))
    close(x, as_pictures(images), 1e-3)

@holds("arguments.as_labels", arguments.as_labels, 60, blame=dict(n=["labels"]), n=counts, labels=(lambda a: one(np.arange(a["n"]), list(range(a["n"])), jnp.ones(a["n"], jnp.uint8), zeros(a["n"], np.int8)), wild | one([2**33], [-1])))
def _(y, n, labels): assert y.dtype == np.int32 and y.shape == (n,) and (y == np.asarray(labels)).all() and y.min() >= 0

@holds("data.digits", data.digits, 15, digit=(one(None, *range(10), np.int64(3)), wild))
def _(got, digit):
    are_pictures(got[0], len(got[1]), 8, 8, 1)
    assert got[1].dtype == jnp.int32 and set(np.asarray(got[1]).tolist()) == (set(range(10)) if digit is None else {int(digit)})

not_numbers = one("a", None, [["a"]], np.array(["a"]), {})
ends = dict(lo=(one(-1., 0., -1, np.float32(-2)), wild), hi=(one(1., 2, np.float64(.5)), wild), blame=dict(lo=["hi"], hi=["lo", "hi"]))

@holds("data.to_range", data.to_range, 30, images=(pictures, not_numbers), **ends)
def _(x, images, lo, hi): close(x, lo + (hi - lo)*np.asarray(images, float), 1e-4)

@holds("data.from_range", data.from_range, 30, x=(pictures.map(lambda x: 4*x - 2), not_numbers), **ends)
def _(y, x, lo, hi): close(y, ((np.asarray(x, float) - lo)/(hi - lo)).clip(0, 1), 1e-4)

@holds("data.split", data.split, 70, blame=dict(images=["labels", "test_size"], test_size=["images"]), images=(st.integers(2, 60).map(some) | one(30).map(lambda n: jnp.asarray(some(n))), spoiled_pictures),
       labels=(lambda a: one(None, some(len(a["images"]), True), zeros(len(a["images"]), int), jnp.asarray(some(len(a["images"]), True))), wild), test_size=(one(.05, .1, .3, .5), one(.999, 1, 5, 1e-9) | wild), seed=seeds)
def _(got, images, labels, test_size, seed):
    x, test_x, y, test_y = got
    n, held = len(images), len(test_x)
    assert len(x) + held == n and len(x) and held == int(np.ceil(np.float64(test_size)*n)), f"{len(x)} and {held} of {n}"
    assert sorted(np.asarray(v).tobytes() for part in (x, test_x) for v in part) == sorted(np.asarray(v).tobytes() for v in images), "all pictures should come back, once"
    if labels is None: assert y is None and test_y is None
    else: assert np.array_equal(np.sort(np.concatenate([y, test_y])), np.sort(labels)) and len(y) == len(x)

@holds("data.draw_batch", lambda seed, images, labels, batch_size: data.draw_batch(seed, images, labels, batch_size), 40, seed=(st.integers(0, 99).map(jax.random.key), wild), images=(pictures, None),
       labels=(lambda a: one(None, some(len(a["images"]), True)), None), batch_size=(one(None, 1, 3, 9), wild), blame=dict(seed=["key"]))
def _(got, seed, images, labels, batch_size):
    x, y = got
    rows = [np.flatnonzero((np.asarray(images) == np.asarray(v)).all((1, 2, 3))) for v in x]
    assert len(x) == (len(images) if batch_size is None else batch_size) and all(map(len, rows))
    assert (y is None) == (labels is None) and (y is None or all(v in labels[r] for v, r in zip(y, rows)))

@holds("data.show_images", data.show_images, 50, blame=dict(images=["titles"]), images=(pictures | pictures.map(lambda x: np.asarray(x)[..., 0]) | pictures.map(lambda x: np.repeat(x, 3, 3)*3 - 1), spoiled_pictures),
       cols=(one(None, 1, 2, 7), wild), titles=(lambda a: one(None, ["a"]*len(a["images"])), wild), size=(one(1., .5, 2), wild), interpolation=(one(None, "gaussian", "nearest"), wild))
def _(fig, images, cols, titles, size, interpolation):
    assert np.isfinite(images).all()
    drawn = [ax.images[0] for ax in fig.axes if ax.images]
    assert len(drawn) == len(images) and len(fig.axes) % (cols if cols and cols <= len(images) else 1) == 0
    for im, x in zip(drawn, np.asarray(images, float)):
        assert im.get_clim() == (0, 1) or im.get_array().ndim == 3
        close(im.get_array(), x.clip(0, 1)[..., 0] if x.ndim == 3 and x.shape[2] == 1 else x.clip(0, 1))
    if titles is not None: assert [ax.get_title() for ax in fig.axes][:len(images)] == list(titles)

@holds("sources.pictures sources.Pictures", sources.pictures, 40, source=(st.integers(1, 4).flatmap(forms).filter(lambda x: not isinstance(x, list)) | st.integers(1, 4).map(lambda n: [(x, i) for i, x in enumerate(some(n))]), wild | one([3, 4], "no folder", [zeros((8, 8)), zeros((7, 8))], [np.full((8, 8), nan)])),
       labels=(lambda a: one(None, list(range(len(a["source"])))), wild), size=(one(None), wild | one((0, 3), (4,), (4, 4), 4)), channels=(one(None, 1), wild | one(3, 2)), blame=dict(source=["images", "labels"], size=["images"], channels=["size", "images"]))
def _(got, source, labels, size, channels):
    x = np.asarray(got)
    assert x.shape == got.shape and len(got) == len(source) and x.dtype in (np.uint8, np.float32) and 0 <= x.min() and np.isfinite(x).all() and x.max() <= (255 if x.dtype == np.uint8 else 1)
    assert size is None or x.shape[1:3] == (tuple(size) if isinstance(size, (tuple, list)) else (size, size))
    assert labels is None or list(got.labels) == list(labels)

# --- 01 unet

@holds("unet.sinusoidal unet.TimeEmbedding", unet.sinusoidal, 30, t=(st.lists(st.floats(0, 999, width=32), min_size=1, max_size=5).map(np.float32), one("a", None, np.ones((2, 2)), 3., np.array(["a"]))), dim=(one(4, 6, 128), wild | one(2, 3, 5)))
def _(got, t, dim):
    omega = 10000**(-np.arange(dim//2)/(dim//2 - 1))
    close(got, np.concatenate([f(np.asarray(t, float)[:, None]*omega) for f in (np.sin, np.cos)], -1), 1e-3)

def shape_of(size, channels, out_channels, label, **how):
    model = nnx.eval_shape(lambda: UNet(channels, out_channels, rngs=nnx.Rngs(0), **how))
    a = lambda s, d: jax.ShapeDtypeStruct(s, d)
    return nnx.eval_shape(lambda m, *v: m(*v), model, a((2, *size, channels), jnp.float32), a((2,), jnp.float32), *[a((2,), jnp.int32)]*label)

@holds("unet.UNet unet.ResBlock unet.SelfAttention unet.downsample unet.upsample", lambda in_channels, out_channels, size, classes, **how: shape_of(size, in_channels, out_channels, classes is not None, classes=classes, **how), 70,
       size=(one((8, 8), (16, 4), (4, 8)), one((7, 8), (5, 5), (1, 8), (6, 6))), in_channels=counts, out_channels=counts, features=(one(4, 8, 12), wild | one(3)), channel_mults=(one((1,), (1, 2), [2, 1]), wild | one((0,), (-1,), (1.5,), ("a",))),
       attention_levels=(lambda a: one((), (0,), [len(a["channel_mults"]) - 1]), one(1, "x", ("a",), (1.5,), (-1,), (2,))), time_emb_dim=(one(4, 16), wild | one(5, 2)), heads=(one(1, 2, 4), wild | one(3, 7)), plain_attention=(switches[0], one(None, 3, "x", [])),
       time_everywhere=(switches[0], one(None, 3, "x", [])), classes=(one(None, 1, 10), wild), dtype=(one("float32", "bfloat16"), wild), blame=dict(size=["images"], features=["heads"], channel_mults=["heads", "attention_levels"]))
def _(got, in_channels, out_channels, size, **_): assert got.shape == (2, *size, out_channels) and got.dtype == jnp.float32

@holds("unet.init unet.count_params", lambda seed: unet.init(partial(UNet, 1, 1, 4, channel_mults=(1,), attention_levels=()), seed), 12, seed=seeds)
def _(model, seed):
    params = jax.tree.leaves(nnx.state(model, nnx.Param))
    assert unet.count_params(model) == sum(p.size for p in params) and all(np.isfinite(p).all() for p in params)
    assert all((p == p.ravel()[0]).all() for p in params if p.ndim == 1) and any(np.std(p) > 0 for p in params if p.ndim > 1)

@holds("convolution.conv3x3", lambda x, kernel: (convolution.conv3x3(x, kernel), convolution.conv_xla(x, kernel)), 8, x=(one((1, 1, 1, 1), (2, 2, 2, 8), (1, 4, 4, 8), (1, 5, 3, 4)).map(lambda s: np.sin(np.arange(np.prod(s), dtype=np.float32)).reshape(s)), None),
       kernel=(lambda a: one(1, 8).map(lambda d: np.cos(np.arange(9*a["x"].shape[3]*d, dtype=np.float32)).reshape(3, 3, -1, d)), None))
def _(got, **_): close(*got, 1e-3)

# --- 02 diffusion

inside = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=6)
curves, arrays = one(*schedules), one(lambda v: np.array(v), lambda v: jnp.array(v))

@holds("diffusion.Schedule diffusion.schedules", lambda name, t, of: (lambda s: (s.curves(t if t is None or isinstance(t, str) else of(t)), s.log_snr(of(t)), s))(schedules[name]), 80, name=(curves, None), t=(inside.map(sorted), one("a", None)), of=(arrays, None))
def _(got, name, t, of):
    (alpha, sigma), log_snr, s = got
    alpha, sigma, log_snr = (np.asarray(v, float) for v in (alpha, sigma, log_snr))
    assert alpha.shape == sigma.shape == np.shape(t) and (alpha > 0).all() and (sigma > 0).all() and np.isfinite(log_snr).all() and (np.diff(log_snr) <= 1e-4).all()
    close(2*np.log(alpha/sigma), log_snr, 1e-2), close(s.alpha(of(t)), alpha), close(s.sigma(of(t)), sigma)
    if isinstance(of(t), np.ndarray): close(s.log_snr(s.time(s.log_snr(of(t)))), log_snr, .1)
    assert len(s.grid()) == s.T

tables = one([.1, .2, .3], np.linspace(1e-4, .02, 50), [1e-3, 1.], jnp.array([.1, .5]))
bad_tables = one([.1, 1.5], [-.1, .2], [nan, .1], [0., .1], [.5], [[.1, .2]], [1e-30, .1], 3., ["a", "b"]) | wild

@holds("diffusion.from_betas", diffusion.from_betas, 40, betas=(tables, bad_tables))
def _(s, betas):
    b, (alpha, sigma) = np.asarray(betas, float), s.curves(s.grid())
    close(alpha**2, np.maximum(np.cumprod(1 - b), 1e-17)), close(alpha**2 + sigma**2, np.ones(len(b)))
    assert np.isfinite(s.log_snr(s.grid())).all()

@holds("diffusion.rescale_zero_terminal_snr", diffusion.rescale_zero_terminal_snr, 40, betas=(one([.1, .2, .3], np.linspace(1e-4, .02, 50)), bad_tables))
def _(got, betas):
    assert got.shape == np.shape(betas) and got[-1] == 1 and np.isfinite(got).all() and (0 <= got).all() and (got <= 1).all()
    close(got[0], betas[0], 1e-3)

@holds("diffusion.linear_betas", diffusion.linear_betas, 40, T=(one(2, 10, 1000), wild), first=(one(1e-4, .01), wild), last=(one(.02, .9), wild), blame=dict(first=["last"], last=["first"]))
def _(got, T, first, last): close(got, first + (last - first)*np.arange(T)/(T - 1)); assert (np.diff(diffusion.from_betas(got).log_snr(np.linspace(0, 1, T))) <= 0).all()

@holds("diffusion.curve_betas diffusion.cosine_curve diffusion.sigmoid_curve", diffusion.curve_betas, 40, f=(one(diffusion.cosine_curve, diffusion.sigmoid_curve), one("cosine", None, 3)), T=(one(2, 10, 1000), wild), lowest=(one(0., 1e-4), wild), highest=(one(.999, .02), wild), blame=dict(lowest=["highest"], highest=["lowest"]))
def _(got, f, T, lowest, highest):
    exact = np.array([1 - f((i + 1)/T)/f(i/T) for i in range(T)])
    close(got, exact.clip(lowest, highest), 1e-9)

@holds("diffusion.edm_sigma", lambda t, low, high, rho: diffusion.edm_sigma(np.array(t), low, high, rho), 30, t=(inside, None), low=(one(.002, .03), None), high=(one(40., 80), None), rho=(one(7., 3), None))
def _(got, t, low, high, rho):
    assert (got >= low*(1 - 1e-6)).all() and (got <= high*(1 + 1e-6)).all()
    close(got**(1/rho), low**(1/rho) + np.array(t)*(high**(1/rho) - low**(1/rho)))

@holds("diffusion.log_linear", diffusion.log_linear, 40, low=(one(.002, 1e-3), wild), high=(one(80., 500), wild), blame=dict(low=["high"], high=["low"]))
def _(s, low, high): close(s.log_snr(np.array([0., .5, 1.])), -2*np.log([low, (low*high)**.5, high]))

@holds("diffusion.flow_matching diffusion.edm", diffusion.flow_matching, 20, edge=(one(1e-4, .01), wild))
def _(s, edge):
    close(s.alpha(np.array([.3, .5])), [.7, .5]), close(s.sigma(np.array([.3, .5])), [.3, .5])
    assert np.isfinite(s.log_snr(np.array([0., 1.]))).all()

def few(n=2): return np.random.default_rng(n).standard_normal((n, 4, 4, 1)).astype(np.float32)

other_shapes = one(few(1), few(3), few()[..., 0], few()[:, :1], np.float32(1), "a", None, np.array(["a"]))
times2 = (one(np.float32([.1, .9]), jnp.array([.5, .2])), one(np.float32([.5]), np.float32([[.1, .2]]), np.float32(.5), np.ones(3, np.float32), "a", None))
noise2 = one(few()[::-1]), other_shapes

@holds("diffusion.add_noise", lambda name, x_0, t, eps: diffusion.add_noise(schedules[name], x_0, t, eps), 40, name=(curves, None), x_0=(one(few(), jnp.asarray(few())), other_shapes), t=times2, eps=noise2, blame=dict(x_0=["t", "eps"], t=["eps"]))
def _(x_t, name, x_0, t, eps):
    alpha, sigma = (np.reshape(v, (-1, *[1]*(x_0.ndim - 1))) for v in schedules[name].curves(t))
    assert x_t.shape == x_0.shape == eps.shape
    close(x_t, alpha*x_0 + sigma*eps)

pairs = [diffusion.predictions[name] for name in diffusion.predictions]

@holds("diffusion.convert diffusion.predictions", lambda a, b, alpha, s: (lambda sigma, x, e: (lambda p, q: (diffusion.convert(p[0]*x + p[1]*e, alpha*x + sigma*e, alpha, sigma, p, q), q[0]*x + q[1]*e))(a(alpha, sigma, s), b(alpha, sigma, s)))((1 - alpha**2)**.5, 3., -2.), 40,
       a=(one(*pairs), None), b=(one(*pairs), None), alpha=(st.floats(.05, .95), None), s=(one(.5, 1.), None))
def _(got, **_): close(*got, 1e-6)

@holds("diffusion.weight diffusion.weightings", lambda w, p, alpha, s: diffusion.weight(diffusion.weightings[w], diffusion.predictions[p], jnp.array([alpha]), jnp.array([(1 - alpha**2)**.5]), s), 30, w=(one(*diffusion.weightings), None), p=(one(*diffusion.predictions), None), alpha=(st.floats(.01, .99), None), s=(one(.5, 1.), None))
def _(got, **_): assert got.shape == (1,) and np.isfinite(got).all() and (got >= 0).all()

@holds("diffusion.time_samplers diffusion.lognormal_times diffusion.early_first_times", lambda name, u, progress, schedule: diffusion.time_samplers[name](jnp.array(u), progress, schedules[schedule]), 40, name=(one(*diffusion.time_samplers), None), u=(inside, None), progress=(one(0., .5, 1.), None), schedule=(curves, None))
def _(t, u, **_): assert t.shape[:1] == np.shape(u) and np.isfinite(t).all() and (0 <= t).all() and (t <= 1).all()

@holds("diffusion.stratified_uniforms", lambda key, n: diffusion.stratified_uniforms(key, n), 30, key=(st.integers(0, 99).map(jax.random.key), wild), n=(st.integers(1, 40), wild))
def _(u, key, n): close(np.diff(np.sort(u)), np.full(n - 1, 1/n), 1e-4); assert u.shape == (n,) and (0 <= u).all() and (u <= 1).all()

own = lambda table: one(*table, *list(table.values())[:1])
bad_nets = [dict(features=0), dict(width=3), dict(channel_mults="x"), dict(heads=3), dict(features=nan)]

@holds("diffusion.Process", diffusion.Process, 60, schedule=(own(schedules), wild), prediction=(one("x0", "v", "flow"), wild | one("eps")), weighting=(own(diffusion.weightings), wild), time_sampler=(own(diffusion.time_samplers), wild), sigma_data=(one(.5, .75, 1), wild), blame=dict(schedule=["prediction"]))
def _(p, **_):
    alpha, sigma, (a, b) = p.at(np.linspace(0, 1, 5), zeros((5, 2, 2, 1)))
    assert np.shape(alpha) == (5, 1, 1, 1) and np.isfinite(a + 0*alpha).all() and (abs(alpha*b - sigma*a) > 0).all()

@holds("diffusion.predict diffusion.denoise", lambda x_t, t: (diffusion.denoise(diffusion.Process(), lambda x, step, *label: .5*x, x_t, t), diffusion.predict(diffusion.Process(), lambda x, step, *label: step[:, None, None, None]*x**0, x_t, t)), 25, x_t=(one(few()), other_shapes), t=times2, blame=dict(x_t=["t"]))
def _(got, x_t, t):
    x_0, steps = got
    alpha, sigma, (a, b) = diffusion.Process().at(np.asarray(t), x_t)
    p = .5*x_t/np.hypot(.75*alpha, sigma)
    eps = (x_t - alpha*x_0)/sigma
    assert x_0.shape == x_t.shape and len(t) == len(x_t)
    close(a*x_0 + b*eps, p, 1e-3), close(np.ravel(steps)[::steps[0].size], 999*np.asarray(t), 1e-4)

@holds("diffusion.draw_noise", lambda key, n, times, progress: diffusion.draw_noise(diffusion.Process(time_sampler=times), key, zeros((n, 2, 3, 1)), progress), 15, key=(st.integers(0, 99).map(jax.random.key), wild), n=(one(1, 2, 5), None), times=(one(*diffusion.time_samplers), None), progress=(one(0., 1.), None))
def _(got, n, **_): assert got[0].shape[:1] == (n,) and got[1].shape == (n, 2, 3, 1) and all(np.isfinite(v).all() for v in got)

@holds("diffusion.loss", lambda x_0, t, eps, penalty: diffusion.loss(diffusion.Process("linear", "eps"), lambda x, step, *label: 0*x, x_0, t, eps, gradient_penalty=penalty), 25, x_0=(one(few()), other_shapes), t=times2, eps=noise2, penalty=(one(0., .02), None), blame=dict(x_0=["t", "eps"], t=["eps"]))
def _(got, x_0, t, eps, penalty): assert x_0.shape == eps.shape; close(got, np.mean(eps**2), 1e-4)

# --- 03 training

@holds("optimizers.muon", optimizers.muon, 15, steps=(one(1, 10, 4000), wild), lr=(one(1e-3, .1), wild), warmup=(one(0., .05, 1.), wild), clip=(one(1., .5), wild), beta=(one(.9, .95), wild), times=(one(1, 3, 5), wild))
def _(opt, **_):
    g = {"a": jnp.array([3., .1]), "b": jnp.eye(16)}
    u, memory = opt.update(g, opt.init(g), g)
    assert all(np.isfinite(v).all() for v in opt.update(g, memory, g)[0].values())

@holds("training.adamw optimizers.clipped_adamw", training.adamw, 30, steps=(one(1, 10, 4000), wild), lr=(one(1e-3, .1), wild), warmup=(one(0., .05, 1.), wild), clip=(one(1., .5), wild), weight_decay=(one(0., 1e-4), wild))
def _(opt, **_):
    g = {"a": jnp.array([3., .1])}
    u, memory = opt.update(g, opt.init(g), g)
    assert np.isfinite(opt.update(g, memory, g)[0]["a"]).all()

fields = dict(schedule=(own(schedules), wild), prediction=(one("x0", "v", "flow"), wild), weighting=(own(diffusion.weightings), wild), time_sampler=(own(diffusion.time_samplers), wild), loss=(one("denoising"), wild), dtype=(one("float32", "bfloat16"), wild),
              shift=(one(1., 2.5), wild), sigma_data=(one(.5, 1), wild), pixel_range=(one((-1., 1.), (0, 2.), (0., 1)), wild | one((1., -1.), (0., 0.), (0., nan), ("a", "b"), (0.,), (-inf, 1.))), gradient_penalty=(one(0., .02), wild), label_dropout=(one(0., .1, .99), wild), flips=(one(False, True), wild), augment=(one(0., .3, 1), wild),
              optimizer=(own(training.optimizers), wild), steps=(one(1, 4000), wild), batch_size=(one(None, 1, 32), wild), averaging=(one(None, 17., (17., 7.), 3), wild | one((nan,), ("a",), (-1.,), ())), test_size=(one(.05, .5), wild),
              log_every=counts, grad_accum_steps=(one(1), wild), sampler=(own(samplers), wild), sample_steps=counts, spacing=(own(sampling.spacings), wild), guidance=(one(1., 0, -1., 3.), wild), interval=(one((0., .6), (0, inf), (.5, .5)), wild | one((nan, 1.), (2., 1.), (-1., 1.), ("a", 1), (1.,))),
              thresholding=(own(sampling.thresholdings), wild), net=(one(dict(features=4, channel_mults=(1,), attention_levels=())), wild.filter(lambda v: not isinstance(v, dict))))

@holds("training.Recipe training.presets", Recipe, 160, **fields, blame=dict(schedule=["prediction"], net=["features", "channel_mults", "heads", "width"]))
def _(r, **given):
    for k, v in given.items(): assert getattr(r, k) is v or getattr(r, k) == v
    p, averages = r.process, (None,) if r.averaging is None else np.ravel(r.averaging)
    assert len(r.exponents) == len(averages) and isinstance(p.schedule, diffusion.Schedule) and callable(p.prediction)

@holds("training.average_decay", training.average_decay, 15, i=(st.integers(0, 5000), None), exponent=(one(None, 0., 7., 17.), None))
def _(got, i, exponent): close(got, 0 if exponent is None else (i/(i + 1))**(exponent + 1))

@holds("devices.mesh_for", devices.mesh_for, 10, batch_size=counts)
def _(mesh, batch_size): assert batch_size % mesh.size == 0 and mesh.size <= jax.device_count()

@holds("optimizers.rate_after", optimizers.rate_after, 5, done=(st.integers(1, 100), None), steps=(one(1, 100, np.int64(9)), None), lr=(one(.1, 1.), None))
def _(rate, done, steps, lr): assert 0 < rate < lr

@holds("loop.make_history", lambda loss, n: loop.make_history(loss, [(i, v) for i, v in enumerate(loss, 1) if i % n == 0 or i == len(loss)]), 10, loss=(st.lists(st.floats(0, 100, width=32), min_size=1, max_size=20), None), n=(one(1, 3), None))
def _(h, loss, n):
    mean = loss[0]
    for v in loss[1:]: mean = .99*mean + .01*v
    close(h["loss_ema"][-1], mean, 1e-4)
    assert {len(h[k]) for k in ("step", "loss", "loss_ema")} == {len(loss)} and len(h["test_step"]) == len(h["test_loss"]) and h["test_step"][-1] == len(loss)

@holds("averaging.exponent", averaging.exponent, 40, std=(st.floats(.001, .28), wild | one(12**-.5, .3)))
def _(g, std): close((g + 1)**.5/((g + 2)*(g + 3)**.5), std, 1e-4); assert g >= 0

@holds("averaging.overlap", averaging.overlap, 15, t_a=(one(1., 10.), None), a=(st.floats(0, 20), None), t_b=(one(1., 7.), None), b=(st.floats(0, 20), None))
def _(got, t_a, a, t_b, b):
    t = (np.arange(200_000) + .5)/200_000*min(t_a, t_b)
    close(got, ((a + 1)*t**a/t_a**(a + 1)*(b + 1)*t**b/t_b**(b + 1)).mean()*min(t_a, t_b), 1e-3)

@holds("devices.keep_compiled", lambda folder: (lambda old: (devices.keep_compiled(folder), jax.config.update("jax_compilation_cache_dir", old))[0])(jax.config.jax_compilation_cache_dir), 12, folder=(one("a", Path("b/c")), wild | files))
def _(got, folder): assert folder is None or got == os.path.abspath(folder)

class Least(nnx.Module): # the least network there can be; it compiles at once
    def __init__(self): self.by, self.of = nnx.Param(jnp.float32(.1)), nnx.Param(jnp.zeros(11))
    def __call__(self, x, t, label=None): return (self.by[...] if label is None else self.by[...] + self.of[...][label][:, None, None, None])*x

small = dict(steps=2, log_every=1, batch_size=8, averaging=(17., 7.))
presets["small"] = Recipe(net=dict(features=4, channel_mults=(1,), attention_levels=()), **small)

@cache
def run(labels=True): return train(some(40), some(40, True) if labels else None, model=Least(), **small, progress=False)

@cache
def digits_run(): return train_digits(preset="small", progress=False)

def is_run(r, shape, classes, steps=2):
    assert isinstance(r, Run) and r.classes == classes and tuple(r.info["shape"]) == shape and len(r.history["loss"]) == steps and np.isfinite(r.history["loss"]).all()
    assert all(np.isfinite(p).all() for p in jax.tree.leaves(nnx.state(r.model, nnx.Param))) and str(classes) in repr(r)


one_bad = lambda *but: sampled_from([k for k in fields if k not in but]).flatmap(lambda k: fields[k][1].map(lambda v: {k: v}))

@holds("training.train checkpoints.Checkpoints Run.classes Run.names Run.seen_names Run.metrics", lambda images, labels, changed, **how: train(images, labels, **small | changed, **how, progress=False), 50, images=(forms(40), spoiled_pictures), labels=(lambda a: one(None, some(40, True), [2**33]*40, ["a", "b"]*20), wild | one([None, 1]*20, [.5]*40)),
       changed=(one({}, dict(net=presets["small"].net)), one_bad("steps", "log_every", "batch_size") | one(dict(width=3), dict(step=3), *[dict(net=net) for net in bad_nets])), model=(one(True, True, True, None).map(lambda v: v and Least()), one("x", 3, run, object(), UNet, nnx.Linear(3, 3, rngs=nnx.Rngs(0)))),
       seed=seeds, out=(one(None, "a", Path("b/c")), files), resume=switches, checkpoints=(one({}, dict(every=1)), wild | one(dict(every=0), dict(minutes=nan), dict(keep="x"), dict(often=3))), callback=(one(None, print), one("x", 3, [])),
       blame=dict(images=["labels"], changed=[*fields, "features", "channel_mults", "heads"], out=["path"]))
def _(r, images, labels, changed, out, **_):
    is_run(r, (8, 8, 1), None if labels is None else len({*labels}))
    assert r.names is None if labels is None else r.names == sorted({*labels})
    assert r.seen_names == r.names
    assert all(np.isfinite(v) for v in r.metrics.values())
    assert not out or (Path(out)/"run.json").is_file()

@holds("training.train_digits", lambda digit, preset, steps, seed, dtype, out, resume: train_digits(digit, preset=preset, steps=steps, seed=seed, dtype=dtype, out=out, resume=resume, progress=False), 40,
       digit=(one(None, 3), wild), preset=(one("small", presets["small"]), wild), steps=(one(None, 2), wild.filter(lambda v: v is not None)), seed=seeds, dtype=(one("float32"), wild), out=(one(None, "a"), files), resume=switches, blame=dict(preset=["digit"], digit=["preset"]))
def _(r, digit, steps, **_): is_run(r, (8, 8, 1), 10 if digit is None else None, steps or 2)

@holds("Run.save", lambda path: (run().save(path), unetdiff.load(path, model=Least()))[1], 15, path=(one("a", "b/c", Path("d")), files))
def _(r, **_):
    is_run(r, (8, 8, 1), 10)
    assert all(np.array_equal(a, b) for a, b in zip(*(jax.tree.leaves(checkpoints.network_arrays(v.model)) for v in (r, run()))))

@holds("training.load", lambda path, changed: unetdiff.load(path, **changed), 30, path=(one(None), files.filter(lambda v: v is not None) | one("nothing here", zeros(3))), changed=(one({}, dict(steps=4000)), one_bad() | one(dict(width=3), dict(model=3))), blame=dict(changed=[*fields, "features", "channel_mults", "heads", "path", "model"]))
def _(r, **_): assert r.classes == 10

@holds("Run.labels_for", lambda n, label, seed, labels: run(labels).labels_for(n, label, seed), 50, labels=(one(True, False), None), n=counts, label=(lambda a: one(None, 3, np.int64(9), [1]*int(a["n"]), jnp.ones(int(a["n"]), int)) if a["labels"] else one(None), wild | one(10, [1]*9)), seed=seeds, blame=dict(n=["label"]))
def _(y, n, label, seed, labels):
    assert (y is None) if not labels else y.dtype == np.int32 and y.shape == (n,) and (0 <= y).all() and (y < 10).all() and (label is None or (y == np.asarray(label)).all())

@holds("Run.averaged", lambda std: run().averaged(std), 12, std=(st.floats(.05, .25), wild))
def _(r, std): is_run(r, (8, 8, 1), 10)

# --- 04 sampling

falling = lambda t: (np.diff(t) <= 1e-7).all() and (0 <= t).all() and (t <= 1 + 1e-7).all()

@holds("sampling.ratio_times sampling.spacings", lambda name, n, low, high: sampling.ratio_times(schedules[name], n, high, low), 60, name=(curves, None), n=(one(1, 2, 10), wild), low=(one(.03, .25), wild), high=(one(40., 5), wild), blame=dict(low=["high"], high=["low"]))
def _(t, name, n, low, high): assert t.shape == (n,) and falling(t)

@holds("sampling.points", lambda name, t: sampling.points(schedules[name], t), 30, name=(curves, None), t=(inside.map(lambda t: sorted(t, reverse=True)), one("a", None, [["a"]], [nan], np.ones((2, 2)))))
def _(at, name, t):
    assert all(len(v) == len(t) + 1 for v in at) and at.alpha[-1] == 1 and at.sigma[-1] == 0
    close(at.sigma[:-1], schedules[name].sigma(np.asarray(t, float)))

rules = one("ddim", "ddpm", "ddpm_large", "heun", "dpmpp_2m")

@holds("sampling.sample_loop sampling.ddim sampling.heun sampling.dpmpp_2m sampling.samplers", lambda name, rule, n: sampling.sample_loop(lambda x, t: jnp.full_like(x, .3), few(), sampling.points(schedules[name], sampling.spacings["karras"](schedules[name], n)), jax.random.split(jax.random.key(n), 2), samplers[rule], path=True), 15, name=(one("linear", "flow"), None), rule=(rules, None), n=(one(1, 4), None))
def _(path, n, **_): assert path.shape == (n + 1, 2, 4, 4, 1) and np.isfinite(path).all(); close(path[-1], np.full((2, 4, 4, 1), .3), 1e-4) # whoever always says .3 gets it

@holds("sampling.churned", lambda spacing, gamma, low, high, n: sampling.churned(spacing, gamma, low, high)(schedules["log_linear"], n), 50, spacing=(own(sampling.spacings), wild), gamma=(one(0., .1, .4), wild), low=(one(.05, 0), wild), high=(one(50., inf), wild), n=(one(1, 5), None), blame=dict(low=["high"], high=["low"]))
def _(t, n, gamma, **_): assert n <= len(t) <= 2*n and (0 <= t).all() and (t <= 1).all() and (gamma or len(t) == n)

@holds("sampling.thresholdings sampling.dynamic", lambda name, x, share: partial(sampling.thresholdings[name], **dict(share=share) if name == "dynamic" else {})(x, -1., 1.), 25, name=(one("clip", "dynamic"), None), x=(one(few(), 30*few(), 0*few()), None), share=(one(.995, .5, 1.), wild))
def _(y, x, **_): assert y.shape == x.shape and np.isfinite(y).all() and np.abs(y).max() <= 1 + 1e-5

@holds("arguments.as_mask", lambda known, n: arguments.as_mask(known, some(n)), 30, n=(one(1, 3), None), known=(lambda a: one(np.ones((8, 8), bool), zeros((a["n"], 8, 8), bool), np.ones((a["n"], 8, 8, 1), bool).tolist(), jnp.ones((8, 8), bool)), wild | one(np.ones((8, 8)), np.ones((2, 8, 8), bool), np.ones((8, 7), bool))))
def _(got, known, n): assert got.dtype == bool and got.shape == (n, 8, 8, 1) and got.all() == np.all(known)

@holds("sampling.slerp", sampling.slerp, 40, a=(one(few(), few()[0], few(1)), other_shapes | one(0*few())), b=(lambda v: one(v["a"][::-1] + 1, v["a"], 2*v["a"], -v["a"], 1.000001*v["a"]), other_shapes | one(0*few())), u=(inside, wild), blame=dict(a=["b"]))
def _(got, a, b, u):
    assert got.shape == (np.size(u), *a.shape) and np.isfinite(got).all()
    for v, w in zip(np.ravel(u), got):
        if v in (0, 1): close(w, (a, b)[int(v)], 1e-3)

walks = dict(steps=(one(1, 2), wild.filter(lambda v: v is not None)), sampler=(one(None, "dpmpp_2m", "heun", samplers["ddpm"]), wild), spacing=(one(None, "karras", "uniform", sampling.churned("karras")), wild), guidance=(one(None, 1., 0, -1., np.float32(2.)), wild), interval=(one(None, (0, inf), [0., 1.]), wild | one((2., 1.), (nan, 1.), (-1, 1), ("a", 1))),
             thresholding=(one(None, "clip", "none", "dynamic"), wild), start=(one(None, 5., .5), wild | one(1e-9, 1e9)))

@holds("Run.plan sampling.start_at", lambda **how: run().plan(**how), 150, **walks, blame=dict(spacing=["start"], steps=["start"]))
def _(p, steps, guidance, start, interval, **names):
    t, alpha, sigma = map(np.asarray, p.at)
    assert all(v is None or callable(v) or isinstance(v, str) and v for v in names.values()), "nothing that is not a name should stand for the recipe's"
    assert all(np.isfinite(v).all() for v in p.at) and len(t) >= 2 and alpha[-1] == 1 and sigma[-1] == 0 and (alpha > 0).all() and (sigma[:-1] > 0).all() and np.isfinite(p.guidance) and callable(p.rule) and callable(p.thresholding)
    assert steps < len(t) <= 2*steps + 1 and (guidance is None or p.guidance == guidance) and len(p.interval) == 2
    if start is not None: close(sigma[0]/alpha[0], start, 1e-2)

@holds("Run.evaluations", lambda labels, **how: run(labels).evaluations(**how), 40, labels=(one(True, False), None), **{k: walks[k] for k in ("steps", "interval")}, sampler=(one(None, "heun", "ddim"), wild), guidance=(one(None, 1.), wild))
def _(n, steps, sampler, labels, guidance, **_): least = 2*steps - 1 if sampler == "heun" else steps; assert type(n) is int and least <= n <= 2*least and (labels and guidance != 1 or n == least)

ways = one(dict(), dict(steps=1, sampler="heun"), dict(sampler="ddpm", thresholding="none"), dict(steps=1, thresholding="dynamic"))
bad_ways = one(dict(steps=0), dict(sampler="x"), dict(thresholding=3), dict(start=nan), dict(spacing=[]), dict(step=3), dict(interval=3), dict(interval=(1., nan)), dict(guidance="a"), dict(guidance=1e300), dict(start=1e300))
how = lambda way: dict(steps=2) | way
of_plan = ["steps", "sampler", "thresholding", "start", "spacing", "interval", "guidance"]

@holds("Run.sample", lambda way, **args: run().sample(**how(way), **args), 60, n=counts, label=(lambda a: one(None, 3, [1]*int(a["n"]), np.arange(a["n"]) % 10), wild | one(10, [1]*9)), way=(ways, bad_ways), seed=seeds, guidance=(one(1., 0., 3.), wild | one(1e30, 1e6, -1e6)), z=(lambda a: one(None, np.ones((int(a["n"]), 8, 8, 1))), spoiled_pictures), path=(one(False, True), None), batch_size=(one(4), wild),
       blame=dict(n=["label", "z"], way=of_plan))
def _(x, n, way, path, **_): are_pictures(x, *[how(way)["steps"] + 1]*path, n, 8, 8, 1)

@holds("Run.sample", lambda n, seed, guidance, label: run(False).sample(n, label, seed=seed, guidance=guidance, steps=2, batch_size=4), 15, n=counts, seed=seeds, guidance=(one(None, 1.), wild), label=(one(None), wild))
def _(x, n, **_): are_pictures(x, n, 8, 8, 1)

@holds("Run.reconstruct", lambda images, way, **args: run().reconstruct(images, **how(way), **args), 50, images=(st.integers(1, 5).map(some) | st.integers(1, 5).flatmap(forms), spoiled_pictures), label=(one(None, 3), wild), way=(ways, bad_ways), known=(lambda a: one(None, np.arange(64).reshape(8, 8) % 2 == 0), wild | one(np.ones((8, 8)))), seed=seeds, start=(one(None, 2.), wild), batch_size=(one(4), wild),
       blame=dict(images=["known", "label"], way=of_plan))
def _(x, images, known, **_):
    are_pictures(x, len(images), 8, 8, 1)
    if known is not None: assert np.allclose(np.where(np.asarray(known)[..., None], x - as_pictures(images), 0), 0, atol=1e-3), "known pixels should stay"

# --- 05 viz

def of_tiles(image, n, cols, zoom, gap, height=8, width=8): assert image.size == (min(cols, n)*(width*zoom + gap) if n < cols else cols*(width*zoom + gap), -(-n//cols)*(height*zoom + gap)), f"size {image.size}"

@holds("viz.image_grid viz.png_bytes", viz.image_grid, 40, images=(pictures, spoiled_pictures), cols=(one(1, 2, 4), wild), zoom=(one(None, 1, 3), wild), gap=(one(0, 2), wild))
def _(image, images, cols, zoom, gap):
    size, z = np.shape(images), zoom or max(1, 48//np.shape(images)[2])
    across, down = (size[2]*z + gap), (size[1]*z + gap)
    assert image.size[0] in (across*cols, across*min(cols, len(images))) and image.size[1] == down*-(-len(images)//cols)
    close(np.asarray(image)[0, 0]/255, np.asarray(images)[0, 0, 0, 0].clip(0, 1), 1e-2)

@holds("viz.filmstrip", viz.filmstrip, 12, frames=(pictures, spoiled_pictures), blame=dict(frames=["images"]))
def _(text, frames): assert text.startswith("data:image/png;base64,")

@holds("viz.to_gif", viz.to_gif, 25, path=(pictures.map(lambda x: np.stack([x, 1 - x, x])), wild | one(zeros((0, 2, 8, 8, 1)), np.full((2, 2, 8, 8, 1), nan))), ms=(one(1, 100), wild), blame=dict(path=["images"]))
def _(gif, path, ms): assert 1 <= Image.open(io.BytesIO(gif)).n_frames <= len(path)

@holds("viz.scrubber", viz.scrubber, 5, paths=(one({"a": {"b": some(3), "c": some(3)}}, {1: {2: some(3)}}), None), captions=(one(["x", "y", "z"]), None))
def _(html, paths, captions): assert html.data.count("data:image") == sum(map(len, paths.values())) + 1 and "{" in html.data

@holds("viz.draw_progress", lambda n: viz.draw_progress(run(), n), 6, n=(one(4, 12), None))
def _(files, n): assert list(files) == ["loss.png", "samples.png"] and all(Image.open(io.BytesIO(v)).size[0] > 9 for v in files.values())

@holds("Run.plot_loss Run.plot_sheet", lambda rows, seed: (run().plot_loss(), run().plot_sheet(rows, seed=seed, steps=2))[1], 12, rows=(one(1, 2), wild), seed=seeds)
def _(fig, rows, seed): assert len(fig.axes) == 10*rows

@holds("Run.plot_samples", lambda images, labels, seed: run().plot_samples(images, labels, seed=seed, steps=2, batch_size=4), 12, images=(st.integers(1, 4).map(some), spoiled_pictures), labels=(one(None, 3), wild), seed=seeds, blame=dict(images=["labels", "label"], labels=["label"]))
def _(fig, images, **_): assert len(fig.axes) == 2*(len(run().held_out[0][:9]) if images is None else len(images))

one_picture = one(some(1)[0], jnp.asarray(some(2)[1]))
not_one = wild | one(some(2), np.full((8, 8, 1), nan), zeros((7, 8, 1)), zeros((8, 8)))

@holds("Run.forward_path", lambda **a: run().forward_path(**a), 30, image=(one_picture, not_one), frames=(one(1, 2, 9), wild), seed=seeds)
def _(got, image, frames, seed): are_pictures(got[1], frames, 8, 8, 1); close(got[0], np.linspace(0, 1, frames)); close(got[1][0], image, .02)

@holds("Run.reverse_path Run.plot_forward_and_reverse", lambda plot, **a: run().plot_forward_and_reverse(**a, steps=2, batch_size=4) if plot else run().reverse_path(**a, steps=2, batch_size=4), 20, plot=(one(False, True), None), image=(one_picture, not_one.filter(lambda v: v is not None)), label=(one(None, 3), wild), frames=(one(1, 3), wild), seed=seeds, blame=dict(image=["images"]))
def _(got, plot, frames, **_):
    if plot: assert len(got.axes) == 2*frames
    else: are_pictures(got[1], min(frames, 3), 8, 8, 1); assert len(got[0]) == min(frames, 3)

@holds("Run.scrub", lambda **a: run().scrub(**a, batch_size=4), 15, labels=(one([1], [3, 4]), wild.filter(lambda v: v is not None) | one([10], [1.5])), samplers=(one(["dpmpp_2m"], ("heun",)), wild | one(["x"])), steps=(one(2), wild), seed=seeds, spacing=(one("karras"), wild), blame=dict(labels=["label"], samplers=["sampler"]))
def _(html, labels, samplers, **_): assert html.data.count("data:image") == len(labels)*len(samplers) + 1 # and a still picture

@holds("Run.animate", lambda **a: run().animate(**a), 20, n=(one(4), wild), out=(one(None, "a.gif"), files | one("no/a.gif", ".")), steps=(one(2), wild), ms=(one(100), wild), spacing=(one("karras"), wild))
def _(html, out, **_): assert "data:image/gif" in html.data and (out is None or Image.open(out).n_frames == 3)

def drawn_by(out, n, share):
    monitor = viz.monitor(out, n=n, share=share)
    monitor(2, dict(test_loss=1.), run())
    return monitor

@holds("viz.monitor", drawn_by, 20, out=(one(None, "a", Path("b/c")), files), n=(one(4), wild), share=(one(.05, 1), wild))
def _(_monitor, out, **_): assert out is None or sorted(os.listdir(out)) == ["loss.png", "samples.png"]

@holds("Run.explore", lambda n, cols: run().explore(n, cols), 8, n=(one(4), wild), cols=(one(2, 4), wild))
def _(box, **_): assert box.children

# --- 06 metrics

cloud = lambda *sizes: one(*sizes).map(lambda n: np.random.default_rng(n).standard_normal((n, 3)))
bad_clouds = one(zeros((0, 3)), zeros((1, 3)), np.full((9, 3), nan), np.full((9, 3), inf), zeros((9, 4)), zeros(9), zeros((9, 3, 1)), np.full((9, 3), "a")) | wild

@holds("metrics.radii", metrics.radii, 40, x=(cloud(7, 12), bad_clouds), k=(one(1, 5), one(12, 6.5) | wild), blame=dict(x=["k"]))
def _(r, x, k): x = np.asarray(x, float); close(r, np.sort(np.sqrt(((x[:, None] - x)**2).sum(-1)), 1)[:, k], 1e-4)

@holds("metrics.prdc", metrics.prdc, 40, real=(cloud(8, 15), bad_clouds), fake=(cloud(7, 12), bad_clouds), k=(one(1, 5), wild | one(9)), blame=dict(real=["fake", "k", "x"], fake=["real", "k", "x"]))
def _(s, **_): assert list(s) == ["precision", "recall", "density", "coverage"] and all(0 <= s[k] <= 1 for k in ("precision", "recall", "coverage")) and s["density"] >= 0

@holds("metrics.frechet", metrics.frechet, 40, real=(cloud(8, 15), bad_clouds), fake=(cloud(7, 12), bad_clouds), blame=dict(real=["fake"], fake=["real"]))
def _(d, real, fake): assert np.isfinite(d) and d >= ((np.mean(real, 0) - np.mean(fake, 0))**2).sum() - 1e-6; close(d, metrics.frechet(fake, real), 1e-6)

@holds("metrics.kernel_distance", metrics.kernel_distance, 40, real=(cloud(8, 15), bad_clouds), fake=(cloud(7, 12), bad_clouds), blame=dict(real=["fake"], fake=["real"]))
def _(d, real, fake): assert type(d) is float and np.isfinite(d); close(d, metrics.kernel_distance(fake, real), 1e-6)

@holds("metrics.nearest", metrics.nearest, 25, a=(pictures, spoiled_pictures), b=(st.integers(2, 9).map(some), spoiled_pictures), itself=switches, blame=dict(a=["b"], b=["a", "itself"]))
def _(d, a, b, itself): x, y = (np.asarray(v, float).reshape(len(v), -1) for v in (a, b)); close(d, np.sort(np.sqrt(((x[:, None] - y)**2).sum(-1)), 1)[:, int(itself)], 2e-2)

@holds("metrics.copies", metrics.copies, 20, fake=(pictures, spoiled_pictures), train=(st.integers(2, 9).map(some), spoiled_pictures), real=(st.integers(3, 9).map(some), spoiled_pictures), blame=dict(fake=["a", "b"], train=["a", "b", "itself"], real=["a", "b", "itself"]))
def _(got, **_): assert 0 <= got[0] <= 1 and np.isfinite(got[1])

@holds("metrics.quality metrics.Reference", lambda n, labels, fake: metrics.quality(fake, labels, some(40), some(60)), 10, n=(one(12), None), fake=(one(some(12)), spoiled_pictures), labels=(one(None, some(12, True)), wild | one([1, 2])), blame=dict(fake=["labels", "images", "k"]))
def _(s, labels, **_): assert ("accuracy" in s) == (labels is not None) and all(np.isfinite(v) for v in s.values())

@holds("metrics.as_table", metrics.as_table, 20, rows=(one({"a": dict(x=1., y=2)}, {"a": dict(x=.5), "b": dict(x=2)}), wild | one({"a": dict(x=1), "b": dict(y=1)}, {"a": 3})))
def _(text, rows): assert len({len(line) for line in text.split("\n")}) == 1 and len(text.split("\n")) == len(rows) + 2

@holds("metrics.proportional_labels", lambda n, seed: (metrics.proportional_labels(n), metrics.digits_reference().yardsticks(n, seed)[0])[::-1], 10, n=(one(50), wild | one(5)), seed=(one(0), wild), blame=dict(n=["k", "fake"]))
def _(got, n, seed): assert all(np.isfinite(v) for row in got[0].values() for v in row.values()) and len(got[1]) == n and set(got[1]) <= set(range(10))

@holds("metrics.shuffle_tiles", metrics.shuffle_tiles, 20, images=(pictures, spoiled_pictures), seed=(one(0), wild), grid=(one(1, 2, 4, 50), wild))
def _(got, images, **_): close(np.sort(np.asarray(got), None), np.sort(np.asarray(images, np.float32), None), 1e-2)

@holds("metrics.gaussian_like", lambda images, n, seed: metrics.gaussian_like(images, None, zeros(n), seed), 10, images=(pictures, spoiled_pictures), n=(one(1, 5), None), seed=(one(0), wild))
def _(got, n, images, **_): are_pictures(got, n, *np.shape(images)[1:])

@holds("Run.evaluate", lambda n, seed, way: digits_run().evaluate(n, seed, **way), 10, n=(one(32), wild | one(5)), seed=(one(0), wild), way=(one({}), bad_ways), blame=dict(n=["k"], way=of_plan))
def _(s, n, **_): assert s["n"] == n and all(np.isfinite(v) for v in s.values()) and "real" in repr(s)

# --- 07 cli

@holds("cli.sample", lambda **a: cli.sample(str(Path(unetdiff.__file__).parent/"digits"), **a), 10, n=(one(1, 3), one(0, -1, 1.5)), label=(one(None, "3"), one("x", "12")), cols=(one(1, 8), one(0)), seed=seeds, steps=(one(None, 2), one(0, "x")), guidance=(one(None, 1.), one(nan)), out=(one("a.png"), one(".")))
def _(got, **_): assert Path("a.png").is_file()

@holds("cli.score", lambda **a: cli.score(str(Path(unetdiff.__file__).parent/"digits"), **a), 3, n=(one(20), one(0, 3, "x")), seed=seeds, pictures=(one(None), one(".", "none")))
def _(got, **_): pass

@holds("cli.main", lambda **a: cli.main(**a, uncached=True), 12, out=(one("a"), files.filter(bool)), digit=(one(None), wild), preset=(one("small"), wild), steps=(one(2), wild.filter(lambda v: v is not None)), seed=seeds, dtype=(one(None), wild))
def _(_none, out, **_): assert {"samples.png", "loss.png", "run.json"} <= set(os.listdir(out))

# --- 08 likelihood

@holds("likelihood.dequantise", lambda key, images, levels: likelihood.dequantise(key, images, levels), 30, key=(one(jax.random.key(0)), wild), images=(one(1, 3).flatmap(forms).filter(lambda x: getattr(x, "dtype", 0) != np.uint8), spoiled_pictures | one(np.full((1, 8, 8, 1), .01), np.full((1, 8, 8, 1), 3, np.uint8))), levels=(one(17), wild | one(5)), blame=dict(levels=["images"]))
def _(x, images, levels, **_):
    y = as_pictures(images)
    assert x.shape == y.shape and np.isfinite(x).all() and np.abs(x - y).max() <= .5/(levels - 1) + 1e-3

@holds("likelihood.rising_points", lambda name, n, low, high: likelihood.rising_points(schedules[name], n, low, high), 40, name=(curves, None), n=(one(2, 9), wild), low=(one(.03, .1), wild), high=(one(80., 5), wild), blame=dict(low=["high"], high=["low"]))
def _(at, n, **_): assert all(v.shape == (n,) and np.isfinite(v).all() for v in at) and (np.diff(at.sigma/at.alpha) >= -1e-3).all()

@holds("likelihood.summary", likelihood.summary, 15, nats=(one([-1., -2.], np.float32([3, 4, 5])), None), D=(one(1, 64), None), width=(one(.125, 1), None))
def _(got, nats, D, width): bits = -np.asarray(nats, float)/D/np.log(2) - np.log2(width); close(got, [bits.mean(), bits.std(ddof=1)/len(bits)**.5])

@holds("Run.bits_per_dim Run.undecided likelihood.elbo likelihood.ode_log_likelihood", lambda **a: run().bits_per_dim(**a), 20, images=(one(some(4)), spoiled_pictures.filter(lambda v: v is not None) | one(np.full((4, 8, 8, 1), .01))), labels=(one(some(4, True), 3), wild), levels=(one(17), wild | one(5)), stops=(one(4), wild), low=(one(.03), wild), high=(one(80.), wild), seed=seeds, batch_size=(one(4), wild),
       blame=dict(images=["labels", "label"], labels=["label"], levels=["images"], low=["high"], high=["low"]))
def _(s, **_): assert list(s) == ["bound", "bound_error", "flow", "flow_error", "n"] and all(np.isfinite(v) for v in s.values()) and s["n"] == 4

# --- 09 onestep

@holds("Run.draw_pairs", lambda **a: run().draw_pairs(**a, progress=False), 8, n=(one(1, 5), one(0, 1.5, "x")), seed=seeds, steps=(one(2), one(0, "x")))
def _(got, n, **_): assert got[0].shape == (n, 8, 8, 1) and len(got[2]) == n and got[3] is None; are_pictures(got[1], n, 8, 8, 1)

@holds("Run.distill", lambda **a: run().distill(**a, batch_size=8, log_every=2, progress=False), 8, steps=(one(1, 2), one(0, -1, "x")), evaluations=(one(1, 2, 4), one(0, 3, "x", None)), method=(one("pairs", "consistency"), one("shortcut", "magic", 3)), count=(one(20), one(0, "x")), seed=seeds, teacher=(one({}, dict(steps=2)), one(dict(sampler="ddpm"), 3)), lr=(one(1e-3), one(-1., "x")))
def _(s, steps, evaluations, **_): assert s.evaluations() == evaluations and len(s.history["loss"]) == steps

# --- 13 export

plain_walks = {k: walks[k] for k in ("steps", "spacing", "guidance", "interval", "start")} | dict(sampler=(one(None, "dpmpp_2m", "ddim", samplers["ddpm"]), wild | one("heun")), thresholding=(one(None, "clip", "none"), wild | one("dynamic")))

@holds("Run.walk_numbers", lambda **how: run().walk_numbers(**how), 60, **plain_walks, blame=dict(spacing=["start"], steps=["start"]))
def _(w, steps, **_): assert json.loads(json.dumps(w)) == w and steps <= len(w["levels"]) <= 2*steps + 1 and all(np.isfinite(level["step"]).all() for level in w["levels"])

@holds("Run.export", lambda folder, steps, sampler: (run().export(folder, steps=steps, sampler=sampler), os.listdir(folder))[1], 6, folder=(one("a", Path("b/c")), files), steps=(one(1, 2), wild.filter(lambda v: v is not None)), sampler=(one(None, "ddpm"), wild | one("heun")))
def _(names, **_): assert sorted(names) == ["network.onnx", "sample.py", "sampler.json"]

@holds("Run.live", lambda folder, steps, student: (run().live(folder, steps=steps, student=student), os.listdir(folder))[1], 4, folder=(one("a", Path("b/c")), files), steps=(one((1, 2), [3]), wild | one((0,), ("a",))), student=(one(None), wild.filter(lambda v: v is not None)))
def _(names, **_): assert sorted(names) == ["index.html", "live.css", "live.js", "live.json", "network.onnx"]

# --- 14 sharing

@holds("sharing.report_to", lambda **how: sharing.report_to(**how), 20, write=(one(print, max), wild), every=(one(1, 500), wild), scores=(one(None, 6, 100), wild.filter(lambda v: v is not None) | one(3)))
def _(callback, **_): assert callable(callback)

@holds("sharing.to_tensorboard", lambda folder, **how: (sharing.to_tensorboard(folder, **how), os.listdir(folder))[1], 10, folder=(one("a", Path("b/c")), files), every=(one(1, 500), wild))
def _(names, **_): assert len(names) == 1 and "tfevents" in names[0]

@holds("Run.card Run.write_card", lambda card: (run().write_card(Path("a"), card), os.listdir("a"))[1], 6, card=(one(True), wild.filter(lambda v: v is not True)))
def _(names, **_): assert sorted(names) == ["README.md", "samples.png"]

@holds("onestep.digits_student", lambda n: onestep.digits_student().sample(n, 3), 2, n=(one(1, 2), None))
def _(x, n): are_pictures(x, n, 8, 8, 1)

# --- all of them

def doors():
    "Public functions and classes by name, by a rule: handed out by `unetdiff`, or checking their arguments; and the public methods of a run."
    modules = data, unet, diffusion, training, averaging, sampling, viz, metrics, likelihood, onestep, export, sharing, cli, arguments, convolution, devices, loop, sources, checkpoints
    exported = [(m.__name__.split(".")[-1], name, getattr(m, name)) for m in modules for name in m.__all__]
    is_checked = lambda v: hasattr(v, "is_checked") or isinstance(v, type) and hasattr(v.__init__, "is_checked")
    found = {f"{m}.{name}": v for m, name, v in exported if name in unetdiff._names or is_checked(v)}
    methods = {f"Run.{name}": v for name, v in vars(Run).items() if not name.startswith("_") and (callable(v) or isinstance(v, property))}
    return found | methods

judged_elsewhere = {"devices.start_notebook", "training.Run", "sharing.to_wandb", "Run.push_to_hub"} # the first line of every notebook; what `train` returns; what talks to others

def uncovered():
    "Doors that are not judged here; and what is judged and does not exist."
    def exists(name):
        module, attribute = name.split(".")
        return hasattr(Run if module == "Run" else globals()[module], attribute)
    return sorted(set(doors()) - names - judged_elsewhere), sorted(name for name in names if not exists(name))

# --- keywords that do not exist

def speller():
    "Doors that check their arguments, by name, with their keywords."
    found = {k: (v if callable(v) else v.fget) for k, v in doors().items() if callable(v) and k != "cli.main"}
    keywords = {k: [n for n in inspect.signature(v).parameters if n != "self"] for k, v in found.items() if hasattr(v, "is_checked")}
    takes_any = {k for k, v in found.items() if any(p.kind == p.VAR_KEYWORD for p in inspect.signature(v).parameters.values())}
    return {k: (found[k], v) for k, v in keywords.items() if v and k not in takes_any}

def misspelt(case, word):
    "A word with a letter lost, doubled, changed, or two of them swapped."
    i = case.draw(st.integers(0, len(word) - 1))
    return case.draw(one(word[:i] + word[i + 1:], word[:i] + word[i]*2 + word[i + 1:], word[:i] + "z" + word[i + 1:], word[:i] + word[i:i + 2][::-1] + word[i + 2:]))

def unknown_keywords(cases):
    "Misspelt keywords of all doors: how many were refused, each with the nearest name."
    of, count = speller(), [0]
    assert {"training.train", "training.train_digits", "Run.sample", "sources.pictures"} <= set(of), f"these should check their keywords: {sorted(of)}"
    likeness = lambda a, b: difflib.SequenceMatcher(None, b, a).ratio()
    @same_cases(cases)
    @given(st.data())
    def test(case):
        door = case.draw(sampled_from(sorted(of)))
        f, known = of[door]
        word = case.draw(sampled_from(known))
        wrong = misspelt(case, word)
        if wrong in known or not wrong: return
        try: f(**{wrong: 1})
        except TypeError as e: said = re.match(rf"{wrong}: got .+, but takes .+; the nearest is '(\w+)'$", str(e))
        else: said = None
        assert said and said[1] in known, f"{door}({wrong}=1) should be refused with the nearest name"
        assert likeness(wrong, said[1]) >= likeness(wrong, word) - 1e-9, f"{door}({wrong}=1): {said[1]} is not the nearest"
        count[0] += 1
    test()
    return count[0]

def main(cases=2000, only=""):
    "So many cases in all, divided among the properties by their shares."
    missing, gone = uncovered()
    assert not missing, f"public, and not judged: {missing}"
    assert not gone, f"judged, but no longer there: {gone}"
    warnings.simplefilter("ignore")
    print(f"{unknown_keywords(max(100, cases//4))} misspelt keywords refused, each with the nearest name", flush=True)
    total, failed, start, whole = [0, 0], [], time.time(), sum(p[2] for p in properties)
    for name, f, share, blame, drawn, right in properties:
        if only not in name: continue
        begun = time.time()
        try: outcome = run_property(name, f, blame, drawn, right, math.ceil(share*cases/whole))
        except Exception as e: failed.append(name); print(f"{name}: FAILED\n    {type(e).__name__}: {str(e)[:1000]}", flush=True); continue
        total = np.add(total, outcome)
        print(f"{name:28} {sum(outcome):4} cases: {outcome[1]:4} right, {outcome[0]:4} refused, {time.time() - begun:5.1f} s", flush=True)
    print(f"{sum(total)} cases: {total[1]} right, {total[0]} refused; {time.time() - start:.0f} s")
    if failed: sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__": main(*map(int, sys.argv[1:2]), *sys.argv[2:3])
