"""Workload of a case: its network, inputs and optimizer, with each phase as a set-up and a timed call."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import nn

from cnnperf.measure.first_call import INPUT_CHANGED, first_call
from cnnperf.measure.network_state import NetworkState, converted
from cnnperf.measure.precisions import DTYPES, LOSS_SCALE, PRECISIONS
from cnnperf.measure.support import check_supported
from cnnperf.measure.task import task_for
from cnnperf.models.catalog import CATALOG, create
from cnnperf.records.case import Case
from cnnperf.records.engines import ENGINES

MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
LEARNING_RATE = 1e-3
MOMENTUM = 0.9
PADDING_BYTES = 1 << 16  # upper bound of the padding before a tensor: moves it by any number of cache lines and pages

Network = Callable[..., Any]

ISOLATION: dict[str, Any] = (
    {"isolate_recompiles": True} if "isolate_recompiles" in inspect.signature(torch.compile).parameters else {}
)
"""Networks of one class in a block must not run each other's compiled code; before PyTorch 2.13 they do."""


class Workload:
    """Runnable form of a case: a round is a call of `setup`, then of `run`.

    Attributes:
        case: The case.
        model: Network from (N, 3, H, W) to (N, classes), or part of one, in the phase's mode, on the case's device.
        task: Inputs in the case's precision and layout, and target.
        network: What a round calls: `model` or its compiled form.
        optimizer: Optimizer of the phase `train`; None for a part and in other phases.
        scaler: Scaler of the loss; None where the precision needs none.
        loss: Loss, or output of a part, between set-up and call of the phase `backward`.
        setup: Untimed part of a round.
        run: Timed part of a round.
        output: Output of the last round, as the network returns it; None unless `keep_output` is set.
        notes: What measuring this network needed or has to leave out, by the kind of the finding.
        keep_output: Whether rounds keep their output; timed calls keep it only for `rotation.Rotation`.
    """

    def __init__(
        self, case: Case, *, input_kind: str = "synthetic", seed: int = 0, beside: Workload | None = None
    ) -> None:
        """Build network, images and optimizer.

        Args:
            case: The case.
            input_kind: `synthetic` or `photos`; see `images_for`.
            seed: Seed of parameters, images and memory placement.
            beside: Workload that differs from the case in its phase, where both phases train: its network is used, so
                that its graph is compiled once. Only one of the two may be between `relocate` and its last round.

        Raises:
            UnsupportedCase: If this machine cannot run the case.
            OptionError: If the architecture does not exist.
        """
        check_supported(case)
        self.case = case
        self._layout = MEMORY_FORMATS[case.layout]
        self._precision = PRECISIONS[case.precision]
        self._autocasting = self._precision.autocasting(case.device_type)
        self._in_graphs = ENGINES[case.engine].replays_graphs
        self._random = random.Random(seed)  # noqa: S311 - places memory, hides nothing
        if beside:
            beside.reset()
        self.notes: dict[str, str] = dict(beside.notes) if beside else {}
        self._seed = seed
        self._stays = False
        self._optimizer_values: list[torch.Tensor] = []
        self.task = task_for(case, input_kind, seed)
        self.model: nn.Module = beside.model if beside else self.new_model()
        task = self.task.to(case.device, DTYPES[case.precision], self._layout)
        self.task = task.requiring_gradients(case.trains)
        changed = INPUT_CHANGED in self.notes
        self._first_inputs = [tensor.detach().clone() for tensor in self.task.inputs] if changed else []
        self.network: Network = beside.network if beside else self.model
        self.output: Any = None
        self.keep_output = False
        self.loss: torch.Tensor | None = None
        self._padding: list[torch.Tensor] = []
        self._mark: Callable[[str], None] = _nothing
        self.optimizer = self._make_optimizer()
        self.scaler = self._make_scaler()
        self._scaler_state = None if self.scaler is None else self.scaler.state_dict()
        self._state = NetworkState(self.model)
        self.setup, self.run = self._phase()

    @property
    def images(self) -> torch.Tensor:
        """First input: images, (N, 3, H, W), or a feature map, (N, C, H, W)."""
        return self.task.inputs[0]

    def compile(self) -> None:
        """Wrap the network in `torch.compile`, which compiles at the first call."""
        options = ENGINES[self.case.engine].compile_options or {}
        self.network = torch.compile(self.model, dynamic=False, **ISOLATION, **options)

    def run_once(self) -> None:
        """Run one untimed round."""
        self.setup()
        self.run()

    @contextmanager
    def marking(self, mark: Callable[[str], None]) -> Iterator[None]:
        """Call `mark` with `backward` and `step` where these parts of a round begin; never used for timed rounds."""
        self._mark = mark
        try:
            yield
        finally:
            self._mark = _nothing

    def release(self) -> None:
        """Drop output, loss and gradients."""
        self.output = self.loss = None
        self._clear_gradients()

    def gradients(self) -> dict[str, torch.Tensor]:
        """Return the gradients of the last round by parameter name, and of maps; empty for the forward phase."""
        named = (*self.model.named_parameters(), *self._named_maps())
        gradients = {name: tensor.grad for name, tensor in named if tensor.grad is not None}
        if self.scaler is None or self.optimizer is not None:  # the scaler's step has unscaled them
            return gradients
        return {name: gradient / self.scaler.get_scale() for name, gradient in gradients.items()}

    def optimizer_state(self) -> list[torch.Tensor]:
        """Return the state tensors of the optimizer."""
        states = self.optimizer.state.values() if self.optimizer else ()
        return [value for state in states for value in state.values() if isinstance(value, torch.Tensor)]

    def relocate(self) -> None:
        """Move parameters, buffers, optimizer state and images to fresh addresses and restore their initial values.

        Each tensor is allocated again behind a random amount of padding, an independent draw of the memory placement.
        The `Parameter` objects stay the same, so that nothing is recompiled. With CUDA graphs only the values are
        restored: graphs hold addresses, and new ones would have to be captured. The same goes for a network that has to
        `stay`.
        """
        self.release()
        if self._in_graphs or self._stays:
            self.restore()
            return
        self._padding.clear()
        self._state.relocate(self._moved)
        for tensor, value in self._optimizer_start():
            tensor.data = self._moved(value)
        self._reset_scaler()
        for tensor in self.task.tensors():
            tensor.data = self._moved(tensor)

    def stay(self, reason: str) -> None:
        """Let `relocate` only restore values from now on, and note the reason."""
        self._stays = True
        self.notes["placement"] = reason

    def reset(self) -> None:
        """Drop output, loss and gradients, and restore all initial values in place."""
        self.release()
        self.restore()

    def restore(self) -> None:
        """Restore the initial values of parameters, buffers, optimizer state and inputs, but keep gradients."""
        self._state.restore()
        for tensor, value in self._optimizer_start():
            tensor.copy_(value)
        self._reset_scaler()
        self._restore_inputs()

    def _optimizer_start(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the tensors of the optimizer's state, each with its value at the beginning of each round.

        Momentum begins at zero. Other optimizers begin with what their first step has left, because zero may be no
        state of theirs.
        """
        state = self.optimizer_state()
        if isinstance(self.optimizer, torch.optim.SGD):
            yield from ((tensor, torch.zeros_like(tensor)) for tensor in state)
            return
        if len(self._optimizer_values) != len(state):
            self._optimizer_values = [tensor.detach().clone() for tensor in state]
        yield from zip(state, self._optimizer_values, strict=True)

    def _reset_scaler(self) -> None:
        if self.scaler is not None and self._scaler_state is not None:
            self.scaler.load_state_dict(self._scaler_state)  # in place: a new one would allocate its scale in a round

    def _restore_inputs(self) -> None:
        """Write the inputs anew if the network changes them."""
        with torch.no_grad():
            for tensor, initial in zip(self.task.inputs, self._first_inputs, strict=False):
                tensor.copy_(initial)

    def _moved(self, tensor: torch.Tensor) -> torch.Tensor:
        size = self._random.randrange(PADDING_BYTES)
        self._padding.append(torch.empty(size, dtype=torch.uint8, device=tensor.device))
        return tensor.detach().clone()

    def new_model(self) -> nn.Module:
        """Build the network anew, with the same parameters as `model` had at first."""
        model = create(self.case.architecture, seed=self._seed, width=self.case.width)
        model = model.to(device=self.case.device).train(self.case.trains)
        if self.case.architecture not in CATALOG and not self.task.of_part:
            self.notes |= first_call(model, self.task.to(self.case.device, torch.float32), trains=self.case.trains)
        return converted(model, DTYPES[self.case.precision], self._layout)

    def _make_optimizer(self) -> torch.optim.Optimizer | None:
        if self.case.phase != "train" or self.task.of_part:
            return None
        if self.task.optimizer is not None:
            return self.task.optimizer(self.model.parameters())
        return torch.optim.SGD(self.model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)

    def _make_scaler(self) -> torch.amp.GradScaler | None:
        if not (self.case.trains and self._precision.scales_loss):
            return None
        return torch.amp.GradScaler(self.case.device_type, init_scale=LOSS_SCALE)

    def _phase(self) -> tuple[Callable[[], None], Callable[[], None]]:
        phases: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
            "forward": (_nothing, self._forward),
            "backward": (self._forward_with_graph, self._backward),
            "train": (_nothing, self._train),
        }
        setup, run = phases[self.case.phase]
        if not self._first_inputs:
            return setup, run

        def restore_and_setup() -> None:
            self._restore_inputs()
            setup()

        return restore_and_setup, run

    def _forward(self) -> None:
        with torch.inference_mode():
            self._call()

    def _forward_with_graph(self) -> None:
        self._clear_gradients()
        self.loss = self._scaled(self._loss())

    def _backward(self) -> None:
        self._mark("backward")
        self.task.differentiate(cast(torch.Tensor, self.loss))

    def _train(self) -> None:
        self._clear_gradients()
        loss = self._scaled(self._loss())
        self._mark("backward")
        self.task.differentiate(loss)
        del loss
        if self.optimizer is not None:
            self._mark("step")
            self._step(self.optimizer)

    def _step(self, optimizer: torch.optim.Optimizer) -> None:
        if self.scaler is None:
            optimizer.step()
            return
        self.scaler.step(optimizer)
        self.scaler.update()

    def _scaled(self, loss: torch.Tensor) -> torch.Tensor:
        return loss if self.scaler is None else self.scaler.scale(loss)

    def _loss(self) -> torch.Tensor:
        return self.task.objective(self._call())

    def _call(self) -> Any:
        if self._in_graphs:
            torch.compiler.cudagraph_mark_step_begin()
        with self._autocasting:
            output = self.task.call(self.network)
        if self.keep_output:
            self.output = output
        return output

    def _clear_gradients(self) -> None:
        for tensor in (*self.model.parameters(), *self.task.inputs):
            tensor.grad = None

    def _named_maps(self) -> list[tuple[str, torch.Tensor]]:
        return [(f"map {number}", tensor) for number, tensor in enumerate(self.task.inputs)]


def _nothing(*_: object) -> None:
    """Do nothing: the set-up of a phase without one, and the default mark."""
