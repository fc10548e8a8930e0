"""Exit statuses; what they mean stands in :mod:`ovseg.cli`."""

DONE, PART, SETUP, SKIPPED, INTERRUPTED = 0, 1, 2, 3, 130
