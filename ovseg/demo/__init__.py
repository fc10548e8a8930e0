"""The web page (``ovseg demo``): photo and words in, overlay and legend out. Needs the extra ``demo`` (Gradio)."""
