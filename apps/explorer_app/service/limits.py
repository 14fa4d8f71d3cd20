"""What visitors may ask for: everything that the machine can do, or what a public page can afford.

Read from the environment once, when the app starts; `vit-explorer app --public` sets it, and in a Space of Hugging Face
a page is public unless it is told otherwise. docs/security.md tells what a public page exposes, and what it does not.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import explorer as ex
from explorer.errors import InputError

PUBLIC_VARIABLE = "VIT_EXPLORER_PUBLIC"
ENDPOINTS_VARIABLE = "VIT_EXPLORER_ENDPOINTS"
PASSWORDS_VARIABLE = "VIT_EXPLORER_PASSWORD_FILE"
ENDPOINTS = ("compare", "patch_similarity", "embed", "distill", "sweep")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one visitor, and all of them together, may take.

    Attributes:
        public: whether strangers are expected: then backbones are the aliases alone, for any other name would have this
            machine download and keep what the visitor chose, and students are adapters alone, of a megabyte each.
        steps, minutes: of a run.
        sheet: how many pictures are measured under all corruptions.
        waiting: how many runs may wait for their turn.
        upload: of one file, as Gradio writes it; a checkpoint may be large, a picture may not (see `pictures`).
        endpoints: which of `ENDPOINTS` programs can reach.
    """

    public: bool = False
    steps: int = 2000
    minutes: float = float("inf")
    sheet: int = 64
    waiting: int = 16
    upload: str = "700mb"
    endpoints: tuple[str, ...] = ENDPOINTS

    def check_backbone(self, name: str) -> None:
        """Refuse a backbone that visitors may not ask for.

        Raises:
            ValueError: it is none of the aliases, and the page is public.
        """
        if self.public and name not in ex.ALIASES:
            raise InputError(
                f"this public page offers the backbones {', '.join(ex.ALIASES)}; run the app yourself for others"
            )

    def check_run(self, config: "ex.DistillConfig") -> None:
        """Refuse a run that is too large.

        Raises:
            ValueError: too many steps, or more than an adapter is to be trained on a public page.
        """
        if config.steps > self.steps:
            raise InputError(f"here a run may take {self.steps} steps; got {config.steps}. Use `vit-explorer distill`")
        if self.public and not config.trainable.startswith("lora:"):
            raise InputError(f"this public page trains adapters such as lora:8; got '{config.trainable}'")


def _from_environment() -> Limits:
    endpoints = _endpoints(os.environ.get(ENDPOINTS_VARIABLE))
    in_space = "1" if "SPACE_ID" in os.environ else "0"
    if os.environ.get(PUBLIC_VARIABLE, in_space) in ("", "0"):
        return Limits(endpoints=endpoints)
    return Limits(public=True, steps=100, minutes=5, sheet=8, waiting=4, upload="20mb", endpoints=endpoints)


def _endpoints(listed: str | None) -> tuple[str, ...]:
    if listed is None:
        return ENDPOINTS
    names = tuple(name.strip().removeprefix("/") for name in listed.split(",") if name.strip() not in ("", "none"))
    unknown = [name for name in names if name not in ENDPOINTS]
    if unknown:
        raise InputError(
            f"{ENDPOINTS_VARIABLE}: unknown endpoint '{unknown[0]}'; there are: {', '.join(ENDPOINTS)}, or none"
        )
    return names


def accounts() -> list[tuple[str, str]] | None:
    """Names and passwords of those who may come in, from the lines "name:password" of the file in
    VIT_EXPLORER_PASSWORD_FILE; None where everybody may.

    Raises:
        ValueError: the file holds something else, or nothing.
        OSError: it cannot be read.
    """
    file = os.environ.get(PASSWORDS_VARIABLE)
    if not file:
        return None
    lines = [line for line in Path(file).read_text(encoding="utf-8").splitlines() if line.strip()]
    found = [(name.strip(), password) for name, _, password in (line.partition(":") for line in lines)]
    if not found or not all(name and password for name, password in found):
        raise InputError(f"{PASSWORDS_VARIABLE}: expected one or more lines 'name:password' in '{Path(file).name}'")
    return found


LIMITS = _from_environment()
