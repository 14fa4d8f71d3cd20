"""Payloads of the benchmark view: sheets of known numbers, and states in which they are not complete."""

import base64
import copy

import matplotlib
import numpy as np

ROWS = (("gaussian_noise", "Gaussian noise"), ("fog", "Fog"), ("jpeg_compression", "JPEG compression"))
SEVERITIES = (1, 2, 3, 4, 5)
MEASURES = (
    {"id": "cls_cosine", "title": "CLS cosine", "better": 1, "low": 0, "high": 1, "help": "1: the same meaning."},
    {
        "id": "attention_js",
        "title": "attention JS",
        "better": -1,
        "low": 0,
        "high": 0.6931,
        "help": "0: the same places.",
    },
)


def tables() -> dict[str, str]:
    """256 RGB bytes for each map, as the app sends them."""
    ramp = np.linspace(0, 1, 256)
    names = {"viridis": "viridis", "difference": "RdBu_r"}
    colours = {name: matplotlib.colormaps[source](ramp)[:, :3] for name, source in names.items()}
    return {
        name: base64.b64encode((255 * rgb).round().astype(np.uint8).tobytes()).decode() for name, rgb in colours.items()
    }


def sheet(first: float, fall: float) -> list[list[float]]:
    """One number for each corruption and severity, all of them different."""
    return [[round(first - fall * column - 0.013 * row, 4) for column in range(5)] for row in range(len(ROWS))]


def benchmark_payload(*students: str) -> dict:
    """A student that learned Gaussian noise from severity 2 on; it is behind at first and ahead in the end."""
    names = students or ("student",)
    learned = [[False, True, True, True, True], [False] * 5, [False] * 5]
    networks: list[dict] = [
        {
            "name": "teacher",
            "error": 1.0,
            "values": {"cls_cosine": sheet(0.95, 0.15), "attention_js": sheet(0.05, -0.05)},
        }
    ]
    for place, name in enumerate(names):
        values = {"cls_cosine": sheet(0.91, 0.07 + 0.01 * place), "attention_js": sheet(0.06, -0.02)}
        spec = "gaussian_noise(sigma=0.1..0.5)"
        networks.append({"name": name, "error": 0.55, "values": values, "learned": learned, "spec": spec})
    return {
        "version": 1,
        "corruptions": [{"name": name, "label": label} for name, label in ROWS],
        "severities": list(SEVERITIES),
        "measures": [dict(measure) for measure in MEASURES],
        "networks": networks,
        "colormaps": tables(),
        "untouched_student": False,
        "pictures": 48,
        "seed": 0,
        "progress": None,
        "about": [["Reference", "the teacher on the clean picture"]],
        "caption": "48 photos · ViT-S/14 · student s14-noise",
        "message": None,
        "link": None,
    }


def measured_until(payload: dict, rows: int) -> dict:
    """The same while it is measured: the corruptions from `rows` on have not come yet."""
    partial = copy.deepcopy(payload)
    for network in partial["networks"]:
        network["error"] = None
        for values in network["values"].values():
            values[rows:] = [[None] * 5 for _ in values[rows:]]
    return partial | {"progress": {"done": 5 * rows, "total": 15}}
