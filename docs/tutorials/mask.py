# %% [markdown]
# # Mask a scene
#
# From a product to a mask, with what is needed to judge it. The scene is simulated, so that its true clouds are known
# and nothing has to be downloaded; a real product goes the same way. `pip install "unclouded[plot]"` is enough.

# %%
from pathlib import Path

import numpy as np

import unclouded
from unclouded.demo import run_demo

made = run_demo(Path("tutorial-mask"), size=480)
made.product.name

# %% [markdown]
# What a reader recognises comes before anything is computed: sensor, level, bands, scale and offset, and who says so.

# %%
scene = unclouded.open_scene(made.product)
print(scene.sensor, scene.level, scene.datetime)
print([band.name for band in scene.bands])
print(scene.radiometry["B04"])

# %% [markdown]
# ## The mask
#
# Without an output folder the result stays in memory. Classes, probabilities and uncertainty are xarray objects on
# the grid of the scene. A notebook shows the result itself when it is the last line of a cell.

# %%
result = unclouded.mask(scene, tile=512)
result

# %%
result.plot()

# %% [markdown]
# Code 255 is no data, in every product. The share of cloud leaves it out.

# %%
codes, pixels = np.unique(result.classes, return_counts=True)
print(dict(zip(codes.tolist(), pixels.tolist(), strict=True)))
print(f"{result.cloud_percent:.1f} % cloud")

# %% [markdown]
# ## How sure is it?
#
# Uncertainty says how near the class was to another, 0 to 1. Where it is low the mask should be right more often:
# here the truth is at hand to see it.

# %%
import rasterio

with rasterio.open(made.truth) as file:
    truth = file.read(1)
right = result.classes.values == truth
for low, high in ((0.0, 0.1), (0.1, 0.4), (0.4, 1.0)):
    chosen = (result.uncertainty.values >= low) & (result.uncertainty.values < high)
    if chosen.any():
        print(f"{low} to {high}: {chosen.mean():.0%} of the pixels, {right[chosen].mean():.0%} of them right")

# %% [markdown]
# Where missed cloud costs more than lost ground, bound it. The card of the model says for which data the bound holds.

# %%
careful = unclouded.mask(scene, tile=512, max_missed_cloud=0.05)
print(f"{result.cloud_percent:.1f} % cloud before, {careful.cloud_percent:.1f} % now")

# %% [markdown]
# ## Keep it
#
# Cloud-optimised GeoTIFFs with colours and class names, and a STAC item that is written last.

# %%
item = result.save("tutorial-mask/kept", quicklook=True)
print(sorted(item.assets))
print(item.properties["eo:cloud_cover"], item.properties["unclouded:model"]["name"])
