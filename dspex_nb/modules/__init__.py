"""Native programs: a signature made callable, in DSPy's saved format."""

from dspex_nb.modules.predict import ChainOfThought, Predict

__all__ = ["ChainOfThought", "Predict"]
