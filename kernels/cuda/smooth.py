"""Light that varies smoothly over a frame, on a GPU."""

from numba import cuda

from simscope.kernels.cuda.launch import on_grid
from simscope.kernels.smooth import field_at, light_at


@on_grid(
    "(float64[::1], float64[::1], float64[:, :, ::1], float64[:, ::1], int64[::1], "
    "float64[:, ::1], int64[::1], float32[:, :, ::1])"
)
def smooth_light(level, contrast, nodes, weights_y, first_y, weights_x, first_x, out):
    """As ``smooth.smooth_light``, one thread a pixel."""
    i = cuda.grid(1)
    if i < out.size:
        row, x = i // out.shape[2], i % out.shape[2]
        sample, y = row // out.shape[1], row % out.shape[1]
        field = field_at(nodes[sample], weights_y[y], weights_x[x], first_y[y], first_x[x])
        out[sample, y, x] = light_at(level[sample], contrast[sample], field)
