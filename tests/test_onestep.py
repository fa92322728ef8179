"""Students: what their losses ask for, what `distill` gives back and refuses, whose network it may be."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks import Dense

from unetdiff import Recipe, load, train
from unetdiff.diffusion import Process, add_noise, denoise
from unetdiff.onestep import both_steps, consistency_loss, distance, join_pair, level_times, meanflow_loss, methods, neighbour_times, noise_left, shortcut_loss, span_times, split_pair, student_net, student_recipe
from unetdiff.unet import UNet, init

quick = dict(steps=4, log_every=2, batch_size=8, count=40, progress=False)
rng = np.random.default_rng(0)
process = Process()
x_0 = rng.uniform(-1, 1, (16, 4, 4, 1)).astype(np.float32)
z = rng.standard_normal(x_0.shape, np.float32)
u = jnp.asarray((np.arange(128) + .5)/128, jnp.float32)


@pytest.fixture(scope="module")
def teacher():
    pictures = rng.uniform(0, 1, (40, 8, 8, 1)).astype(np.float32)
    return train(pictures, [*range(4)]*10, steps=4, log_every=2, batch_size=8, progress=False, net=dict(features=8, channel_mults=(1,)))


def test_a_pair_begins_where_its_teacher_did():
    pair = join_pair(process, x_0, z)
    picture, own = split_pair(jnp.asarray(pair))
    one = jnp.ones(len(x_0))
    alpha, sigma = (v[0] for v in process.schedule.curves(np.ones(1)))
    assert np.abs(picture - x_0).max() == 0
    x_1 = add_noise(process.schedule, picture, one, own)
    assert np.abs(x_1/np.hypot(.75*alpha, sigma) - z).max() < 1e-5


def test_distance_is_squared_where_small_and_plain_where_large():
    a = jnp.zeros((1, 4, 4, 1))
    assert abs(distance(a, a + 1e-3)/(1e-6/.06) - 1) < 1e-2
    assert abs(distance(a, a + 10.) - 10) < .04
    assert np.isfinite(jax.grad(lambda b: distance(a, b))(a)).all()


@pytest.mark.parametrize("times, n", [(neighbour_times, 2), (span_times, 2), *((lambda u, p, s, n=n: level_times(u, p, s, n), n) for n in (1, 2, 4))])
def test_times_are_in_range_and_fall(times, n):
    for progress in (0., .5, .999):
        t = np.asarray(times(u, progress, process.schedule))
        first = t[:, 0] if t.ndim == 2 else t
        assert t.min() >= 0 and t.max() <= 1 and (first == 1).mean() >= .28, "a third begin where all walks begin"
        if t.ndim == 2: assert (t[:, 0] >= t[:, 1]).all()
        else: assert len(np.unique(t)) == n


def test_neighbours_draw_nearer():
    schedule = process.schedule
    for progress, ratio in ((0., 1/2), (.5, 1 - 2**-3), (.999, 1 - 2**-5)):
        t, r = np.asarray(neighbour_times(u, progress, schedule), np.float64).T
        assert np.abs(np.exp((schedule.log_snr(t) - schedule.log_snr(r))/2) - ratio).max() < 1e-3


def exact(x, t, *given):
    "The network that knows that all pictures are black but for Gaussian pixels of standard deviation 0.75: it answers 0 for v."
    return jnp.zeros_like(x)


def test_the_exact_flow_has_no_shortcut_or_meanflow_loss_in_the_mean():
    """For Gaussian pixels the walk is known: y_s = y_t sqrt((1 + (u_s/s)^2)/(1 + (u_t/s)^2)). The aim of each step follows, two steps' aims make the long one's,
    and the MeanFlow identity holds with x_0's mean in the place of x_0."""
    s, u_t, u_m, u_s, y = .75, 3., 1., .2, 1.7
    walk = lambda y, a, b: y*np.sqrt((s**2 + b**2)/(s**2 + a**2))
    aim = lambda y, a, b: (walk(y, a, b) - b/a*y)/(1 - b/a)
    y_m = walk(y, u_t, u_m)
    assert abs(both_steps(aim(y, u_t, u_m), aim(y_m, u_m, u_s), u_m/u_t, u_s/u_m) - aim(y, u_t, u_s)) < 1e-6
    h, k = 1e-4, u_s/u_t
    slope = (aim(walk(y, u_t, u_t*np.exp(h)), u_t*np.exp(h), u_s) - aim(walk(y, u_t, u_t*np.exp(-h)), u_t*np.exp(-h), u_s))/(2*h)
    mean = y*s**2/(s**2 + u_t**2)
    assert abs(aim(y, u_t, u_s) - k*mean - (1 - k)*(aim(y, u_t, u_s) - slope)) < 1e-6


def test_no_noise_is_left_at_the_end():
    t, s = jnp.array([1., .5, .5]), jnp.array([0., .5, .3])
    k = np.ravel(noise_left(process.schedule, t, s, x_0[:3]))
    u = np.exp(-process.schedule.log_snr(np.array([.5, .3]))/2)
    assert np.abs(k - [0, 1, u[1]/u[0]]).max() < 1e-5


@pytest.mark.parametrize("loss, times", [(consistency_loss, neighbour_times), (shortcut_loss, span_times), (meanflow_loss, span_times)])
def test_a_student_that_knows_the_picture_has_no_loss(loss, times):
    "Where there is one picture, its aim is the same from everywhere: all three ask for nothing else."
    one = np.broadcast_to(x_0[:1], x_0.shape)
    pair, eps = jnp.asarray(join_pair(process, one, z)), jnp.asarray(np.concatenate([z, z], -1))
    t = times(u[::8], .5, process.schedule)
    def knows(x, steps, *given): # the v for which the estimate is the picture
        time = steps[:, 0]/999 if steps.ndim == 2 else steps/999
        alpha, sigma, (a, b) = process.at(time, x)
        x_t = x*jnp.hypot(.75*alpha, sigma)
        return a*one + b*(x_t - alpha*one)/sigma
    assert loss(process, knows, pair, t, eps) < 1e-3
    assert loss(process, exact, pair, t, eps) > 5e-3


@pytest.mark.parametrize("method", methods)
def test_a_student_is_a_run(teacher, method, tmp_path):
    student = teacher.distill(method=method, **quick)
    assert student.evaluations() == 1 and student.evaluations(steps=2) == 2
    images = student.sample(3, 2)
    assert images.shape == (3, 8, 8, 1) and np.isfinite(images).all()
    student.save(tmp_path/"student")
    assert (np.asarray(load(tmp_path/"student").sample(3, 2)) == np.asarray(images)).all()


def test_a_new_student_is_its_teacher(teacher):
    "Before it has learned, one evaluation of each kind of student is one evaluation of its teacher."
    for name, method in methods.items():
        recipe = student_recipe(teacher.recipe, method, 1)
        net = student_net(teacher, recipe, 0)
        x, y, t = jnp.asarray(rng.standard_normal((5, 8, 8, 1)), jnp.float32), jnp.arange(5) % 4, jnp.full(5, 700.)
        told = jnp.stack([t, t/2], -1) if method.ends else t
        assert np.abs(np.asarray(net(x, told, y)) - np.asarray(teacher.model(x, t, y))).max() < 1e-5, name


def test_same_seed_same_student(teacher):
    one, two, other = (teacher.distill(seed=seed, **quick) for seed in (1, 1, 2))
    assert (one.history["loss"] == two.history["loss"]).all() and (one.history["loss"] != other.history["loss"]).any()


def test_a_student_is_resumed(teacher, tmp_path):
    settings = quick | dict(steps=6)
    whole = teacher.distill(out=tmp_path/"whole", **settings)
    teacher.distill(out=tmp_path/"half", callback=lambda step, *_: step == 2, checkpoints=dict(every=2), **settings)
    half = teacher.distill(out=tmp_path/"half", resume=True, **settings)
    assert np.abs(half.history["loss"] - whole.history["loss"]).max() < 1e-6
    assert len(teacher.distill(out=tmp_path/"half", resume=True, **settings).history["loss"]) == 6
    with pytest.raises(ValueError, match="count is 40 there and 41 here"): teacher.distill(out=tmp_path/"half", resume=True, **settings | dict(count=41))


def test_without_labels_in_colour_and_few_evaluations():
    run = train(rng.uniform(0, 1, (40, 8, 6, 3)).astype(np.float32), steps=2, log_every=2, batch_size=8, progress=False, net=dict(features=8, channel_mults=(1,)))
    for n in (2, 4):
        student = run.distill(evaluations=n, **quick)
        assert student.evaluations() == n and student.sample(2).shape == (2, 8, 6, 3)


def test_your_own_network():
    run = train(rng.uniform(0, 1, (40, 4, 4, 1)).astype(np.float32), model=Dense(16, 8, nnx.Rngs(0)), steps=2, log_every=2, batch_size=8, progress=False)
    assert run.distill(**quick).sample(2).shape == (2, 4, 4, 1)
    with pytest.raises(ValueError, match="method: got 'shortcut', but takes 'pairs' or 'consistency'"): run.distill(method="shortcut", **quick)


def test_a_condition_is_asked_for():
    x = rng.uniform(0, 1, (40, 8, 8, 1)).astype(np.float32)
    run = train(x, condition=x.mean((1, 2)), steps=2, log_every=2, batch_size=8, progress=False, net=dict(features=8, channel_mults=(1,)))
    with pytest.raises(ValueError, match="condition: got None"): run.distill(**quick)
    assert run.distill(condition=x.mean((1, 2)), **quick).sample(2, condition=[.5]).shape == (2, 8, 8, 1)


@pytest.mark.parametrize("how, said", [(dict(evaluations=3), "evaluations: got 3, but takes 1, 2 or 4"), (dict(method="magic"), "method: got 'magic'"), (dict(teacher=dict(sampler="ddpm")), "teacher: got {'sampler': 'ddpm'}, which draws"),
                                       (dict(count=0), "count: got 0"), (dict(lr=-1.), "lr: got -1")])
def test_distill_refuses(teacher, how, said):
    with pytest.raises(ValueError, match=said): teacher.distill(**quick | how)


def test_pictures_alone_are_no_pairs():
    x = rng.uniform(0, 1, (40, 8, 8, 1)).astype(np.float32)
    with pytest.raises(ValueError, match="loss: got pictures of 1 channels"): train(x, loss="pairs", steps=2, log_every=2, batch_size=8, progress=False)
    with pytest.raises(ValueError, match="gradient_penalty"): Recipe(loss="pairs", gradient_penalty=.1)


def test_your_own_loss():
    "`train` takes any loss of the form of those in `losses`."
    x = rng.uniform(0, 1, (40, 8, 8, 1)).astype(np.float32)
    def absolute(process, model, x_0, t, eps, *given): return jnp.abs(denoise(process, model, add_noise(process.schedule, x_0, t, eps), t, *given) - x_0).mean()
    run = train(x, loss=absolute, steps=4, log_every=2, batch_size=8, progress=False, net=dict(features=8, channel_mults=(1,)))
    assert np.isfinite(run.history["loss"]).all()


def test_one_time_alone_is_a_step_of_no_length():
    net = init(lambda rngs: UNet(1, 1, 8, channel_mults=(1,), attention_levels=(), ends=True, rngs=rngs))
    x, t = jnp.asarray(x_0[:3]), jnp.array([3., 200., 999.])
    alone, same, longer = (np.asarray(net(x, times)) for times in (t, jnp.stack([t, t], -1), jnp.stack([t, t/2], -1)))
    assert (alone == same).all() and np.abs(longer - same).max() > 1e-3, "the end of a step should be seen"


def test_a_student_has_no_guidance_to_choose(teacher):
    with pytest.raises(ValueError, match="guidance: got 2, but takes 1, for a student draws as its teacher was guided"): teacher.distill(**quick).sample(2, 1, guidance=2)
