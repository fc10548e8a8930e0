# Cityscapes with LPOSS+: LPOSS, then propagation over pixels.
_base_ = ["./lposs_vitb16_cityscapes.py"]
model = dict(stitch=dict(pixels=dict(type="PixelPropagation", tau=0.01, reach=6)))
