"""Payloads for the tests of the browser views: smooth seeded attention, unit features, a drawn or a real picture."""

import base64
import io

import matplotlib
import numpy as np
from PIL import Image

from explorer.analysis.measures import AGREEMENT, MEASURES
from explorer.scenes.common import measure_of
from explorer.system.files import asset_path

PANES = [
    ("teacher_clean", "teacher", "clean", "Teacher · clean"),
    ("teacher_distorted", "teacher", "distorted", "Teacher · distorted"),
    ("student_clean", "student", "clean", "Student · clean"),
    ("student_distorted", "student", "distorted", "Student · distorted"),
]


def encode(values: np.ndarray, scale: float | None = None) -> dict:
    """An array as the views read it: base64, little endian, row by row."""
    spec = {
        "dtype": str(values.dtype),
        "shape": list(values.shape),
        "data": base64.b64encode(values.tobytes()).decode(),
    }
    return spec if scale is None else {**spec, "scale": scale}


def colormaps() -> dict[str, str]:
    """The colour maps of a payload, 256 RGB triples each."""
    names = {"viridis": "viridis", "magma": "magma", "cividis": "cividis", "difference": "RdBu_r"}
    ramp = np.linspace(0, 1, 256)
    tables = {name: matplotlib.colormaps[source](ramp)[:, :3] for name, source in names.items()}
    return {
        name: base64.b64encode((255 * rgb).round().astype(np.uint8).tobytes()).decode() for name, rgb in tables.items()
    }


def picture(pixels: np.ndarray) -> str:
    """Pixels in [0, 1] as a data URI."""
    stream = io.BytesIO()
    Image.fromarray((255 * pixels.clip(0, 1)).astype(np.uint8)).save(stream, "WEBP", quality=85)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()


def photo(height: int, width: int, name: str = "farm_animal/owl.webp") -> np.ndarray:
    """A shipped photo at a size, float RGB in [0, 1]."""
    with Image.open(asset_path("photos") / name) as image:
        side = min(image.width / width, image.height / height)
        crop = (round(width * side), round(height * side))
        left, top = (image.width - crop[0]) // 2, (image.height - crop[1]) // 2
        image = image.convert("RGB").crop((left, top, left + crop[0], top + crop[1])).resize((width, height))
        return np.asarray(image, dtype=np.float32) / 255


def smooth_field(
    generator: np.random.Generator, shape: tuple[int, ...], rows: int, cols: int, radius: int = 1
) -> np.ndarray:
    """Gaussian noise over a grid, made smooth by box filters: (*shape, rows, cols)."""
    field = generator.normal(size=(*shape, rows + 4 * radius, cols + 4 * radius))
    for axis in (-2, -1):
        for _ in range(2):
            windows = np.lib.stride_tricks.sliding_window_view(field, 2 * radius + 1, axis=axis)
            field = windows.mean(-1)
    return field / field.std()


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    out = np.exp(logits - logits.max(-1, keepdims=True))
    return out / out.sum(-1, keepdims=True)


def common(rows: int, cols: int, patch: int = 14, seed: int = 0) -> dict:
    """What both payloads share."""
    clean = photo(rows * patch, cols * patch)
    noisy = clean + 0.3 * np.random.default_rng(seed).normal(size=clean.shape)
    pictures = {"clean": picture(clean), "distorted": picture(noisy)}
    panes = [
        {
            "id": key,
            "who": who,
            "view": view,
            "title": title,
            "reference": key == "teacher_clean",
            "picture": pictures[view],
        }
        for key, who, view, title in PANES
    ]
    return {
        "version": 1,
        "grid": [rows, cols],
        "size": [rows * patch, cols * patch],
        "colormaps": colormaps(),
        "measures": measures(*AGREEMENT),
        "panes": panes,
        "untouched_student": False,
        "message": None,
        "link": {"photo": "farm_animal/owl.webp", "distortion": "gaussian_noise(sigma=0.3)"},
    }


def measures(*names: str) -> list[dict]:
    """How these are told."""
    return [measure_of(MEASURES[name]) for name in names]


def attention_payload(rows: int = 16, cols: int = 16, layers: int = 12, heads: int = 6, seed: int = 0) -> dict:
    """The teacher on the clean picture looks at the subject; noise scatters its attention more than the student's."""
    generator = np.random.default_rng(seed)
    payload = common(rows, cols, seed=seed)
    y, x = np.mgrid[0:rows, 0:cols]
    subject = np.exp(-(((y / rows - 0.42) / 0.2) ** 2) - (((x / cols - 0.66) / 0.17) ** 2))
    sharpness = np.linspace(0.3, 3.5, layers)[:, None, None, None]
    base = sharpness * subject + 0.8 * smooth_field(generator, (layers, heads), rows, cols)
    scatter = smooth_field(generator, (layers, heads), rows, cols, radius=1)
    amounts = {"teacher_clean": 0.0, "teacher_distorted": 1.6, "student_clean": 0.25, "student_distorted": 0.6}
    for pane in payload["panes"]:
        amount = amounts[pane["id"]]
        logits = (1 - 0.35 * amount) * base + amount * scatter
        attention = 0.93 * softmax(logits.reshape(layers, heads, rows * cols))
        scale = attention.max() / 65535
        pane["attention"] = encode((attention / scale).round().astype(np.uint16), float(scale))
        rollout = attention.mean((0, 1))
        pane["rollout"] = encode(rollout.astype(np.float32))
        norms = 40 + 10 * np.arange(layers)[:, None] + 4 * amount * (1 + logits.mean(1).reshape(layers, -1))
        pane["norms"] = encode(norms.astype(np.float32))
    payload |= {
        "norm_limits": [46 + 10 * layer for layer in range(layers)],
        "layers": list(range(layers)),
        "heads": heads,
        "query_kind": "class token",
        "numbers": {
            "teacher": {
                "cls_cosine": 0.741,
                "patch_cosine": 0.552,
                "attention_js": 0.213,
                "attention_kl": 1.018,
                "attention_iou": 0.41,
                "cka": 0.62,
            },
            "student": {
                "cls_cosine": 0.896,
                "patch_cosine": 0.826,
                "attention_js": 0.061,
                "attention_kl": 0.395,
                "attention_iou": 0.68,
                "cka": 0.624,
            },
            "student_clean": {
                "cls_cosine": 0.973,
                "patch_cosine": 0.94,
                "attention_js": 0.02,
                "attention_kl": 0.08,
                "attention_iou": 0.86,
                "cka": 0.97,
            },
        },
    }
    return payload


def features(rows: int = 16, cols: int = 16, dim: int = 384, seed: int = 0) -> dict[str, np.ndarray]:
    """Unit patch features of the four panes: what a place looks like plus a common direction plus noise."""
    generator = np.random.default_rng(seed)
    places = smooth_field(generator, (24,), rows, cols, radius=1).reshape(24, -1).T
    subject = photo(rows, cols).reshape(rows * cols, 3)
    seen = np.concatenate([places, 6 * (subject - subject.mean(0))], axis=1)
    basis = generator.normal(size=(seen.shape[1], dim)) / np.sqrt(dim)
    common_part = 2 * generator.normal(size=dim) / np.sqrt(dim)
    noise = generator.normal(size=(2, rows * cols, dim)) / np.sqrt(dim)
    amounts = {"teacher_clean": 0.0, "teacher_distorted": 9.0, "student_clean": 1.0, "student_distorted": 3.0}
    out = {}
    for key, amount in amounts.items():
        values = seen @ basis + common_part + amount * noise[int("student" in key)]
        out[key] = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    return out


def quantise(values: np.ndarray) -> np.ndarray:
    """Rows as int8, each with its own scale (which a cosine does not need)."""
    return (127 * values / np.abs(values).max(-1, keepdims=True)).round().astype(np.int8)


def patch_payload(rows: int = 16, cols: int = 16, dim: int = 384, seed: int = 0, layer: int = 11) -> dict:
    """Features, attention rows and joint PCA colours of one layer."""
    payload = common(rows, cols, seed=seed)
    units = features(rows, cols, dim, seed)
    stacked = np.concatenate(list(units.values()))
    centred = stacked - stacked.mean(0)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, -3:]
    low, high = np.percentile(centred @ axes, [1, 99], axis=0)
    for pane in payload["panes"]:
        values = units[pane["id"]]
        pane["patches"] = encode(quantise(values))
        rows_of = softmax(12 * values @ values.T)
        scale = rows_of.max() / 255
        pane["rows"] = encode((rows_of / scale).round().astype(np.uint8), float(scale))
        colours = ((values - stacked.mean(0)) @ axes - low) / (high - low)
        pane["pca"] = encode((255 * colours.clip(0, 1)).round().astype(np.uint8))
    return payload | {"layer": layer, "layers": list(range(12))}


def recovery_payload(moments: int = 11, every: int = 4, rows: int = 16, cols: int = 16, dim: int = 64) -> dict:
    """A finished run: what the student sees of noise goes toward what the teacher sees of the clean picture."""
    shared = common(rows, cols)
    units, heads = features(rows, cols, dim), attention_payload(rows, cols, layers=1)["panes"]
    rows_of = [np.frombuffer(base64.b64decode(pane["attention"]["data"]), np.uint16).astype(float) for pane in heads]
    clean, noisy = (values.reshape(6, rows * cols) / values.sum() * 6 for values in rows_of[:2])
    steps = every * (moments - 1)

    def moment(step: int, way: float) -> dict:
        attention = (1 - way) * noisy + way * clean
        scale = attention.max() / 255
        agreement = {"cls_cosine": 0.52 + 0.4 * way, "patch_cosine": 0.31 + 0.5 * way, "attention_kl": 0.9 - 0.6 * way}
        return {
            "step": step,
            "attention": encode((attention / scale).round().astype(np.uint8), float(scale)),
            "patches": encode(quantise((1 - way) * units["teacher_distorted"] + way * units["teacher_clean"])),
            "agreement": {**agreement, "attention_js": 0.2 - 0.1 * way, "attention_iou": 0.25 + 0.4 * way, "cka": None},
        }

    def record(step: int) -> dict:
        parts = {"cls": 0.4, "patch": 0.3, "attention": 0.9}
        losses = {name: high * np.exp(-2 * step / steps) + 0.02 * np.sin(step) ** 2 for name, high in parts.items()}
        evaluated = step % (2 * every) == 0
        alignment = {"cls_cosine": 0.6 + 0.3 * step / steps, "patch_cosine": 0.4 + 0.3 * step / steps}
        return {
            "step": step,
            "steps": steps,
            "losses": {"loss": sum(losses.values()), **losses},
            "lr": 1e-3,
            "images_per_second": 15.23,
            "eta_seconds": 4.0 * (steps - step),
            "alignment": alignment if evaluated else None,
        }

    return {
        "version": 1,
        "run": "noise-1",
        "key": "noise-1 owl",
        "state": "finished",
        "message": None,
        "steps": steps,
        **{name: shared[name] for name in ("grid", "size", "colormaps")},
        "measures": measures("cls_cosine", "patch_cosine", "attention_js", "attention_iou"),
        "pictures": {pane["view"]: pane["picture"] for pane in shared["panes"]},
        "reference": moment(0, 1.0),
        "moments": [moment(every * i, 0.85 * i / (moments - 1)) for i in range(moments)],
        "records": [record(step) for step in range(1, steps + 1)],
        "before": {"cls_cosine": 0.58, "patch_cosine": 0.37},
    }


def recovery_until(payload: dict, step: int, state: str = "running") -> dict:
    """The same run as it was after a step."""
    return {
        **payload,
        "state": state,
        "moments": [moment for moment in payload["moments"] if moment["step"] <= step],
        "records": [record for record in payload["records"] if record["step"] <= step],
    }
