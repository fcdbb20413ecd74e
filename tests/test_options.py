"""Options: every bad one is told in one sentence before anything runs."""

import pickle

import pytest
import torch

from cnnperf.errors import CnnperfError, OptionError
from cnnperf.suite.flags import OPTIONS, read_given
from cnnperf.suite.options import Options, parse_options


def given(**texts):
    return {f"cnnperf_{name}": (value,) if isinstance(value, str) else value for name, value in texts.items()}


def test_nothing_given_means_the_defaults():
    assert parse_options({}) == Options()


def test_values_are_parsed_by_their_kind():
    options = parse_options(given(time="0.5", interval="5%", suite="full", cpu_allocator="system"))
    assert (options.seconds, options.interval, options.suite, options.cpu_allocator) == (
        0.5,
        0.05,
        "full",
        "system",
    )
    assert parse_options(given(interval="0.05")).interval == 0.05


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (given(architecture="resnet81"), "did you mean 'resnet18'"),
        (given(architecture="vgg*"), "no architecture matches 'vgg\\*'"),
        (given(architecture="no_such_package.module:factory"), "no_such_package"),
        (given(axis="batch=0"), "at least 1, not '0'"),
        (given(axis="engine=tensorrt"), "one of eager, compile, cudagraphs, replay, compile_replay, not 'tensorrt'"),
        (given(axis="image_size=64", architecture="lenet5"), "lenet5 takes images of 32 x 32 only"),
        (given(device="tpu"), "takes auto, cpu, cuda or cuda:N, not 'tpu'"),
        (given(device="cuda:x"), "takes auto, cpu, cuda or cuda:N, not 'cuda:x'"),
        (given(device="cpu:1"), "takes auto, cpu, cuda or cuda:N, not 'cpu:1'"),
        (given(suite="quick"), "takes one of smoke, default, full, practice, not 'quick'"),
        (given(input="video"), "takes one of synthetic, photos, not 'video'"),
        (given(cpu_allocator="jemalloc"), "takes one of retain, system, not 'jemalloc'"),
        (given(time="soon"), "takes seconds such as 1.0, not 'soon'"),
        (given(time="-1"), "takes seconds above 0, not -1"),
        (given(time="nan"), "takes seconds above 0, not nan"),
        (given(interval="wide"), "takes a number such as 2% or 0.02, not 'wide'"),
        (given(interval="200%"), "between 0 and 1"),
    ],
)
def test_a_bad_option_is_refused_with_what_is_allowed(texts, message):
    with pytest.raises(OptionError, match=message):
        parse_options(texts)


def test_cuda_on_a_build_without_it_is_refused(monkeypatch):
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    with pytest.raises(OptionError, match="built without CUDA"):
        parse_options(given(device="cuda"))


def test_a_cuda_device_that_does_not_exist_is_refused(monkeypatch):
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(OptionError, match="cuda:5: this machine has 2 CUDA devices"):
        parse_options(given(device="cuda:5"))
    assert parse_options(given(device=("cpu", "cuda:1"))).devices_here() == ("cpu", "cuda:1")


def test_auto_takes_cuda_where_it_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert Options().devices_here() == ("cpu", "cuda")
    assert not Options().misses_cuda()


def test_auto_without_cuda_knows_what_it_misses(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Options().devices_here() == ("cpu",)
    assert Options().misses_cuda()
    assert not Options(devices=("cpu",)).misses_cuda()


def test_an_architecture_named_twice_is_measured_once():
    options = parse_options(given(architecture=("lenet5", "lenet*")))
    assert [row.name for row in options.architectures()] == ["lenet5", "lenet5_avg"]


def test_photos_without_scikit_learn_are_refused_with_the_way_to_get_them(monkeypatch):
    import sys

    from cnnperf.measure import images

    images._photographs.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(CnnperfError, match=r"pip install 'cnnperf\[photos\]'"):
        parse_options(given(input="photos"))


def test_empty_values_of_an_ini_file_count_as_not_given():
    assert read_given(lambda key: [] if key == "cnnperf_device" else "") == {}
    assert read_given(lambda key: "full" if key == "cnnperf_suite" else None) == {"cnnperf_suite": ("full",)}


def test_every_option_has_a_help_text():
    assert all(option.help and option.metavar for option in OPTIONS)


def test_the_options_of_another_process_leave_a_network_of_the_users_behind():
    options = Options(patterns=("lenet5",), _brought={"made": lambda: None})
    assert pickle.loads(pickle.dumps(options.portable())) == Options(patterns=("lenet5",))
