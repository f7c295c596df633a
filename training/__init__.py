"""Training: data sets, recipes, and the Lightning program behind ``python -m training``."""
