# LPOSS+ (Stojnić et al., CVPR 2025): LPOSS, then its scores propagated over the pixels of the resized photo.
_base_ = "./lposs.py"
model = dict(stitch=dict(pixels=dict(type="PixelPropagation", tau=0.01, reach=6)))
