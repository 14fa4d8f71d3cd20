"""Payloads of the sweep view: curves of known numbers, and states in which they are not complete."""

import copy

TITLES = {
    "cls_cosine": "CLS cosine",
    "patch_cosine": "patch cosine",
    "attention_js": "attention JS",
    "nearest_label": "1-NN label",
}
HELP = {
    "cls_cosine": "Cosine between the embeddings of the damaged and the clean picture. 1: the same meaning.",
    "patch_cosine": "The same for each patch, averaged over all of them.",
    "attention_js": "Jensen-Shannon divergence of the attention, in nats. 0: the same places are looked at.",
    "nearest_label": "How often the nearest clean picture has the right label.",
}
VALUES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
TEACHER = {
    "cls_cosine": (1.0, 0.956, 0.844, 0.702, 0.553, 0.431, 0.342),
    "patch_cosine": (1.0, 0.861, 0.703, 0.551, 0.441, 0.362, 0.311),
    "attention_js": (0.0, 0.043, 0.101, 0.168, 0.233, 0.287, 0.331),
    "nearest_label": (0.9844, 0.9688, 0.9063, 0.7656, 0.5938, 0.4219, 0.2969),
}
STUDENT = {
    "cls_cosine": (0.981, 0.969, 0.941, 0.897, 0.823, 0.722, 0.604),
    "patch_cosine": (0.962, 0.918, 0.856, 0.789, 0.702, 0.604, 0.513),
    "attention_js": (0.021, 0.039, 0.061, 0.088, 0.127, 0.173, 0.221),
    "nearest_label": (0.9688, 0.9688, 0.9531, 0.9063, 0.8438, 0.7031, 0.5469),
}


def sweep_payload(values: tuple[float, ...] = VALUES, trained: tuple[float, float] = (0.3, 0.3)) -> dict:
    """Gaussian noise, measured at all of its strengths, with a student that learned one of them."""
    count = len(values)
    series = [
        {
            "id": name,
            "title": title,
            "better": -1 if name == "attention_js" else 1,
            "low": 0,
            "high": 0.6931 if name == "attention_js" else 1,
            "help": HELP[name],
            "teacher": [TEACHER[name][i] for i in range(count)],
            "student": [STUDENT[name][i] for i in range(count)],
            "reference": TEACHER[name][0],
        }
        for name, title in TITLES.items()
    ]
    return {
        "version": 1,
        "operator": "gaussian_noise",
        "label": "Gaussian noise",
        "parameter": {"name": "sigma", "unit": "of the range [0, 1]"},
        "values": list(values),
        "specs": [f"gaussian_noise(sigma={value})" for value in values],
        "series": series,
        "trained": {"spec": "gaussian_noise(sigma=0.3)", "low": trained[0], "high": trained[1]},
        "never_trained": False,
        "untouched_student": False,
        "pictures": 64,
        "seed": 0,
        "chosen": 3,
        "progress": None,
        "caption": "64 photos · ViT-S/14 · student s14-noise",
        "message": None,
        "link": None,
    }


def measured_until(payload: dict, done: int) -> dict:
    """The same sweep while it is measured: the strengths from `done` on have not come yet."""
    partial = copy.deepcopy(payload)
    for series in partial["series"]:
        for who in ("teacher", "student"):
            series[who] = [value if i < done else None for i, value in enumerate(series[who])]
    return partial | {"progress": {"done": done, "total": len(payload["values"])}}


def without_labels(payload: dict) -> dict:
    """Pictures that nobody has labelled: there is no accuracy."""
    bare = copy.deepcopy(payload)
    nothing = [None] * len(payload["values"])
    bare["series"][3] |= {"teacher": nothing, "student": nothing, "reference": None}
    return bare


def severities(payload: dict) -> dict:
    """Five severities of a distortion that the student never saw."""
    other = copy.deepcopy(payload)
    for series in other["series"]:
        series |= {who: series[who][1:6] for who in ("teacher", "student")}
    names = {"operator": "fog", "label": "Fog", "parameter": {"name": "severity", "unit": ""}}
    specs = [f"fog(severity={level})" for level in range(1, 6)]
    trained = {"spec": "gaussian_noise(sigma=0.3)", "low": None, "high": None}
    return (
        other
        | names
        | {
            "values": [1, 2, 3, 4, 5],
            "specs": specs,
            "trained": trained,
            "never_trained": True,
            "chosen": None,
        }
    )


def untouched(payload: dict) -> dict:
    """Nobody has trained: the student is the copy of the teacher."""
    copied = copy.deepcopy(payload)
    for series in copied["series"]:
        series["student"] = None
    return copied | {"untouched_student": True, "trained": None, "chosen": None}
