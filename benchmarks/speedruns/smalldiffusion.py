"smalldiffusion: its U-Net, told of labels, its loop and its accelerated sampler in 20 steps, guided."
steps = dict(bronze=3000)
guidance = .4  # beyond the label's plain effect


def train(images, labels, steps, seed):
    import torch
    from smalldiffusion import ScheduleLogLinear, Unet, samples, training_loop
    from smalldiffusion.model import CondEmbedderLabel, Scaled
    torch.manual_seed(seed)
    schedule = ScheduleLogLinear(N=1000, sigma_min=.02, sigma_max=20)
    net = Scaled(Unet)(8, 1, 1, ch=32, ch_mult=(1, 2), num_res_blocks=1, attn_resolutions=(4,), cond_embed=CondEmbedderLabel(32*4, 10, .1))
    data = torch.utils.data.TensorDataset(torch.tensor(images).permute(0, 3, 1, 2)*2 - 1, torch.tensor(labels))
    loader = torch.utils.data.DataLoader(data, batch_size=64, shuffle=True)
    loop = training_loop(loader, net, schedule, epochs=10**6, lr=1e-3, conditional=True)
    for _ in zip(range(steps + 1), loop): pass

    def draw(labels, seed):
        torch.manual_seed(seed)
        *_, x_0 = samples(net, schedule.sample_sigmas(20), gam=2, cfg_scale=guidance, batchsize=len(labels), cond=torch.tensor(labels))
        return (x_0.clamp(-1, 1)/2 + .5).permute(0, 2, 3, 1).numpy()

    return draw
