"""What the app does, without Gradio."""
