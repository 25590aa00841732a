"""Training: what the default model learns from, the loop, calibration, evaluation and export."""
