"""Inference: tiling, runners, calibration and the loop that turns a scene into probabilities."""
