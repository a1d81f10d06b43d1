"""What tests of files on disk have in common."""

import hashlib
import json
from pathlib import Path

from simscope.dataset.columns import set_text, sha256_of


def sums(folder):
    """SHA-256 of every file below a folder by name."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def note_sum(file, array):
    """Note the checksum of an array anew in an open dataset, as whoever changed it would."""
    noted = json.loads(file.attrs["arrays_sha256"])
    noted[array] = sha256_of(file[array][()])
    set_text(file, "arrays_sha256", json.dumps(noted, sort_keys=True))
