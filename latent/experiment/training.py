"""Training: one step after another, with a state that can be saved and restored bit for bit."""

from __future__ import annotations

import logging
import math
from typing import cast

import torch

from estimators import Estimator, derived_seed
from latent.experiment.checkpoint import State
from latent.experiment.experiment import Experiment
from latent.experiment.metrics import RunningMeans, gradient_norm
from latent.experiment.probe import Probe, unnoticed

log = logging.getLogger(__name__)


class Diverged(Exception):
    """The objective, its gradient or an evaluation is not finite."""


class Training:
    """Parameters, optimiser, random generators and counters of a run.

    Each stream of random numbers has a generator of its own, so that no estimator changes which batches are drawn.

    Args:
        experiment: what to train.

    Attributes:
        step: steps done.
        total_decoder_calls: pairs decoded so far, ``[]`` int64, counted on the device.
        means: running means of the metrics of each step.
    """

    def __init__(self, experiment: Experiment) -> None:
        settings = experiment.configuration.settings
        self.settings = settings.train
        self.seed = settings.seed
        self.fabric = experiment.fabric
        self.objective = experiment.objective
        self.task, self.estimator = self.objective.task, self.objective.estimator
        self.optimizer = experiment.optimizer
        self.schedule = experiment.schedule
        self.module, self.wrapped_optimizer = self.fabric.setup(self.objective, self.optimizer)
        device = self.fabric.device
        self.generators = {
            "batches": torch.Generator().manual_seed(derived_seed("batches", self.seed)),
            "estimator": torch.Generator(device).manual_seed(derived_seed("estimator", self.seed)),
        }
        self.step = 0
        self.total_decoder_calls = torch.zeros((), dtype=torch.int64, device=device)
        self.means = RunningMeans(device)
        self.warned_of_probe = False

    def _rates(self) -> tuple[float, float]:
        """Learning rates of the next step: of the task and of the estimator."""
        settings = self.settings
        rate = settings.learning_rate
        own = settings.estimator_learning_rate or rate
        after_warm_start = self.step - settings.warm_start_steps
        if after_warm_start < 0:
            return settings.warm_start_learning_rate or rate, own
        factor = self.schedule(after_warm_start)
        return rate * factor, own * factor

    def train_step(self) -> None:
        """Draw a batch and take one step of the optimiser.

        Raises:
            Diverged: if the objective or its gradient is not finite; nothing has changed then.
        """
        before = self._volatile_state()
        self.module.train()
        warm = self.step < self.settings.warm_start_steps
        for group, rate in zip(self.optimizer.param_groups, self._rates(), strict=True):
            group["lr"] = rate
        try:
            batch = self.task.draw(self.settings.batch_size, self.generators["batches"])
            objective, metrics = self.module(batch, self.generators["estimator"], warm)
            if not torch.isfinite(objective):
                raise FloatingPointError(f"the objective is {float(objective.detach())}")
            self.wrapped_optimizer.zero_grad(set_to_none=True)
            self.fabric.backward(objective)
            norm = gradient_norm(self.objective)
            if not torch.isfinite(norm):
                raise FloatingPointError(f"the norm of the gradient is {float(norm)}")
        except FloatingPointError as error:
            self._restore_volatile(before)
            raise Diverged(f"training diverged in step {self.step + 1}: {error}") from error
        self.wrapped_optimizer.step()
        self.step += 1
        self.total_decoder_calls += metrics["decoder_calls"].sum()
        self.means.add(metrics)

    def evaluate(self, split: str) -> dict[str, float]:
        """Metrics of the ``val`` or ``test`` split, named ``<split>/...``.

        Raises:
            Diverged: if one of them is not finite.
        """
        self.module.eval()
        try:
            with self.fabric.autocast():
                metrics = self.task.evaluate(split, self.estimator).metrics
            wrong = [name for name, value in metrics.items() if not math.isfinite(value)]
            if wrong:
                raise FloatingPointError(f"{wrong[0]} is {metrics[wrong[0]]}")
        except FloatingPointError as error:
            raise Diverged(f"the evaluation on {split} after step {self.step} failed: {error}") from error
        return {f"{split}/{name}": value for name, value in metrics.items()}

    def pictures(self) -> dict[str, torch.Tensor]:
        """The task's pictures, ``[H, W]`` uint8 each."""
        self.module.eval()
        with self.fabric.autocast():
            return self.task.pictures(self.estimator)

    def probe(self, examples: int, draws: int) -> dict[str, float]:
        """Quality of the estimator's gradient on ``examples`` fresh ones, from ``draws`` estimates, named ``probe/...``.

        What it draws follows from the seed and the step alone, and training goes on as if it had not been. Where there is no
        exact gradient to compare with, nothing is measured, and the first time a warning says why.
        """
        device = self.fabric.device
        seeds = {name: derived_seed("probe", self.seed, self.step, name) for name in ("batch", "estimator", "default")}
        probe = Probe(self.estimator, draws)
        stand_in = cast(Estimator, probe)
        try:
            with unnoticed(self.objective.network, device, seeds["default"]):
                batch = self.task.draw(examples, torch.Generator().manual_seed(seeds["batch"]))
                batch = self.fabric.strategy.precision.convert_input(batch)  # as the accelerator does in training
                with self.fabric.autocast():
                    self.task(batch, stand_in, torch.Generator(device).manual_seed(seeds["estimator"]))
            metrics = probe.metrics()
        except (ValueError, FloatingPointError) as error:
            if not self.warned_of_probe:
                log.warning("The gradient cannot be probed after step %d (%s); training goes on without", self.step, error)
            self.warned_of_probe = True
            return {}
        return {f"probe/{name}": value for name, value in metrics.items()}

    def is_finite(self) -> bool:
        """Whether every parameter is; an update can overflow though its gradient does not."""
        return all(bool(torch.isfinite(parameter).all()) for parameter in self.objective.parameters())

    def state(self) -> State:
        """All that decides how training goes on, as tensors and plain values."""
        return {
            "step": self.step,
            "total_decoder_calls": self.total_decoder_calls,
            "means": self.means.state(),
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "volatile": self._volatile_state(),
        }

    def restore(self, state: State) -> None:
        """Go back to what :meth:`state` returned."""
        self.step = state["step"]
        self.total_decoder_calls.copy_(state["total_decoder_calls"])
        self.means.restore(state["means"])
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._restore_volatile(state["volatile"])

    def _volatile_state(self) -> State:
        """What a forward pass changes, copied: generators, and the estimator's schedules and baselines."""
        return {
            "generators": {name: generator.get_state() for name, generator in self.generators.items()},
            "default_generator": torch.get_rng_state(),
            "buffers": {name: buffer.clone() for name, buffer in self.estimator.named_buffers()},
        }

    def _restore_volatile(self, state: State) -> None:
        for name, generator in self.generators.items():
            generator.set_state(state["generators"][name])
        torch.set_rng_state(state["default_generator"])
        for name, buffer in self.estimator.named_buffers():
            buffer.copy_(state["buffers"][name])
