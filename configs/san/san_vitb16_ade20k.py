# ADE20K with SAN, OpenAI ViT-B/16. The authors' words are detectron2's, all synonyms of a
# class in one prompt; here is the first of each.
_base_ = [
    "../_base_/trained/san.py",
    "../_base_/datasets/detectron2/ade20k.py",
    "../_base_/runtime/eval.py",
]
model = dict(
    vocabulary=dict(file="ade20k"),
)
