import base64
import hashlib
import io
import lzma
import os
import sys
import tempfile
import zipfile
from pathlib import Path

# The files of the wheel: a zip archive without compression, xz, base85.
PACKAGE = """
@PACKAGE@
"""
PACKAGE_SHA256 = "@SHA256@"


def unpack_omega21():
    """Put the package first on this process's path; print why and return False if it cannot run."""
    if sys.version_info < (3, 11):
        print("error: Python 3.11 or newer is needed, this is " + sys.version.split()[0])
        return False
    data = base64.b85decode("".join(PACKAGE.split()))
    if hashlib.sha256(data).hexdigest() != PACKAGE_SHA256:
        print("error: this file is not whole; copy it again, from its first line to its last")
        return False
    folder = Path.home() / ".cache" / "omega21" / ("package-" + PACKAGE_SHA256[:16])
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if not folder.exists():
            fresh = Path(tempfile.mkdtemp(dir=folder.parent))
            zipfile.ZipFile(io.BytesIO(lzma.decompress(data))).extractall(fresh)
            os.rename(fresh, folder)
    except OSError as error:
        print(f"error: the package cannot be unpacked: {error}; free some of the disk")
        return False
    # Unload modules that an earlier cell loaded from elsewhere.
    sys.path[:] = [str(folder)] + [place for place in sys.path if place != str(folder)]
    for name in [name for name in sys.modules if name.partition(".")[0] == "omega21"]:
        del sys.modules[name]
    return True
