"""Delete a home with its database, wherever that is kept (as root below /var/lib). Not while it is in use."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tonsurance.core.errors import UsageError
from tonsurance.db.postgres import remove_cluster
from tonsurance.stack import lock_home


def main(folder: str) -> int:
    """Exit code 2 when a run holds the home."""
    home = Path(folder).absolute()
    if not home.exists():
        return 0
    try:
        with lock_home(home):
            remove_cluster(home)
            shutil.rmtree(home)
    except UsageError as error:
        print(error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
