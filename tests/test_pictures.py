"""Figures 1 and 3 to 7: what they reduce runs to, on hand-made records, and that they draw with runs missing."""

import itertools
import math

import pandas as pd
import pytest

from analysis import style
from analysis.records import grid_scores, rows_of_grid
from analysis.statistics import expected_best
from figures import fairness, fig1, fig3, fig4, fig4_layers, fig4_rule, fig5, fig6, fig7

PROVENANCE = {"experiment": "fig1ab", "tier": "laptop", "seeds": [0, 1], "runs": 4, "shown": 3, "changes": [],
              "missing": ["sgdm, lr 1, seed 0"], "environments": [{"commit": "a"}, {"commit": "b"}]}  # fmt: skip


def rows(run: str, epochs: list[dict], **about) -> list[dict]:
    common = {"stage": "report", "label": "powersgd", "optimizer": "powersgd", "model": "resnet50", "depth": 13,
              "initial_lr": 0.1, "gamma": 0.8, "seed": 0, "run": run, "setting": run, "grad_norm1": 1.0,
              "train_loss": 1.0, "train_acc": 0.5, "test_acc": 0.5}  # fmt: skip
    return [common | about | {"epoch": number} | epoch for number, epoch in enumerate(epochs, start=1)]


def drawn(figure) -> str:
    """All words on a picture."""
    words = [text.get_text() for axes in figure.axes for text in (*axes.texts, axes.title)]
    words += [text.get_text() for axes in figure.axes if axes.get_legend() for text in axes.get_legend().texts]
    words += [text.get_text() for text in figure.texts]
    style.plt.close(figure)
    return "\n".join(words)


def provenance(records):
    axes = {key: sorted({row[key] for row in records if row[key] is not None}) for key in
            ("initial_lr", "gamma", "depth")}  # fmt: skip
    return PROVENANCE | {"axes": axes, "entries": rows_of(records)}


def rows_of(records):
    return rows_of_grid(pd.DataFrame({"entry": [r["label"] for r in records], "gamma": [r["gamma"] for r in records]}))


def test_a_cell_of_figure_4_succeeds_by_its_best_epoch_and_says_how_it_ended():
    records = [
        *rows("a", [{"train_acc": 0.3}, {"train_acc": 0.93}]),
        *rows("b", [{"train_acc": 0.2}, {"train_acc": 0.11, "grad_norm1": 0.0}], gamma=0.1),
        *rows("c", [{"train_acc": 0.2, "train_loss": math.nan}], gamma=0.0),
        *rows("d", [{"train_acc": 0.89}] * 25, gamma=1.0),
        *rows("e", [{"train_acc": 0.91}], seed=1, gamma=1.0),
    ]
    cells = fig4.outcomes(records)
    found = {cell["run"]: (cell["succeeded"], cell["ended"], cell["epochs"]) for cell in cells}
    assert found == {
        "a": (True, "succeeded", 2),
        "b": (False, "dead", 2),
        "c": (False, "diverged", 1),
        "d": (False, "all epochs", 25),
        "e": (True, "succeeded", 1),
    }
    wanted = [
        "label",
        "depth",
        "gamma",
        "lr",
        "seed",
        "succeeded",
        "ended",
        "epochs",
        "best_train_acc",
        "last_train_acc",
    ]
    assert list(cells[0])[: len(wanted)] == wanted
    assert fig4.share(cells, gamma=1.0) == 0.5 and fig4.share(cells, gamma=0.5) is None
    assert "0 of 1" in fig4.summary(cells) and "(0.50 of seeds)" in fig4.summary(cells)
    text = drawn(fig4.draw(cells, provenance(records)))
    words = " ".join(text.split())
    assert "13 layers" in words and "3 of 4 runs shown, 1 run missing (sgdm), 2 environments" in words


def test_another_optimizer_has_its_own_rows_in_figures_4_and_5():
    records = [
        *rows("a", [{"train_acc": 0.95, "test_acc": 0.9}]),
        *rows("b", [{"train_acc": 0.95, "test_acc": 0.7}], label="rescaled_sgd", optimizer="rescaled_sgd", gamma=0.4),
        *rows(
            "c", [{"train_acc": 0.2, "test_acc": 0.6}], label="normalised_sgd", optimizer="normalised_sgd", gamma=None
        ),
    ]
    assert rows_of(records) == [("powersgd", 0.8), ("rescaled_sgd", 0.4), ("normalised_sgd", None)]
    assert "rescaled_sgd | 1 of 1 | lr 0.1 γ 0.4 |" in fig4.summary(fig4.outcomes(records))
    assert "normalised_sgd | 0 of 1 |" in fig4.summary(fig4.outcomes(records))
    for figure in (fig4.draw(fig4.outcomes(records), provenance(records)),
                   fig5.draw(fig5.cells(records), provenance(records))):  # fmt: skip
        names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        assert names[-2:] == ["rescaled sgd 0.4", "normalised sgd"] and "SGDM" not in names
        style.plt.close(figure)


def test_figure_5_shows_the_mean_of_each_runs_best_epoch():
    records = [
        *rows("a", [{"test_acc": 0.9}, {"test_acc": 0.8}]),
        *rows("b", [{"test_acc": 0.7}, {"test_acc": 0.8}], seed=1),
        *rows("c", [{"test_acc": 0.6}], label="sgdm", optimizer="sgdm", gamma=None),
        *rows("d", [{"test_acc": 0.4}], gamma=0.2, initial_lr=1.0),
    ]
    cells = fig5.cells(records)
    assert fig5.value(cells, model="resnet50", optimizer="powersgd", gamma=0.8, lr=0.1) == pytest.approx(0.85)
    assert fig5.value(cells, model="resnet50", optimizer="sgdm", lr=0.1) == 0.6
    text = drawn(fig5.draw(cells, provenance(records)))
    assert {"85.0%", "60.0%", "40.0%"} <= set(text.split("\n"))


def test_figure_6_takes_the_lowest_loss_and_survives_divergence():
    records = [
        *rows("a", [{"train_loss": 0.5}, {"train_loss": 0.2}, {"train_loss": 0.3}]),
        *rows("b", [{"train_loss": math.nan}], gamma=0.0),
    ]
    cells = {(cell["lr"], cell["gamma"]): cell["best_train_loss"] for cell in fig6.cells(records)}
    assert cells == {(0.1, 0.8): 0.2, (0.1, 0.0): math.log(10)}  # as bad as guessing, and no worse
    assert "0.20" in drawn(fig6.draw(records, fig6.cells(records), provenance(records))).split("\n")
    records += rows("c", [{"train_loss": 1.7}], label="normalised_sgd", optimizer="normalised_sgd", gamma=None)
    text = drawn(fig6.draw(records, fig6.cells(records), provenance(records))).split("\n")
    assert {"0.20", "1.70"} <= set(text)  # another optimizer in rows of its own
    records += rows("d", [{"train_loss": 1.5}], label="adamw", optimizer="adamw", gamma=None, initial_lr=0.003)
    figure = fig6.draw(records, fig6.cells(records), provenance(records))
    assert "adamw" in [text.get_text() for text in figure.legends[0].get_texts()]  # and in the legend, with its own lr
    style.plt.close(figure)


def test_figure_1_annotates_the_mean_best_and_the_table_has_best_and_last():
    records = [
        *rows("a", [{"test_acc": 0.9}, {"test_acc": 0.7}]),
        *rows("b", [{"test_acc": 0.7}, {"test_acc": 0.8}], seed=1),
        *rows("c", [{"test_acc": 0.6}, {"test_acc": 0.5}], label="adam", optimizer="adam", gamma=None),
    ]
    text = drawn(fig1.draw(records, provenance(records), "b", "a network"))
    assert "PowerSGD, best 85.00%" in text and "Adam, best 60.00%" in text
    records = [row | {"dataset": "cifar10"} for row in records]
    assert "paper" not in text
    assert "paper, SGDM: 94.75%" in drawn(fig1.draw(records, provenance(records) | {"tier": "paper"}, "b", "a network"))
    line = next(line for line in fig1.table(records).splitlines() if line.startswith("| PowerSGD "))
    assert "0.8500 [" in line and "0.7500 [" in line and "| 2 |" in line


def test_figure_7_draws_what_is_there():
    records = [*rows("a", [{}, {}]), *rows("b", [{}, {}], label="powersgdr")]
    assert "PowerSGDR, best 50.00%" in drawn(fig7.draw(records, provenance(records)))
    assert fig7.table(records).count("\n") == 4
    records += rows("c", [{}, {}], label="adamw", optimizer="adamw", gamma=None)
    assert "adamw" in fig7.table(records) and "adamw, best" in drawn(fig7.draw(records, provenance(records)))


def test_figure_3_is_the_power_of_the_size():
    for row in fig3.table():
        assert row["amplification"] == pytest.approx(row["size"] ** (row["gamma"] - 1), rel=1e-9)


def test_the_expected_best_is_the_mean_over_all_choices():
    values = [0.1, 0.5, 0.3, 0.9]
    for k in range(1, 5):
        choices = [max(chosen) for chosen in itertools.combinations(values, k)]
        assert expected_best(values, k) == pytest.approx(sum(choices) / len(choices))
    with pytest.raises(ValueError):
        expected_best(values, 5)


def test_fairness_compares_at_the_smallest_budget():
    records = [row for lr, accuracy in ((1.0, 0.2), (0.1, 0.8)) for row in
               rows(f"a{lr}", [{"test_acc": accuracy}], stage="grid", initial_lr=lr)]  # fmt: skip
    records += rows("b", [{"test_acc": 0.7}], stage="grid", label="sgdm", optimizer="sgdm", gamma=None)
    found = grid_scores(records)
    assert found == {"powersgd": [0.2, 0.8], "sgdm": [0.7]}
    records += rows("c", [{"test_acc": 0.9}], stage="refine", initial_lr=0.3)
    assert fairness.compared(records)[0] == ["PowerSGD", "2", "0.8000", "1", "0.5000", "1"]
    assert "SGDM" in drawn(fairness.draw(found, provenance(records)))


def test_the_amplification_of_a_layer_is_the_mean_of_the_runs_that_have_it():
    records = rows("a", [{"amplification_1": 4.0, "amplification_2": None}], depth=2)
    records += rows("b", [{"amplification_1": 2.0, "amplification_2": None}], depth=2, seed=1)
    assert fig4_layers.amplification(records, 1) == 3 and fig4_layers.amplification(records, 2) is None
    assert "| 3 | 3 | all zero |" in fig4_layers.table(records)
    assert "2 layers" in drawn_legends(fig4_layers.draw(records, provenance(records)))


def drawn_legends(figure) -> str:
    words = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    style.plt.close(figure)
    return "\n".join(words)


def test_the_rule_of_figure_4_is_judged_by_the_rest_of_the_run():
    records = [
        *rows("a", [{"train_acc": 0.95}, {"train_acc": 0.97}], label="trained-1"),
        *rows("b", [{"train_acc": 0.95}, {"train_acc": 0.11}], label="trained-2"),
        *rows("c", [{"train_acc": 0.1, "grad_norm1": 0.0}] * 3, label="dead-1"),
        *rows("d", [{"train_acc": 0.1, "grad_norm1": 0.0}, {"train_acc": 0.2}], label="dead-2"),
        *rows("e", [{"train_acc": 0.2}] * 2, label="dead-3"),
    ]
    lines = [line.split(" | ") for line in fig4_rule.table(records).splitlines()[2:]]
    assert [(line[3], line[-1].strip(" |")) for line in lines] == [
        ("trained in 1", "yes"), ("trained in 1", "no"), ("dead in 1", "yes"), ("dead in 1", "no"),
        ("neither in 2", "yes"),
    ]  # fmt: skip
