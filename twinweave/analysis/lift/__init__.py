"""The A/B lift report from noisy tables."""
