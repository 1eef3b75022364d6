"""Do a language's heads decide whose fact is believed (cross-lingual attention transfer)?

Claim: of two contradicting facts about one person, one told in language A and one in B, the answer
    moves to A's when A's heads are strengthened (x 3) or B's are off (x 0), by more than random
    heads of the same layers at the same gate move it, and with the model still sound.
Model: `demo` with its planted heads, told as in its training text; any other by argument, with a
    head set.
Hardware: 2 CPU cores.
Minutes: 6 (demo, 42 pairs of languages, 30 pairs of occupations, 20 random head sets).
Number to expect: demo, both orders, mean over pairs of languages, change of log p(A's answer) -
    log p(B's answer) in nats, 95% interval over occupations; of random heads the mean and range of
    20 sets; p is one-sided, towards A:

        A's heads x 3    -0.26 [-0.38, -0.13]    random +0.00, -0.06 to +0.11    p 1.00
        B's heads x 0    +0.04 [+0.00, +0.08]    random -0.00, -0.10 to +0.11    p 0.26

    So the paper's direction does not show. Strengthening a language's planted heads moves the
    answer away from the fact told in it, further than any random set (A's answer is given in 3.2
    [1.2, 4.7] prompts of 100 less); switching them off does what random heads do. The model stays
    sound: nothing empty or repeated, the prompt's NLL rises by 0.04 nats a token. Other gates do
    the same in small: x 1.5 -0.04 [-0.07, -0.01], x 2 -0.10 [-0.16, -0.04], x 0.5 0.00 [-0.02,
    +0.02].

    python analyses/transfer.py
    python analyses/transfer.py MODEL heads.json [FOLDER OF TEMPLATES]
"""

import sys
from pathlib import Path

import langheads
from langheads.experiments.transfer.summarise import CHECKS, MEASURES
from langheads.heads import read_planted
from langheads.model import DEMO, head_shape

OCCUPATIONS = 10
LIMIT = 30  # of the 90 ordered pairs of occupations
CONTROLS = 20  # random head sets
ENHANCE, WEAKEN = (3.0,), (0.0,)
SEED = 0
OUT = Path("results/transfer.nc")


def planted() -> langheads.LanguageHeads:
    """The demo's planted heads."""
    shape = head_shape(langheads.load("demo"))
    own = read_planted(DEMO / "planted.json", shape)["planted"]
    return langheads.LanguageHeads(own, langheads.HeadSet([], shape), "demo")


def main(model: str = "demo", heads: str | None = None, templates: str | None = None) -> None:
    """Run, save, and print the means over pairs of languages."""
    found = langheads.transfer(
        langheads.load(model),
        planted() if heads is None else langheads.LanguageHeads.load(heads),
        gates_enhance=ENHANCE,
        gates_weaken=WEAKEN,
        n_controls=CONTROLS,
        templates=templates,
        n_occupations=OCCUPATIONS,
        limit=LIMIT,
        seed=SEED,
    )
    OUT.parent.mkdir(parents=True, exist_ok=True)
    print(langheads.save(found, OUT))
    for setting in found.setting.values:
        for order in found.order.values:
            at = found.sel(setting=setting, order=order)
            print(f"{setting}, order {order}")
            for name in (*MEASURES, *CHECKS):
                change, low, high = (
                    at[f"{name}_overall_{part}"].item() for part in ("change", "low", "high")
                )
                random = at[f"{name}_overall_control_change"]
                print(
                    f"    {name}: {change:+.3f} [{low:+.3f}, {high:+.3f}] {random.units}; random "
                    f"heads {random.mean().item():+.3f}, from {random.min().item():+.3f} to "
                    f"{random.max().item():+.3f}",
                    f", p {at[f'{name}_overall_control_p'].item():.3f}" if name in MEASURES else "",
                    sep="",
                )


if __name__ == "__main__":
    main(*sys.argv[1:])
