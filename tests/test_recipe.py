"""Recipes say what they mean, refuse what they do not, and survive YAML."""

import copy
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_worlds import snapshot

from simscope.errors import RecipeError, SimscopeError, SimscopeWarning
from simscope.optics import array_mask, make_wavefront_map
from simscope.recipe import (
    Acquisition,
    ConeDipole,
    FixedDipole,
    Optics,
    Recipe,
    load_recipe,
    packaged_recipes,
    recipe_schema,
)
from simscope.recipe.distributions import KINDS


@pytest.mark.parametrize("name", packaged_recipes())
def test_packaged_recipe_survives_yaml_and_json(name):
    recipe = load_recipe(name)
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    assert Recipe.from_dict(json.loads(recipe.to_json())) == recipe
    assert Recipe.from_yaml(recipe.to_yaml()).sha256 == recipe.sha256


def test_packaged_recipes_are_the_promised_ones():
    assert set(packaged_recipes()) >= {"smlm-3d-tetrapod", "smlm-2d-dense", "psf-zernike"}
    tetrapod = load_recipe("smlm-3d-tetrapod")
    assert tetrapod.pixel_nm == pytest.approx(110.0)
    assert tetrapod.optics.na == 1.45
    assert tetrapod.acquisition.shape == (121, 121)
    assert tetrapod.photophysics.photons.mean() == pytest.approx(9000)


@pytest.mark.parametrize("name", ["smlm-2d-dense", "smlm-2d-dense-emccd"])
def test_dense_recipes_have_hundred_nanometre_pixels_and_two_thousand_photons(name):
    recipe = load_recipe(name)
    assert recipe.pixel_nm == pytest.approx(100.0)
    assert recipe.photophysics.photons.mean() == pytest.approx(2000)
    assert recipe.structure.density_per_um2.support() == (0.5, 5.0)


def test_different_recipes_have_different_hashes():
    recipe = load_recipe("smlm-2d-dense")
    assert recipe.replace("camera.read_noise_e", 1.31).sha256 != recipe.sha256


def test_a_recipe_is_frozen():
    recipe = load_recipe("smlm-2d-dense")
    with pytest.raises(RecipeError, match=r"^Optics is frozen: make a new one with na=1\.2, or"):
        recipe.optics.na = 1.2
    assert recipe.optics.na == load_recipe("smlm-2d-dense").optics.na


BAD = [
    ("camera.red_noise_e", 1.0, ["camera", "red_noise_e", "read_noise_e"]),
    ("camra.read_noise_e", 1.0, ["camra", "camera"]),
    ("optics.na", 1.6, ["na=1.6", "n_immersion=1.518", "lower na"]),
    ("optics.na", float("nan"), ["na=nan", "not a number"]),
    ("optics.na", float("inf"), ["na=inf", "not finite"]),
    ("optics.na", "wide", ["optics.na", "'wide'", "not a number"]),
    ("camera.qe", True, ["camera.qe", "True", "not a number"]),
    ("camera.qe", {"normal": [0.9, 0.1]}, ["qe=normal", "limit 1", "bound the distribution"]),
    ("camera.qe", {"unifrm": [0.9, 1.0]}, ["unknown distribution 'unifrm'", "uniform"]),
    ("camera.qe", {"uniform": [0.9, 0.1]}, ["low=0.9", "high=0.1"]),
    ("camera.qe", {"uniform": [0.9]}, ["uniform takes 2 numbers"]),
    ("camera.bit_depth", 24, ["camera.bit_depth", "16"]),
    ("photophysics.photons", -3, ["photons=-3", "limit 0"]),
    ("acquisition.shape", [0, 64], ["shape=[0, 64]", "1 to 16384"]),
    ("acquisition.frames", 0, ["acquisition.frames", "greater than or equal to 1"]),
    ("acquisition.interval_ms", 1.0, ["interval_ms=1", "exposure_ms=20"]),
    ("optics.mask", {"kind": "tetrapd"}, ["optics.mask", "tetrapd", "tetrapod"]),
    ("optics.mask", {"kind": "tetrapod", "zrange": 1}, ["optics.mask", "zrange", "z_range_nm"]),
    ("optics.wavefront", {"coefficients_nm": {-1: 3.0}}, ["OSA index -1"]),
    ("optics.wavefront", {"random_modes": [3, 4]}, ["rms_nm=0"]),
    ("optics.wavefront", {"random_modes": [3, 3], "rms_nm": 5}, ["named twice"]),
    ("structure.count", 5, ["density_per_um2 or count"]),
    ("rendering.window_px", 32, ["rendering.window_px", "32 pixels", "odd"]),
    ("rendering.max_window_px", 6, ["rendering.max_window_px", "6 pixels", "odd"]),
    ("camera.pixel_pitch_um", True, ["pixel_pitch_um=True", "number"]),
    ("camera.pixel_pitch_um", "7", ["pixel_pitch_um='7'", "text"]),
    ("camera.bit_depth", "12", ["bit_depth='12'", "text"]),
    ("acquisition.shape", [True, 5], ["shape=[True, 5]", "number"]),
    ("acquisition.shape", {8, 9}, ["shape=", "set"]),
    ("acquisition.frames", True, ["frames=True", "number"]),
    ("schema_version", True, ["schema_version=True", "number"]),
    ("camera.qe", {"uniform": [True, "1"]}, ["uniform", "low=True", "number"]),
    ("camera.qe", None, ["camera.qe cannot be empty"]),
    ("", 1, ["dotted path"]),
    ("optics.coverslip_um", -1.0, ["coverslip_um=-1", "limit 0"]),
]


@pytest.mark.parametrize(("path", "value", "words"), BAD, ids=[f"{p}={v}" for p, v, _ in BAD])
def test_bad_value_is_named_with_limit_and_remedy(path, value, words):
    with pytest.raises(RecipeError) as error:
        load_recipe("smlm-2d-dense").replace(path, value)
    for word in words:
        assert word in str(error.value)


def test_an_empty_name_is_no_folder():
    with pytest.raises(RecipeError, match="no recipe '': packaged are"):
        load_recipe("")


SCHEME = {
    "kind": "markov",
    "states": ["on", "off"],
    "photons_per_s": 1000,
    "brightness": {"on": 1},
    "rates_per_s": {"on": {"off": 5}, "off": {"on": 1}},
    "start": "equilibrium",
}
QUOTES = "is true or false where a name belongs: put names in quotes"
BAD_SCHEMES = [
    ("states", [True, False], f"photophysics: states=[True, False] {QUOTES}"),
    ("brightness", {True: 1}, f"True {QUOTES}"),
    ("rates_per_s", {True: {"off": 3}}, f"True {QUOTES}"),
    ("start", False, f"start=False {QUOTES}"),
    ("states", "on", "photophysics.states: 'on' is not a list: give [first, second, ...]"),
    ("brightness", None, "photophysics.brightness: None is not a group of keys: give {key: value"),
    ("rates_per_s", {"on": 3}, "photophysics.rates_per_s.on: 3 is not a group of keys: give"),
    ("start", 3, "photophysics.start: 3 is no text: give a word, in quotes"),
    ("start", {"on": "x"}, "photophysics.start.on: 'x' is not a number: give a plain number"),
]


@pytest.mark.parametrize(("key", "value", "words"), BAD_SCHEMES)
def test_a_bad_scheme_of_states_is_told_once_with_a_remedy(key, value, words):
    recipe = load_recipe("smlm-2d-blinking").written()
    with pytest.raises(RecipeError) as error:
        Recipe.from_dict(recipe | {"photophysics": SCHEME | {key: value}})
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert "Input" not in str(error.value)


@pytest.mark.parametrize("group", ["optics", "camera", "structure", "acquisition"])
def test_a_missing_group_is_asked_for_as_keys(group):
    with pytest.raises(RecipeError, match=f"{group}: None is not a group of keys: give"):
        Recipe.from_dict(load_recipe("smlm-2d-dense").written() | {group: None})


WRONG_KINDS = [
    ("structure", {"count": 3}, ["structure", "kind is missing", "filaments"]),
    ("structure", {"kind": "unifrm", "count": 3}, ["unknown kind 'unifrm'", "'uniform'"]),
    ("background", 5, ["background", "5 is not a group", "smooth"]),
    ("background", {"kind": "foo"}, ["unknown kind 'foo'", "smooth"]),
    ("camera.kind", "ccd", ["camera.kind cannot change alone", "camera={kind: ccd"]),
]


@pytest.mark.parametrize(
    ("path", "value", "words"), WRONG_KINDS, ids=[str(v) for _, v, _ in WRONG_KINDS]
)
def test_a_missing_or_wrong_kind_is_told_with_the_known_ones(path, value, words):
    with pytest.raises(RecipeError) as error:
        load_recipe("smlm-2d-dense").replace(path, value)
    for word in words:
        assert word in str(error.value)
    assert "discriminator" not in str(error.value)


def test_several_values_change_together():
    recipe = load_recipe("smlm-2d-dense").replace_all(
        {"structure.density_per_um2": None, "structure.count": 5}
    )
    assert recipe.structure.count == 5


def test_missing_parts_are_all_named_at_once():
    with pytest.raises(RecipeError) as error:
        Recipe.from_dict({"name": "nothing"})
    for part in ("camera", "acquisition", "structure", "photophysics"):
        assert f"{part}: is missing" in str(error.value)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a: 1\na: 2", "twice"),
        ("[1, 2", "not valid YAML"),
        ("a: &x 1\nb: *x", "anchor"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("just words", "not a mapping"),
        ("? [1, 2]\n: 3", "key must be"),
    ],
)
def test_hostile_or_broken_yaml_is_refused(text, word):
    with pytest.raises(RecipeError, match=word):
        Recipe.from_yaml(text)


def test_exponent_without_a_point_is_a_number():
    text = load_recipe("smlm-2d-dense").to_yaml().replace("accuracy: 1.0e-06", "accuracy: 1e-6")
    assert Recipe.from_yaml(text).optics.accuracy == 1e-6


def test_on_and_off_are_words_and_clock_times_are_no_numbers():
    text = load_recipe("smlm-2d-dense").to_yaml()
    head, tail = text[: text.index("photophysics:")], text[text.index("background:") :]
    blinking = "photophysics: {kind: blinking, photons_per_s: 1e5, start: on}\n"
    assert Recipe.from_yaml(head + blinking + tail).photophysics.start == "on"
    with pytest.raises(RecipeError, match="'12:30' is not a number"):
        Recipe.from_yaml(text.replace("qe: 0.9", "qe: 12:30"))


def test_ampersands_and_stars_in_words_are_no_anchors():
    text = load_recipe("smlm-2d-dense").to_yaml()
    text = text.replace("name: smlm-2d-dense", 'name: "R&D *bold* &x"')
    assert Recipe.from_yaml(text).name == "R&D *bold* &x"


def test_a_folder_and_a_none_are_no_recipes(tmp_path):
    with pytest.raises(RecipeError, match="is a folder"):
        load_recipe(tmp_path)
    with pytest.raises(RecipeError, match="None is neither"):
        load_recipe(None)


def test_unknown_recipe_suggests_the_nearest():
    with pytest.raises(RecipeError, match="smlm-2d-dense"):
        load_recipe("smlm-2d-dens")


def test_file_references_follow_the_recipe_folder(tmp_path):
    recipe = load_recipe("smlm-2d-dense").replace(
        "optics.mask", {"kind": "file", "path": "mask.npy", "na_per_pixel": 0.03}
    )
    folder = tmp_path / "Ordner mit Ümlaut"
    folder.mkdir()
    (folder / "r.yaml").write_text(recipe.to_yaml(), "utf8")
    assert load_recipe(folder / "r.yaml").optics.mask.path == str(folder / "mask.npy")


def test_replace_can_set_and_clear_optional_groups():
    recipe = load_recipe("smlm-2d-dense").replace("optics.mask", {"kind": "tetrapod"})
    assert recipe.optics.mask.z_range_nm == 4000
    assert recipe.replace("optics.mask", None).optics.mask is None
    assert recipe.replace("optics.wavefront.coefficients_nm", {6: 20.0}).optics.wavefront.modes == (
        6,
    )


def test_schema_is_json_and_names_every_group():
    schema = json.loads(json.dumps(recipe_schema()))
    assert set(schema["properties"]) == set(Recipe.model_fields)


def test_every_number_states_its_unit():
    fields = Optics.model_fields
    for name in ("na", "wavelength_nm", "coverslip_um", "working_distance_um"):
        assert f"[{fields[name].json_schema_extra['unit']}]" in fields[name].description


def test_design_values_default_to_the_actual_ones():
    optics = Optics(n_immersion=1.515, coverslip_um=165.0).resolved()
    assert optics.n_immersion_design == 1.515
    assert optics.coverslip_design_um == 165.0


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    low=st.floats(0.1, 10),
    span=st.floats(0.01, 50),
)
def test_any_distribution_survives_yaml(kind, low, span):
    arguments = {
        "choice": [low, low + span],
        "exponential": low,
        "poisson": low,
    }.get(kind, [low, low + span])
    recipe = load_recipe("psf-zernike").replace("structure.x_nm", {kind: arguments})
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe


CONSTRUCTED = {
    "na above the oil": (
        lambda: Optics(na=1.6),
        "na=1.6 exceeds n_immersion=1.518: no such ray passes; lower na or raise n_immersion",
    ),
    "na equal to the oil": (lambda: Optics(na=1.518), "na=1.518 is not below n_immersion=1.518"),
    "a complex index": (lambda: Optics(n_sample=1.33 + 0.01j), "n_sample: (1.33+0.01j) is not a"),
    "two wavelengths": (lambda: Optics(wavelength_nm=[500, 600]), "wavelength_nm: [500, 600]"),
    "two coefficients": (
        lambda: Optics(wavefront={"coefficients_nm": {5: [1, 2]}}), "coefficients_nm.5: [1, 2]"
    ),
    "a misspelt mask": (lambda: Optics(mask={"kind": "tetrapodd"}), "did you mean 'tetrapod'?"),
    "a misspelt key": (lambda: Optics(wavelenth_nm=500), "did you mean 'wavelength_nm'?"),
    "a key named as a kind": (
        lambda: Optics(
            modality={"kind": "ism", "excitation_wavelength_nm": 488, "array": "round"}
        ),
        "modality.array: ",
    ),
    "a steep dipole": (lambda: FixedDipole(polar_deg=200), "polar_deg=200 is above the limit 180"),
    "a cone without angle": (lambda: ConeDipole(), "half_angle_deg or rotational_constraint"),
    "half a stack": (
        lambda: Acquisition(shape=(8, 8), focus_nm={"start_nm": 0, "stop_nm": 1}),
        "focus_nm.planes: is missing",
    ),
    "a recipe of nothing but a bad name": (lambda: Recipe.model_validate({"nam": 1}), "'name'"),
    "a distribution upside down": (
        lambda: KINDS["uniform"](low=3, high=1), "low=3 is above high=1: swap them"
    ),
    "an empty array": (
        lambda: array_mask(np.full((64, 64), np.nan), 0.1), "nan is not finite"
    ),
    "a complex array": (
        lambda: array_mask(np.ones((4, 4)) * 1j, 0.1), "values are complex: give the phase"
    ),
    "words for an array": (lambda: array_mask("x", 0.1), "values='x' is text"),
    "rows of two lengths": (lambda: array_mask([[1, 2], [3]], 0.1), "no square of numbers"),
    "a map that is not square": (
        lambda: make_wavefront_map(np.zeros((4, 5)), 0.1), "as many rows as columns"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CONSTRUCTED)
def test_what_is_constructed_wrongly_is_told_in_one_line(case):
    construct, words = CONSTRUCTED[case]
    with pytest.raises(SimscopeError) as error:
        construct()
    said = str(error.value)
    assert isinstance(error.value, RecipeError)
    assert words in said
    assert "\n" not in said
    assert "pydantic" not in said
    assert len(said) < 300


def test_the_same_problem_of_many_values_is_told_once_with_their_number():
    with pytest.raises(RecipeError, match=r"^values\.0\.0: nan .* and 4095 more like it$"):
        array_mask(np.full((64, 64), np.nan), 0.1)


def test_recipes_and_constructors_refuse_in_the_same_words():
    with pytest.raises(RecipeError) as direct:
        Optics(na=1.6)
    with pytest.raises(RecipeError) as replaced:
        load_recipe("smlm-2d-dense").replace("optics.na", 1.6)
    with pytest.raises(RecipeError) as validated:
        Optics.model_validate({"na": 1.6})
    assert str(replaced.value) == f"optics: {direct.value}"
    assert str(validated.value) == str(direct.value)


def test_records_are_copied_and_numbers_of_numpy_are_numbers():
    optics = Optics(na=np.float32(1.25), n_sample=np.array(1.33), wavelength_nm=np.int64(600))
    assert copy.deepcopy(optics) == copy.copy(optics) == optics == Optics(na=1.25)
    assert Optics.model_validate(optics.model_dump()) == optics


@pytest.mark.parametrize(
    ("optics", "words"),
    [
        ({"coverslip_um": 0.17}, "coverslip_um=0.17 is in um: give 170 if mm"),
        ({"working_distance_um": 0.15}, "working_distance_um=0.15 is in um: give 150 if mm"),
        ({"mask": {"kind": "tetrapod", "z_range_nm": 3}}, "z_range_nm=3 .*: give 3000 if um"),
        ({"slm": {"pixels_across": 100}}, "no mask to show"),
    ],
)
def test_a_value_that_changes_nothing_or_mistakes_its_unit_is_warned_of(optics, words):
    with pytest.warns(SimscopeWarning, match=words):
        Optics(**optics)


def test_rows_of_arrays_are_an_array():
    rows = [np.array([0.0, 1.0]), np.array([2.0, 3.0])]
    assert array_mask(rows, 1.0).values == ((0.0, 1.0), (2.0, 3.0))


def test_a_recipe_reads_no_file_outside_its_folder_unless_allowed(tmp_path):
    folder = tmp_path / "recipe"
    folder.mkdir()
    (tmp_path / "mask.npy").touch()
    (folder / "link.npy").symlink_to(tmp_path / "mask.npy")
    (folder / "mine.npy").touch()
    text = snapshot().to_yaml()
    for name in ("../mask.npy", str(tmp_path / "mask.npy"), "link.npy", "~/mask.npy"):
        mask = f"optics:\n  mask: {{kind: file, path: '{name}', na_per_pixel: 0.05}}\n"
        (folder / "recipe.yaml").write_text(text.replace("optics:\n", mask))
        with pytest.raises(RecipeError, match=r"optics\.mask\.path.*outside.*--allow-files"):
            load_recipe(folder / "recipe.yaml")
        assert load_recipe(folder / "recipe.yaml", allow_files=True).optics.mask.kind == "file"
    (folder / "recipe.yaml").write_text(text.replace("optics:\n", mask.replace("~/mask", "mine")))
    assert load_recipe(folder / "recipe.yaml").optics.mask.path == str(folder / "mine.npy")
    above = tmp_path / "above.yaml"
    above.write_text(text.replace("optics:\n", mask.replace("~/mask", "recipe/mine")))
    assert load_recipe(above).optics.mask.path == str(folder / "mine.npy")
