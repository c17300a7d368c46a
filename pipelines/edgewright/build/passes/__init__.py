"""Passes: what makes an ONNX model smaller or faster, one file each, and the table of recipes built from them.

A pass takes a cleaned fp32 model and returns a canonical one; `recipe.RECIPES` says where each applies, in which
settings it is worth trying on a class, and where it comes from. Libraries load when their pass runs.
"""
