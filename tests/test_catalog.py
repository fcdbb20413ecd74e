"""Tests of the catalog: its rows, how names resolve, and every way in which they do not."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

import cnnperf.fusion
from cnnperf.errors import OptionError
from cnnperf.models import catalog
from cnnperf.models.architecture import Architecture
from cnnperf.models.brought import from_factory, from_timm
from cnnperf.models.catalog import CATALOG, create, match, register, resolve

PARAMETERS = {
    "lenet5": 62_006,
    "lenet5_avg": 62_006,
    "plain_stack": 743_562,
    "residual_stack": 743_562,
    "resnet18": 11_173_962,
    "se_resnet18": 11_261_002,
    "se_resnet18_fused": 11_261_002,
}


@pytest.fixture(autouse=True)
def forget_brought_networks() -> Iterator[None]:
    yield
    from_factory.cache_clear()
    from_timm.cache_clear()


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Write a package of the user's and give the name of its module."""
    package = tmp_path / "brought_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "broken.py").write_text("import a_package_that_is_missing\n")
    (package / "wrong.py").write_text("def factory(:\n")
    (package / "nets.py").write_text(
        "from torch import nn\n"
        "number = 3\n"
        "class Network(nn.Linear):\n"
        "    def __init__(self):\n"
        "        super().__init__(4, 2)\n"
        "def factory():\n"
        "    return Network()\n"
        "def number_factory():\n"
        "    return 3\n"
        "def failing_factory():\n"
        "    raise ValueError('weights\\nand much more')\n"
        "def demanding_factory(width):\n"
        "    return Network()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield "brought_package.nets"
    for name in [each for each in sys.modules if each.split(".")[0] == "brought_package"]:
        del sys.modules[name]


class FakeTimm(ModuleType):
    """Stand in for timm: one model with a `default_cfg`, one without, one that cannot be built."""

    models = ("resnet26d", "vit_tiny", "plain", "failing")

    def is_model(self, name: str) -> bool:
        return name in self.models

    def list_models(self) -> list[str]:
        return sorted(self.models)

    def create_model(self, name: str, *, pretrained: bool) -> nn.Module:
        if name == "failing" or pretrained:
            raise RuntimeError("no weights here")
        network = nn.Linear(2, 2)
        configurations = {
            "resnet26d": {"input_size": (3, 288, 288)},
            "vit_tiny": {"input_size": (3, 384, 384), "fixed_input_size": True},
        }
        if name in configurations:
            network.default_cfg = configurations[name]  # type: ignore[assignment]
        return network


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", FakeTimm("timm"))


@pytest.fixture
def empty_place_in_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test add rows that are gone after it."""
    rows = dict(CATALOG)
    monkeypatch.setattr(catalog, "_ROWS", rows)
    monkeypatch.setattr(catalog, "CATALOG", rows)


def test_the_catalog_lists_the_architectures_in_the_order_of_the_report() -> None:
    assert list(CATALOG) == list(PARAMETERS)
    assert all(name == row.name for name, row in CATALOG.items())


@pytest.mark.parametrize("name", PARAMETERS)
def test_each_architecture_has_its_number_of_parameters(name: str) -> None:
    assert sum(parameter.numel() for parameter in create(name).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_each_row_says_what_the_network_is_and_where_it_comes_from(name: str) -> None:
    row = CATALOG[name]
    assert row.summary
    assert "http" in row.source
    assert (row.image_size, row.channels, row.classes) == (32, 3, 10)


def test_only_lenet5_takes_images_of_one_size_alone() -> None:
    assert [row.name for row in CATALOG.values() if row.fixed_image_size] == ["lenet5", "lenet5_avg"]


def test_only_the_fused_network_has_a_reference() -> None:
    assert {name: row.reference for name, row in CATALOG.items() if row.reference} == {
        "se_resnet18_fused": "se_resnet18"
    }


def test_a_fused_network_has_the_state_of_its_reference_and_its_own_blocks() -> None:
    fused, reference = create("se_resnet18_fused", seed=5), create("se_resnet18", seed=5)
    assert list(fused.state_dict()) == list(reference.state_dict())
    torch.testing.assert_close(dict(fused.state_dict()), dict(reference.state_dict()), rtol=0, atol=0)
    assert sum(isinstance(each, cnnperf.fusion.FusedSEBlock) for each in fused.modules()) == 8


@pytest.mark.parametrize("name", PARAMETERS)
def test_one_seed_gives_the_same_parameters_to_the_last_bit(name: str) -> None:
    first, second, other = create(name, seed=1), create(name, seed=1), create(name, seed=2)
    torch.testing.assert_close(dict(first.state_dict()), dict(second.state_dict()), rtol=0, atol=0)
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


def test_creating_a_network_leaves_the_global_generator_as_it_was() -> None:
    before = torch.get_rng_state()
    create("lenet5", seed=9)
    assert torch.equal(torch.get_rng_state(), before)


def test_create_takes_a_row_as_well_as_its_name() -> None:
    by_row, by_name = create(resolve("lenet5"), seed=4), create("lenet5", seed=4)
    torch.testing.assert_close(dict(by_row.state_dict()), dict(by_name.state_dict()), rtol=0, atol=0)


def test_a_misspelled_architecture_is_refused_with_the_nearest_name_and_all_names() -> None:
    with pytest.raises(OptionError) as caught:
        resolve("resnet81")
    assert str(caught.value).startswith("architecture 'resnet81' is unknown (did you mean 'resnet18'?); ")
    assert all(name in str(caught.value) for name in CATALOG)


def test_an_architecture_like_no_other_is_refused_without_a_guess() -> None:
    with pytest.raises(OptionError, match="architecture 'xyz' is unknown; choose from: lenet5, "):
        resolve("xyz")


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*", list(PARAMETERS)),
        ("lenet5*", ["lenet5", "lenet5_avg"]),
        ("*stack", ["plain_stack", "residual_stack"]),
        ("[ls]e*5", ["lenet5"]),
        ("resnet1?", ["resnet18"]),
        ("resnet18", ["resnet18"]),
    ],
)
def test_a_glob_stands_for_the_names_it_matches_in_order(pattern: str, names: list[str]) -> None:
    assert [row.name for row in match(pattern)] == names


def test_a_glob_that_matches_nothing_is_refused_with_all_names() -> None:
    with pytest.raises(OptionError, match=r"no architecture matches 'vgg\*'; choose from: lenet5, "):
        match("vgg*")


def test_a_pattern_without_wildcards_resolves_like_a_name(user_module: str) -> None:
    assert [row.name for row in match(f"{user_module}:factory")] == [f"{user_module}:factory"]
    with pytest.raises(OptionError, match=r"did you mean 'lenet5'\?"):
        match("lenet")


@pytest.mark.usefixtures("empty_place_in_catalog")
def test_a_registered_row_comes_last() -> None:
    register(Architecture(name="tiny", build=nn.Flatten, summary="tiny", source="here", reference="lenet5"))
    assert list(catalog.CATALOG) == [*PARAMETERS, "tiny"]
    assert isinstance(create("tiny"), nn.Flatten)


@pytest.mark.usefixtures("empty_place_in_catalog")
@pytest.mark.parametrize(
    ("name", "reference", "message"),
    [
        ("lenet5", None, "architecture 'lenet5' is in the catalog already"),
        ("tiny", "large", "reference 'large' is not in the catalog"),
    ],
)
def test_a_row_that_does_not_fit_is_not_registered(name: str, reference: str | None, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        register(Architecture(name=name, build=nn.Flatten, summary="", source="", reference=reference))
    assert list(catalog.CATALOG) == list(PARAMETERS)


@pytest.mark.parametrize("factory", ["factory", "Network"])
def test_a_users_function_or_class_is_an_architecture(user_module: str, factory: str) -> None:
    row = resolve(f"{user_module}:{factory}")
    assert (row.name, row.channels, row.classes, row.reference) == (f"{user_module}:{factory}", 3, None, None)
    assert isinstance(row.build(), nn.Linear)


def test_a_users_network_is_seeded_like_any_other(user_module: str) -> None:
    before = torch.get_rng_state()
    first, second = (create(f"{user_module}:factory", seed=6) for _ in range(2))
    torch.testing.assert_close(dict(first.state_dict()), dict(second.state_dict()), rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_users_network_is_tried_once_however_often_its_name_is_resolved(
    user_module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []

    def counting_factory() -> nn.Module:
        built.append(1)
        return nn.Flatten()

    resolve(f"{user_module}:factory")
    monkeypatch.setattr(sys.modules[user_module], "factory", counting_factory)
    from_factory.cache_clear()
    assert resolve(f"{user_module}:factory") is resolve(f"{user_module}:factory")
    assert len(built) == 1


def test_a_module_in_the_working_directory_can_be_brought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "brought_here.py").write_text("from torch.nn import Flatten as factory\n")
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    monkeypatch.chdir(tmp_path)
    try:
        assert isinstance(create("brought_here:factory"), nn.Flatten)
    finally:
        sys.modules.pop("brought_here", None)


def test_a_factory_that_returns_the_same_network_twice_is_refused(
    user_module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = nn.Flatten()
    resolve(f"{user_module}:factory")
    monkeypatch.setattr(sys.modules[user_module], "factory", lambda: network)
    from_factory.cache_clear()
    resolve(f"{user_module}:factory")
    with pytest.raises(OptionError, match=r"returned the same network twice; .* return a new one from each call"):
        create(f"{user_module}:factory")


def test_networks_of_the_catalog_are_new_ones_from_each_call() -> None:
    first, second = (create("lenet5", seed=3) for _ in range(2))
    with torch.no_grad():
        next(first.parameters()).zero_()
    for network in (second, create("lenet5", seed=3)):
        assert bool(next(network.parameters()).detach().any())


@pytest.mark.parametrize("name", ["a:b:c", ":factory", "module:", "a package:factory", "package..m:factory"])
def test_a_malformed_name_of_a_factory_is_refused_with_the_right_form(name: str) -> None:
    with pytest.raises(OptionError, match=r"is malformed; write package\.module:factory"):
        resolve(name)


@pytest.mark.parametrize(
    ("name", "message", "cause"),
    [
        ("a_missing_one:factory", "there is no module 'a_missing_one'; install it", ModuleNotFoundError),
        (
            "brought_package.absent:factory",
            "there is no module 'brought_package.absent'; install it",
            ModuleNotFoundError,
        ),
        (
            "brought_package.broken:factory",
            "importing 'brought_package.broken' failed with ModuleNotFoundError",
            ModuleNotFoundError,
        ),
        (
            "brought_package.wrong:factory",
            "importing 'brought_package.wrong' failed with SyntaxError",
            SyntaxError,
        ),
        ("brought_package.nets:factorie", r"has no 'factorie' \(did you mean 'factory'\?\)", None),
        ("brought_package.nets:xyz", "has no 'xyz'; its callables are: Network, factory, number_factory, ", None),
        ("brought_package.nets:number", "'number' is not callable but a int", None),
        ("brought_package.nets:number_factory", "the factory returned a int; it must return", None),
        ("brought_package.nets:failing_factory", r"the factory raised ValueError \(weights\)", ValueError),
        (
            "brought_package.nets:demanding_factory",
            "the factory raised TypeError .* must work when called without arguments",
            TypeError,
        ),
    ],
)
@pytest.mark.usefixtures("user_module")
def test_whatever_is_wrong_with_a_users_network_is_one_sentence(
    name: str, message: str, cause: type[Exception] | None
) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        resolve(name)
    assert "\n" not in str(caught.value)
    assert repr(name) in str(caught.value)
    assert type(caught.value.__cause__) is (cause or type(None))


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize(
    ("name", "image_size", "fixed"),
    [("resnet26d", 288, False), ("vit_tiny", 384, True), ("plain", 224, False)],
)
def test_a_timm_model_takes_images_as_its_configuration_says(name: str, image_size: int, fixed: bool) -> None:
    row = resolve(f"timm:{name}")
    assert (row.name, row.image_size, row.fixed_image_size) == (f"timm:{name}", image_size, fixed)
    assert (row.channels, row.classes) == (3, None)
    assert isinstance(create(row), nn.Linear)


@pytest.mark.usefixtures("timm")
def test_a_misspelled_timm_model_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(OptionError, match=r"timm has no model 'resnet62d' \(did you mean 'resnet26d'\?\)"):
        resolve("timm:resnet62d")


@pytest.mark.usefixtures("timm")
def test_a_timm_model_that_cannot_be_built_is_refused_with_the_reason() -> None:
    with pytest.raises(OptionError, match=r"the factory raised RuntimeError \(no weights here\)") as caught:
        resolve("timm:failing")
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_timm_model_without_timm_is_refused_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(OptionError, match=r"'timm:resnet18' needs timm, .* run `pip install timm`") as caught:
        resolve("timm:resnet18")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_timm_that_cannot_be_imported_is_not_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "timm.py").write_text("import a_package_that_is_missing\n")
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(OptionError, match="importing 'timm' failed with ModuleNotFoundError"):
        resolve("timm:resnet18")
