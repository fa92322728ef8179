"diffusers: its U-Net, told of labels, its average of the weights, its learning rate along a cosine, its DPM-Solver++ in 20 steps, guided."
import numpy as np

steps = dict(bronze=850, silver=2000)
guidance, untold = 1.4, 10


def train(images, labels, steps, seed):
    import torch
    from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel
    from diffusers.optimization import get_cosine_schedule_with_warmup
    from diffusers.training_utils import EMAModel
    torch.manual_seed(seed)
    net = UNet2DModel(sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(32, 64), norm_num_groups=8, num_class_embeds=untold + 1,
                      down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"))
    noise, average = DDPMScheduler(), EMAModel(net.parameters(), decay=.999, use_ema_warmup=True, power=.75)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    rate = get_cosine_schedule_with_warmup(optimizer, steps//20, steps)
    x, y = torch.tensor(images).permute(0, 3, 1, 2)*2 - 1, torch.tensor(labels)
    for _ in range(steps):
        i, t = torch.randint(len(x), (64,)), torch.randint(1000, (64,))
        eps, told = torch.randn(64, 1, 8, 8), torch.where(torch.rand(64) < .1, untold, y[i])
        torch.nn.functional.mse_loss(net(noise.add_noise(x[i], eps, t), t, told).sample, eps).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        average.step(net.parameters())
    average.copy_to(net.parameters())
    net.eval()

    @torch.no_grad()
    def draw(labels, seed):
        solver = DPMSolverMultistepScheduler.from_config(noise.config)
        solver.set_timesteps(20)
        told = torch.tensor(np.concatenate([labels, np.full_like(labels, untold)]))
        x_t = torch.randn(len(labels), 1, 8, 8, generator=torch.Generator().manual_seed(seed))
        for t in solver.timesteps:
            with_label, without = net(torch.cat([x_t, x_t]), t, told).sample.chunk(2)
            x_t = solver.step(without + guidance*(with_label - without), t, x_t).prev_sample
        return (x_t.clamp(-1, 1)/2 + .5).permute(0, 2, 3, 1).numpy()

    return draw
