"""The house keeps its floors: imports only point down, and heavy packages stay in their rooms."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = {
    "kernels": -1,
    "blas": 0,
    "device": 0,
    "elementary": 0,
    "errors": 0,
    "keys": 0,
    "memory": 0,
    "recipe": 0,
    "tiff": 0,
    "tables": 0,
    "copies": 0,
    "optics": 1,
    "sample": 1,
    "camera": 1,
    "acquire": 2,
    "brightness": 2,
    "render": 2,
    "render_volume": 2,
    "targets": 2,
    "warmup": 3,
    "evaluate": 2,
    "dataset": 3,
    "learn": 4,
    "show": 4,
    "cli": 5,
    "demo": 5,
    "trust": 5,
}
HOMES = {"device": "cupy", "learn": "torch", "show": "matplotlib"}
ONLY_HOME = (
    {package: {room} for room, package in HOMES.items()}
    | {package: {"dataset"} for package in ("h5py", "isal", "hdf5plugin", "distributed", "zarr")}
    | {"safetensors": {"learn"}}
)
LAZY_GUESTS = {
    ("simscope/tables/hdf5.py", "h5py"),
    ("simscope/optics/measured_files.py", "h5py"),
}
NEIGHBOURS = {"optics", "sample", "camera"}
KERNELS_MAY = {
    "numpy",
    "math",
    "functools",
    "warnings",
    "numba",
    "llvmlite",
    "operator",
    "simscope",
}
COMPILING_MAY = {  # what keeps machine code, and tells who waits for it
    "caching.py": {"ast", "hashlib", "importlib", "inspect", "sys"},
    "notice.py": {"sys", "time"},
}


def python_files():
    files = [path for path in (ROOT / "simscope").rglob("*.py") if "kernels" not in path.parts]
    return sorted(files) + sorted((ROOT / "kernels").rglob("*.py"))


def room_of(path):
    relative = path.relative_to(ROOT)
    if relative.parts[0] == "kernels":
        return "kernels"
    return relative.parts[1].removesuffix(".py")


def imported_modules(path, *, top_level_only=False):
    tree = ast.parse(path.read_text("utf8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "simscope":
                yield from (f"simscope.{alias.name}" for alias in node.names)
            else:
                yield node.module


def inner_rooms(path):
    for module in imported_modules(path):
        parts = module.split(".")
        if parts[0] == "simscope" and len(parts) > 1 and parts[1] in FLOORS:
            yield parts[1]


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down_the_floors(path):
    here = room_of(path)
    if here == "__init__":
        return
    for room in inner_rooms(path):
        assert FLOORS[room] <= FLOORS[here], f"{path}: floor {FLOORS[here]} imports {room}"
        if here in NEIGHBOURS and room in NEIGHBOURS:
            assert room == here, f"{path}: {here} imports its neighbour {room}"


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_packages_stay_in_their_rooms(path):
    relative = str(path.relative_to(ROOT))
    for module in imported_modules(path):
        package = module.split(".")[0]
        allowed = ONLY_HOME.get(package)
        if allowed is None or room_of(path) in allowed:
            continue
        assert (relative, package) in LAZY_GUESTS, f"{relative} imports {package}"
        assert package not in {m.split(".")[0] for m in imported_modules(path, top_level_only=True)}


def test_kernels_import_only_numbers_and_numba():
    for path in (ROOT / "kernels").rglob("*.py"):
        packages = {module.split(".")[0] for module in imported_modules(path)}
        allowed = KERNELS_MAY | COMPILING_MAY.get(path.name, set())
        assert packages <= allowed, f"{path.name}: {packages - allowed}"
        for module in imported_modules(path):
            if module.startswith("simscope"):
                assert module.startswith("simscope.kernels"), f"{path.name} imports {module}"


def test_nothing_imports_kernels_as_a_top_level_package():
    own = list((ROOT / "tests").glob("*.py")) + list((ROOT / "benchmarks").glob("*.py"))
    for path in python_files() + own:
        assert all(module.split(".")[0] != "kernels" for module in imported_modules(path)), path


def printed(code):
    """What a fresh interpreter prints."""
    words = [sys.executable, "-c", code]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def test_import_simscope_pulls_in_nothing_heavy():
    code = (
        "import sys, simscope; heavy = ('torch', 'matplotlib', 'cupy', 'numba', 'scipy', 'h5py', "
        "'tifffile', 'zarr', 'distributed'); print([m for m in heavy if m in sys.modules])"
    )
    assert printed(code) == "[]"


def test_all_that_simscope_names_is_there_on_first_use():
    code = (
        "import simscope as ss; rooms = set(ss.__all__) - {'learn', 'show'}; "
        "[getattr(ss, name) for name in rooms]; print(ss.dataset.verify.__name__)"
    )
    assert printed(code) == "verify"


def test_recipes_and_simulator_do_not_need_torch_or_matplotlib():
    code = (
        "import sys, simscope; simscope.Simulator; simscope.open_dataset; simscope.evaluate; "
        "print([m for m in ('torch', 'matplotlib', 'cupy', 'distributed') if m in sys.modules])"
    )
    assert printed(code) == "[]"


def test_no_pickle_eval_or_global_random_state():
    for path in python_files():
        tree = ast.parse(path.read_text("utf8"))
        modules = {module.split(".")[0] for module in imported_modules(path)}
        assert not modules & {"pickle", "random", "shelve", "dill"}, path
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec", "__import__"}, path
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert getattr(node.value, "value", True) is False, path
            if isinstance(node, ast.Attribute) and node.attr == "seed":
                assert not ast.unparse(node).endswith("random.seed"), path


def test_an_installation_holds_every_package():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))
    folders = {path.parent for path in (ROOT / "simscope").rglob("__init__.py")}
    packages = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    below = {path.parent for path in (ROOT / "kernels").rglob("__init__.py")}
    packages |= {".".join(("simscope", *folder.relative_to(ROOT).parts)) for folder in below}
    assert set(settings["tool"]["setuptools"]["packages"]) == packages
