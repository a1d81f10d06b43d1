"""Draw docs/images/gallery.png: every mask and every kind of microscope at five depths.

python docs/gallery.py
"""

from pathlib import Path

from simscope import show

if __name__ == "__main__":
    path = Path(__file__).parent / "images" / "gallery.png"
    path.parent.mkdir(exist_ok=True)
    print(show.save_figure(show.gallery_figure(), path, force=True))
