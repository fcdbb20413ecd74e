"""User networks: a factory named `package.module:factory`, or a timm model named `timm:NAME`.

Each is built once when its name is first resolved, so that a faulty network fails before anything is measured.
"""

import importlib
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from types import ModuleType

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from cnnperf.errors import OptionError
from cnnperf.models.architecture import Architecture
from cnnperf.models.initialization import seeded
from cnnperf.models.modes import preserved_modes
from cnnperf.models.spelling import did_you_mean
from cnnperf.models.subject import IMAGE_DIMENSIONS, Subject

_LAST_BUILT: dict[str, weakref.ref[nn.Module]] = {}  # by name of the factory

TIMM_IMAGE_SIZE = 224
"""Image size in pixels of timm models without `input_size`: most are trained on ImageNet at this size."""


@cache
def from_factory(name: str) -> Architecture:
    """Resolve `package.module:factory`, a callable without arguments that returns an nn.Module or a `Subject`.

    The working directory is appended to the import path, as `python -m pytest` adds it.

    Args:
        name: Dotted name of the module, a colon, and the name of the callable in it.

    Returns:
        The architecture, with an unknown number of classes. It takes images of three channels, or the inputs of the
        `Subject`.

    Raises:
        OptionError: If the name is malformed, the module is missing or fails to import, or the factory is missing, is
            not callable, raises, or returns something else.
    """
    module_name, _, factory_name = name.partition(":")
    if not all(part.isidentifier() for part in module_name.split(".")) or not factory_name.isidentifier():
        raise OptionError(f"architecture {name!r} is malformed; write package.module:factory, with one colon")
    factory = _find_factory(name, _import_module(name, module_name), factory_name)
    with preserved_modes(), seeded(0):
        built = _build(name, factory)
    plain = Architecture(
        name=name,
        build=partial(_network, name, factory),
        summary=f"the network from {name}",
        source=name,
        classes=None,
    )
    return _with_inputs(plain, built, partial(_subject, name, factory)) if isinstance(built, Subject) else plain


@cache
def from_timm(name: str) -> Architecture:
    """Resolve `timm:NAME`, a model of the PyTorch Image Models library, without pretrained weights.

    Source: https://github.com/huggingface/pytorch-image-models.

    Args:
        name: `timm:` and the name of the model in timm.

    Returns:
        The architecture, with an unknown number of classes. Channels and image size come from the model's
        `default_cfg`; without one they are 3 and 224 pixels.

    Raises:
        OptionError: If timm is not installed, fails to import, has no such model, or fails to build it.
    """
    model_name = name.removeprefix("timm:")
    timm = _import_timm(name)
    if not timm.is_model(model_name):
        hint = did_you_mean(model_name, timm.list_models())
        raise OptionError(f"timm has no model {model_name!r}{hint}; timm.list_models() lists all names")
    build = partial(_network, name, partial(timm.create_model, model_name, pretrained=False))
    with seeded(0):
        settings = getattr(build(), "default_cfg", None) or {}
    channels, image_size, _ = settings.get("input_size") or (3, TIMM_IMAGE_SIZE, TIMM_IMAGE_SIZE)
    return Architecture(
        name=name,
        build=build,
        summary=f"{model_name} from timm, not pretrained",
        source="https://github.com/huggingface/pytorch-image-models",
        image_size=image_size,
        channels=channels,
        classes=None,
        fixed_image_size=bool(settings.get("fixed_input_size", False)),
    )


def _import_timm(name: str) -> ModuleType:
    try:
        return _import_module(name, "timm")
    except OptionError as error:
        if isinstance(error.__cause__, ModuleNotFoundError) and error.__cause__.name == "timm":
            raise OptionError(
                f"architecture {name!r} needs timm, which is not installed; run `pip install timm`"
            ) from error.__cause__
        raise


def _import_module(name: str, module_name: str) -> ModuleType:
    working_directory = str(Path.cwd())
    if working_directory not in sys.path and "" not in sys.path:
        sys.path.append(working_directory)
    try:
        with preserved_modes():
            return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise OptionError(
                f"architecture {name!r}: there is no module {error.name!r}; "
                f"install it, or start from the directory that contains it (now {working_directory})"
            ) from error
        raise _import_failure(name, module_name, error) from error
    except Exception as error:
        raise _import_failure(name, module_name, error) from error


def _import_failure(name: str, module_name: str, error: Exception) -> OptionError:
    return OptionError(
        f"architecture {name!r}: importing {module_name!r} failed with {_described(error)}; make the import work first"
    )


def _find_factory(name: str, module: ModuleType, factory_name: str) -> Callable[[], object]:
    if not hasattr(module, factory_name):
        names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        hint = did_you_mean(factory_name, names) or f"; its callables are: {', '.join(names[:10]) or 'none'}"
        raise OptionError(f"architecture {name!r}: module {module.__name__!r} has no {factory_name!r}{hint}")
    factory: object = getattr(module, factory_name)
    if not callable(factory):
        raise OptionError(
            f"architecture {name!r}: {factory_name!r} is not callable but a {_type_name(factory)}; "
            "name a function or class that takes no arguments and returns an nn.Module"
        )
    return factory


def _with_inputs(plain: Architecture, built: Subject, subject: Callable[[], Subject]) -> Architecture:
    """Return the row of a network with inputs of its own.

    Raises:
        OptionError: If there is no tensor among the inputs.
    """
    tensors = [leaf for leaf in tree_leaves(built.arguments()) if isinstance(leaf, torch.Tensor)]
    if not tensors:
        raise OptionError(f"architecture {plain.name!r}: its Subject has no tensor among its inputs")
    first = tensors[0]
    size = int(first.shape[-1]) if first.dim() == IMAGE_DIMENSIONS else plain.image_size
    batch = len(first) if first.dim() else 1
    return replace(plain, subject=subject, batch=batch, image_size=size, fixed_image_size=True)


def _subject(name: str, factory: Callable[[], object]) -> Subject:
    built = _build(name, factory)
    if isinstance(built, Subject):
        return built
    raise OptionError(f"architecture {name!r}: the factory returned a Subject first, and then a network alone")


def _network(name: str, factory: Callable[[], object]) -> nn.Module:
    built = _build(name, factory)
    return built.model if isinstance(built, Subject) else built


def _build(name: str, factory: Callable[[], object]) -> nn.Module | Subject:
    try:
        with preserved_modes():
            built = factory()
    except OptionError as error:
        raise OptionError(f"architecture {name!r}: {error}") from error
    except Exception as error:
        raise OptionError(
            f"architecture {name!r}: the factory raised {_described(error)}; it must work when called without arguments"
        ) from error
    network = built.model if isinstance(built, Subject) else built
    if isinstance(network, nn.Module):
        last, _LAST_BUILT[name] = _LAST_BUILT.get(name), weakref.ref(network)
        if last is not None and last() is network:
            raise OptionError(
                f"architecture {name!r}: the factory returned the same network twice; every case moves and changes its "
                "network, so return a new one from each call"
            )
        return built if isinstance(built, Subject) else network
    raise OptionError(
        f"architecture {name!r}: the factory returned a {_type_name(network)}; it must return an nn.Module, or a "
        "cnnperf.Subject"
    )


def _described(error: Exception) -> str:
    first_line = str(error).partition("\n")[0]
    return f"{type(error).__name__} ({first_line})"


def _type_name(value: object) -> str:
    return type(value).__name__
