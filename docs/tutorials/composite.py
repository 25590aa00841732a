# %% [markdown]
# # Make a composite
#
# One clear image out of many dates. A cube (time, band, y, x) as odc-stac or stackstac give it is all that is needed;
# here its dates are simulated over one ground.

# %%
import numpy as np
import xarray
from odc.geo.xr import assign_crs

import unclouded
from unclouded.sensors import bands_of
from unclouded.simulate.clouds import Layer, simulate_clouds
from unclouded.simulate.surface import procedural_surface

wanted = ("B02", "B03", "B04", "B08", "B11", "B12")
bands = [band for band in bands_of("sentinel2-l1c") if band.name in wanted]
ground = procedural_surface(bands, (192, 192), 20.0, seed=8, landscape="farmland")
skies = [
    simulate_clouds(ground, bands, resolution_m=20.0, sun_zenith_deg=35.0, sun_azimuth_deg=150.0, seed=seed,
                    layers=[Layer("cumulus", cover, height_m=1200, tau=25, ice=0.0)])
    for seed, cover in enumerate((0.1, 0.2, 0.05, 0.3, 0.15))
]
times = np.array(["2024-06-01", "2024-06-06", "2024-06-11", "2024-06-16", "2024-06-21"], "datetime64[ns]")
cube = assign_crs(xarray.DataArray(
    np.stack([sky.image for sky in skies]),
    {"time": times, "band": [band.name for band in bands],
     "y": 5_800_000 - 20.0 * np.arange(192) - 10, "x": 400_000 + 20.0 * np.arange(192) + 10},
    ("time", "band", "y", "x"), "reflectance",
), "EPSG:32633")

# %% [markdown]
# ## Masks of all dates

# %%
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", unclouded.UncloudedWarning)
    masks = xarray.concat([unclouded.mask(date, sensor="sentinel2-l1c", tile=256).classes for date in cube], cube.time)
print([f"{float((mask > 0).mean()):.0%}" for mask in masks])

# %% [markdown]
# ## One image
#
# `median` and `geomedian` are robust against clouds that were missed; `medoid` and `best` keep whole observed
# spectra.

# %%
for method in ("median", "geomedian", "medoid", "best"):
    made = unclouded.composite(cube, masks=masks, method=method)
    print(f"{method}: {float((made.count > 0).mean()):.1%} of the pixels filled")

# %% [markdown]
# For every pixel the composite says from which date it is, and how many dates are clear there.

# %%
print(np.unique(made.date, return_counts=True))
print("fewest clear dates:", int(made.count.min()), "most:", int(made.count.max()))

# %% [markdown]
# ## Larger than memory
#
# With Dask arrays nothing is computed before it is asked for, and the result does not depend on the chunks.

# %%
lazy = unclouded.composite(cube.chunk(x=64, y=64), masks=masks.chunk(x=64, y=64), method="median")
eager = unclouded.composite(cube, masks=masks, method="median")
assert lazy.image.chunks is not None
assert np.array_equal(lazy.image.values, eager.image.values, equal_nan=True)

# %% [markdown]
# ## Whole archives
#
# The command line takes products, masks them, and writes one composite for each tile and month:
#
#     unclouded composite archive/*.SAFE -o out --by tile --by month --method geomedian --jobs 4 --resume
