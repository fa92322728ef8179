"""Emoji in colour, the same processor time of training: `train` with nothing set, and the training scripts of two PyTorch projects.

    python benchmarks/emoji.py folder [size ...]

Without sizes 16 x 16, ten minutes, and 32 x 32, an hour: by the clock and on all cores for ours, whose steps a trial counts first; the two scripts run side by side, on
a core each, until each has had as much of the processor. The folder keeps the samples and scores of each training, and snapshots of it; the same command goes on where it was
stopped. The pictures are the seven classes of `recipe.py`. The two scripts are taken with the settings of their projects' instructions, but without
half precision, which a processor has no use for, and with samples in 25 steps, for which each has a solver of its own: denoising-diffusion-pytorch's `Trainer` as in its
README, and the loop of diffusers' `train_unconditional.py`, its network without the levels that a picture of 16 x 16 is too small for. They know no labels.
"""
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from common import cold, cores, kept, save
from recipe import emoji

minutes = {16: 10, 32: 60}
steps, seed = 25, 0 # of their solvers; of everything


def unetdiff(pictures, labels, asked, minutes, file):
    "`train`, with nothing set; steps, parameters, evaluations, samples."
    import unetdiff
    from unetdiff.unet import count_params
    run = unetdiff.train(pictures, labels, minutes=minutes, progress=False, seed=seed, out=file.with_suffix(""), resume=True)
    return len(run.history["loss"]), count_params(run.model), run.evaluations(), np.asarray(run.sample(len(asked), asked, seed=seed))


def parameters(network):
    "How many numbers a PyTorch network has."
    return sum(p.numel() for p in network.parameters())


def in_pieces(file, minutes, parts, step):
    "`step(steps, share of the time that is past)` until the processor has had its minutes; how many. `file` keeps the parts every ten; the next call goes on there."
    import torch
    used = done = 0
    if file.exists():
        used, done, *states = torch.load(file, weights_only=False)
        for part, state in zip(parts, states): part.load_state_dict(state)
    start, kept = time.process_time() - used, used
    while used < 60*minutes:
        step(done, used/(60*minutes))
        done, used = done + 1, time.process_time() - start
        if used - kept < 600 and used < 60*minutes: continue
        kept = used
        torch.save([used, done, *(part.state_dict() for part in parts)], file.with_suffix(".part"))
        file.with_suffix(".part").replace(file)
    return done


def lucidrains(pictures, labels, asked, minutes, file):
    "denoising-diffusion-pytorch: the classes and numbers of its README."
    import torch
    from denoising_diffusion_pytorch import GaussianDiffusion, Trainer, Unet
    from PIL import Image
    torch.manual_seed(seed)
    network = Unet(dim=64, dim_mults=(1, 2, 4, 8))
    diffusion = GaussianDiffusion(network, image_size=pictures.shape[1], timesteps=1000, sampling_timesteps=steps)
    with TemporaryDirectory() as folder:
        for i, picture in enumerate(pictures): Image.fromarray(picture).save(f"{folder}/{i}.png")
        trainer = Trainer(diffusion, folder, train_batch_size=32, train_lr=8e-5, train_num_steps=0, gradient_accumulate_every=2, ema_decay=.995,
                          calculate_fid=False, save_and_sample_every=10**9, results_folder=f"{folder}/results")

        def step(done, past): # one more
            trainer.step, trainer.train_num_steps = done, done + 1
            trainer.train()

        done = in_pieces(file, minutes, [trainer.model, trainer.opt, trainer.ema], step)
    with torch.no_grad(): fake = [trainer.ema.ema_model.sample(batch_size=len(part)) for part in np.array_split(asked, max(1, len(asked)//64))]
    return done, parameters(network), steps, torch.cat(fake).permute(0, 2, 3, 1).numpy()


def diffusers(pictures, labels, asked, minutes, file):
    "The loop of diffusers' `train_unconditional.py`: its network, optimizer, learning rate (up in 500 steps, then down to 0), average and flips."
    import torch
    from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel
    from diffusers.training_utils import EMAModel
    torch.manual_seed(seed)
    size = pictures.shape[1]
    levels = min(6, int(np.log2(size)) + 1) # down to one pixel
    down = ["DownBlock2D"]*4 + ["AttnDownBlock2D", "DownBlock2D"]
    up = [name.replace("Down", "Up") for name in down[:levels][::-1]]
    network = UNet2DModel(size, 3, 3, layers_per_block=2, block_out_channels=(128, 128, 256, 256, 512, 512)[:levels], down_block_types=down[:levels], up_block_types=up)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, (.95, .999), 1e-8, 1e-6)
    average = EMAModel(network.parameters(), decay=.9999, use_ema_warmup=True, inv_gamma=1., power=.75)
    noise = DDPMScheduler(num_train_timesteps=1000)
    x = torch.tensor(pictures).permute(0, 3, 1, 2)/127.5 - 1

    def step(done, past): # one more
        x_0 = x[torch.randint(len(x), (16,))]
        x_0 = torch.where(torch.rand(16, 1, 1, 1) < .5, x_0.flip(3), x_0)
        eps, t = torch.randn_like(x_0), torch.randint(1000, (16,))
        torch.nn.functional.mse_loss(network(noise.add_noise(x_0, eps, t), t).sample, eps).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.)
        for group in optimizer.param_groups: group["lr"] = 1e-4*min(done/500, (1 + np.cos(np.pi*past))/2)
        optimizer.step()
        average.step(network.parameters())
        optimizer.zero_grad()

    done = in_pieces(file, minutes, [network, optimizer, average], step)
    average.copy_to(network.parameters())
    solver, draw = DPMSolverMultistepScheduler.from_config(noise.config), torch.Generator().manual_seed(seed)
    fake = []
    with torch.no_grad():
        for part in np.array_split(asked, max(1, len(asked)//64)):
            solver.set_timesteps(steps)
            x_t = torch.randn(len(part), 3, size, size, generator=draw)
            for t in solver.timesteps: x_t = solver.step(network(x_t, t).sample, t, x_t).prev_sample
            fake.append(x_t.clamp(-1, 1)/2 + .5)
    return done, parameters(network), steps, torch.cat(fake).permute(0, 2, 3, 1).numpy()


ways = {"unetdiff": unetdiff, "denoising-diffusion-pytorch": lucidrains, "diffusers": diffusers}


def worker(folder, name, size, minutes):
    "Train, draw as many pictures as there are new real ones, and score them; beside ours, the new real ones and a Gaussian of each class."
    from unetdiff.data import split
    from unetdiff.metrics import Reference
    images, labels = emoji(size)
    reference = Reference(images, labels)
    rows, i = reference.yardsticks(len(reference.halves[1]))
    asked = np.array(reference.names)[reference.labels[i]]
    pictures, _, kinds, _ = split(images, reference.labels, .05)
    done, count, evaluations, fake = ways[name](pictures, np.array(reference.names)[kinds], asked, minutes, folder/f"{name}-{size}.pt")
    np.savez_compressed(folder/f"{name}-{size}.npz", samples=fake, asked=asked)
    y = reference.labels[i] if name == "unetdiff" else None
    about = dict(name=name, size=size, minutes=minutes, steps=done, parameters=count, evaluations=evaluations)
    beside = [dict(name=title, size=size) | row for title, row in rows.items()] if name == "unetdiff" else []
    return [about | reference.judge(fake, y, pictures), *beside]


def main(folder, sizes):
    "All that the folder does not have yet, and the table of all."
    def trained(name, size, on=None):
        share = 1 if on is None else len(cores()) # of the cores, as many times the minutes
        return kept(folder/f"{name}-{size}.json", lambda: cold(__file__, folder.resolve(), name, size, minutes[size]*share, on=on))
    ours, *others = ways
    for size in sizes:
        trained(ours, size)
        with ThreadPoolExecutor() as pool: [*pool.map(lambda name, core: trained(name, size, [core]), others, cores())]
    found = [folder/f"{name}-{size}.json" for size in minutes for name in ways]
    save("emoji", [row for file in found if file.exists() for row in json.loads(file.read_text())])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]: print(json.dumps(worker(Path(sys.argv[3]), sys.argv[4], int(sys.argv[5]), float(sys.argv[6]))))
    else: main(Path(sys.argv[1]), [*map(int, sys.argv[2:])] or [*minutes])
