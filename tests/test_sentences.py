"""The whole sentence that each kind of claim says of hand-made runs."""

# ruff: noqa: E501 (sentences are long)

import math

import pytest

from tests.test_claims import CELLS, FLAT, LRS, archive, cells, chosen, claim, judged, on_grid, trains

EXCLUDED = "of one setting, up to 63% of seeds that do better cannot be excluded"


def seeds(*bests, **about):
    """Runs of one setting, each with its best train accuracy."""
    return [trains(best, seed=seed, **about) for seed, best in enumerate(bests)]


def gradients(seed, *pairs):
    """A run with the 1-norms of the gradient and of the powered gradient, epoch by epoch."""
    return {"seed": seed, "run": str(seed),
            "epochs": [{"grad_norm1": plain, "powered_norm1": powered} for plain, powered in pairs]}  # fmt: skip


def broken(**about):
    """Three runs that diverged in their first epoch."""
    return [{"epochs": [{"train_acc": math.nan}], "seed": seed, "run": f"broken{seed}"} | about for seed in range(3)]


def says(one, runs, verdict, text, **about):
    """The verdict and its evidence; of a text that ends in … only the beginning."""
    found = judged(one, runs, **about)
    assert found[0] == verdict
    if text.endswith("…"):
        assert found[1].startswith(text[:-1])
    else:
        assert found[1] == text


NEAR = claim("last_near", settings={}, column="train_acc", paper=0.98, tolerance=0.005)
LOW = claim("never_above", settings={}, column="train_acc", threshold=0.3)
SOME, NONE, EVERY = (claim("trained", settings={}, threshold=0.9, expect=expect, every_seed=every)
                     for expect, every in (("some", False), ("none", False), ("some", True)))  # fmt: skip
DEEPER = claim("deeper", settings={"optimizer": "powersgd"}, threshold=0.9)
OVERTAKEN = claim("overtaken", experiment="fig1ab", of="powersgd", minus="sgdm", column="test_acc")


@pytest.mark.parametrize("one", [NEAR, LOW, SOME, DEEPER, OVERTAKEN])
def test_without_runs_there_is_no_verdict(one):
    says(one, [], "not run", "no run", missing=[{}])


def test_selecting_runs_alone_give_no_verdict_on_entries():
    says(OVERTAKEN, chosen("powersgd", [(0.6, 0.6)] * 3, stage="grid"), "not run", "no run")


def test_a_claim_about_one_setting_refuses_two():
    with pytest.raises(ValueError, match=r"^2 settings of fig1ab are Settings.*; a claim is of one$"):
        judged(NEAR, seeds(0.9) + seeds(0.9, gamma=0.6))


def test_last_near():
    says(NEAR, seeds(0.99, 0.985, 0.98), "inconclusive",
         "last train_acc, paper 0.98: 0.9850 [0.9726, 0.9974] over 3 seeds; 2 more seeds would decide it with 80 % power: "
         "2 runs, 2 minutes of one core (own variances)")  # fmt: skip
    says(NEAR, seeds(0.99, 0.98), "inconclusive",
         "last train_acc, paper 0.98: 2 of at least 3 seeds; 1 run, 1 minutes of one core to that")  # fmt: skip
    diverged = {"epochs": [{"train_acc": 0.9}], "seed": 2, "run": "short"}
    says(NEAR, [*seeds(0.99, 0.98), diverged], "inconclusive", "last train_acc, paper 0.98: 0.6567 [-0.7561, 2.0694]…")


def test_amplified():
    one = claim("amplified", settings={}, factor=2)
    always = [gradients(seed, (2.0, 16.0), (0.5, 10.0 + seed)) for seed in range(3)]
    says(one, always, "reproduced",
         "smallest ratio of a run: 8 [8, 8] over 3 seeds; 8 or more in every epoch (own variances)")  # fmt: skip
    dead = [gradients(seed, (None, None), (2.0, 16.0), (0.5, 10.0 + seed), (0.0, 0.0)) for seed in range(3)]
    says(one, dead, "reproduced",
         "smallest ratio of a run: 8 [8, 8] over 3 seeds; 8 or more in every epoch in which the gradient is not 0; it is "
         "exactly 0 from epoch 4 on in 3 runs (own variances)")  # fmt: skip


def test_never_above():
    says(LOW, seeds(0.2, 0.25, 0.3), "reproduced", f"best train_acc 0.3000 over 3 seeds (threshold 0.3); {EXCLUDED}")
    says(LOW, seeds(0.2, 0.25), "inconclusive",
         "best train_acc 0.2500 over 2 seeds (threshold 0.3); of one setting, up to 78% of seeds that do better cannot be "
         "excluded; 1 run, 1 minutes of one core to that")  # fmt: skip
    says(LOW, seeds(0.2, 0.4, 0.3), "not reproduced", "best train_acc 0.4000 over 3 seeds (threshold 0.3)")
    says(LOW, broken(), "reproduced", f"best train_acc 0.0000 over 3 seeds (threshold 0.3); {EXCLUDED}")


def test_trained():
    one, half = "lr 0.1 γ 0.5 (1 of 3)", seeds(0.9, 0.5, 0.2)  # 0.9 itself is enough
    says(SOME, half + seeds(0.1, gamma=0.6), "reproduced", f"1 of 2 settings trained, 1 to 3 seeds: {one}")
    apart = seeds(0.9, initial_lr=1) + seeds(0.95, initial_lr=0.01) + seeds(0.1, gamma=0.6)
    says(SOME, apart, "reproduced", "2 of 3 settings trained, 1 seed: lr 1 γ 0.5, lr 0.01 γ 0.5")
    two = seeds(0.9, 0.95, initial_lr=1, gamma=None, label="adam") + seeds(0.95, 0.2, initial_lr=0.01)
    says(SOME, two, "reproduced",
         "2 of 2 settings trained, 2 seeds: adam lr 1 (2 of 2), powersgd lr 0.01 γ 0.5 (1 of 2)")  # fmt: skip
    few = seeds(0.3, 0.2, 0.1) + seeds(0.3, gamma=0.6)
    says(SOME, few, "inconclusive",
         "0 of 2 settings trained, 1 to 3 seeds; 2 not run; 8 runs, 8 minutes of one core to that",
         missing=[{"gamma": 0.7}, {"gamma": 0.8}])  # fmt: skip
    says(SOME, few, "inconclusive",
         "0 of 2 settings trained, 1 to 3 seeds, of at least 3; 2 runs, 2 minutes of one core to that")  # fmt: skip
    says(SOME, seeds(0.3, 0.2, 0.1) + broken(gamma=0.6), "not reproduced",
         f"0 of 2 settings trained, 3 seeds; {EXCLUDED}")  # fmt: skip
    says(EVERY, seeds(0.95, 0.95), "inconclusive",
         "1 of 1 setting trained, 2 seeds: lr 0.1 γ 0.5 (2 of 2), of at least 3; 1 run, 1 minutes of one core to that")  # fmt: skip
    says(NONE, seeds(0.3, 0.2, 0.1), "reproduced", f"0 of 1 setting trained, 3 seeds; {EXCLUDED}")
    says(NONE, half, "not reproduced", f"1 of 1 setting trained, 3 seeds: {one}")


def test_deeper():
    ours, shallow, deep = seeds(0.95, depth=15), *(
        seeds(*bests, depth=depth, gamma=1.0) for depth, bests in ((12, (0.95, 0.95, 0.2)), (15, (0.2, 0.2, 0.3)))
    )  # fmt: skip
    both, there = "PowerSGD trains 15 layers and SGD trains 12 layers", "SGD at 15 layers with"
    says(DEEPER, ours + shallow + deep, "reproduced", f"{both}; {there} 1 settings, 3 seeds each; {EXCLUDED}")
    says(DEEPER, ours + shallow + deep[:1], "inconclusive",
         f"{both}; {there} 1 settings, 1 seed each, of at least 3; 2 runs, 2 minutes of one core to that")  # fmt: skip
    says(DEEPER, ours + shallow + deep, "inconclusive",
         f"{both}; {there} 1 settings, 0 seeds each, of at least 3; 3 runs, 3 minutes of one core to that",
         missing=[{"depth": 15, "gamma": 1.0, "initial_lr": 1}])  # fmt: skip
    says(DEEPER, ours + shallow, "inconclusive",
         f"{both}; {there} 0 settings, 0 seeds each, of at least 3; 0 runs to that")  # fmt: skip
    says(DEEPER, ours + deep, "reproduced",
         f"PowerSGD trains 15 layers and SGD trains none of the depths; {there} 1 settings, 3 seeds each; {EXCLUDED}"
         )  # fmt: skip


def test_not_deeper():
    sgd = seeds(0.95, 0.95, 0.2, depth=12, gamma=1.0) + seeds(0.2, 0.2, 0.3, depth=15, gamma=1.0)
    same = "PowerSGD trains 12 layers and SGD trains 12 layers"
    says(DEEPER, seeds(0.95, depth=12) + sgd, "not reproduced", same)
    says(DEEPER, seeds(0.95, depth=12) + sgd, "inconclusive", same, missing=[{"depth": 15}])
    says(
        DEEPER,
        seeds(0.5, depth=12) + sgd,
        "not reproduced",
        "PowerSGD trains none of the depths and SGD trains 12 layers",
    )
    neither = seeds(0.5, depth=12) + seeds(0.2, depth=12, gamma=1.0)
    says(DEEPER, neither, "inconclusive", "PowerSGD trains none of the depths and SGD trains none of the depths")


SGDM = chosen("sgdm", [(0.50, 0.70), (0.51, 0.71), (0.52, 0.72)])


def test_overtaken():
    """Powersgd's spread before the drop, three times the others', shares no variance, and nothing before the drop does."""
    least = "powersgd, the least of its lead in epoch 1 and sgdm's in 2: "
    pooled = " over 3 seeds (sd 0.0100 pooled, 4 df, Bartlett p 1.00; own variance for 2 of 4 settings)"
    says(OVERTAKEN, chosen("powersgd", [(0.6, 0.6), (0.63, 0.61), (0.66, 0.62)]) + SGDM, "reproduced",
         f"{least}+0.1000 [+0.0536, +0.1285]{pooled}")  # fmt: skip
    says(OVERTAKEN, chosen("powersgd", [(0.6, 0.8), (0.63, 0.81), (0.66, 0.82)]) + SGDM, "not reproduced",
         f"{least}-0.1000 [-0.1227, -0.0715]{pooled}")  # fmt: skip
    diverged = chosen("powersgd", [(0.6, 0.6), (0.63, 0.61), (0.66,)])
    says(OVERTAKEN, diverged + SGDM, "inconclusive", f"{least}+0.1200 [-0.5601, +0.2109] over 3 seeds; …")


def test_epochs_to():
    one = claim("epochs_to", experiment="fig1ab", of="powersgd", minus=["adam", "sgdm"], column="train_acc", reach=0.8,
                between=[None, 0])  # fmt: skip
    ours = chosen("powersgd", [(0.5, 0.9)] * 3)
    says(one, ours + chosen("adam", [(0.3, 0.5), (0.3, 0.5), (0.3, 0.6)]) + SGDM, "inconclusive",
         "powersgd - adam, epochs to 80% of adam's best: reproduced, -1.00 [-1.58, -0.42] over 3 seeds (sd 0.2887 pooled, "
         "6 df, Bartlett p 1.00); powersgd - sgdm, epochs to 80% of sgdm's best: inconclusive, +0.00 [-0.82, +0.82] over "
         "3 seeds; …")  # fmt: skip
    says(one, ours + chosen("adam", [(0.3, 0.5), (0.3, 0.5), (math.nan,)]) + SGDM, "inconclusive",
         "powersgd - adam, epochs to 80% of adam's best: inconclusive, -0.67 [-2.08, +0.75] over 3 seeds; …")  # fmt: skip
    says(one, ours + SGDM, "not run",
         "powersgd - adam, epochs to 80% of adam's best: not run, no such run; powersgd - sgdm, epochs to 80% of sgdm's "
         "best: inconclusive, +0.00 [-0.65, +0.65] over 3 seeds; …")  # fmt: skip


def test_equal_budget():
    one = claim("equal_budget", experiment="fig1ab", of=["powersgd", "powersgdm"], minus=["adam", "sgdm"],
                between=[0, None])  # fmt: skip
    grids = {"powersgd": (0.9, 0.1, 0.1), "powersgdm": (0.6, 0.5), "adam": (0.5, 0.5), "sgdm": (0.2, 0.2)}
    tried = [{"label": label, "seed": seed, "initial_lr": lr, "run": f"{label}{lr}{seed}",
              "epochs": [{"test_acc": accuracy + 0.001 * seed}]}
             for seed in range(3) for label, grid in grids.items() for lr, accuracy in enumerate(grid)]  # fmt: skip
    first = ("powersgd - adam (best of 2), best of 2 settings, seeds that selected: reproduced, "  # (2 * 0.9 + 0.1) / 3
             "+0.1333 [+0.1313, +0.1358] over 3 seeds; ")  # fmt: skip
    says(one, tried, "reproduced",
         f"{first}powersgdm - adam (best of 2), best of 2 settings, seeds that selected: reproduced, +0.1000 [+0.0980, "
         "+0.1024] over 3 seeds (sd 0.0010 pooled, 6 df, Bartlett p 1.00)")  # fmt: skip
    says(one, [run for run in tried if run["label"] != "powersgdm"], "not run",
         f"{first}powersgdm - adam, sgdm, best of 0 settings, seeds that selected: not run, no such run (sd 0.0010 pooled, "
         "6 df, Bartlett p 1.00)")  # fmt: skip


def test_gain():
    one = claim("gain", experiment="fig1ij", of=["adagrad", "adam"], column="train_acc", epochs=[1, 2],
                between=[None, 0.02])  # fmt: skip
    runs = chosen("adagrad", [(0.5, 0.51), (0.5, 0.512), (0.5, 0.508)]) + chosen(
        "adam", [(0.5, 0.6), (0.5, 0.9), (0.2,)]
    )
    says(one, runs, "inconclusive",
         "adagrad from epoch 1 to 2: reproduced, +0.0100 [+0.0050, +0.0150] over 3 seeds; adam from epoch 1 to 2: "
         "inconclusive, +0.1000 [-0.6452, +0.8452] over 3 seeds; …")  # fmt: skip


def test_a_gain_uses_each_entry_s_own_variance():
    one = claim(
        "gain", experiment="fig1ij", of=["adagrad", "adam"], column="train_acc", epochs=[1, 2], between=[0, None]
    )
    runs = chosen("adagrad", [(0.5, 0.51), (0.5, 0.512), (0.5, 0.508)]) + chosen(
        "adam", [(0.5, 0.7), (0.5, 0.71), (0.5, 0.72)]
    )
    says(one, runs, "reproduced",
         "adagrad from epoch 1 to 2: reproduced, +0.0100 [+0.0050, +0.0150] over 3 seeds; adam from epoch 1 to 2: "
         "reproduced, +0.2100 [+0.1852, +0.2348] over 3 seeds (own variances)")  # fmt: skip


def test_a_finding_is_also_numbers_intervals_and_hours():
    """At the laptop tier intervals are wider, for its looks; an hour has 60 of these runs."""
    one = claim("difference", experiment="fig1ab", of=["powersgd", "powersgdm"], minus=["sgdm"], column="test_acc",
                at="best", between=[0, None])  # fmt: skip
    runs = chosen("powersgd", [(0.6, 0.81), (0.6, 0.8), (0.6, 0.79)]) + SGDM
    runs += chosen("powersgdm", [(0.6, 0.715), (0.6, 0.725), (0.6, 0.705)])
    found = {tier: one.judge(archive(runs, tier=tier)) for tier in ("paper", "laptop")}
    for tier, numbers in (
        ("paper", "powersgd - sgdm: +0.0900 [+0.0700, +0.1100] over 3 seeds; powersgdm - sgdm: +0.0050 [-0.0150, +0.0250] over 3 "
                  "seeds (sd 0.0100 pooled, 6 df, Bartlett p 1.00)"),
        ("laptop", "powersgd - sgdm: +0.0900 [+0.0648, +0.1152] over 3 seeds; powersgdm - sgdm: +0.0050 [-0.0202, +0.0302] over 3 "
                   "seeds (sd 0.0100 pooled, 6 df, Bartlett p 1.00) (97.9% intervals, for 3 looks)"),
    ):  # fmt: skip
        assert found[tier].numbers == numbers
        ahead, open_ = found[tier].intervals
        assert ahead[:2] == ("powersgd - sgdm", "reproduced") and open_[:2] == ("powersgdm - sgdm", "inconclusive")
        assert ahead.value == pytest.approx(0.09) and (ahead.between, ahead.form) == ((0, None), "+.4f")
        assert f"[{ahead.low:+.4f}, {ahead.high:+.4f}]" in numbers
        more = int(found[tier].evidence.split(" more seeds")[0].split()[-1])
        assert found[tier].hours == pytest.approx(2 * more / 60)
    assert found["paper"].hours < found["laptop"].hours
    few = one.judge(archive(runs[:-1]))  # one run is missing of the undecided one; nothing else asks for any
    assert few.hours == pytest.approx(1 / 60) and few.verdict == "inconclusive"


def test_hours_are_not_known_where_no_number_of_seeds_would_decide():
    runs = chosen("powersgd", [(0.6, 0.69), (0.6, 0.73), (0.6, 0.71)]) + SGDM
    one = claim("difference", experiment="fig1ab", of="powersgd", minus="sgdm", column="test_acc", at="best",
                between=[0, None])  # fmt: skip
    found = one.judge(archive(runs))
    assert found.verdict == "inconclusive" and found.hours is None and "more than 512 more seeds" in found.evidence


POOLED = "over 3 seeds (sd 0.0010 pooled, {} df, Bartlett p 1.00)"


def test_contrast():
    """Of a loss the sign turns: cell 0.8 has 0.15 more of it."""
    terms = {"terms": [[1, 0.01, 0.8], [-1, 0.01, 1.0]]}
    text = f"+0.1500 [+0.1482, +0.1518] {POOLED.format(12)}"
    says(on_grid("contrast", **terms, between=[0.05, None]), cells(CELLS), "reproduced", text)
    loss = {"column": "train_loss", "best": "min", "guess": 2.3}
    says(on_grid("contrast", **terms, **loss, between=[0.05, None]), cells(CELLS), "reproduced", text)
    says(on_grid("contrast", **terms, between=[0.05, None]), cells(CELLS, seeds=2), "inconclusive",
         "2 of at least 3 seeds; 2 runs, 2 minutes of one core to that")  # fmt: skip


def test_contrast_is_about_its_own_cells():
    one = on_grid("contrast", terms=[[1, 0.01, 0.8]], between=[0.05, None])
    text = f"+0.4510 [+0.4497, +0.4523] {POOLED.format(12)}"
    says(one, cells(CELLS), "reproduced", text, missing=[{"initial_lr": 1, "gamma": 0.8}, {"initial_lr": 0.01}])


def test_best_cells():
    one = on_grid("best_cells", than={"optimizer": "rescaled_sgd"}, below=1.0, between=[0, None])
    other = cells({(0.1, 0.5): 0.71, (1, 0.5): 0.1}, optimizer="rescaled_sgd")
    says(one, cells({(0.1, 1.0): 0.9, (0.1, 0.5): 0.61, (0.3, 0.5): 0.5}) + other, "not reproduced",
         "lr 0.1 γ 0.5 (best of 2) - rescaled_sgd lr 0.1 γ 0.5 (best of 2): -0.1000 [-0.1022, -0.0978] over 3 seeds (sd "
         "0.0010 pooled, 8 df, Bartlett p 1.00; own variance for 1 of 4 settings)")  # fmt: skip
    one = on_grid("best_cells", than={"optimizer": "normalised_sgd", "gamma": None}, between=[0, None])
    other = cells({(0.1, None): 0.71}, optimizer="normalised_sgd")
    says(one, cells({(0.1, 1.0): 0.9, (0.1, 0.5): 0.61}) + other, "reproduced",
         f"lr 0.1 γ 1 (best of 2) - normalised_sgd lr 0.1 (best of 1): +0.1900 [+0.1876, +0.1920] {POOLED.format(6)}"
         )  # fmt: skip


def test_matched():
    one = on_grid("matched", than={"optimizer": "rescaled_sgd"}, between=[-0.02, 0.02])
    other = cells({(0.1, 0.4): 0.52, (0.1, 0.8): 0.61}, optimizer="rescaled_sgd")
    says(one, cells({(0.1, 0.4): 0.5, (0.1, 0.8): 0.6}) + other, "reproduced",
         f"lr 0.1 γ 0.4 -0.0200, lr 0.1 γ 0.8 -0.0100; the mean: -0.0150 [-0.0163, -0.0137] {POOLED.format(8)}")  # fmt: skip


def test_without_loss():
    says(on_grid("without_loss", gamma=[0.4, 1.0], loss=0.02, **LRS), cells(CELLS), "not reproduced",
         "against the best cell γ 0.4 -0.1100, γ 0.8 -0.0100, γ 1 +0.0000; the worst of them: -0.1100 [-0.1121, -0.1069] "
         f"{POOLED.format(12)}")  # fmt: skip


@pytest.mark.parametrize(
    ("than", "text"),
    [("sgd", "γ 1: +0.2000 [+0.1989, +0.2011] over 3 seeds (sd 0.0010 pooled, 20 df, Bartlett p 1.00; own variance for 1 "
             "of 6 settings)"),
     ("others", "γ 0.2 to 0.4 (best of 4 other ranges as wide): +0.0500 [+0.0494, +0.0508] over 3 seeds (sd 0.0010 "
                "pooled, 20 df, Bartlett p 1.00; own variance for 2 of 12 settings)")],
)  # fmt: skip
def test_robust(than, text):
    values = FLAT | {(0.01, 0.0): 0.1, (0.01, 0.2): 0.3, (0.01, 0.8): 0.3, (0.01, 1.0): 0.1}
    says(on_grid("robust", gamma=[0.4, 0.6], than=than, lr=[0.1, 0.01]), cells(values), "reproduced",
         f"mean over lr +0.5510, less that of {text}")  # fmt: skip


def test_good_default():
    says(on_grid("good_default", gamma=0.8, loss=0.05, at_least=2, **LRS), cells(CELLS), "reproduced",
         f"against each lr's best lr 0.1 -0.0100, lr 0.01 -0.0400; within 0.05 of it at: 2 [2, 2] {POOLED.format(12)}"
         )  # fmt: skip


THREE = {(0.1, 0.4): 0.3, (0.1, 0.8): 0.5, (0.1, 1.0): 0.4, (0.05, 0.4): 0.9, (0.05, 0.8): 0.9, (0.05, 1.0): 0.1,
         (0.01, 0.4): 0.6, (0.01, 0.8): 0.7, (0.01, 1.0): 0.3}  # fmt: skip


def test_wider():
    """Of three learning rates the first and the last count; a gamma as good as 1 is not better than it."""
    one, other = (on_grid("wider", margin=margin, lr=[0.1, 0.05, 0.01]) for margin in (0.02, 0.0))
    says(one, cells(THREE), "reproduced",
         f"useful gammas 1 at lr 0.1, 2 at lr 0.05, 2 at lr 0.01; last less first: +1 [+1, +1] {POOLED.format(16)}"
         )  # fmt: skip
    says(other, cells(THREE | {(0.01, 0.4): 0.3}), "inconclusive",
         "useful gammas 1 at lr 0.1, 2 at lr 0.05, 1 at lr 0.01; last less first: +0 [+0, +1] over 3 seeds; …")  # fmt: skip


def test_best_falls():
    one = on_grid("best_falls", lr=[0.1, 0.05, 0.01])
    says(one, cells(THREE), "not reproduced",
         f"best γ 0.8 at lr 0.1, 0.4 at lr 0.05, 0.8 at lr 0.01; first less last: +0 [+0, +0] {POOLED.format(16)}"
         )  # fmt: skip
    says(one, cells(THREE | {(0.1, 1.0): 0.6, (0.01, 0.4): 0.8}), "reproduced",
         f"best γ 1 at lr 0.1, 0.4 at lr 0.05, 0.4 at lr 0.01; first less last: +0.6 [+0.6, +0.6] {POOLED.format(16)}"
         )  # fmt: skip
