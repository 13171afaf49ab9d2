"""Fairness of what is generated: labels whose rates, or a model's errors, are alike in all groups.

All of it looks at generated rows and noisy tables alone: post-processing, no privacy cost.
"""
