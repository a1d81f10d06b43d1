"""On a real GPU: samples of full size against the CPU's, pixel by pixel."""

import pytest
from gpu_worlds import differences, large_worlds

from simscope import device as devices

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning"),
]

MOST_DIFFERING = 1e-6  # share of pixels; the aim is none


@pytest.fixture(scope="module", autouse=True)
def gpu():
    found, reason = devices._gpu()
    if found is None:
        pytest.skip(f"no GPU to test on: {reason}")


@pytest.mark.parametrize("name", large_worlds())
def test_full_samples_are_the_same_on_a_gpu(name, record_property):
    samples = 20 if name == "blinking movie" else 500
    found = differences(large_worlds()[name], 0, samples)
    record_property("differing pixels", found["share"])
    print(f"{name}: {found['share']:.2e} of {found['pixels']:,} pixels differ")
    record_property("unequal", found["unequal"])
    assert set(found["unequal"]) <= {"expected light"}  # its last bits are no label
    assert found["share"] <= MOST_DIFFERING


def test_tensors_of_a_stream_lie_on_the_gpu():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch knows no GPU")
    from simscope.learn import StreamingDataset

    stream = StreamingDataset("smlm-2d-dense", 3, batch_size=16, stop=32, device="cuda")
    here = StreamingDataset("smlm-2d-dense", 3, batch_size=16, stop=32)
    for there, expected in zip(stream, here, strict=True):
        assert there["images"].device.type == "cuda"
        assert torch.equal(there["images"].cpu(), expected["images"])
        assert there["emitters"]["x_nm"].device.type == "cuda"


def test_a_file_written_from_a_gpu_is_that_of_the_cpu(tmp_path):
    import numpy as np

    import simscope as ss

    for name in ("cpu", "cuda"):
        ss.generate("smlm-2d-dense", 3000, 7, tmp_path / f"{name}.h5", device=name)
    with ss.open_dataset(tmp_path / "cpu.h5") as cpu, ss.open_dataset(tmp_path / "cuda.h5") as gpu:
        assert np.mean(cpu.images[:] != gpu.images[:]) <= MOST_DIFFERING
        assert np.array_equal(cpu.emitters[:], gpu.emitters[:])
