"""Small recipes that simulate in milliseconds, for tests of files, pictures and commands."""

from simscope.recipe import Recipe, load_recipe

SMALL = {
    "name": "small",
    "optics": {"na": 1.2, "wavelength_nm": 600, "n_sample": 1.33, "n_immersion": 1.33},
    "camera": {"kind": "scmos", "pixel_pitch_um": 10, "offset_std_adu": 2, "gain_std": 0.02},
    "acquisition": {"shape": [24, 20]},
    "structure": {
        "kind": "uniform",
        "density_per_um2": {"uniform": [0.5, 3]},
        "z_nm": {"uniform": [-200, 200]},
    },
    "photophysics": {"kind": "snapshot", "photons": {"gamma": [4, 500]}},
    "background": {"photons_per_pixel": {"uniform": [2, 20]}},
    "rendering": {"window_px": 17, "accept_energy_loss": True},
}
BLINKING = {
    "kind": "blinking",
    "photons_per_s": {"gamma": [4, 20000]},
    "on_to_off_per_s": 20,
    "off_to_on_per_s": 2,
}


def snapshot():
    """Single frames."""
    return Recipe.from_dict(SMALL)


def movie(frames=12):
    """Movies of blinking molecules."""
    acquisition = {"shape": [24, 20], "frames": frames, "exposure_ms": 10, "interval_ms": 12}
    return Recipe.from_dict(SMALL | {"photophysics": BLINKING, "acquisition": acquisition})


def stack():
    """Focus stacks with optics of their own."""
    recipe = load_recipe("psf-zernike").replace("acquisition.focus_nm.planes", 3)
    return recipe.replace("acquisition.shape", [16, 16])


WORLDS = {"snapshot": snapshot, "movie": movie, "stack": stack}
