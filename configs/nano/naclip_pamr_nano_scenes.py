# nano on scenes, the embedded mini benchmark, with NACLIP as published: PAMR refines the score maps.
_base_ = ["./naclip_nano_scenes.py"]
model = dict(refiners=[dict(type="PAMR", iterations=10, dilations=(8, 16))])
