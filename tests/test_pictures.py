"""Figures 1 and 3 to 7: what they reduce runs to, on hand-made records, and that they draw with runs missing."""

import itertools
import math
from pathlib import Path

import pandas as pd
import pytest

from analysis import budget, style
from analysis.records import METRICS, NoRecords, curves, frame, parts, rows_of_grid
from analysis.statistics import expected_best
from figures import (
    fairness,
    fig1,
    fig1_other,
    fig1_velocity,
    fig2,
    fig2_caption,
    fig3,
    fig4,
    fig4_layers,
    fig4_rule,
    fig5,
    fig5_lengths,
    fig6,
    fig7,
    recipe,
)

PROVENANCE = {"experiment": "fig1ab", "tier": "laptop", "seeds": [0, 1], "runs": 4, "shown": 3, "changes": [],
              "missing": ["sgdm, lr 1, seed 0"], "incomplete": [],
              "environments": [{"commit": "a"}, {"commit": "b"}], "other_data": [],
              "shared": {"stop.success": 0.9, "epochs": 25}, "results": Path("nowhere")}  # fmt: skip


def run(name: str, epochs: list[dict], **about) -> pd.DataFrame:
    """The epochs of one run, as analysis.records gives them."""
    common = {"label": "powersgd", "stage": "report", "dataset": "cifar10", "model": "resnet50", "depth": 13,
              "init": "torch", "optimizer": "powersgd", "initial_lr": 0.1, "gamma": 0.8, "seed": 0, "run": name,
              "schedule": "step", "grad_norm1": 1.0, "train_loss": 1.0, "train_acc": 0.5, "test_acc": 0.5}  # fmt: skip
    entry = about.pop("entry", about.get("label", "powersgd"))
    found = frame([common | about | {"epoch": n} | epoch for n, epoch in enumerate(epochs, start=1)], METRICS)
    setting = "/".join(str(found[key].iloc[0]) for key in ("stage", "model", "depth", "initial_lr", "gamma"))
    return found.assign(entry=entry, setting=f"{entry}/{setting}")


def table(*runs: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(runs, ignore_index=True)


def drawn(figure) -> str:
    """All words on a picture."""
    words = [text.get_text() for axes in figure.axes for text in (*axes.texts, axes.title)]
    words += [text.get_text() for axes in figure.axes if axes.get_legend() for text in axes.get_legend().texts]
    words += [text.get_text() for text in figure.texts]
    words += [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    style.plt.close(figure)
    return "\n".join(words)


def row_names(figure) -> list[str]:
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    style.plt.close(figure)
    return names


def provenance(epochs: pd.DataFrame, **changes) -> dict:
    axes = {key: sorted(epochs[key].dropna().unique().tolist()) for key in ("initial_lr", "gamma", "depth")}
    return PROVENANCE | {"axes": axes, "entries": rows_of_grid(epochs)} | changes


def test_a_cell_of_figure_4_succeeds_by_its_best_epoch_and_says_how_it_ended():
    epochs = table(
        run("a", [{"train_acc": 0.3}, {"train_acc": 0.93}]),
        run("b", [{"train_acc": 0.2}, {"train_acc": 0.11, "grad_norm1": 0.0}], gamma=0.1),
        run("c", [{"train_acc": 0.2, "train_loss": math.nan}], gamma=0.0),
        run("d", [{"train_acc": 0.89}] * 25, gamma=1.0),
        run("e", [{"train_acc": 0.91}, {"train_acc": 0.9}], seed=1, gamma=1.0),
    )
    cells = fig4.outcomes(epochs, 0.9)
    found = {cell.run: (cell.succeeded, cell.ended, cell.epochs) for cell in cells.itertuples()}
    assert found == {
        "a": (True, "succeeded", 2),
        "b": (False, "dead", 2),
        "c": (False, "diverged", 1),
        "d": (False, "all epochs", 25),
        "e": (True, "succeeded", 2),
    }
    assert list(fig4.outcomes(epochs, 0.92)["succeeded"]) == [False, False, True, False, False]
    assert "0 of 1" in fig4.summary(cells) and "(0.50 of seeds)" in fig4.summary(cells)
    words = " ".join(drawn(fig4.draw(cells, provenance(epochs))).split())
    assert (
        "13 layers" in words
        and "3 of the experiment's 4 runs; 1 run not made yet (SGDM); made with 2 versions" in words
    )
    assert "train accuracy 90% within 25" in words and "hatched" not in words and "Band" not in words
    made = fig4.make("figure9", "A title", epochs, provenance(epochs) | {"experiment": "unjudged"})
    assert list(made) == ["figure9", "figure9.csv", "figure9.md"]
    assert list(made["figure9.csv"])[:6] == ["label", "depth", "gamma", "lr", "seed", "succeeded"]
    assert made["figure9.md"].startswith("# A title, tier laptop\n\n![figure9](figure9.svg)\n\n| layers |")
    assert made["figure9.md"].endswith("\n1 run is missing.\n")
    style.plt.close(made["figure9"])


def test_without_a_rule_that_all_runs_share_figure_4_is_refused():
    epochs = run("a", [{}])
    with pytest.raises(NoRecords, match=r"stop\.success"):
        fig4.make("figure4", "Figure 4", epochs, provenance(epochs, shared={"epochs": 25}))


def test_another_optimizer_has_its_own_rows_in_figures_4_and_5():
    epochs = table(
        run("a", [{"train_acc": 0.95, "test_acc": 0.9}]),
        run("b", [{"train_acc": 0.95, "test_acc": 0.7}], label="rescaled_sgd", optimizer="rescaled_sgd", gamma=0.4),
        run("c", [{"train_acc": 0.2, "test_acc": 0.6}], label="normalised_sgd", optimizer="normalised_sgd", gamma=None),
    )
    assert rows_of_grid(epochs) == [("powersgd", 0.8), ("rescaled_sgd", 0.4), ("normalised_sgd", None)]
    cells = fig4.outcomes(epochs, 0.9)
    assert "rescaled_sgd | 1 of 1 | lr 0.1 γ 0.4 |" in fig4.summary(cells)
    assert "normalised_sgd | 0 of 1 |" in fig4.summary(cells)
    for figure in (fig4.draw(cells, provenance(epochs)), fig5.draw(fig5.cells(epochs), provenance(epochs))):
        names = row_names(figure)
        assert names[-2:] == ["SGD with PowerSGD's step length γ 0.4", "SGD with step length lr"]
        assert "SGDM" not in names


def test_figure_2s_legend_has_the_lines_of_both_panels_and_the_gradient_itself_is_thin():
    norms = [{"grad_norm1": 1.0, "powered_norm1": 9.0}, {"grad_norm1": 2.0, "powered_norm1": 8.0}]
    epochs = table(run("a", norms), run("b", norms, initial_lr=0.01), run("c", [{}, {}], label="sgd", gamma=None))
    accuracy, norm = fig2.draw(epochs, provenance(epochs)).axes
    legend = {line.get_color(): line.get_linestyle() for line in accuracy.get_legend_handles_labels()[0]}
    assert len(legend) == 3
    for line in norm.get_lines():
        assert line.get_linestyle() == legend[line.get_color()]
        powered = list(line.get_ydata()) in ([9, 8], [1, 1])
        assert (line.get_linewidth() > 1) == powered


def test_two_settings_of_a_cell_have_a_row_each():
    accuracies = {"weight_decay 0": (0.95, 0.9), "weight_decay 0.1": (0.2, 0.3)}
    epochs = table(*(run(text, [{"train_acc": train, "test_acc": test}], entry=f"powersgd, {text}")
                     for text, (train, test) in accuracies.items()))  # fmt: skip
    cells = fig4.outcomes(epochs, 0.9)
    assert "PowerSGD (γ < 1), weight_decay 0 | 1 of 1" in fig4.summary(cells)
    assert "PowerSGD (γ < 1), weight_decay 0.1 | 0 of 1" in fig4.summary(cells)
    rows = ["PowerSGD, weight decay 0", "PowerSGD, weight decay 0.1"]
    assert row_names(fig4.draw(cells, provenance(epochs))) == rows
    found = fig5.cells(epochs)
    assert list(found["best_test_acc"]) == [0.9, 0.3]
    assert list(found["optimizer"]) == ["powersgd, weight_decay 0", "powersgd, weight_decay 0.1"]
    assert row_names(fig5.draw(found, provenance(epochs))) == [f"{row} γ 0.8" for row in rows]


def test_figure_5_shows_the_mean_of_each_runs_best_epoch():
    epochs = table(
        run("a", [{"test_acc": 0.9}, {"test_acc": 0.8}], label="resnet50-powersgd"),
        run("b", [{"test_acc": 0.7}, {"test_acc": 0.8}], label="resnet50-powersgd", seed=1),
        run("c", [{"test_acc": 0.6}], label="resnet50-sgdm", optimizer="sgdm", gamma=None),
        run("d", [{"test_acc": 0.4}], label="resnet50-powersgd", gamma=0.2, initial_lr=1.0),
    )
    cells = fig5.cells(epochs)
    assert list(cells["best_test_acc"]) == pytest.approx([0.85, 0.6, 0.4]) and list(cells["seeds"]) == [2, 1, 1]
    figure = fig5.draw(cells, provenance(epochs))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["SGDM", "γ 0.2", "γ 0.8"]
    assert {"85.0% ±5.0", "60.0%", "40.0%"} <= set(drawn(figure).split("\n"))


def test_figure_6_takes_the_lowest_loss_and_survives_divergence():
    epochs = table(
        run("a", [{"train_loss": 0.5}, {"train_loss": 0.2}, {"train_loss": 0.3}]),
        run("b", [{"train_loss": math.nan}], gamma=0.0),
    )
    cells = fig6.cells(epochs)
    assert list(cells["gamma"]) == [0.0, 0.8]
    assert list(cells["best_train_loss"]) == [math.log(10), 0.2]  # as bad as guessing, and no worse
    assert "0.20" in drawn(fig6.draw(epochs, cells, provenance(epochs))).split("\n")
    epochs = table(
        epochs,
        run("c", [{"train_loss": 1.7}], label="normalised_sgd", optimizer="normalised_sgd", gamma=None),
        run("d", [{"train_loss": 1.5}], label="adamw", optimizer="adamw", gamma=None, initial_lr=0.003),
    )
    text = drawn(fig6.draw(epochs, fig6.cells(epochs), provenance(epochs))).split("\n")
    assert {"0.20", "1.70", "1.50"} <= set(text)  # another optimizer in rows of its own
    assert "adamw" in text  # and in the legend, with its own lr


def test_figure_1_annotates_the_mean_best_and_the_table_has_best_and_last():
    epochs = table(
        run("a", [{"test_acc": 0.9}, {"test_acc": 0.7}]),
        run("b", [{"test_acc": 0.7}, {"test_acc": 0.8}], seed=1),
        run("c", [{"test_acc": 0.6}, {"test_acc": 0.5}], label="adam", optimizer="adam", gamma=None),
    )
    text = drawn(fig1.draw(epochs, provenance(epochs), "test_acc", "a network"))
    assert "PowerSGD, best 85.00%" in text and "Adam, best 60.00%" in text
    assert "paper 93.38%" in text and "◇" not in text
    paper = drawn(fig1.draw(epochs, provenance(epochs) | {"tier": "paper"}, "test_acc", "a network"))
    assert "Adam, best 60.00% (paper 93.38%)" in paper and "◇ paper" in paper
    line = next(line for line in fig1.table(epochs).splitlines() if line.startswith("| PowerSGD "))
    assert "0.8500 [" in line and "0.7500 [" in line and "| 2 |" in line


def test_figures_1_and_7_show_chosen_settings_alone():
    with pytest.raises(NoRecords, match=r"nothing has been chosen for fig1ab yet; run: python sweep\.py"):
        recipe.reported(run("a", [{}], stage="grid"), PROVENANCE)
    both = table(run("a", [{}], stage="grid"), run("b", [{}]))
    assert list(recipe.reported(both, PROVENANCE | {"missing": []})["run"]) == ["b"]
    with pytest.raises(NoRecords, match="only powersgd has been chosen"):
        recipe.reported(both, PROVENANCE | {"missing": ["adam, lr 0.01, seed 0"]})


def test_figure_1_shows_the_best_so_far_of_what_has_not_been_chosen_and_says_so():
    shown = run("a", [{"test_acc": 0.4}]), run("b", [{"test_acc": 0.5}])
    adam = {"label": "adam", "optimizer": "adam", "gamma": None, "stage": "grid"}
    tried = [
        run("c", [{"test_acc": 0.7, "validation_acc": 0.2}], **adam),
        run("d", [{"test_acc": 0.6, "validation_acc": 0.3}], initial_lr=0.2, **adam),
    ]
    epochs = table(*shown, *tried)
    assert list(recipe.so_far(epochs)["run"]) == ["a", "b", "d"]
    more = run("e", [{"test_acc": 0.1, "validation_acc": 0.1}], seed=1, **adam)
    assert list(recipe.so_far(table(*shown, *tried, more))["run"]) == ["a", "b", "c", "e"]  # two seeds before one
    made = fig1.make("a", "b", "", epochs, provenance(epochs))
    text, test = made["figure1ab.md"], drawn(made["figure1b"])
    assert "Preliminary: the best setting so far, from its selecting seeds, of Adam.\n" in text
    assert "reduced, preliminary" in test and "Adam, best 60.00% so far" in test
    assert "PowerSGD, best 45.00%" in test
    final = fig1.make("a", "b", "", table(*shown), provenance(table(*shown)))
    assert "reliminary" not in final["figure1ab.md"] + drawn(final["figure1a"])


def test_the_drop_is_drawn_for_both_forms_of_momentum_and_a_form_without_runs_is_left_out():
    epochs = table(
        run("a", [{"train_acc": 0.1 if epoch == 61 else 0.8} for epoch in range(1, 81)], label="powersgdm"),
        run("b", [{"train_acc": 0.9, "test_acc": 0.7}] * 80, label="powersgdm-outside"),
        run("c", [{"train_acc": 0.3}] * 80, label="sgdm"),
    )
    inside, outside, sgdm = fig1_velocity.table(epochs).splitlines()[2:]
    assert inside == "| PowerSGDM | inside | 1 | 0.8000 | 0.1000 | 0.8000 | 0.5000 |"
    assert outside == "| PowerSGDM | outside | 1 | 0.9000 | 0.9000 | 0.9000 | 0.7000 |" and "| SGDM | outside |" in sgdm
    words = drawn(fig1_velocity.draw(epochs, provenance(epochs)))
    assert words.count("lr inside the velocity") == 1 and words.count("lr outside") == 2


def test_the_other_finalists_stand_beside_the_chosen_settings_and_what_is_missing_is_left_out():
    sgdm = {"optimizer": "sgdm", "gamma": None}
    epochs = table(
        run("a", [{"train_acc": 0.1 * epoch} for epoch in range(1, 6)], label="powersgd"),
        run("b", [{"train_acc": 0.2}, {"train_acc": 0.9}] + [{"train_acc": 0.2}] * 3, label="sgdm", **sgdm),
        run("c", [{"train_acc": 0.4}] * 5, label="sgdm-other", initial_lr=0.3, **sgdm),
    )
    made = fig1_other.make(epochs, provenance(epochs))
    lines = made["figure1ab_early_other.md"].splitlines()
    assert [line.split(" |")[:4] for line in lines if line.startswith(("| SGDM", "| Power"))] == [
        ["| PowerSGD", " chosen", " 0.1", " 0.8"],
        ["| SGDM", " chosen", " 0.1", " "],
        ["| SGDM", " other finalist", " 0.3", " "],
    ]
    assert [f"{mean:.2f}" for mean in fig1_other.mean_accuracy(epochs)["train_acc"]] == ["0.30", "0.20", "0.40"]
    words = drawn(made["figure1a_early_other"])
    assert "lr 0.1, γ 0.8" in words and "lr 0.3" in words and "other finalist" in words


def test_step_lengths_are_compared_at_the_same_gamma_and_lr():
    def one(name, optimizer, accuracies, gamma, lr=0.1):
        about = {"label": f"resnet50-{optimizer}", "optimizer": optimizer, "gamma": gamma, "initial_lr": lr}
        return run(name, [{"train_acc": accuracy} for accuracy in accuracies], **about)

    epochs = table(
        one("a", "powersgd", [0.4, 0.8], 0.2), one("b", "powersgd", [0.3, 0.5], 0.6),
        one("c", "rescaled_sgd", [0.5, 0.7], 0.2), one("d", "normalised_sgd", [0.2, 0.3], None),
        one("e", "rescaled_sgd", [0.9, 0.9], 0.2, lr=0.01),
    )  # fmt: skip
    made = fig5_lengths.make("figure5_lengths", epochs, provenance(epochs))
    lines = [line.split(" | ")[1:] for line in made["figure5_lengths.md"].splitlines() if line.startswith("| ResNet")]
    assert [[*line[:3], line[4], line[-1].rstrip(" |")] for line in lines] == [
        ["0.1", "0.2", "PowerSGD", "0.8000", ""],
        ["0.1", "0.2", "SGD with PowerSGD's step length", "0.7000", "0.100"],  # 0.1 in either epoch, of either sign
        ["0.1", "", "SGD with step length lr", "0.3000", ""],  # once for both gammas
        ["0.1", "0.6", "PowerSGD", "0.5000", ""],
    ]
    picture = made["figure5_lengths_resnet50"]
    assert [len(axes.lines) for axes in picture.axes] == [3, 2, 3, 2]  # steps of length lr beside both gammas
    words = drawn(picture)
    assert "lr 0.1, γ 0.2" in words and "lr 0.01" not in words and words.count("SGD with step length lr") == 1


def test_step_lengths_are_drawn_at_whichever_settings_were_run_and_not_without_powersgd():
    one = {"label": "resnet50-powersgd", "initial_lr": 0.5, "gamma": 0.3}  # not one of those that are drawn first
    other = {"label": "resnet50-rescaled_sgd", "optimizer": "rescaled_sgd"} | {"initial_lr": 0.5, "gamma": 0.3}
    epochs = table(run("a", [{}, {}], **one), run("b", [{}, {}], **other))
    assert "lr 0.5, γ 0.3" in drawn(
        fig5_lengths.make("figure5_lengths", epochs, provenance(epochs))["figure5_lengths_resnet50"]
    )
    alone = run("b", [{}, {}], **other)
    with pytest.raises(NoRecords, match="PowerSGD, with which the others are compared, was not run"):
        fig5_lengths.make("figure5_lengths", alone, provenance(alone))


def test_figure_7_draws_what_is_there():
    epochs = table(run("a", [{}, {}]), run("b", [{}, {}], label="powersgdr"))
    assert "PowerSGDR, best test 50.00% (paper 94.64%)" in drawn(fig7.draw(epochs, provenance(epochs)))
    assert fig7.table(epochs).count("\n") == 4
    epochs = table(epochs, run("c", [{}, {}], label="adamw", optimizer="adamw", gamma=None))
    assert "adamw" in fig7.table(epochs) and "adamw, best test" in drawn(fig7.draw(epochs, provenance(epochs)))
    paper = drawn(fig7.draw(epochs, provenance(epochs) | {"tier": "paper"}))
    assert "paper, PowerSGD: 94.12 %" in paper and "paper, PowerSGDR: 94.64 %" in paper


def test_curves_of_a_picture_can_be_told_apart():
    assert len({style.nth(index) for index in range(28)}) == 28
    schedules = {"powersgd": "step", "powersgdr": "warm_restarts", "powersgd-cosine": "warm_restarts"}
    runs = [run(label, [{}, {}], label=label, schedule=schedule) for label, schedule in schedules.items()]
    figure = fig7.draw(table(*runs, run("d", [{}, {}], label="adamw", optimizer="adamw")), provenance(runs[0]))
    lines = [(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines]
    assert [look[1] for look in lines] == ["-", "--", ":", "-"]
    assert len({look[0] for look in lines[:3]}) == 1 and lines[3][0] != lines[0][0]
    style.plt.close(figure)


LONG = ["sgdm", "powersgd", "powersgdm", "adagrad", "rmsprop", "adam", "tensorwise_rescaled_sgd", "rescaled_sgd",
        "normalised_sgd"]  # fmt: skip


@pytest.mark.parametrize("labels", [LONG[:3], LONG])
@pytest.mark.parametrize("module", [fig1, fig7])
def test_the_legend_of_many_curves_covers_nothing(module, labels):
    epochs = table(*(run(label, [{}, {}], label=label, optimizer=label) for label in labels))
    missing = [f"{label}, lr 1, seed 0" for label in labels]
    arguments = ("test_acc", "(b) ResNet-50 on CIFAR-10") if module is fig1 else ()
    figure = module.draw(epochs, provenance(epochs, missing=missing), *arguments)
    figure.canvas.draw()
    legend, stamp = figure.legends[0].get_window_extent(), figure.texts[-1].get_window_extent()
    assert stamp.y0 > 0 and stamp.y1 < legend.y0 and 0 < legend.x0 < legend.x1 < figure.bbox.x1
    assert legend.y1 < min(axes.get_tightbbox().y0 for axes in figure.axes)
    assert min(axes.get_window_extent().height for axes in figure.axes) > figure.bbox.height / 3
    style.plt.close(figure)


def test_curves_are_in_order_of_epochs_and_seeds_and_keep_runs_of_one_seed_apart():
    epochs = table(run("a", [{"test_acc": 0.1}, {"test_acc": 0.2}], seed=1), run("b", [{"test_acc": 0.3}]),
                   run("c", [{"test_acc": 0.4}], seed=1))  # fmt: skip
    assert curves(epochs.iloc[::-1], "test_acc") == [[0.3], [0.4], [0.1, 0.2]]


def test_accuracies_within_an_epoch_stand_where_they_were_measured():
    rows = [{"test_acc_1": 0.1, "test_acc": 0.2}, {"test_acc_1": 0.3, "test_acc": 0.4}]
    epochs = table(run("a", rows), run("b", rows, seed=1))
    assert parts(epochs, "test_acc") == ([[0.1, 0.2, 0.3, 0.4]] * 2, 2)
    figure = fig1.draw(epochs, provenance(epochs), "test_acc", "a title")
    line = figure.axes[0].lines[-1]
    assert list(line.get_xdata()) == [0.5, 1.0, 1.5, 2.0]
    assert parts(table(run("a", [{}, {}])), "test_acc")[1] == 1


def test_figure_3_is_the_power_of_the_size():
    rows = fig3.table()
    assert len(rows) == 6 * 141
    assert list(rows["amplification"]) == pytest.approx(list(rows["size"] ** (rows["gamma"] - 1)), rel=1e-9)


def test_the_expected_best_is_the_mean_over_all_choices():
    values = [0.1, 0.5, 0.3, 0.9]
    for k in range(1, 5):
        choices = [max(chosen) for chosen in itertools.combinations(values, k)]
        assert expected_best(values, k) == pytest.approx(sum(choices) / len(choices))
    with pytest.raises(ValueError):
        expected_best(values, 5)


def test_fairness_compares_at_the_smallest_budget():
    epochs = table(
        *(run(f"a{lr}{seed}", [{"test_acc": accuracy + change}], stage="grid", initial_lr=lr, seed=seed)
          for lr, accuracy in ((1.0, 0.2), (0.1, 0.8)) for seed, change in ((0, 0.1), (1, -0.1))),
        run("b", [{"test_acc": 0.7}], stage="grid", label="sgdm", optimizer="sgdm", gamma=None),
        run("d", [{"test_acc": 0.99}], label="sgdm", optimizer="sgdm", gamma=None),
    )  # fmt: skip
    assert {label: pytest.approx(values) for label, values in budget.scores(epochs).items()} == {
        "powersgd": [0.2, 0.8], "sgdm": [0.7]
    }  # fmt: skip
    epochs = table(epochs, run("c", [{"test_acc": 0.9}], stage="refine", initial_lr=0.3),
                   run("e", [{"test_acc": 0.9}], stage="extend", initial_lr=0.03))  # fmt: skip
    both = ["powersgd", "sgdm"]
    assert budget.compared(epochs, both)[0] == ["PowerSGD", "2", "0.8000", "1", "0.5000", "2"]
    assert budget.compared(epochs, both)[1][-1] == "0"
    made = fairness.make(epochs, provenance(epochs))
    assert "SGDM" in drawn(made["fairness-fig1ab"]) and "| PowerSGD | 2 |" in made["fairness-fig1ab.md"]
    assert budget.compared(epochs, both, ["sgdm"]) == [["PowerSGD", "2", "0.8000", "2", "0.8000", "2"]]
    mine = table(epochs, run("f", [{"test_acc": 0.1}], stage="grid", label="mine", optimizer="mine", gamma=None))
    assert [line[3] for line in budget.compared(mine, ["powersgd"])] == ["2"]  # one setting of mine changes nothing
    with pytest.raises(NoRecords, match="no entry's grid is complete"):
        fairness.make(epochs, provenance(epochs, incomplete=both))


def test_the_amplification_of_a_layer_is_the_mean_of_the_runs_that_have_it():
    first = {"amplification_1": 4.0, "amplification_2": None}
    later = {"amplification_1": 99.0, "amplification_2": 99.0}
    epochs = table(
        run("a", [first, later], depth=2, gamma=0.4),
        run("b", [first | {"amplification_1": 2.0}, later], depth=2, gamma=0.4, seed=1),
    )
    made = fig4_layers.make(epochs, provenance(epochs))
    assert "| 3 | 3 | all zero |" in made["figure4_layers.md"]
    assert "2 layers" in drawn(made["figure4_layers"])


def test_the_rule_of_figure_4_is_judged_by_the_rest_of_the_run():
    epochs = table(
        run("a", [{"train_acc": 0.95}, {"train_acc": 0.97}], label="trained-1"),
        run("b", [{"train_acc": 0.95}, {"train_acc": 0.11}], label="trained-2"),
        run("c", [{"train_acc": 0.1, "grad_norm1": 0.0}] * 3, label="dead-1"),
        run("d", [{"train_acc": 0.1, "grad_norm1": 0.0}, {"train_acc": 0.2}], label="dead-2"),
        run("e", [{"train_acc": 0.2}] * 2, label="dead-3"),
    )
    lines = [line.split(" | ") for line in fig4_rule.table(epochs, 0.9).splitlines()[2:]]
    assert [(line[3], line[-1].strip(" |")) for line in lines] == [
        ("trained in 1", "yes"), ("trained in 1", "no"), ("dead in 1", "yes"), ("dead in 1", "no"),
        ("neither in 2", "yes"),
    ]  # fmt: skip


def test_what_was_tried_is_a_line_a_setting_and_the_grid_shows_the_last_epoch():
    epochs = table(
        run("a", [{"train_acc": 0.95}, {"train_acc": 0.9}]),
        run("b", [{"train_acc": 0.2}, {"train_acc": 0.1, "grad_norm1": 0.0}], seed=1),
        run("c", [{"train_acc": 0.3, "train_loss": math.inf}], gamma=0.4),
    )
    lines = fig2_caption.tried(epochs).splitlines()[2:]
    assert lines[0].endswith("| 0.9500 0.2000 | alive at 2 dead in 2 |")
    assert lines[1].endswith("| 0.3000 | diverged in 1 |") and len(lines) == 2
    text = drawn(fig2_caption.draw(epochs, provenance(epochs))).split("\n")
    assert {"50.00%", "30.00%"} <= set(text) and "(paper, lr 0.1 γ 0.4: 98.91%)" in text
