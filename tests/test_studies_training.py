"""Studies of training: planted effects and none, seeds that are kept, and time that is up, on a scripted clock."""

import json
from functools import partial
from itertools import count

import pytest
import torch
from torch import nn

from cnnperf.errors import CnnperfError, OptionError, RunFileError
from cnnperf.studies import contrast as contrast_module
from cnnperf.studies import contrasts, digits
from cnnperf.studies.contrast import Contrast, Pair, run_contrast
from cnnperf.studies.effects import accuracy_effect, answer, samples_of, table_rows
from cnnperf.studies.ledger import Ledger
from cnnperf.studies.training import Recipe, Trained, accuracy, train

pytestmark = pytest.mark.slow

RECIPE = Recipe(epochs=2, batch=64, image_size=8, rate=1e-2)


class Watching:
    """Note the progress that is told."""

    def __init__(self):
        self.epochs, self.notes, self.skipped = 0, [], 0

    def epoch(self):
        self.epochs += 1

    def skip(self, parts):
        self.skipped += parts

    def note(self, text):
        self.notes.append(text)


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 10))


def half_blind():
    """See only the left two columns of the image."""
    return nn.Sequential(nn.Flatten(2), nn.Unflatten(2, (8, 8)), Crop(), nn.Flatten(), nn.Linear(3 * 8 * 2, 10))


def drawn_otherwise():
    """Be the same network with other parameters: what a change without an effect is."""
    torch.rand(1)
    return linear()


class Crop(nn.Module):
    def forward(self, images):
        return images[..., :2]


def contrast(base, candidate, recipe=RECIPE, **facts):
    return Contrast("planted", "base", "candidate", (base, candidate), recipe, facts)


def ledger(tmp_path, one, **how):
    return Ledger(tmp_path / "planted.seeds.jsonl", one.settings("cpu"), **how)


def pairs(tmp_path, base, candidate, seeds=6):
    one = contrast(base, candidate)
    return one, run_contrast(one, range(seeds), ledger(tmp_path, one), progress=Watching())


def test_a_planted_effect_is_found(tmp_path):
    one, found = pairs(tmp_path, half_blind, linear)
    assert accuracy_effect(found).low > 10
    told = answer(one, found, (100, 100))
    assert told[0].startswith("candidate is more accurate than base on the test images.")


def test_where_nothing_was_planted_nothing_is_decided(tmp_path):
    one, found = pairs(tmp_path, linear, drawn_otherwise)
    assert any(pair.base.accuracy != pair.candidate.accuracy for pair in found)
    told = answer(one, found, (100, 100))
    assert told[0].startswith("Accuracy on the test images is not decided.")
    assert told[-1] == "Price of a point of accuracy: there is none, because no gain is decided."


def test_both_sides_of_a_seed_see_the_same_images_in_the_same_order(tmp_path):
    _, found = pairs(tmp_path, linear, linear, seeds=2)
    assert all(pair.base.validation == pair.candidate.validation for pair in found)
    assert found[0].base.validation != found[1].base.validation


def test_an_interrupted_study_keeps_its_seeds_and_goes_on(tmp_path, monkeypatch):
    one, real, calls = contrast(linear, linear), train, count()

    def interrupted(*arguments, **named):
        if next(calls) == 2 + 5:  # two to warm up, then in the third seed
            raise KeyboardInterrupt
        return real(*arguments, **named)

    monkeypatch.setattr(contrast_module, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_contrast(one, range(4), ledger(tmp_path, one), progress=Watching())
    monkeypatch.setattr(contrast_module, "train", real)
    watching = Watching()
    found = run_contrast(one, range(4), ledger(tmp_path, one), progress=watching)
    assert [pair.seed for pair in found] == [0, 1, 2, 3]
    assert watching.epochs == 2 * 2 * RECIPE.epochs
    assert watching.skipped == 2 * 2 * RECIPE.epochs
    whole = run_contrast(one, range(4), ledger(tmp_path / "anew", one), progress=Watching())
    assert [pair.base.accuracy for pair in found] == [pair.base.accuracy for pair in whole]


def test_no_seed_begins_that_would_end_after_the_time(tmp_path):
    one, clock = contrast(linear, linear), iter(range(0, 10_000, 10))
    found = run_contrast(
        one, range(10), ledger(tmp_path, one), progress=(watching := Watching()), seconds=95, now=lambda: next(clock)
    )
    assert len(found) == 4  # the fifth would begin at 90 s and end at 100 s
    assert watching.notes[-1] == "the time budget is used up"
    assert watching.epochs + watching.skipped == 10 * 2 * RECIPE.epochs


def test_the_first_side_changes_from_seed_to_seed(tmp_path):
    order = []
    built = {name: lambda name=name: order.append(name) or linear() for name in ("base", "candidate")}
    one = contrast(built["base"], built["candidate"])
    run_contrast(one, range(2), ledger(tmp_path, one), progress=Watching())
    assert order[2:] == ["base", "candidate", "candidate", "base"]


def test_the_rate_and_the_time_to_the_target_come_from_the_clock():
    split = digits.split_digits(0, 8)
    clock = iter([0.0, 2.0, 10.0, 13.0])  # two epochs of two and three seconds
    torch.manual_seed(0)
    found = train(linear(), split, Recipe(2, image_size=8, rate=1e-2, target=0.2), 0, now=lambda: next(clock))
    assert found.seconds == 5.0
    assert found.images == 2 * (1078 // 64) * 64
    assert found.rate == found.images / 5.0
    assert (found.epochs_to_target, found.seconds_to_target) == (1, 2.0)


def test_a_target_that_is_never_reached_has_no_time():
    torch.manual_seed(0)
    found = train(linear(), digits.split_digits(0, 8), Recipe(1, image_size=8, rate=1e-6, target=1.0), 0)
    assert (found.epochs_to_target, found.seconds_to_target) == (None, None)


def test_training_learns():
    torch.manual_seed(0)
    network, split = linear(), digits.split_digits(0, 8)
    before = accuracy(network, split.test)
    assert train(network, split, Recipe(6, image_size=8, rate=1e-2), 0).accuracy > before + 0.5


def test_the_parts_have_no_image_in_common_and_none_is_lost():
    split = digits.split_digits(3, 8)
    parts = [split.training, split.validation, split.test]
    assert [len(part) for part in parts] == [1078, 359, 360]
    images, _ = digits._digits()
    assert sum(part.classes.sum() for part in parts) == digits._digits()[1].sum()
    assert split.training.images.shape == (1078, 3, 8, 8)
    assert split.training.images.mean().abs() < 1e-4
    assert len(images) == 1797
    assert not torch.equal(split.test.classes, digits.split_digits(4, 8).test.classes)


def trained(score=0.9, seconds=10.0, reached=5.0):
    return Trained(score, (0.5, score), seconds, 1000, None if reached is None else 1, reached)


def made(candidate, seeds=5):
    return [
        Pair(seed, trained(0.9 + seed / 1000), trained(candidate + seed / 1000 + seed % 2 / 5000, 12.0, 8.0))
        for seed in range(seeds)
    ]


def test_a_gain_has_its_price():
    told = answer(contrast(linear, linear), made(0.92), (100, 150))
    assert told[0].startswith("candidate is more accurate than base")
    assert "images a second of candidate over base: -16.7 % [-16.7, -16.7]." in told[1]
    assert told[3] == "Memory, peak of a training step (fp32, SGD) of candidate over base: 1.500x of 100 B."
    assert told[4].startswith("Price of a point of accuracy: 8.")


def test_the_time_to_the_target_is_of_the_seeds_in_which_both_reach_it():
    far = Pair(9, trained(reached=100.0), trained(reached=None))
    near = [Pair(seed, trained(reached=10.0), trained(reached=12.0)) for seed in range(2)]
    (row,) = [row for row in table_rows([*near, far], (1, 1)) if row[0].startswith("time to the target")]
    assert row[:3] == ("time to the target, 2 seeds", "10 s", "12 s")
    assert row[3].startswith("+20.0 %")


def test_a_kept_seed_tells_how_long_the_next_one_takes(tmp_path):
    one, clock = contrast(linear, linear), iter(range(0, 10_000, 10))
    kept = ledger(tmp_path, one)
    kept.add(0, {side: trained(seconds=500.0).__dict__ for side in ("base", "candidate")})
    found = run_contrast(one, range(3), kept, progress=Watching(), seconds=100, now=lambda: next(clock))
    assert [pair.seed for pair in found] == [0]


def test_a_loss_is_told_as_one():
    told = answer(contrast(linear, linear), made(0.85), (100, 100))
    assert told[0].startswith("base is more accurate than candidate")
    assert "no gain is decided" in told[-1]


def test_seeds_that_miss_the_target_are_counted():
    some = [Pair(0, trained(reached=None), trained()), Pair(1, trained(), trained())]
    told = answer(contrast(linear, linear), some, (1, 1))[2]
    assert told.startswith("base reaches 90 % on the validation images with 1 of 2 seeds, candidate with 2 of 2 seeds")
    none = [Pair(0, trained(reached=None), trained(reached=None))]
    assert "where both do" not in answer(contrast(linear, linear), none, (1, 1))[2]
    assert len(table_rows(none, (1, 1))) == 4


def test_no_finished_seed_is_an_answer_too():
    assert answer(contrast(linear, linear), [], (1, 1)) == ["Not decided: no seed is finished."]


def test_the_frame_is_tidy():
    frame = samples_of(contrast(linear, linear), made(0.92, seeds=2))
    assert list(frame.columns) == ["study", "seed", "architecture", "metric", "epoch", "value", "unit"]
    assert len(frame) == 2 * 2 * 6
    assert set(frame["metric"]) >= {"accuracy", "training_rate", "validation_accuracy", "seconds_to_target"}


def test_seeds_of_other_settings_are_refused_and_kept(tmp_path):
    one, other = contrast(linear, linear, width=16), contrast(linear, linear, width=32)
    ledger(tmp_path, one).add(0, {"base": {}, "candidate": {}})
    with pytest.raises(RunFileError, match=r"other settings \(width was 16, now 32\).*--restart"):
        ledger(tmp_path, other)
    assert 0 in ledger(tmp_path, one).rows
    assert ledger(tmp_path, other, restart=True).rows == {}


def test_a_line_that_was_cut_is_a_seed_that_is_not_finished(tmp_path):
    one = contrast(linear, linear)
    kept = ledger(tmp_path, one)
    for seed in (0, 1):
        kept.add(seed, {"base": {}})
    kept.path.write_text(kept.path.read_text()[:-5])
    again = ledger(tmp_path, one)
    assert list(again.rows) == [0]
    again.add(1, {"base": {}})
    assert list(ledger(tmp_path, one).rows) == [0, 1]


@pytest.mark.parametrize(
    "text", ["", "[]\n", '{"other": 1}\n', '{"settings": {}}\nnot json\n', '{"settings": {}}\n[1]\n']
)
def test_a_file_that_holds_no_seeds_is_refused_and_left_alone(tmp_path, text):
    one = contrast(linear, linear)
    (tmp_path / "planted.seeds.jsonl").write_text(text)
    with pytest.raises(RunFileError, match="not the seeds of a study"):
        ledger(tmp_path, one)
    assert (tmp_path / "planted.seeds.jsonl").read_text() == text


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunFileError, match="cannot be written"):
        Ledger(tmp_path / "file" / "x.jsonl", {})


def test_settings_name_everything_that_a_seed_depends_on():
    names = contrasts.squeeze_excitation(6, 16).settings("cpu")
    assert {"epochs", "batch", "rate", "decay", "target", "image_size", "width", "device", "torch"} <= set(names)
    json.dumps(names)


@pytest.mark.parametrize("make", [contrasts.pooling, partial(contrasts.squeeze_excitation, width=4)])
def test_the_sides_of_a_contrast_differ_in_one_thing(make):
    base, candidate = (build() for build in make(1).builds)
    shared = [name for name in base.state_dict() if ".se." not in name]
    assert [name for name in candidate.state_dict() if ".se." not in name] == shared


def test_the_full_width_has_the_gates_of_the_catalog():
    from cnnperf.models.catalog import create

    full = contrasts.squeeze_excitation(1, 64)
    shapes = [{name: value.shape for name, value in build().state_dict().items()} for build in full.builds]
    names = ("resnet18", "se_resnet18")
    assert [full.base, full.candidate] == list(names)
    assert shapes == [{key: one.shape for key, one in create(name).state_dict().items()} for name in names]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: contrasts.squeeze_excitation(1, 3), "--width is at least 4, not 3"),
        (lambda: contrasts.depth(1, 0, 8), "--blocks and --channels are at least 1, not 0 and 8"),
    ],
)
def test_networks_that_cannot_be_are_refused(make, told):
    with pytest.raises(OptionError, match=told):
        make()


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    digits._digits.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    with pytest.raises(CnnperfError, match=r"needs the package sklearn; .*cnnperf\[study\]"):
        digits.split_digits(0)
