from .attention.show import AttentionView as AttentionView
from .attention.show import show_attention as show_attention
from .figures.answers import qa_changes as qa_changes
from .figures.benchmark import (
    deletion_curves as deletion_curves,
)
from .figures.benchmark import (
    score_against_knockout as score_against_knockout,
)
from .figures.benchmark import (
    score_benchmark as score_benchmark,
)
from .figures.classes import head_classes as head_classes
from .figures.effects import effect_map as effect_map
from .figures.lens import logit_lens as logit_lens
from .figures.mask import mask_training as mask_training
from .figures.off_target import off_target_bars as off_target_bars
from .figures.off_target_marks import (
    off_target_guards as off_target_guards,
)
from .figures.off_target_marks import (
    off_target_rates as off_target_rates,
)
from .figures.overlap import language_overlap as language_overlap
from .figures.pruning import pruned_losses as pruned_losses
from .figures.scores import head_map as head_map
from .figures.scores import layer_profile as layer_profile
from .figures.specificity import specificity_matrix as specificity_matrix
from .figures.switching import switch_rate_bars as switch_rate_bars
from .figures.transfer import transfer_matrix as transfer_matrix
from .figures.transfer import transfer_sweep as transfer_sweep
from .figures.transfer_attention import transfer_attention as transfer_attention
from .page import report as report
