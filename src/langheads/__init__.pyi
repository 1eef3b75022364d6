# Every public name and where it is written: the one list that runs the lazy imports of `__init__`,
# that tools read for types and completion, and that the command line takes its verbs from.
from . import view as view
from .experiments.benchmark.compare import compare as compare
from .experiments.benchmark.deletion import deletion as deletion
from .experiments.pruning.experiment import prune as prune
from .experiments.replies.experiment import generate_replies as generate_replies
from .experiments.replies.generate import Reply as Reply
from .experiments.replies.generate import generate as generate
from .experiments.replies.off_target import off_target as off_target
from .experiments.replies.switching import switch_rates as switch_rates
from .experiments.softmask.adapt import adapt as adapt
from .experiments.softmask.experiment import compare_masks as compare_masks
from .experiments.softmask.experiment import evaluate_matched as evaluate_matched
from .experiments.softmask.experiment import evaluate_qa as evaluate_qa
from .experiments.specificity.experiment import ablate as ablate
from .experiments.transfer.experiment import transfer as transfer
from .heads import Head as Head
from .heads import HeadSet as HeadSet
from .heads import LanguageHeads as LanguageHeads
from .heads.classes import HeadClasses as HeadClasses
from .heads.mask import HeadMask as HeadMask
from .io.errors import LangheadsError as LangheadsError
from .io.results import load_result as load_result
from .io.results import save as save
from .io.shards import in_parts as in_parts
from .io.tables import to_dataframe as to_dataframe
from .model.gates import gated as gated
from .model.gates import mean_z as mean_z
from .model.loading import load as load
from .model.steering import steered as steered
from .pipeline import benchmark as benchmark
from .pipeline import run as run
from .scores.attribution import attribute as attribute
from .scores.exact_knockout import knockout as knockout
from .scores.score import score as score
from .scores.task_knockout import knockout_task as knockout_task
from .selection.classify import classify as classify
from .selection.count import select as select
from .text.corpus import read_texts as read_texts
from .text.questions import read_questions as read_questions
from .view.attention.show import AttentionView as AttentionView
from .view.attention.show import show_attention as show_attention
from .view.cite import cite as cite
from .view.page import report as report

__version__: str
