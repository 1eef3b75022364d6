"""Pictures and the report: functions of saved results, nothing is measured here."""

from langheads.view.classes import head_classes
from langheads.view.figures import head_map, layer_profile
from langheads.view.matrix import specificity_matrix
from langheads.view.page import report

__all__ = ["head_classes", "head_map", "layer_profile", "report", "specificity_matrix"]
