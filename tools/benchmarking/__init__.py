"""What ``tools/benchmark.py`` measures with: stages of a method, the straightforward form of it, bars and curves."""
