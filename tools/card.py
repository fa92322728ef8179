"""Draw nbs/images/card.png, the picture that stands beside a link to the site: ten digits on their way out of the noise."""
import matplotlib.pyplot as plt
import numpy as np
from nbdev.config import get_config

from unetdiff import load

stops = [3, 7, 10]  # of the walk's eleven points


def main():
    "1200 x 630 pixels: the name, what it is, and samples of the bundled model."
    cfg = get_config()
    path = np.asarray(load().sample(10, np.arange(10), path=True, seed=1))[stops, ..., 0]
    sheet = np.pad(path, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=.13)  # a pixel between the pictures
    sheet = np.concatenate(np.concatenate(sheet, -2), -1)
    fig = plt.figure(figsize=(12, 6.3), facecolor="0.13")
    fig.text(.05, .83, cfg.title, color="w", fontsize=52, weight="bold")
    fig.text(.05, .73, cfg.description, color="0.8", fontsize=23)
    ax = fig.add_axes((.05, .07, .9, .57))
    ax.imshow(sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.axis("off")
    fig.savefig(cfg.nbs_path/"images"/"card.png", dpi=100, facecolor=fig.get_facecolor())


if __name__ == "__main__": main()
