"""The zoo, building by name and seed, dealing to clients, and running stacked."""

import copy
import math
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedkt.data.sets.dataset import InputSpec
from fedkt.errors import InputError
from fedkt.models import Net, build, deal
from fedkt.models.build import shares_to_counts
from fedkt.models.net import check

IMAGES = InputSpec("image", (1, 8, 8))
COLOUR = InputSpec("image", (3, 32, 32))
TABLE = InputSpec("tabular", (13,))
TOKENS = InputSpec("tokens", (6,), vocabulary=30)
COUNTS = InputSpec("sparse", (40,))
CLASSES = 4

ZOO = {name: f"fedkt.models.{name}:{name}" for name in ("mlp", "cnn", "resnet8", "tabular")}
ZOO["text"] = "fedkt.models.vectors.text:text"
PAIRS = [
    ("mlp", IMAGES),
    ("mlp", TABLE),
    ("mlp", COUNTS),
    ("cnn", IMAGES),
    ("cnn", COLOUR),
    ("resnet8", IMAGES),
    ("resnet8", COLOUR),
    ("text", TOKENS),
    ("text", COUNTS),
    ("tabular", TABLE),
    ("tabular", COUNTS),
]
every_pair = pytest.mark.parametrize(
    ("name", "input"),
    [pytest.param(*pair, id=f"{pair[0]}-{pair[1].kind}{pair[1].shape[-1]}") for pair in PAIRS],
)


def rows_of(input: InputSpec, *rows: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    if input.kind == "tokens":
        return torch.randint(input.vocabulary, (*rows, *input.shape), generator=generator)
    return torch.rand(*rows, *input.shape, generator=generator)


def size(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def problems(spec: Any, input: InputSpec = IMAGES) -> list[str]:
    with pytest.raises(InputError) as caught:
        build(spec, input, CLASSES, 0)
    return list(caught.value.problems)


# ---- the zoo


@every_pair
def test_features_and_logits(name: str, input: InputSpec) -> None:
    net = build(ZOO[name], input, CLASSES, 0)
    z, logits = net(rows_of(input, 5))
    assert z.shape == (5, 64)
    assert net.width == 64
    assert logits.shape == (5, CLASSES)
    assert torch.equal(net.head(z), logits)
    assert torch.isfinite(logits).all()


@every_pair
def test_rows_do_not_depend_on_the_others(name: str, input: InputSpec) -> None:
    net = build(ZOO[name], input, CLASSES, 0)
    x = rows_of(input, 5)
    assert torch.allclose(net(x)[1][2:3], net(x[2:3])[1], atol=1e-6)


@every_pair
def test_settings(name: str, input: InputSpec) -> None:
    net = build((ZOO[name], {"width": 12, "dropout": 0.5}), input, CLASSES, 0)
    x = rows_of(input, 5)
    assert net.train()(x)[0].shape == (5, 12)
    assert not torch.equal(net(x)[0], net(x)[0])  # dropout draws anew
    net.eval()
    assert torch.equal(net(x)[0], net(x)[0])


@every_pair
def test_stacked_gradients_are_those_of_each_model(name: str, input: InputSpec) -> None:
    nets = [build(ZOO[name], input, CLASSES, seed) for seed in range(3)]
    x, y = rows_of(input, 3, 4), torch.tensor([[0, 1, 2, 3], [3, 3, 3, 3], [1, 0, 1, 0]])
    skeleton = copy.deepcopy(nets[0]).to("meta")
    assert not list(skeleton.buffers())

    def loss(params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        z, logits = torch.func.functional_call(skeleton, params, (x,))
        return nn.functional.cross_entropy(logits, y) + z.square().mean()

    params, _ = torch.func.stack_module_state(nets)
    stacked = torch.func.vmap(torch.func.grad(loss))(params, x, y)
    for k, net in enumerate(nets):
        alone = torch.func.grad(loss)(dict(net.named_parameters()), x[k], y[k])
        for key, gradient in alone.items():
            assert torch.allclose(stacked[key][k], gradient, atol=1e-5), key


@pytest.mark.parametrize(
    ("name", "settings", "input", "parameters"),
    [
        # 784*100 + 100, then 100*10 + 10
        ("mlp", {"width": 100}, InputSpec("image", (1, 28, 28)), 79_510),
        # 784*32 + 32, 32*16 + 16, 16*10 + 10
        ("mlp", {"width": 16, "hidden": [32]}, InputSpec("image", (1, 28, 28)), 25_818),
        # 16*9 + 16, 32*16*9 + 32, 32*7*7*64 + 64, 64*10 + 10
        ("cnn", {}, InputSpec("image", (1, 28, 28)), 105_866),
        # 6*9 + 6, 16*6*9 + 16, sides 28, 14, 7: 16*7*7*32 + 32, 32*10 + 10
        (
            "cnn",
            {"width": 32, "channels": [6, 16], "strided": True},
            InputSpec("image", (1, 28, 28)),
            26_390,
        ),
        # 4*9 + 4, then sides 28 and 14: 4*14*14*8 + 8, 8*10 + 10
        ("cnn", {"width": 8, "channels": [4]}, InputSpec("image", (1, 28, 28)), 6_410),
        # stem 16*9 + 2*16; stages 2*16*16*9 + 2*2*16 = 4672,
        # 32*(16 + 32)*9 + 16*32 + 3*2*32 = 14528, 64*(32 + 64)*9 + 32*64 + 3*2*64 = 57728; 64*10 + 10
        ("resnet8", {}, InputSpec("image", (1, 28, 28)), 77_754),
        # 30*8, 8*8 + 8, 8*10 + 10
        ("text", {"width": 8}, TOKENS, 402),
        # 13*8 + 8, 8*8 + 8, 8*10 + 10
        ("tabular", {"width": 8}, TABLE, 274),
    ],
)
def test_sizes(name: str, settings: dict[str, Any], input: InputSpec, parameters: int) -> None:
    assert size(build((ZOO[name], settings), input, 10, 0)) == parameters


@pytest.mark.parametrize("side", [8, 16, 28, 32])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["cnn", "resnet8"])
def test_sizes_of_images(name: str, channels: int, side: int) -> None:
    net = build(ZOO[name], InputSpec("image", (channels, side, side)), CLASSES, 0)
    assert net(torch.zeros(1, channels, side, side))[1].shape == (1, CLASSES)


def test_text_takes_the_mean_without_padding() -> None:
    net = build(ZOO["text"], TOKENS, CLASSES, 0)
    mean = net.features[0]  # type: ignore[index]
    vectors = mean.embedding.weight
    tokens = torch.tensor([[3, 5, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [5, 3, 0, 0, 0, 0]])
    out = mean(tokens)
    assert torch.allclose(out[0], (vectors[3] + vectors[5]) / 2)
    assert torch.equal(out[1], torch.zeros(64))
    assert torch.allclose(out[0], out[2])  # the order of words is nothing to a bag


def test_text_scales_counts() -> None:
    net = build(ZOO["text"], InputSpec("sparse", (3,)), CLASSES, 0)
    scale = net.features[0]  # type: ignore[index]
    # log(1 + (e-1)) = 1 and log(1 + (e²-1)) = 2: length √5
    counts = torch.tensor([[math.e - 1, math.e**2 - 1, 0.0], [0.0, 0.0, 0.0], [-(math.e - 1), 0.0, 0.0]])
    expected = torch.tensor([[1 / math.sqrt(5), 2 / math.sqrt(5), 0.0], [0.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    assert torch.allclose(scale(counts), expected)


def test_every_model_learns_its_batch() -> None:
    for name, input in PAIRS:
        if input is COLOUR:
            continue
        net = build((ZOO[name], {"width": 16}), input, CLASSES, 0)
        x, y = rows_of(input, 8), torch.arange(8) % CLASSES
        optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
        for _ in range(60):
            loss = nn.functional.cross_entropy(net(x)[1], y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert loss.item() < 0.7, (name, input.kind)  # ln 4 = 1.39 to begin with


# ---- building


@every_pair
def test_the_same_seed_gives_the_same_weights(name: str, input: InputSpec) -> None:
    torch.rand(7)  # what was drawn before does not matter
    before = torch.get_rng_state()
    one = build(ZOO[name], input, CLASSES, 3).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    again, other = (build(ZOO[name], input, CLASSES, seed).state_dict() for seed in (3, 4))
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


def test_a_specification_in_all_its_forms() -> None:
    path = ZOO["mlp"]
    forms: list[Any] = [
        (path, {"width": 8}),
        {"name": path, "width": 8},
        SimpleNamespace(name=path, settings={"width": 8}),
    ]
    assert [build(form, IMAGES, CLASSES, 0).width for form in forms] == [8, 8, 8]
    assert build(path, IMAGES, CLASSES, 0).width == 64


def test_models_of_others() -> None:
    class Theirs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.BatchNorm1d(9), nn.Tanh())
            self.head = nn.Linear(9, CLASSES)

    theirs = Theirs()
    net = check(theirs, IMAGES, CLASSES)
    assert isinstance(net, Net)
    assert net.width == 9
    assert net.head is theirs.head
    assert theirs.features.training  # the trial left the mode
    assert theirs.features[2].num_batches_tracked == 0  # and the statistics alone
    built = build((lambda input, classes: Theirs(), {}), IMAGES, CLASSES, 0)  # type: ignore[arg-type]
    assert built.width == 9
    assert check(built, IMAGES, CLASSES) is built


def test_errors_name_what_would_be_right() -> None:
    path = ZOO["mlp"]
    assert problems((path, {"wdith": 3})) == [f"model '{path}' has no setting 'wdith'; did you mean 'width'?"]
    assert problems((path, {"width": 0, "dropout": 1.0, "hidden": [3, "a"]})) == [
        "width of model 'mlp' is 0; it must be an integer of at least 1.",
        "hidden of model 'mlp' is [3, 'a']; it must be a list of integers of at least 1.",
        "dropout of model 'mlp' is 1.0; it must be at least 0 and less than 1.",
    ]
    assert problems((path, {"width": [8], "hidden": 8, "dropout": True})) == [
        "width of model 'mlp' is [8]; it must be an integer of at least 1.",
        "hidden of model 'mlp' is 8; it must be a list of integers of at least 1.",
        "dropout of model 'mlp' is True; it must be at least 0 and less than 1.",
    ]
    assert problems(ZOO["cnn"], TABLE) == ["model 'cnn' takes image rows, but the data set has tabular rows."]
    assert problems(ZOO["tabular"], IMAGES) == [
        "model 'tabular' takes tabular or sparse rows, but the data set has image rows."
    ]
    assert problems(ZOO["cnn"], InputSpec("image", (1, 3, 9))) == [
        "model 'cnn' takes images of at least 4x4 pixels, but these are 3x9; set data.image.size."
    ]
    assert problems((ZOO["cnn"], {"channels": [8, 0], "strided": 2})) == [
        "channels of model 'cnn' is [8, 0]; it must be a list of integers of at least 1."
    ]
    assert problems((ZOO["cnn"], {"strided": 2})) == [
        "strided of model 'cnn' is 2; it must be true or false."
    ]
    assert problems((ZOO["resnet8"], {"width": 10})) == [
        "width of model 'resnet8' is 10; it must be a multiple of 4."
    ]
    assert "must be at least 1" in problems(ZOO["text"], InputSpec("tokens", (6,)))[0]
    assert "must be written as {name: mlp, width: 100}" in problems({"width": 3})[0]


def plain(input: InputSpec, classes: int) -> nn.Module:
    return nn.Linear(input.shape[0], classes)


def unflattened(input: InputSpec, classes: int) -> nn.Module:
    return Net(nn.Identity(), nn.Linear(8, classes), 8)


def one_class_short(input: InputSpec, classes: int) -> nn.Module:
    return Net(nn.Flatten(), nn.Linear(64, classes - 1), 64)


def wrong_width(input: InputSpec, classes: int) -> nn.Module:
    return Net(nn.Flatten(), nn.Linear(64, classes), 63)


def misfit(input: InputSpec, classes: int) -> nn.Module:
    return Net(nn.Flatten(), nn.Linear(3, classes), 3)


def two_outputs(input: InputSpec, classes: int) -> nn.Module:
    return Net(nn.Flatten(), nn.LSTM(64, classes), 64)


def broken(input: InputSpec, classes: int) -> nn.Module:
    raise RuntimeError("out of\nluck")


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        (plain, "must be a torch module with the submodules 'features'"),
        (unflattened, r"features .* have shape \[2, 1, 8, 8\] for 2 rows; they must be \[2, width\]"),
        (one_class_short, r"logits .* have shape \[2, 3\] .* they must be \[2, 4\]\."),
        (wrong_width, "says that its width is 63, but its features are 64 wide"),
        (misfit, r"cannot be run on image rows of shape \[1, 8, 8\]: RuntimeError: "),
        (two_outputs, "head of model 'two_outputs' returns tuple; it must return one tensor"),
        (broken, "cannot be built: RuntimeError: out of luck"),
        ("no-such-model", "there is no model 'no-such-model'"),
        (3, "model '3' is of type int; it must be a function"),
    ],
)
def test_a_module_that_does_not_fit_is_refused(factory: Any, words: str) -> None:
    before = torch.get_rng_state()
    with pytest.raises(InputError, match=words) as caught:
        build((factory, {}), IMAGES, CLASSES, 0)
    (problem,) = caught.value.problems
    assert "\n" not in problem
    assert problem.endswith(".")
    assert torch.equal(torch.get_rng_state(), before)


# ---- dealing


def test_a_list_is_dealt_in_turn() -> None:
    dealt = deal(["mlp", {"name": "cnn", "width": 8}, SimpleNamespace(name="text", settings={})], 5, 0)
    assert dealt == [("mlp", {}), ("cnn", {"width": 8}), ("text", {}), ("mlp", {}), ("cnn", {"width": 8})]
    assert dealt[1][1] is not dealt[4][1]
    assert deal(["mlp"], 0, 0) == []


def test_shares_are_dealt_by_the_largest_remainder_in_a_seeded_order() -> None:
    shares = {"mlp": 0.7, "resnet8": 0.3}
    dealt = deal(shares, 10, 0)
    assert Counter(name for name, _ in dealt) == {"mlp": 7, "resnet8": 3}
    assert dealt == deal(shares, 10, 0)
    assert any(dealt != deal(shares, 10, seed) for seed in range(1, 4))


@pytest.mark.parametrize(
    ("shares", "n", "counts"),
    [
        ([0.7, 0.3], 10, [7, 3]),
        ([0.29, 0.71], 100, [29, 71]),  # 0.29*100 is 28.999… in floating point
        ([0.5, 0.3, 0.2], 4, [2, 1, 1]),  # quotas 2, 1.2, 0.8
        ([0.5, 0.5], 3, [2, 1]),  # equal remainders: the earlier
        ([1 / 3, 1 / 3, 1 / 3], 10, [4, 3, 3]),
        ([2, 1], 3, [2, 1]),
        ([0.9, 0.1], 1, [1, 0]),
        ([0.4, 0.6], 0, [0, 0]),
    ],
)
def test_shares_to_counts(shares: list[float], n: int, counts: list[int]) -> None:
    assert shares_to_counts(shares, n) == counts
