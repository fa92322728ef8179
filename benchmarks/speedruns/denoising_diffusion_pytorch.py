"denoising-diffusion-pytorch: the U-Net and the process of its classifier-free guidance, with the average of the weights that its trainer keeps."
steps = dict(bronze=1000)
guidance = 1.4


def train(images, labels, steps, seed):
    import torch
    from denoising_diffusion_pytorch.classifier_free_guidance import GaussianDiffusion, Unet
    from ema_pytorch import EMA
    torch.manual_seed(seed)
    net = Unet(dim=32, num_classes=10, cond_drop_prob=.1, dim_mults=(1, 2), channels=1)
    diffusion = GaussianDiffusion(net, image_size=8, timesteps=1000, sampling_timesteps=20, objective="pred_v", ddim_sampling_eta=0.)
    average = EMA(diffusion, beta=.995, update_every=10)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, betas=(.9, .99))
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    x, y = torch.tensor(images).permute(0, 3, 1, 2), torch.tensor(labels)
    for _ in range(steps):
        i = torch.randint(len(x), (64,))
        diffusion(x[i], classes=y[i]).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        average.update()

    def draw(labels, seed):
        torch.manual_seed(seed)
        return average.ema_model.sample(torch.tensor(labels), cond_scale=guidance, rescaled_phi=0.).clamp(0, 1).permute(0, 2, 3, 1).numpy()

    return draw
