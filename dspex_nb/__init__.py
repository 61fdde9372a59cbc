"""Program language models inside Jupyter."""
