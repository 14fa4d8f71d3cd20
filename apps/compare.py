"""The app: `gradio apps/compare.py`, or `python apps/compare.py`. What it is made of stands in `explorer_app/`."""

from explorer_app.page import build
from explorer_app.serving import serve

demo = build()

if __name__ == "__main__":
    serve(demo)
