"""Learn and train U-Net diffusion models in JAX. Nothing heavy is imported before a public name is first used."""
__version__ = "0.1.0"

_lessons = ["training", "sampling", "viz", "metrics", "likelihood", "onestep", "averaging", "export", "sharing"] # loaded together, so that a run always has all its methods
_homes = {
    "data": ["digits", "show_images"],
    "unet": ["UNet"],
    "diffusion": ["Process", "schedules"],
    "training": ["Recipe", "Run", "load", "presets", "train", "train_digits"],
    "sampling": ["samplers"],
    "viz": ["monitor"],
    "onestep": ["digits_student"],
    "sharing": ["report_to", "to_tensorboard", "to_wandb"],
    "engine.devices": ["keep_compiled", "start_notebook"],
    "engine.sources": ["pictures"],
}
_names = {name: module for module, names in _homes.items() for name in names}

def __getattr__(name):
    "Import what a public name needs when it is first asked for."
    from importlib import import_module
    if name not in _names: raise AttributeError(f"module 'unetdiff' has no attribute {name!r}")
    for lesson in _lessons: import_module(f"unetdiff.{lesson}")
    return getattr(import_module(f"unetdiff.{_names[name]}"), name)

def __dir__(): return sorted([*globals(), *_names])
