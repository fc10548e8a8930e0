# nano-photo on photos, with NACLIP as published: PAMR refines the score maps.
_base_ = ["./naclip_photo_photos.py"]
model = dict(
    refiners=[dict(type="PAMR", iterations=10, dilations=(8, 16))],
)
