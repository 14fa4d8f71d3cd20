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

from explorer.version import __version__

if TYPE_CHECKING:
    from explorer.analysis.dense import PatchMatches, foreground, patch_clusters, patch_matches, propagate_labels
    from explorer.analysis.maps import attention_map, pca_rgb, rollout
    from explorer.analysis.metrics import top_mass
    from explorer.analysis.norms import TokenNorms, norm_outliers, token_norms
    from explorer.analysis.similarity import Alignment, alignment, patch_similarity
    from explorer.baselines.restoration import restored_pair
    from explorer.data.image import ImageError, load_image
    from explorer.data.masks import SegmentedSet, load_segmented
    from explorer.data.sets import ImageSet
    from explorer.data.sources import load_images
    from explorer.distortions import DISTORTIONS, Distortion, distortion, register_distortion
    from explorer.evaluation.benchmarking import Benchmark, benchmark, load_benchmark
    from explorer.evaluation.dense import DenseEvaluation, Segmentation, evaluate_dense
    from explorer.evaluation.evaluation import Evaluation, evaluate
    from explorer.evaluation.features import Features, embed
    from explorer.evaluation.patch_probes import PatchProbe, fit_patch_probe, load_patch_probe
    from explorer.evaluation.predicting import PictureProbe, fit_probe, load_probe
    from explorer.evaluation.projection import Projection, project
    from explorer.evaluation.sweeping import Sweep, sweep
    from explorer.inspection.attribution import Attribution, attribute
    from explorer.inspection.comparison import Comparison, compare
    from explorer.inspection.intervening import ActivationPatching, Part, activation_patching, intervene, most_attended
    from explorer.inspection.neighbours import Neighbour, nearest_pictures
    from explorer.inspection.recovery import Moment, Recovery
    from explorer.inspection.watching import AttentionWatch
    from explorer.models.architectures import UnsupportedModelError, list_backbones
    from explorer.models.backbones import Backbone, CaptureError
    from explorer.models.export import ExportedStudent, export_student, push_pair
    from explorer.models.hub import RepositoryError
    from explorer.models.loading import load_backbone
    from explorer.models.pairs import Pair, PairError, export_pair, import_pair, list_pairs, load_pair
    from explorer.models.trace import Grid, Trace
    from explorer.models.weights import ALIASES, WeightsError
    from explorer.models.wrapping import wrap_backbone
    from explorer.plots.animation import animate_recovery
    from explorer.scenes.pages import Section, page, save_page
    from explorer.training.config import DistillConfig
    from explorer.training.distillation import distill
    from explorer.training.records import CheckpointError, DivergedError, Record

_HOME = {
    "analysis.dense": ("PatchMatches", "foreground", "patch_clusters", "patch_matches", "propagate_labels"),
    "analysis.maps": ("attention_map", "pca_rgb", "rollout"),
    "analysis.metrics": ("top_mass",),
    "analysis.norms": ("TokenNorms", "norm_outliers", "token_norms"),
    "analysis.similarity": ("Alignment", "alignment", "patch_similarity"),
    "baselines.restoration": ("restored_pair",),
    "data.image": ("ImageError", "load_image"),
    "data.masks": ("SegmentedSet", "load_segmented"),
    "data.sets": ("ImageSet",),
    "data.sources": ("load_images",),
    "distortions": ("DISTORTIONS", "Distortion", "distortion", "register_distortion"),
    "evaluation.benchmarking": ("Benchmark", "benchmark", "load_benchmark"),
    "evaluation.dense": ("DenseEvaluation", "Segmentation", "evaluate_dense"),
    "evaluation.evaluation": ("Evaluation", "evaluate"),
    "evaluation.features": ("Features", "embed"),
    "evaluation.patch_probes": ("PatchProbe", "fit_patch_probe", "load_patch_probe"),
    "evaluation.predicting": ("PictureProbe", "fit_probe", "load_probe"),
    "evaluation.projection": ("Projection", "project"),
    "evaluation.sweeping": ("Sweep", "sweep"),
    "inspection.attribution": ("Attribution", "attribute"),
    "inspection.comparison": ("Comparison", "compare"),
    "inspection.intervening": ("ActivationPatching", "Part", "activation_patching", "intervene", "most_attended"),
    "inspection.neighbours": ("Neighbour", "nearest_pictures"),
    "inspection.recovery": ("Moment", "Recovery"),
    "inspection.watching": ("AttentionWatch",),
    "models.architectures": ("UnsupportedModelError", "list_backbones"),
    "models.backbones": ("Backbone", "CaptureError"),
    "models.export": ("ExportedStudent", "export_student", "push_pair"),
    "models.hub": ("RepositoryError",),
    "models.loading": ("load_backbone",),
    "models.pairs": ("Pair", "PairError", "export_pair", "import_pair", "list_pairs", "load_pair"),
    "models.trace": ("Grid", "Trace"),
    "models.weights": ("ALIASES", "WeightsError"),
    "models.wrapping": ("wrap_backbone",),
    "plots.animation": ("animate_recovery",),
    "scenes.pages": ("Section", "page", "save_page"),
    "training.config": ("DistillConfig",),
    "training.distillation": ("distill",),
    "training.records": ("CheckpointError", "DivergedError", "Record"),
}
_MODULES = {"losses": "training.losses", "metrics": "analysis.metrics"}  # `from explorer import losses`
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "ALIASES",
    "DISTORTIONS",
    "ActivationPatching",
    "Alignment",
    "AttentionWatch",
    "Attribution",
    "Backbone",
    "Benchmark",
    "CaptureError",
    "CheckpointError",
    "Comparison",
    "DenseEvaluation",
    "DistillConfig",
    "Distortion",
    "DivergedError",
    "Evaluation",
    "ExportedStudent",
    "Features",
    "Grid",
    "ImageError",
    "ImageSet",
    "Moment",
    "Neighbour",
    "Pair",
    "PairError",
    "Part",
    "PatchMatches",
    "PatchProbe",
    "PictureProbe",
    "Projection",
    "Record",
    "Recovery",
    "RepositoryError",
    "Section",
    "Segmentation",
    "SegmentedSet",
    "Sweep",
    "TokenNorms",
    "Trace",
    "UnsupportedModelError",
    "WeightsError",
    "__version__",
    "activation_patching",
    "alignment",
    "animate_recovery",
    "attention_map",
    "attribute",
    "benchmark",
    "compare",
    "distill",
    "distortion",
    "embed",
    "evaluate",
    "evaluate_dense",
    "export_pair",
    "export_student",
    "fit_patch_probe",
    "fit_probe",
    "foreground",
    "import_pair",
    "intervene",
    "list_backbones",
    "list_pairs",
    "load_backbone",
    "load_benchmark",
    "load_image",
    "load_images",
    "load_pair",
    "load_patch_probe",
    "load_probe",
    "load_segmented",
    "most_attended",
    "nearest_pictures",
    "norm_outliers",
    "page",
    "patch_clusters",
    "patch_matches",
    "patch_similarity",
    "pca_rgb",
    "project",
    "propagate_labels",
    "push_pair",
    "register_distortion",
    "restored_pair",
    "rollout",
    "save_page",
    "sweep",
    "token_norms",
    "top_mass",
    "wrap_backbone",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"explorer.{_MODULES[name]}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'explorer' has no attribute {name!r}; public are {', '.join(__all__)}")
    value = getattr(import_module(f"explorer.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
