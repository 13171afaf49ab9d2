"""Write the pages that are made from the code: `python -m scripts.pages`."""

from __future__ import annotations

import sys

from scripts.pages.generated import PAGES, REPOSITORY, written


def main() -> int:
    """Write every one of them."""
    for name in PAGES:
        text = written(name)
        (REPOSITORY / name).write_text(text, encoding="utf-8")
        print(f"wrote {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
