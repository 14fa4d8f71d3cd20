"""What the app does. No Gradio in here."""
