# %% [markdown]
# # Remove clouds
#
# A scene under clouds, and two other dates of the same place. What another date shows clear is brought to the
# radiometry of the scene and put in; what is clear already stays as it is, bit for bit. Everything is simulated, so
# that the ground under the clouds is known.

# %%
import numpy as np

import unclouded
from unclouded.sensors import bands_of
from unclouded.simulate.clouds import Layer, simulate_clouds
from unclouded.simulate.surface import procedural_surface

bands = [band for band in bands_of("sentinel2-l1c") if band.name in ("B02", "B03", "B04", "B08")]
names = [band.name for band in bands]
ground = procedural_surface(bands, (256, 256), 20.0, seed=4, landscape="farmland")


def sky(seed, cover):
    """The ground under clouds."""
    layers = [Layer("cumulus", cover, height_m=1200, tau=30, ice=0.0)]
    return simulate_clouds(ground, bands, resolution_m=20.0, sun_zenith_deg=35.0, sun_azimuth_deg=150.0,
                           layers=layers, seed=seed)


scene, others = sky(1, 0.3), [sky(2, 0.2), sky(3, 0.2)]
print(f"hidden: {(scene.classes > 0).mean():.0%} of the scene")

# %% [markdown]
# ## From other dates
#
# `restore` takes arrays: the image, (date, band, y, x) of other dates, and the classes of all of them. Left out,
# masks are found by the default model. `model="none"` uses no network: where no date is clear, there is no data.

# %%
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", unclouded.UncloudedWarning)    # what stays without data is looked at below
    found = unclouded.restore(
        scene.image, names, sensor="sentinel2-l1c", resolution_m=20.0, mask=scene.classes,
        history=np.stack([one.image for one in others]),
        history_masks=np.stack([one.classes for one in others]), model="none",
    )
for code, meaning in {0: "as observed", 2: "from another date", 255: "no data"}.items():
    print(f"{meaning}: {(found.provenance == code).mean():.1%}")

# %% [markdown]
# Clear pixels away from the clouds are the very same numbers:

# %%
observed = found.provenance == 0
assert np.array_equal(found.image[:, observed], scene.image[:, observed])

# %% [markdown]
# ## How good is it?
#
# The error against the ground itself, and against leaving the clouds in.

# %%
filled = found.provenance == 2
clear = simulate_clouds(ground, bands, resolution_m=20.0, sun_zenith_deg=35.0, sun_azimuth_deg=150.0,
                        layers=[], seed=1).image
error = np.abs(found.image - clear).mean(0)[filled]
before = np.abs(scene.image - clear).mean(0)[filled]
print(f"mean error of reflectance where it was filled: {error.mean():.4f}, with the clouds {before.mean():.4f}")
assert error.mean() < 0.2 * before.mean()

# %%
from matplotlib import pyplot

figure, axes = pyplot.subplots(1, 3, figsize=(12, 4.3), layout="constrained")
for ax, title, image in zip(axes, ("scene", "restored", "ground"), (scene.image, found.image, clear), strict=True):
    ax.imshow(np.clip(3 * np.nan_to_num(np.moveaxis(image[[2, 1, 0]], 0, -1)), 0, 1))
    ax.set_title(title)
    ax.axis("off")

# %% [markdown]
# ## Products
#
# `unclouded.remove` does the same for products and files, and masks what has no mask:
#
#     unclouded remove S2B_MSIL2A_20230810.SAFE --history S2*_MSIL2A_*.SAFE -o out
#     unclouded remove S2*_MSIL2A_*.SAFE --history S2*_MSIL2A_*.SAFE -o out --jobs 4 --resume
