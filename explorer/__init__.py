"""vit-explorer: see what a Vision Transformer does to a damaged picture, and watch a student learn to see through it.

Everything public is reachable from here and loaded when it is first used::

    import explorer as ex

    backbone = ex.load_backbone("s14")
    picture = ex.load_image("cat.jpg", size=224)[None]
    damage = ex.distortion("gaussian_noise", sigma=0.3)
    reference = backbone.trace(picture)
    print(ex.alignment(reference, backbone.trace(damage(picture, seed=0))))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from explorer.animation import animate_recovery
    from explorer.architectures import UnsupportedModelError, list_backbones
    from explorer.attribution import Attribution, attribute
    from explorer.backbones import Backbone, CaptureError, load_backbone
    from explorer.comparison import Comparison, compare
    from explorer.data import ImageSet, load_images
    from explorer.distill_config import DistillConfig
    from explorer.distillation import CheckpointError, DivergedError, Record, distill
    from explorer.distortions import DISTORTIONS, Distortion, distortion, register_distortion
    from explorer.evaluation import Evaluation, evaluate
    from explorer.features import Features, embed
    from explorer.images import ImageError, load_image
    from explorer.maps import attention_map, pca_rgb, rollout
    from explorer.metrics import top_mass
    from explorer.own_modules import wrap_backbone
    from explorer.pages import Section, page, save_page
    from explorer.pairs import Pair, PairError, export_pair, import_pair, list_pairs, load_pair
    from explorer.projection import Projection, project
    from explorer.recovery import Moment, Recovery
    from explorer.similarity import Alignment, alignment, patch_similarity
    from explorer.sweeping import Sweep, sweep
    from explorer.trace import Grid, Trace
    from explorer.weights import ALIASES, WeightsError

_HOME = {
    "animation": ("animate_recovery",),
    "architectures": ("UnsupportedModelError", "list_backbones"),
    "attribution": ("Attribution", "attribute"),
    "backbones": ("Backbone", "CaptureError", "load_backbone"),
    "comparison": ("Comparison", "compare"),
    "data": ("ImageSet", "load_images"),
    "distill_config": ("DistillConfig",),
    "distillation": ("CheckpointError", "DivergedError", "Record", "distill"),
    "distortions": ("DISTORTIONS", "Distortion", "distortion", "register_distortion"),
    "evaluation": ("Evaluation", "evaluate"),
    "features": ("Features", "embed"),
    "images": ("ImageError", "load_image"),
    "maps": ("attention_map", "pca_rgb", "rollout"),
    "metrics": ("top_mass",),
    "own_modules": ("wrap_backbone",),
    "pages": ("Section", "page", "save_page"),
    "pairs": ("Pair", "PairError", "export_pair", "import_pair", "list_pairs", "load_pair"),
    "projection": ("Projection", "project"),
    "recovery": ("Moment", "Recovery"),
    "similarity": ("Alignment", "alignment", "patch_similarity"),
    "sweeping": ("Sweep", "sweep"),
    "trace": ("Grid", "Trace"),
    "weights": ("ALIASES", "WeightsError"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "ALIASES",
    "DISTORTIONS",
    "Alignment",
    "Attribution",
    "Backbone",
    "CaptureError",
    "CheckpointError",
    "Comparison",
    "DistillConfig",
    "Distortion",
    "DivergedError",
    "Evaluation",
    "Features",
    "Grid",
    "ImageError",
    "ImageSet",
    "Moment",
    "Pair",
    "PairError",
    "Projection",
    "Record",
    "Recovery",
    "Section",
    "Sweep",
    "Trace",
    "UnsupportedModelError",
    "WeightsError",
    "__version__",
    "alignment",
    "animate_recovery",
    "attention_map",
    "attribute",
    "compare",
    "distill",
    "distortion",
    "embed",
    "evaluate",
    "export_pair",
    "import_pair",
    "list_backbones",
    "list_pairs",
    "load_backbone",
    "load_image",
    "load_images",
    "load_pair",
    "page",
    "patch_similarity",
    "pca_rgb",
    "project",
    "register_distortion",
    "rollout",
    "save_page",
    "sweep",
    "top_mass",
    "wrap_backbone",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'explorer' has no attribute {name!r}; public are {', '.join(__all__)}")
    value = getattr(import_module(f"explorer.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
