"""How much one call may take: limits that refuse a mistake before it fills the memory."""

MOST_BYTES = 16e9
"""Memory of images or numbers beyond which a call is refused."""

MOST_VOXELS = 2**30
"""Voxels of a volume handled in one piece."""
