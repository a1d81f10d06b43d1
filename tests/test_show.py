"""Pictures show what they claim: circles at the truth, scales in um, reports in one file."""

import re

import numpy as np
import pytest
from small_worlds import WORLDS, movie, snapshot, stack

import simscope as ss

matplotlib = pytest.importorskip("matplotlib", reason="pictures need simscope[view]")

from matplotlib.colors import PowerNorm  # noqa: E402

from simscope import show  # noqa: E402
from simscope.errors import DatasetError, OpticsError, SimscopeError  # noqa: E402
from simscope.evaluate import score  # noqa: E402
from simscope.recipe import MASKS  # noqa: E402
from simscope.show import gallery, style  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMSCOPE_CACHE", str(folder / "psf-tables"))
        for name, world in WORLDS.items():
            ss.generate(world(), 3, 7, folder / f"{name}.h5")
    return folder


def panels(figure):
    return [axes for axes in figure.axes if axes.images]


@pytest.mark.parametrize(("name", "count"), [("snapshot", 3), ("movie", 21), ("stack", 9)])
def test_contact_sheet_shows_every_sample_or_a_row_of_its_frames(files, name, count):
    with ss.open_dataset(files / f"{name}.h5") as data:
        figure = show.contact_sheet(data)
        assert len(panels(figure)) == count
        assert show.png_bytes(figure).startswith(b"\x89PNG\r\n")


def test_circles_are_at_the_true_positions_in_um(files):
    with ss.open_dataset(files / "snapshot.h5") as data:
        (axes,) = panels(show.contact_sheet(data, samples=[1]))
        emitters = data.sample_emitters(1)
        (circles,) = axes.collections
        drawn = np.asarray(circles.get_offsets())
        assert np.allclose(drawn, np.stack([emitters["x_nm"], emitters["y_nm"]], 1) / 1000)
        # the origin is the outer corner of the first pixel, y points down
        assert axes.images[0].get_extent() == [0, 2.0, 2.4, 0]
        assert axes.get_ylim() == (2.4, 0)
        assert np.array_equal(axes.images[0].get_array(), data.image(1))


def test_circles_are_coloured_by_height_where_heights_differ(files):
    with ss.open_dataset(files / "snapshot.h5") as data:
        (axes,) = panels(show.contact_sheet(data, samples=[0]))
        assert len(np.unique(axes.collections[0].get_edgecolors(), axis=0)) > 1
    with ss.open_dataset(files / "stack.h5") as data:
        axes = panels(show.contact_sheet(data))[0]
        assert len(np.unique(axes.collections[0].get_edgecolors(), axis=0)) == 1


def test_truth_can_be_left_out(files):
    with ss.open_dataset(files / "snapshot.h5") as data:
        assert all(not axes.collections for axes in panels(show.contact_sheet(data, truth=False)))


def test_stacks_are_shown_on_a_square_root_scale_that_says_so(files):
    with ss.open_dataset(files / "stack.h5") as data:
        figure = show.contact_sheet(data)
        assert isinstance(panels(figure)[0].images[0].norm, PowerNorm)
        assert any("square-root" in axes.get_ylabel() for axes in figure.axes)


def test_every_sample_of_a_continuous_structure_has_its_own_grey_scale(tmp_path):
    np.save(tmp_path / "slab.npy", np.ones((2, 90, 90), np.float32))
    data = snapshot().written() | {
        "structure": {"kind": "volume", "path": str(tmp_path / "slab.npy"),
                      "voxel_nm": [200, 100, 100], "margin_nm": 2500},
        "photophysics": {"kind": "steady", "photons_per_um3": {"loguniform": [1e4, 1e6]}},
        "rendering": {"window_px": 49, "accept_energy_loss": True},
    }  # fmt: skip
    ss.generate(ss.Recipe.from_dict(data), 3, 7, tmp_path / "slabs.h5")
    with ss.open_dataset(tmp_path / "slabs.h5") as data:
        drawn = panels(show.contact_sheet(data))
        for index, axes in enumerate(drawn):
            low, high = axes.images[0].norm.vmin, axes.images[0].norm.vmax
            assert (low, high) == tuple(np.percentile(data.image(index), (0.1, 99.8)))
            assert axes.get_xlabel() == f"{low:.0f} to {high:.0f} ADU"
        assert len({axes.get_xlabel() for axes in drawn}) == 3


def test_samples_that_are_not_there_are_refused(files):
    with ss.open_dataset(files / "snapshot.h5") as data:
        for samples in ([3], [-1], []):
            with pytest.raises(DatasetError, match="0 to 2"):
                show.contact_sheet(data, samples=samples)


def test_failure_sheet_counts_what_was_missed_and_made_up(files):
    with ss.open_dataset(files / "snapshot.h5") as data:
        truth = data.emitters_in_frame
        found = np.delete(truth, 0)
        found = np.concatenate([found, found[-1:]])
        found["x_nm"][-1] += 1e4
        figure = show.failure_sheet(data, found, score(found, truth).matches, frames=3)
        titles = {axes.get_title() for axes in panels(figure)}
        first, last = truth["frame"][0], truth["frame"][-1]
        assert f"frame {first}: 1 missed, 0 false" in titles
        assert f"frame {last}: 0 missed, 1 false" in titles


def test_failure_sheet_of_a_movie_shows_its_frames(files):
    with ss.open_dataset(files / "movie.h5") as data:
        none = data.emitters[:0]
        figure = show.failure_sheet(
            data, none, score(none, data.emitters_in_frame).matches, frames=2
        )
        assert len(panels(figure)) == 2


def test_psf_figure_has_planes_cuts_and_pupil():
    figure = show.psf_figure(snapshot().optics, focus_nm=(-300, 300), side_um=1.0)
    assert len(panels(figure)) == 10
    pupil = next(axes for axes in panels(figure) if "pupil" in axes.get_title())
    assert "flat" in pupil.get_title()
    assert pupil.images[0].get_extent() == [-1.2, 1.2, 1.2, -1.2]


def test_phase_that_goes_around_is_shown_on_a_cyclic_scale():
    vortex = snapshot().replace("optics.mask", {"kind": "vortex", "charge": 2}).optics
    figure = show.psf_figure(vortex, focus_nm=(-300, 300), side_um=1.0)
    pupil = next(axes for axes in panels(figure) if "pupil" in axes.get_title())
    assert pupil.images[0].get_cmap().name == style.CYCLIC
    assert pupil.images[0].get_clim() == (-np.pi, np.pi)


def test_psf_figure_needs_something_that_varies():
    with pytest.raises(OpticsError, match="both stand still"):
        show.psf_figure(snapshot().optics, focus_nm=(5, 5))


@pytest.mark.parametrize(
    ("recipe", "label"),
    [(snapshot(), "emitter height"), (movie(), "emitter height"), (stack(), "objective position")],
)
def test_psf_of_a_recipe_runs_over_what_the_recipe_varies(recipe, label):
    figure = show.recipe_psf_figure(recipe, side_um=1.0)
    assert any(label in axes.get_ylabel() for axes in panels(figure))


def test_psf_of_a_recipe_shows_the_aberrations_its_sample_has_drawn():
    recipe = stack().replace("acquisition.focus_nm", {"uniform": [-100, 100]})
    pupils = [
        panels(show.recipe_psf_figure(recipe, sample=sample, side_um=1.0))[-1].images[0].get_array()
        for sample in (0, 1)
    ]
    assert not np.allclose(*(np.nan_to_num(np.ma.filled(pupil, 0.0)) for pupil in pupils))


def test_training_figure_draws_a_panel_for_each_score_and_bears_gaps():
    curves = {
        "step": [10, 20, 30],
        "train_loss": [3.0, 2.0, 1.0],
        "validation_loss": [3.1, 2.2, 1.4],
        "jaccard": [0.2, 0.5, 0.8],
        "rmse_lateral_nm": [None, 40.0, 20.0],
    }
    figure = show.training_figure(curves)
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "loss", "Jaccard index", "lateral RMSE [nm]",
    ]  # fmt: skip
    assert np.isnan(figure.axes[2].lines[0].get_ydata()[0])
    del curves["jaccard"], curves["rmse_lateral_nm"]
    assert len(show.training_figure(curves).axes) == 1


def trial(shift_nm):
    count = 2000
    truth = np.zeros(count, [("frame", int), ("x_nm", float), ("y_nm", float), ("photons", float)])
    truth["frame"] = np.arange(count)
    truth["photons"] = np.geomspace(100, 5000, count)
    found = truth.copy()[: count // 2]
    found["x_nm"] += shift_nm
    return show.Trial("trial", truth, score(found, truth), np.full(count, 3.0))


def test_precision_figure_shows_recall_error_and_bound():
    figure = show.precision_figure([trial(4.0)])
    recall, error, spread = figure.axes
    assert recall.lines[0].get_ydata()[0] == 1.0  # the fainter half was found
    assert recall.lines[0].get_ydata()[-1] == 0.0
    assert np.allclose(error.lines[0].get_ydata(), 4.0)
    assert np.allclose(error.lines[1].get_ydata(), 3.0)
    assert "bound" in error.get_legend().get_texts()[-1].get_text()
    assert "nm" in spread.get_xlabel()


def test_precision_figure_bears_a_network_that_found_nothing():
    nothing = trial(4.0)
    empty = score(nothing.truth[:0], nothing.truth)
    figure = show.precision_figure([show.Trial("blind", nothing.truth, empty, nothing.bound_nm)])
    assert show.png_bytes(figure).startswith(b"\x89PNG")
    assert np.all(figure.axes[0].lines[0].get_ydata() == 0.0)


def test_reconstruction_counts_the_sample_it_shows(files):
    with ss.open_dataset(files / "movie.h5") as data:
        figure = show.reconstruction_figure(data, data.emitters, sample=1)
        titles = [axes.get_title() for axes in figure.axes]
        count = len(data.sample_emitters(1))
        assert titles == [
            "mean of 12 frames", f"{count:,} localisations", f"truth: {count:,} emitters in frames",
        ]  # fmt: skip
        found, truth = (axes.images[0].get_array() for axes in figure.axes[1:])
        assert np.allclose(found, truth)


def test_nothing_found_is_a_dark_picture(files):
    with ss.open_dataset(files / "movie.h5") as data:
        figure = show.reconstruction_figure(data, data.emitters[:0])
        assert figure.axes[1].images[0].get_array().max() == 0


@pytest.mark.parametrize(
    ("length", "rounded"), [(1.0, 1.0), (1.6, 1.0), (2.4, 2.0), (7.0, 5.0), (0.09, 0.05)]
)
def test_scale_bars_have_round_lengths(length, rounded):
    assert style.round_length(length) == pytest.approx(rounded)


def test_users_own_matplotlib_settings_are_neither_used_nor_changed():
    with matplotlib.rc_context({"axes.facecolor": "red"}):
        before = dict(matplotlib.rcParams)
        figure = show.training_figure({"step": [1], "train_loss": [1.0], "validation_loss": [1.0]})
        show.png_bytes(figure)
        assert dict(matplotlib.rcParams) == before


def test_report_is_one_file_that_fetches_nothing(tmp_path):
    figure = show.training_figure({"step": [1], "train_loss": [1.0], "validation_loss": [1.0]})
    sections = [
        show.Section(
            "A & B",
            [
                show.Text("1 < 2 <script>alert(1)</script>"),
                show.Table(("a", "b"), [("1", "<b>")], "caption"),
                show.Code("x = 1", fold="code"),
                show.Code("y = 2"),
                show.Picture(figure, "a curve"),
            ],
        )
    ]
    page = show.write_report(tmp_path / "r.html", "title", "summary", sections).read_text("utf8")
    assert "<script" not in page
    assert "1 &lt; 2" in page
    assert "A &amp; B" in page
    assert 'src="data:image/png;base64,' in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "http" not in page
    with pytest.raises(SimscopeError, match="--force"):
        show.write_report(tmp_path / "r.html", "title", "summary", sections)


def test_pictures_that_cannot_be_written_say_why(tmp_path):
    figure = style.new_figure(1, 1)
    with pytest.raises(SimscopeError, match="does not exist"):
        show.save_figure(figure, tmp_path / "no" / "a.png")
    show.save_figure(figure, tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_damaged_movies_are_one_clear_error(files, tmp_path):
    import h5py

    raw = bytearray((files / "movie.h5").read_bytes())
    with h5py.File(files / "movie.h5") as file:
        where = file["images"].id.get_chunk_info(0)
    for at in range(where.byte_offset, where.byte_offset + where.size):
        raw[at] ^= 0xFF
    (tmp_path / "bad.h5").write_bytes(raw)
    with ss.open_dataset(tmp_path / "bad.h5") as data, pytest.raises(DatasetError, match="damaged"):
        show.contact_sheet(data)


def test_gallery_shows_every_computed_mask_and_modality_at_five_depths(monkeypatch):
    # coarse and small, as the physics is tested elsewhere
    monkeypatch.setattr(gallery, "MASK_PIXEL_NM", 600.0)
    monkeypatch.setattr(gallery, "SPOT_PIXEL_NM", 300.0)
    figure = show.gallery_figure()
    names = {axes.get_ylabel() for axes in panels(figure)} - {""}
    computed = {kind.replace("_", " ") for kind in MASKS} - {"file", "array"}
    assert names >= computed | {"no mask", "widefield", "confocal", "sted"}
    assert len(panels(figure)) == gallery.DEPTHS * len(names)
    assert all(axes.get_title().endswith("µm") for axes in panels(figure))


@pytest.mark.parametrize("kind", ["saddle_point", "double_helix", "cubic", "astigmatism"])
def test_psf_figure_shows_the_phase_of_every_mask(kind):
    optics = snapshot().replace("optics.mask", {"kind": kind, "z_range_nm": 1000.0}).optics
    figure = show.psf_figure(optics, z_nm=(0.0, 1000.0), focus_nm=(500.0, 500.0), side_um=1.0)
    pupil = next(axes for axes in panels(figure) if "pupil" in axes.get_title())
    phase = np.asarray(pupil.images[0].get_array().filled(np.nan))
    assert np.nanmax(np.abs(phase)) > 0.5
