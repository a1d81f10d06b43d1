"""Learning: networks, streams, the training loop. The only room that imports PyTorch."""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:  # pragma: no cover - depends on the installation
    raise ImportError(
        "simscope.learn needs PyTorch, which is not installed: pip install 'simscope[train]'"
    ) from error

from simscope.learn.localize import localize
from simscope.learn.networks import NETWORKS
from simscope.learn.plan import Plan
from simscope.learn.regress import ParameterMap, regress, regress_map
from simscope.learn.restore import restore
from simscope.learn.runs import TrainedModel, load
from simscope.learn.stream import HDF5Dataset, StreamingDataset, collate
from simscope.learn.trainer import train
from simscope.learn.zoo import export_model

__all__ = [
    "NETWORKS",
    "HDF5Dataset",
    "ParameterMap",
    "Plan",
    "StreamingDataset",
    "TrainedModel",
    "collate",
    "export_model",
    "load",
    "localize",
    "regress",
    "regress_map",
    "restore",
    "train",
]
