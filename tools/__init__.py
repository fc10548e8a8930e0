"""The commands of a checkout and what they measure with; not installed."""
