# NACLIP as published (Hajimiri et al., WACV 2025): naclip.py, and PAMR refines the score maps.
_base_ = "./naclip.py"
model = dict(refiners=[dict(type="PAMR", iterations=10, dilations=(8, 16))])
