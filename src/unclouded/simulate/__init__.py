"""Simulated clouds and shadows with exact truth, surfaces to put them on, and whole simulated products."""
