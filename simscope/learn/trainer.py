"""Training: a network, fed from a stream or a file, to a folder with weights and full record.

The record's ``validation`` figures are on the samples that weights and threshold were chosen by,
its ``held_out`` figures on others, looked at once when all is chosen.

With ``steps`` one seed gives one result on one machine, killed and resumed or not. With ``minutes``
and ``cpu_minutes`` the schedule follows the clock, so that it ends in time, and results vary a
little.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from simscope.keys import Key
from simscope.learn.checkpoint import CHECKPOINT
from simscope.learn.compute import checked_device, enough_memory, run_network, using_threads
from simscope.learn.feed import Feed, held_out_batch, open_source, validation_batch
from simscope.learn.loop import Loop
from simscope.learn.networks import network as network_named
from simscope.learn.plan import checked_plan
from simscope.learn.runs import (
    TrainedModel,
    checked_folder,
    circumstances,
    occupied,
    origin,
    save,
    seeded_task,
)
from simscope.learn.watching import Watch
from simscope.recipe import Recipe


def train(
    network: str,
    source: Recipe | str | Path,
    *,
    out: str | Path,
    seed: int = 0,
    config: dict[str, Any] | None = None,
    threads: int | None = None,
    device: str = "cpu",
    force: bool = False,
    progress: bool = True,
    tensorboard: bool = False,
    **plan: Any,
) -> TrainedModel:
    """A trained network, also written to the folder ``out`` with the record of its training.

    A run that was stopped goes on from its last checkpoint when it is asked for again.

    Parameters
    ----------
    network
        One of ``simscope.learn.NETWORKS``.
    source
        A recipe (object, packaged name or YAML file): samples are simulated as they are needed,
        none twice. Or a dataset file: its last samples are held out, those before validate.
    seed
        Decides initial weights, samples and their order.
    config
        Fields of the network's config that differ from the defaults.
    force
        Begin anew, whatever ``out`` holds.
    tensorboard
        Whether to write curves to ``out/tensorboard`` (needs the package ``tensorboard``).
    plan
        Fields of :class:`Plan`; ``steps``, ``minutes`` or ``cpu_minutes`` is required. Defaults are
        the network's.

    Raises
    ------
    TrainingError
        If the network does not fit the recipe, ``out`` holds another run and ``force`` is not set,
        a hyper-parameter is impossible, the device is not there, or the loss stops being a number.
    """
    checked = checked_plan(network_named(network)[0].plan | plan)
    processor = checked_device(device)
    folder = checked_folder(Path(out), force)
    Key(seed)
    with using_threads(threads) as count, enough_memory():
        simulated = "auto" if processor.type == "cuda" else "cpu"
        data = open_source(source, seed, checked.batch_size, count, simulated)
        task = seeded_task(network, data.recipe, config, seed)
        validation = validation_batch(data, task, checked)
        task.fit_scales(validation)
        task.network.to(processor).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        identity = {
            "network": network, "config": config or {}, "plan": checked.model_dump(mode="json"),
            "seed": seed, "data": origin(data.recipe.sha256, data.seed),
        }  # fmt: skip
        with occupied(folder, force):
            loop = Loop(task, checked, validation, count, folder, identity)
            first, ahead = loop.standing.step, processor.type == "cuda"
            watch = Watch(network, bar=progress, folder=folder if tensorboard else None)
            with Feed(data, task, checked, seed, first=first, ahead=ahead) as feed, watch:
                loop.run(feed, watch)
            task.network.cpu()
            task.calibrate(run_network(task, validation.images), validation)
            held_out = held_out_batch(data, task, checked)
            judged = {
                name: task.judge(run_network(task, batch.images), batch)
                for name, batch in (("validation", validation), ("held_out", held_out))
            }
            record: dict[str, Any] = {
                "source": source.name if isinstance(source, Recipe) else str(source),
                "data": identity["data"],
            }
            record |= circumstances(task, checked, seed, str(processor), count)
            model = save(task, record | loop.record() | judged, folder)
            (folder / CHECKPOINT).unlink(missing_ok=True)
            return model
