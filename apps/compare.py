"""The app: `gradio apps/compare.py`, or `python apps/compare.py`. What it is made of stands in `explorer_app/`."""

import gc

gc.disable()  # imports leave next to nothing to collect, and looking for it takes a tenth of the start

from explorer.system.malloc import one_arena  # noqa: E402
from explorer.system.threads import wait_briefly  # noqa: E402

one_arena()  # before there are threads
wait_briefly()  # before torch comes

from explorer_app.page import build  # noqa: E402
from explorer_app.serving import serve  # noqa: E402

demo = build()
gc.freeze()  # what there is by now stays
gc.enable()

if __name__ == "__main__":
    serve(demo)
