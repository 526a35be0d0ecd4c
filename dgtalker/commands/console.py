"""What commands print: a progress bar, JSON."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from dgtalker.files import json_safe

if TYPE_CHECKING:
    from tqdm import tqdm


class Progress:
    """A tqdm bar on stderr behind the engine's `progress(done, total, message)` callables."""

    def __init__(self, label: str, opening: str = ""):
        """opening: a line before the bar; like the bar it is not shown where bad input is refused."""
        self.label, self.opening = label, opening
        self.bar: tqdm | None = None

    def __call__(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Show that `done` of `total` is done; total 0 stands for not known yet."""
        if self.bar is None:
            if total == 0:  # bad input is refused without an empty bar
                return
            from tqdm import tqdm

            if self.opening:
                print(self.opening, file=sys.stderr)
            self.bar = tqdm(
                desc=self.label,
                file=sys.stderr,
                dynamic_ncols=True,
                mininterval=0.5,
                bar_format="{desc}{percentage:3.0f}%|{bar}| {elapsed}<{remaining}",  # units differ, fractions too
            )
        if total is not None:
            self.bar.total = total
        if message:
            self.bar.set_description(message, refresh=False)
        self.bar.update(max(done, 0) - self.bar.n)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_) -> None:
        if self.bar is not None:
            self.bar.close()


def print_json(value: Any) -> None:
    """One JSON document on stdout; numbers that are not finite become null."""
    print(json.dumps(json_safe(value), indent=2))
