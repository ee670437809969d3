"""What known GPUs can do at most, and the least time that a piece of work takes on one: its roofline."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Peaks:
    """As NVIDIA publishes them: dense products in 10^12 operations a second, memory in 10^9 bytes a second."""

    bf16: float | None
    """None where tensor cores do not know the type."""
    tf32: float | None
    fp32: float
    memory: float


PEAKS = {
    "A100-SXM4-40GB": Peaks(bf16=312, tf32=156, fp32=19.5, memory=1555),
    "A100-PCIE-40GB": Peaks(bf16=312, tf32=156, fp32=19.5, memory=1555),
    "A100-SXM4-80GB": Peaks(bf16=312, tf32=156, fp32=19.5, memory=2039),
    "A100 80GB PCIe": Peaks(bf16=312, tf32=156, fp32=19.5, memory=1935),
    "H100 80GB HBM3": Peaks(bf16=989, tf32=494, fp32=67, memory=3350),
    "H100 PCIe": Peaks(bf16=756, tf32=378, fp32=51, memory=2000),
    "H100 NVL": Peaks(bf16=835, tf32=417, fp32=60, memory=3900),
    "H200": Peaks(bf16=989, tf32=494, fp32=67, memory=4800),
    "H200 NVL": Peaks(bf16=835, tf32=417, fp32=60, memory=4800),
    "L4": Peaks(bf16=121, tf32=60, fp32=30.3, memory=300),
    "L40S": Peaks(bf16=362, tf32=183, fp32=91.6, memory=864),
    "GeForce RTX 3090": Peaks(bf16=71, tf32=35.6, fp32=35.6, memory=936),
    "GeForce RTX 4090": Peaks(bf16=165, tf32=82.6, fp32=82.6, memory=1008),
    "Tesla T4": Peaks(bf16=None, tf32=None, fp32=8.1, memory=320),
}
"""By the name that torch gives a GPU, without NVIDIA's. Of a part of one (MIG) and of others nothing is known."""


@dataclass(frozen=True)
class Work:
    """What has to be done at the very least: operations of each kind of product, and bytes read and written."""

    bytes: float
    bf16: float = 0
    tf32: float = 0
    fp32: float = 0

    def least_seconds(self, peaks: Peaks | None) -> float | None:
        """Return the larger of bytes / bandwidth and operations / peak; None for what nothing is known of."""
        if peaks is None:
            return None
        seconds = 0.0
        for operations, peak in ((self.bf16, peaks.bf16), (self.tf32, peaks.tf32), (self.fp32, peaks.fp32)):
            if operations and peak is None:
                return None
            seconds += operations / (1e12 * (peak or 1))
        return max(seconds, self.bytes / (1e9 * peaks.memory))


def peaks_of(name: str) -> Peaks | None:
    """Return the peaks of a GPU by torch's name for it, None for one that is not known."""
    return PEAKS.get(name.removeprefix("NVIDIA "))
