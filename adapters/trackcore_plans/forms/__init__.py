"""The forms in which plans are written, one module for each."""
