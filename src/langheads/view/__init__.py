"""Pictures and the report: functions of saved results, but `show_attention`, which runs the model
for what it shows."""

from langheads.view.attention import AttentionView, show_attention
from langheads.view.classes import head_classes
from langheads.view.figures import head_map, layer_profile
from langheads.view.matrix import specificity_matrix
from langheads.view.page import report
from langheads.view.softmask import mask_training
from langheads.view.transfer import transfer_matrix, transfer_sweep

__all__ = [
    "AttentionView",
    "head_classes",
    "head_map",
    "layer_profile",
    "mask_training",
    "report",
    "show_attention",
    "specificity_matrix",
    "transfer_matrix",
    "transfer_sweep",
]
