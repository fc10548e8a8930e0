# COCO-Stuff with LPOSS+: LPOSS, then propagation over pixels.
_base_ = ["./lposs_vitb16_coco_stuff.py"]
model = dict(stitch=dict(pixels=dict(type="PixelPropagation", tau=0.01, reach=6)))
