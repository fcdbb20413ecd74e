"""Networks that the user brings: a factory named `package.module:factory`, or a timm model named `timm:NAME`.

Each is built once when its name is first resolved, so that whatever is wrong with it shows before anything is
measured.
"""

import importlib
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from types import ModuleType

from torch import nn

from cnnperf.errors import OptionError
from cnnperf.models.architecture import Architecture
from cnnperf.models.initialization import seeded
from cnnperf.models.spelling import did_you_mean

TIMM_IMAGE_SIZE = 224
"""Height and width in pixels of a timm model that says nothing else: most are trained on ImageNet at this."""


@cache
def from_factory(name: str) -> Architecture:
    """Resolve `package.module:factory`, a callable without arguments that returns an nn.Module.

    The working directory is appended to the import path, as `python -m pytest` would add it.

    Args:
        name: The module's dotted name, a colon, and the callable's name in it.

    Returns:
        The architecture, for images of three channels and with an unknown number of classes.

    Raises:
        OptionError: The name is malformed, the module is missing or fails when imported, the factory is
            missing, is not callable, raises, or returns something else.
    """
    module_name, _, factory_name = name.partition(":")
    if not all(part.isidentifier() for part in module_name.split(".")) or not factory_name.isidentifier():
        raise OptionError(f"architecture {name!r} is malformed; write package.module:factory, with one colon")
    factory = _find_factory(name, _import_module(name, module_name), factory_name)
    build = partial(_build, name, factory)
    with seeded(0):
        build()
    return Architecture(name=name, build=build, summary=f"the network from {name}", source=name, classes=None)


@cache
def from_timm(name: str) -> Architecture:
    """Resolve `timm:NAME`, a model of the PyTorch Image Models library, without pretrained weights.

    Source: https://github.com/huggingface/pytorch-image-models.

    Args:
        name: "timm:" and the model's name there.

    Returns:
        The architecture; its channels and image size are those in the model's `default_cfg`, else 3 and 224
        pixels, and its number of classes is unknown.

    Raises:
        OptionError: timm is not installed or fails when imported, has no such model, or fails to build it.
    """
    model_name = name.removeprefix("timm:")
    timm = _import_timm(name)
    if not timm.is_model(model_name):
        hint = did_you_mean(model_name, timm.list_models())
        raise OptionError(f"timm has no model {model_name!r}{hint}; timm.list_models() lists those it has")
    build = partial(_build, name, partial(timm.create_model, model_name, pretrained=False))
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
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise OptionError(
                f"architecture {name!r}: there is no module {error.name!r}; "
                f"install it, or start from the directory that holds it (now {working_directory})"
            ) from error
        raise _import_failure(name, module_name, error) from error
    except Exception as error:
        raise _import_failure(name, module_name, error) from error


def _import_failure(name: str, module_name: str, error: Exception) -> OptionError:
    return OptionError(
        f"architecture {name!r}: importing {module_name!r} failed with {_described(error)}; make that import work first"
    )


def _find_factory(name: str, module: ModuleType, factory_name: str) -> Callable[[], object]:
    if not hasattr(module, factory_name):
        offered = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        hint = did_you_mean(factory_name, offered) or f"; it offers {', '.join(offered[:10]) or 'nothing'}"
        raise OptionError(f"architecture {name!r}: module {module.__name__!r} has no {factory_name!r}{hint}")
    factory: object = getattr(module, factory_name)
    if not callable(factory):
        raise OptionError(
            f"architecture {name!r}: {factory_name!r} is a {_type_name(factory)} and cannot be called; "
            "name a function or class that takes no arguments and returns an nn.Module"
        )
    return factory


def _build(name: str, factory: Callable[[], object]) -> nn.Module:
    try:
        network = factory()
    except Exception as error:
        raise OptionError(
            f"architecture {name!r}: the factory raised {_described(error)}; it must work when called without arguments"
        ) from error
    if isinstance(network, nn.Module):
        return network
    raise OptionError(
        f"architecture {name!r}: the factory returned a {_type_name(network)}; it must return an nn.Module"
    )


def _described(error: Exception) -> str:
    first_line = str(error).partition("\n")[0]
    return f"{type(error).__name__} ({first_line})"


def _type_name(value: object) -> str:
    return type(value).__name__
