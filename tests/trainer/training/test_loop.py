"""The training loop."""

from __future__ import annotations

import copy
import resource

import pytest
import torch

from trainer.data.index import index_folder
from trainer.data.samples import Samples, tiles
from trainer.networks.architecture import I100_S4, Architecture, Conv, Student
from trainer.recipe import Distillation, Fit, Recipe, TrainingError
from trainer.training import checkpoint
from trainer.training.loop import enough_epochs, fit, predict
from trainer.training.losses import DistillationLoss

TINY = Architecture("tiny", 20, (Conv(4, 4, 4), Conv(8, 3, 2)))
NONE = Samples(torch.empty((0, 2, 20, 20), dtype=torch.uint8), torch.empty(0, dtype=torch.int64))


@pytest.fixture(scope="module")
def samples(class_folder):
    return tiles(index_folder(class_folder).splits["train"], 100, seed=0)


def run(samples, seed, epochs):
    torch.manual_seed(seed)
    student = Student(I100_S4, 3, good=False)
    epochs_seen = []
    none = Samples(torch.empty((0, 2, 100, 100), dtype=torch.uint8), torch.empty(0, dtype=torch.int64))
    recipe = Recipe(epochs=epochs, batch=9, average=0.9, light_from=0.2, noise=5)
    trained = fit(student, [samples, none, none, none, none], samples, recipe, seed=seed, report=epochs_seen.append)
    return trained, epochs_seen


def test_fit_lowers_the_loss_and_learns(samples):
    """After some epochs on easy pictures the loss is lower and most predictions are correct."""
    trained, epochs = run(samples, 0, 25)
    assert [e.number for e in epochs] == list(range(1, 26))
    assert epochs[-1].loss < 0.7 * epochs[0].loss
    assert (predict(trained, samples) == samples.labels).float().mean() > 0.8


def test_few_pictures_get_more_epochs():
    """As many as the least number of steps needs; with many pictures the epochs of the recipe are enough."""
    few, many = (
        Samples(torch.empty((n, 2, 20, 20), dtype=torch.uint8), torch.zeros(n, dtype=torch.int64)) for n in (30, 3000)
    )
    recipe = Recipe(epochs=10, batch=10, min_steps=100)
    assert enough_epochs([few, NONE, NONE, NONE, NONE], recipe) == 34  # three steps each
    assert enough_epochs([many, NONE, NONE, NONE, NONE], recipe) == 10


def test_fit_is_reproducible(samples):
    """The same seed gives the same weights, another seed gives others."""
    first, second, other = (run(samples, seed, 2)[0].state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not torch.equal(first["classes.weight"], other["classes.weight"])


def test_student_has_the_documented_size():
    """i100_s4 with six classes has 116,310 parameters once BatchNorm is folded, and 97 more for `good`."""
    student = Student(I100_S4, 6, good=True)
    norms = sum(p.numel() for _, norm in student.pairs() for p in norm.parameters())
    biases = sum(conv.out_channels for conv, _ in student.pairs())
    assert sum(p.numel() for p in student.parameters()) - norms + biases == 116_310 + 97


# With a network of a few weights -----------------------------------------------------------------------------------


def shades(count, seed):
    """Three classes of different brightness, with noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    noise = torch.randint(0, 60, (count, 2, 20, 20), generator=generator)
    return Samples((noise + 70 * labels[:, None, None, None]).byte(), labels)


SHADES, KEPT = shades(30, 0), shades(9, 1)
SHORT = Fit(epochs=4, batch=8, average=0.8)


def tiny(seed=0):
    torch.manual_seed(seed)
    return Student(TINY, 3, good=False, dropout=0.2)


def train(recipe=SHORT, **options):
    return fit(tiny(), [SHADES, NONE, NONE, NONE, NONE], KEPT, recipe, **{"seed": 3} | options)


def equal(one, other):
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


class Interrupting:
    """A source that raises KeyboardInterrupt at the given access to its tiles, in the middle of an epoch."""

    def __init__(self, accesses):
        self.accesses = accesses

    def __len__(self):
        return len(SHADES)

    @property
    def labels(self):
        return SHADES.labels

    @property
    def tiles(self):
        self.accesses -= 1
        if self.accesses == 0:
            raise KeyboardInterrupt
        return SHADES.tiles


def distilling(alpha=0.5):
    torch.manual_seed(9)
    teacher = Student(TINY, 3, good=False)
    return DistillationLoss([teacher], Distillation(alpha=alpha, features=0.5), student_features=8)


@pytest.mark.parametrize("make_loss", [lambda: None, distilling], ids=["labels", "distillation"])
def test_interrupted_training_resumes_bit_for_bit(tmp_path, make_loss):
    """Interrupted in the third epoch and started again, it gives the weights and epochs of an uninterrupted run."""
    whole, epochs = [], []
    expected = train(loss=make_loss(), report=whole.append)
    path = tmp_path / "run.pt"
    broken = [Interrupting(80), NONE, NONE, NONE, NONE]
    with pytest.raises(KeyboardInterrupt):
        fit(tiny(), broken, KEPT, SHORT, seed=3, loss=make_loss(), checkpoint=path, report=epochs.append)
    assert [e.number for e in epochs] == [1, 2]
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]
    epochs.clear()
    assert equal(train(loss=make_loss(), checkpoint=path, report=epochs.append), expected)
    assert epochs == whole


def test_finished_training_is_not_repeated(tmp_path):
    """With the checkpoint of a finished training `fit` returns its weights and leaves the file unchanged."""
    path = tmp_path / "run.pt"
    first = train(checkpoint=path)
    stamp = path.stat().st_mtime_ns
    assert equal(train(checkpoint=path), first)
    assert path.stat().st_mtime_ns == stamp


@pytest.mark.parametrize("change", ["seed", "recipe", "data", "loss", "weights"])
def test_checkpoint_of_another_run_is_refused(tmp_path, change):
    """Another seed, recipe, data, loss or network: the message names the file."""
    path = tmp_path / "run.pt"
    recipe = Fit(epochs=1, batch=8)
    train(recipe, checkpoint=path, loss=distilling())
    other = {
        "seed": lambda: train(recipe, seed=4, loss=distilling(), checkpoint=path),
        "recipe": lambda: train(Fit(epochs=2, batch=8), loss=distilling(), checkpoint=path),
        "data": lambda: fit(
            tiny(), [shades(30, 5), NONE, NONE, NONE, NONE], KEPT, recipe, seed=3, loss=distilling(), checkpoint=path
        ),
        "loss": lambda: train(recipe, loss=distilling(0.1), checkpoint=path),
        "weights": lambda: fit(
            tiny(1), [SHADES, NONE, NONE, NONE, NONE], KEPT, recipe, seed=3, loss=distilling(), checkpoint=path
        ),
    }
    with pytest.raises(TrainingError, match=r"run\.pt is from a run with other data, another recipe"):
        other[change]()


def test_damaged_checkpoint_is_named(tmp_path):
    """A truncated file is refused with the advice to delete it."""
    path = tmp_path / "run.pt"
    train(Fit(epochs=1, batch=8), checkpoint=path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(TrainingError, match=r"run\.pt: not a file of weights, or a damaged one\. Delete it"):
        train(Fit(epochs=1, batch=8), checkpoint=path)


def test_checkpoint_that_does_not_fit_leaves_the_old_one(tmp_path):
    """On a full disk the message names the file; the old checkpoint is intact, and no draft remains."""
    path = tmp_path / "run.pt"
    train(Fit(epochs=1, batch=8), checkpoint=path)
    content = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) // 2, limits[1]))
    try:
        with pytest.raises(TrainingError, match=r"run\.pt: cannot be written: .*Free disk space"):
            checkpoint.write(path, {"a": torch.zeros(len(content))})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]


def test_patience_stops_early_with_the_best_average(tmp_path):
    """If the held-out loss only rises, training stops two epochs after the best one and returns its average."""
    wrong = Samples(KEPT.tiles, (KEPT.labels + 1) % 3)  # wrong labels: learning raises the loss
    epochs = []
    recipe = Fit(epochs=30, batch=8, average=0.5, patience=2, light_from=0.0)
    path = tmp_path / "run.pt"
    made = fit(
        tiny(), [SHADES, NONE, NONE, NONE, NONE], wrong, recipe, seed=3, checkpoint=path, report=epochs.append
    )  # fmt: skip
    best = min(epochs, key=lambda e: e.held_out_loss)
    assert len(epochs) == best.number + 2 < 30
    assert int((predict(made, wrong) == wrong.labels).sum()) == best.right
    again = fit(tiny(), [SHADES, NONE, NONE, NONE, NONE], wrong, recipe, seed=3, checkpoint=path)
    assert equal(made, again)
    with pytest.raises(TrainingError, match="patience"):
        fit(tiny(), [SHADES, NONE, NONE, NONE, NONE], NONE, recipe, seed=3)


def test_bfloat16_trains_the_same_network_a_little_differently():
    """Autocast changes the sums a little; the weights stay float32."""
    plain, short = train(), train(Fit(epochs=4, batch=8, average=0.8, bf16=True))
    assert {p.dtype for p in short.parameters()} == {torch.float32}
    assert not equal(plain, short)
    pairs = zip(plain.parameters(), short.parameters(), strict=True)
    assert all(torch.allclose(a, b, atol=0.05) for a, b in pairs)


@pytest.mark.parametrize(("epochs", "batch", "warm_up"), [(1, 30, 0.15), (2, 30, 0.5), (1, 3, 0.1)])
def test_shortest_schedules_run(epochs, batch, warm_up):
    """One step, two steps, and a warm-up of exactly one step are valid schedules."""
    seen = []
    train(Fit(epochs=epochs, batch=batch, warm_up=warm_up), report=seen.append)
    assert len(seen) == epochs


def test_a_loss_that_is_not_finite_is_an_error():
    """An absurd learning rate is an error after the first epoch, not at the end."""
    with pytest.raises(TrainingError, match=r"the loss is not finite after epoch 1: lower learning_rate"):
        train(Fit(epochs=50, batch=8, learning_rate=1e30))


def test_frozen_weights_stay(tmp_path):
    """Parameters that require no gradient are not trained."""
    model = tiny()
    model.convs[0].requires_grad_(False)
    before = copy.deepcopy(model)
    made = fit(model, [SHADES, NONE, NONE, NONE, NONE], KEPT, SHORT, seed=3)
    assert torch.equal(made.convs[0].weight, before.convs[0].weight)
    assert not torch.equal(made.convs[1].weight, before.convs[1].weight)
