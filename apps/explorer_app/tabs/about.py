"""About tab: what this is, whose weights and photos, and how programs reach it."""

import gradio as gr

import explorer as ex
from explorer_app.tabs.shared import Tab

ABOUT = """
### What you see
A frozen **teacher** sees the clean picture; that is the **reference**. The same teacher, and a **student**, see the
distorted picture. After *Distilling Vision Transformers for Distortion-Robust Representation Learning*
(Alexis, Giannopoulos, Gunopulos, [arXiv 2604.22529](https://arxiv.org/abs/2604.22529)), of which this is an
implementation from its abstract, with our own loss forms.

### Weights and photos
{weights}

The 207 photos are CC0 or in the public domain; `assets/photos/ATTRIBUTION.csv` names their authors.

### To learn more
In the folder of this project: six lessons as notebooks in `notebooks/`, a gallery of pages that need no server in
`docs/gallery/`, what was measured in `docs/results.md`; this app is `apps/explorer_app/`, the library `explorer/`.

### For programs
`gradio_client` reaches `/compare`, `/patch_similarity`, `/embed`, `/sweep` and `/distill`; the link *Use via API* at
the foot of this page describes them. The same functions are in Python: `import explorer as ex`, then
`ex.compare(...)`, `ex.sweep(...)` or `ex.distill(...)`.
"""
WEIGHTS = "\n".join(f"- **{pinned.label}**: {pinned.credit}" for pinned in ex.ALIASES.values())

TAB = Tab(id="about", label="About", build=lambda _: gr.Markdown(ABOUT.format(weights=WEIGHTS)))
