"""At which depth does the model turn to each answer? The logit lens of a worked example.

Of arXiv 2511.07498, the logit lens beside attention transfer; its numbers are not at hand. Reads
logit-lens.nc, which analyses/logit_lens.py makes with TransformerLens' own logit lens.

    python figures/logit_lens.py [RUN]
"""

import _common

from langheads.view import logit_lens

found = _common.result(
    "logit-lens.nc", "logit-lens", f"python analyses/logit_lens.py {_common.RUN}"
)
_common.write(logit_lens(found), "logit-lens", found.logit.to_series().unstack("answer"))
