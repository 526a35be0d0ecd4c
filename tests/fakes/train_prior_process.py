"""python train_fake_prior.py FOLDER [{"name": value, ...}]: train-prior on made-up people, for tests with processes."""

import json
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

if __name__ == "__main__":
    from dgtalker.report.contact_sheets import prior as contact_sheet
    from dgtalker.training.prior.train import train_prior
    from fakes.people import TEMPLATE, FakePeople, settings

    contact_sheet.write_sheets = lambda *_: None  # another test looks at those
    changes = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    train_prior(settings(Path(sys.argv[1]), **changes), source=FakePeople(), template=TEMPLATE)
