"""The places that a lock may draw on, as addresses to probe: what answers is a fact that planning takes as input."""

from __future__ import annotations

from provisioner import download
from provisioner.indexes import IndexSettings, torch_index
from provisioner.locking.conda_part import channel_url, default_channels
from provisioner.machine.facts import Source

RELEASES = "https://github.com"
"""Where flash-attn's and the community's release wheels lie."""


def endpoints(settings: IndexSettings, channels: tuple[str, ...] = ()) -> tuple[Source, ...]:
    """Return one small address to try for each source: the package index, the conda channel, PyTorch's index, release servers."""
    channel = channel_url((channels or default_channels())[0])
    return (
        Source("package-index", url=f"{settings.url.rstrip('/')}/pip/"),
        Source("conda-channel", url=download.mirrored(f"{channel}/noarch/repodata.json")),
        Source("torch-index", url=_torch_page()),
        Source("releases", url=download.mirrored(f"{RELEASES}/Dao-AILab/flash-attention/releases")),
    )


def _torch_page() -> str:
    """Return the page to ask for: torch's own of the CPU builds' index, which is always there."""
    index = torch_index("cpu")
    return index.url if index.flat else f"{index.url}/torch/"
