"""At which depth does the model turn to each answer, and what do language heads change about it?

Question: with two contradicting facts in a prompt, in which layer does the residual stream turn to
    the later one's answer, and do the language heads move it? One worked example, so an
    illustration and no test; for that see `langheads transfer`.
Model: `demo`. Any other by a change of the constants: model, prompt and answers.
Hardware: 2 CPU cores.
Minutes: 0.1.
Number to expect: demo, A - B at the end of the stream -1.09 logits untouched, -1.15 with the first
    language's heads x 3, -1.01 with the second's off: in this example they hardly matter.

    python analyses/logit_lens.py [RUN]

Reads RUN/heads.json, writes RUN/logit-lens.nc with TransformerLens' own logit lens
(`transformer_lens.tools.analysis.logit_lens`); figures/logit_lens.py draws it.
"""

import sys
from pathlib import Path

import torch
import xarray as xr
from transformer_lens.tools.analysis.logit_lens import logit_lens

import langheads
from langheads.demo import grammar
from langheads.model import describe

FIRST, SECOND, QUERY = "zh", "de", "en"
EXAMPLE = 0  # of the grammar's held-out facts
GATE = 3.0
RUN = Path(sys.argv[1] if len(sys.argv) > 1 else "demo-run")

model = langheads.load("demo", device="cpu")
heads = langheads.LanguageHeads.load(RUN / "heads.json")
item = grammar.contradicting_facts(FIRST, SECOND, EXAMPLE + 1, query=QUERY)[EXAMPLE]
prompt, answers = item["prompt"], item["answers"]
# The first token of each answer, behind the space that joins it to the prompt.
targets = [int(model.to_tokens(" " + answer, prepend_bos=False)[0, 0].item()) for answer in answers]
conditions = {
    "untouched": [],
    f"{FIRST} heads x {GATE:g}": heads.specific[FIRST],
    f"{SECOND} heads x 0": heads.specific[SECOND],
}
found = []
for name, chosen in conditions.items():
    gate = 0.0 if name.endswith("x 0") else GATE
    with torch.no_grad(), langheads.gated(model, chosen, gate):
        lens = logit_lens(model, prompt, targets=targets, positions=-1)
    found.append(lens.values.reshape(len(lens.labels), -1).double())
values = torch.stack(found)
result = xr.Dataset(
    {"logit": (("condition", "depth", "answer"), values.numpy(), {"units": "logit"})},
    coords={
        "condition": list(conditions),
        "depth": list(lens.labels),
        "answer": [f"{x} ({answer})" for x, answer in zip((FIRST, SECOND), answers, strict=True)],
    },
    attrs=describe(model) | {"format": 1, "kind": "logit-lens", "prompt": prompt},
)
langheads.save(result, RUN / "logit-lens.nc")
for name, of in zip(conditions, values, strict=True):
    print(f"{name}: A - B {(of[-1, 0] - of[-1, 1]).item():+.2f} logits")
print(RUN / "logit-lens.nc")
