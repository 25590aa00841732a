"""Labelled imagery: samples, labels as sets of possible classes, augmentation, and the sources of the default model."""
