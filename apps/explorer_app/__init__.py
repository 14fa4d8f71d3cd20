"""The app: one page of Gradio's over the library."""
