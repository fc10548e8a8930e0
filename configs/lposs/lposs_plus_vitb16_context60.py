# Context60 with LPOSS+: LPOSS, then propagation over pixels.
_base_ = ["./lposs_vitb16_context60.py"]
model = dict(stitch=dict(pixels=dict(type="PixelPropagation", tau=0.01, reach=6)))
