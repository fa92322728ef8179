"Builds the package; every value that changes is read from settings.ini."
import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

root = Path(__file__).parent
config = ConfigParser()
config.read(root/"settings.ini", encoding="utf-8")
cfg = config["DEFAULT"]
lib = cfg["lib_name"]

# PyPI shows the README far from its pictures, so their paths become addresses
raw = f"{cfg['git_url']}/raw/{cfg['branch']}/"
readme = re.sub(r'(!\[[^\]]*\]\(|<img src=")(?!https?:)', rf"\g<1>{raw}", (root/"README.md").read_text(encoding="utf-8"))

setup(
    name=lib,
    version=cfg["version"],
    description=cfg["description"],
    long_description=readme,
    long_description_content_type="text/markdown",
    author=cfg["author"],
    url=cfg["git_url"],
    license="Apache-2.0",
    keywords=cfg["keywords"],
    classifiers=["Intended Audience :: Education", "Intended Audience :: Science/Research",
                 "Programming Language :: Python :: 3", "Topic :: Scientific/Engineering :: Artificial Intelligence"],
    python_requires=f">={cfg['min_python']}",
    install_requires=cfg["requirements"].split(),
    extras_require={k: cfg[f"{k}_requirements"].split() for k in ("dev", "stream", "onnx", "hub", "tensorboard", "wandb", "tpu")},
    packages=find_packages(include=[lib, f"{lib}.*"]),
    package_data={lib: ["assets/*", "digits/*", "student/*"]},
    entry_points={
        "console_scripts": cfg["console_scripts"].split(),
        "nbdev": [f"{lib}={lib}._modidx:d"],  # lets nbdev link a name in backticks to its page
    },
)
