"""Learn and train U-Net diffusion models in JAX. Nothing heavy is imported before a public name is first used."""
__version__ = "0.1.0"

_modules = ["training", "sampling", "viz", "metrics", "likelihood"] # loaded together, so that a run always has all its methods
_names = {"train": "training", "train_digits": "training", "load": "training", "keep_compiled": "training", "start_notebook": "training", "presets": "training", "Recipe": "training", "Run": "training",
          "digits": "data", "show_images": "data", "UNet": "unet", "Process": "diffusion", "schedules": "diffusion", "samplers": "sampling",
          "monitor": "viz"}

def __getattr__(name):
    "Import what a public name needs when it is first asked for."
    from importlib import import_module
    if name not in _names: raise AttributeError(f"module 'unetdiff' has no attribute {name!r}")
    for module in _modules: import_module(f"unetdiff.{module}")
    return getattr(import_module(f"unetdiff.{_names[name]}"), name)

def __dir__(): return sorted([*globals(), *_names])
