# %% [markdown]
# # Train a network
#
# From a configuration to a model that masks: training, calibration, export. The images are simulated, and the run is
# so short that the network learns next to nothing; a real run differs in its configuration only. Needs `pip install
# "unclouded[train]"`.

# %%
from unclouded.train.config_file import read_config
from unclouded.train.run import fit

config = read_config("simulated", [
    "data.0.options.images=16", "data.0.options.choose=4", "data.0.options.size=64", "patch.size=64", "batch=4",
    "epochs=2", "schedule.warm_up=2", "model.options={widths: [8, 16], depth: 1}", "output=tutorial-train/run",
    "threads=1", "accelerator=cpu",
])
print(config.model, config.optimiser)

# %% [markdown]
# Training goes on where it was stopped, bit for bit. The log, pictures and checkpoints are in the output folder.

# %%
run = fit(config)
for row in run.log():
    print({name: row[name] for name in list(row)[:6]})

# %% [markdown]
# ## Calibrate and export
#
# A temperature is fitted on the images for model choice, so that probabilities mean what they say. The export holds
# safetensors, ONNX and a card, and its outputs are compared with those of torch before it is kept.

# %%
from pathlib import Path

from unclouded.train.finish import calibrate, export_run

for level, one in calibrate(run).items():
    print(level, one.temperature)
card = export_run(run, Path("tutorial-train/model"), name="tutorial", licence="CC0-1.0")
print(card.name, card.parameters, "parameters, learned from", card.training[0].images, "images")

# %% [markdown]
# ## Use it
#
# The folder is a model like the one that is shipped. ONNX runs without torch.

# %%
import numpy as np

import unclouded

image = np.random.default_rng(0).uniform(0.02, 0.2, (4, 128, 128)).astype("float32")
found = unclouded.predict(image, ["blue", "green", "red", "nir"], resolution_m=20.0, model="tutorial-train/model")
assert found.classes.shape == (128, 128)

# %% [markdown]
# ## The same from a shell
#
#     unclouded train -c simulated -o runs/first --set epochs=2
#     unclouded calibrate runs/first
#     unclouded export runs/first -o models/first
#     unclouded mask SCENE --model models/first -o out
#
# A real run needs data: `unclouded datasets list` says which sets are read, and the page on training how they are
# mixed.
