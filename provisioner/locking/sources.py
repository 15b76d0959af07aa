"""The places that a lock may draw on, as addresses to probe: what answers is a fact that planning takes as input."""

from __future__ import annotations

from provisioner import download
from provisioner.indexes import TORCH_INDEX, IndexSettings
from provisioner.locking.conda_part import DEFAULT_CHANNEL, channel_url
from provisioner.machine.facts import Source

RELEASES = "https://github.com"
"""Where flash-attn's and the community's release wheels lie."""


def endpoints(settings: IndexSettings, channels: tuple[str, ...] = ()) -> tuple[Source, ...]:
    """Return one small address to try for each source: the package index, the conda channel, PyTorch's index, release servers."""
    channel = channel_url(channels[0] if channels else DEFAULT_CHANNEL)
    return (
        Source("package-index", url=f"{settings.url.rstrip('/')}/pip/"),
        Source("conda-channel", url=download.mirrored(f"{channel}/noarch/repodata.json")),
        Source("torch-index", url=download.mirrored(f"{TORCH_INDEX}/torch/")),
        Source("releases", url=download.mirrored(f"{RELEASES}/Dao-AILab/flash-attention/releases")),
    )
